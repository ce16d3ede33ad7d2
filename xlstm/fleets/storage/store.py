"""A fleet's target in an object store, or any storage that fsspec writes.

Requests per model: a PUT for each file of the port (4 to PyTorch, 3 to others) and one for its row.
No request reads, lists or checks anything for a single model. A run that begins lists the rows (one
LIST for each 1,000) and reads each once, 128 at a time.

A port has no step that moves it to its place, so its row is the mark that it is whole: rows are
written last. `forget` removes the rows of models that are done again, 1,000 a request.

In: a URL. Out: a `StoreTarget`.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlstm.fleets.entry import FleetRow
from xlstm.fleets.storage import journal
from xlstm.fleets.storage.lease import leased
from xlstm.fleets.storage.remote import BUCKETS, connect, errors_in_words, in_time
from xlstm.fleets.storage.target import (
    ASIDE,
    MARK,
    MODELS,
    FleetTarget,
    Result,
    foreign,
    is_whole,
    parse_mark,
)
from xlstm.fleets.table import write_table

ROWS, LOCK = "rows", "lock"
"""Names in the target: one object for each row, and the lock."""

MOST = 1000
"""Objects that are read, or removed, at once."""


@dataclass(frozen=True)
class StoreTarget(FleetTarget):
    """A prefix of an object store.

    Attributes:
        url: of the prefix. A worker on another machine needs the same environment variables.
    """

    url: str

    @contextlib.contextmanager
    def _files(self, path: str = "") -> Iterator[tuple[Any, str]]:
        """The file system and a path of the target; errors of the storage become ours."""
        with errors_in_words(self.url):
            files, root = connect(self.url)
            yield files, f"{root.rstrip('/')}/{path}".rstrip("/")

    def where(self, path: str) -> str:
        """The URL of a path of the target."""
        return f"{self.url}/{path}"

    def read_mark(self) -> dict[str, Any] | None:
        """The content of the mark; None for a target that is new or empty."""
        with self._files() as (files, root):
            return in_time(self.url, lambda: self._read_mark(files, root))

    def _read_mark(self, files: Any, root: str) -> dict[str, Any] | None:
        try:
            return parse_mark(files.cat_file(f"{root}/{MARK}"), self.url)
        except FileNotFoundError:
            pass
        try:
            found = files.ls(root, detail=False)
        except FileNotFoundError as error:
            if "bucket" in str(error).lower().replace(root.lower(), ""):
                raise
            found = []
        names = sorted(path.rstrip("/").rpartition("/")[2] for path in found)
        if others := [name for name in names if name and name != root.rpartition("/")[2]]:
            raise foreign(self.url, others[0])
        return None

    def write_mark(self, text: bytes) -> None:
        """Writes the mark, unless another fleet has just written it."""
        with self._files(MARK) as (files, path), contextlib.suppress(FileExistsError):
            _make_parent(files, path)
            files.pipe_file(path, text, mode="create")

    @contextlib.contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """A lock that is free a minute after its process was killed."""
        with self._files(LOCK) as (files, path):
            _make_parent(files, f"{path}/1")
        with leased(files, path, self.url) as check:
            yield check

    def put_port(self, name: str, fill: Callable[[Path], Result], aside: bool = False) -> Result:
        """Writes a port to a local folder, and uploads its files."""
        with tempfile.TemporaryDirectory(prefix="xlstm-fleet-") as folder:
            result = fill(Path(folder))
            found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            where = f"{ASIDE if aside else MODELS}/{self.folder(name)}"
            with self._files(where) as (files, root):
                paths = [f"{root}/{path.relative_to(folder).as_posix()}" for path in found]
                _make_parent(files, paths[0])
                files.put([str(path) for path in found], paths)
        if aside:
            self._remove(f"{MODELS}/{self.folder(name)}")
        return result

    def _remove(self, path: str) -> None:
        """Removes all below a path; it may be missing."""
        with self._files(path) as (files, root):
            for some in _batches(files.find(root)):
                files.rm(some)

    def put_row(self, row: FleetRow) -> None:
        """Writes the object of a row, which is the mark that its port is whole."""
        with self._files(self._row_path(row.name)) as (files, path):
            _make_parent(files, path)
            files.pipe_file(path, journal.row_line(row))

    def _row_path(self, name: str) -> str:
        return f"{ROWS}/{self.folder(name)}.json"

    def began(self, name: str, worker: str) -> None:
        """Does nothing: it would cost a request."""

    def unfinished(self) -> set[str]:
        """No names: a store has no beginnings."""
        return set()

    def each_row(self) -> Iterator[FleetRow]:
        """The row of each model, sorted by name; an object of another kind is left out."""
        with self._fetched() as places:
            yield from journal.read_rows(places)

    @contextlib.contextmanager
    def _fetched(self) -> Iterator[dict[str, journal.Place]]:
        """The rows in a local file, each read once; a million of them are a gigabyte."""
        with tempfile.TemporaryDirectory(prefix="xlstm-fleet-") as folder:
            file = Path(folder, "rows.jsonl")
            with open(file, "wb") as stream:
                for paths in _batches(self._row_paths()):
                    stream.writelines(f"{text}\n".encode() for text in self._texts(paths))
            yield journal.last_lines([file])[0]

    def _texts(self, paths: list[str]) -> Iterator[str]:
        """The texts of some rows; one that is removed meanwhile is left out."""
        with self._files() as (files, _):
            found = files.cat_ranges(paths, None, None)  # `cat` would look for each first
            for one in found:
                if isinstance(one, Exception) and not isinstance(one, FileNotFoundError):
                    raise one
        texts = (one.decode("utf-8", "replace") for one in found if isinstance(one, bytes))
        return (" ".join(text.splitlines()) for text in texts)

    def rows_of(self, names: Iterable[str]) -> dict[str, FleetRow]:
        """The rows of some models: one request for each."""
        with self._files() as (_, root):
            paths = [f"{root}/{self._row_path(name)}" for name in names]
        texts = (text for some in _batches(paths) for text in self._texts(some))
        found = (journal.parse(text.encode()) for text in texts)
        rows = (line[2] for line in found if line is not None)
        return {row.name: row for row in rows if row is not None}

    def _row_paths(self) -> list[str]:
        with self._files(ROWS) as (files, root):
            found: list[str] = sorted(files.find(root))
            return found

    def missing_ports(self, names: Iterable[str]) -> set[str]:
        """Names without a whole port: one listing of all ports."""
        sizes: dict[str, dict[str, int]] = {}
        with self._files(MODELS) as (files, root):
            for path, info in files.find(root, detail=True).items():
                folder, _, name = path.removeprefix(f"{root}/").rpartition("/")
                sizes.setdefault(folder, {})[name] = info["size"] or 0
        return {name for name in names if not is_whole(sizes.get(self.folder(name), {}))}

    def forget(self, names: Iterable[str]) -> None:
        """Removes rows, and ports that were put aside, of models that are done again."""
        folders = {self.folder(name) for name in names}
        self._remove_of(ROWS, {f"{folder}.json" for folder in folders})
        self._remove_of(ASIDE, folders)

    def drop_ports(self, names: Iterable[str]) -> None:
        """Removes the objects of older ports: one listing of all ports."""
        self._remove_of(MODELS, {self.folder(name) for name in names})

    def _remove_of(self, where: str, wanted: set[str]) -> None:
        """Removes objects by their path, or that of their folder, below a folder of the target."""
        with self._files(where) as (files, root):
            paths = files.find(root) if wanted else []
            short = ((path, path.removeprefix(f"{root}/")) for path in paths)
            found = [p for p, s in short if s in wanted or s.rpartition("/")[0] in wanted]
            for some in _batches(found):
                files.rm(some)

    def compact(self) -> list[str]:
        """Writes the tables to local files, and uploads them."""
        with tempfile.TemporaryDirectory(prefix="xlstm-fleet-") as folder:

            @contextlib.contextmanager
            def place(name: str) -> Iterator[Path]:
                yield Path(folder, name)

            with self._fetched() as places:
                names = write_table(lambda: journal.read_rows(places), place)
            with self._files() as (files, root):
                for name in names:
                    files.put_file(str(Path(folder, name)), f"{root}/{name}")
        return [self.where(name) for name in names]

    def sweep(self) -> None:
        """Does nothing: a port without a row is written again, and nothing else is left."""


def _make_parent(files: Any, path: str) -> None:
    """Makes the folder of a path, where the storage has folders."""
    protocols = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    if not set(protocols) & set(BUCKETS):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(paths)
    while some := list(itertools.islice(rest, MOST)):
        yield some
