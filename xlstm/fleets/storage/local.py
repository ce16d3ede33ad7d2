"""A fleet's target in a local folder.

A port is written in the folder `work` of the target and moved in one step, as in
`xlstm.files.atomic`. Its row is written later. So a killed process leaves a port without a row at
most, which the next run writes again.

Nothing is flushed to the disk until the end: two flushes for each file would cost more than the
port. A power loss can therefore lose the last seconds. Lost rows are models to do. A row whose port
was lost is found by `missing_ports`: file systems with a journal leave such files out, or empty.
`compact` flushes everything once.

In: a path. Out: a `LocalTarget`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xlstm.errors import UsageError
from xlstm.files.atomic import PREFIX, clear_all, lock, write_file, written_file, written_folder
from xlstm.fleets.entry import FleetRow
from xlstm.fleets.storage import journal
from xlstm.fleets.storage.names import file_of, folder_of
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
from xlstm.porting.save import only_ours

LOCK, JOURNAL, WORK = "fleet.lock", "journal", "work"
"""Names in the target: the lock, the rows, and the ports that are being written."""


MAX_MARK = 2**16
"""Most bytes of a mark that are read."""


@dataclass(frozen=True)
class LocalTarget(FleetTarget):
    """A folder of this machine, or of a file system that all workers share.

    Attributes:
        url: its absolute path.
    """

    url: str

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.url)

    def where(self, path: str) -> str:
        """The full path of a path of the target."""
        return str(self.root / path)

    def folder(self, name: str) -> str:
        """The relative path of a model; marked where the file system takes "A" for "a"."""
        return folder_of(name, os.path.lexists(self.root / MARK.upper()))

    def read_mark(self) -> dict[str, Any] | None:
        """The content of the mark; None for a target that is new or empty."""
        try:
            if (self.root / MARK).is_file():
                with open(self.root / MARK, "rb") as stream:
                    return parse_mark(stream.read(MAX_MARK), self.url)
            names = sorted(item.name for item in self.root.iterdir())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _no_folder(self.url, error) from None
        for name in names:
            if not name.startswith(PREFIX):
                raise foreign(self.url, name)
        return None

    def write_mark(self, text: bytes) -> None:
        """Makes the folders of the target, and writes its mark, unless another fleet just did."""
        file = self.root / LOCK
        try:
            for name in (JOURNAL, WORK, MODELS):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            file.touch()
            with lock(file) as mine:
                if mine is False:
                    raise busy(self.url, file.read_bytes())
                if not (self.root / MARK).exists():
                    write_file(self.root / MARK, text)
        except OSError as error:
            raise _no_folder(self.url, error) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """A lock that ends with this process; a file system without locks has none."""
        file = self.root / LOCK
        try:
            file.touch()
            for name in (JOURNAL, WORK, MODELS):  # somebody may have removed an empty one
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise _no_folder(self.url, error) from None
        with lock(file) as mine:
            if mine is False:
                raise busy(self.url, file.read_bytes())
            file.write_bytes(owner())
            try:
                yield lambda: None
            finally:
                with contextlib.suppress(OSError):  # the lock itself ends anyway
                    file.write_bytes(b"")

    def put_port(self, name: str, fill: Callable[[Path], Result], aside: bool = False) -> Result:
        """Writes a port in `work`, and moves it to its place in one step."""
        where, other = (ASIDE, MODELS) if aside else (MODELS, ASIDE)
        path = self.folder(name)
        folder, old = self.root / where / path, self.root / other / path
        folder.parent.mkdir(parents=True, exist_ok=True)
        with written_folder(folder, _check_port, work_in=self.root / WORK) as work:
            result = fill(work)
        if os.path.lexists(old):
            _check_port(old)
            shutil.rmtree(old)
        return result

    def put_row(self, row: FleetRow) -> None:
        """Adds a row to the journal of its worker."""
        journal.append(self._journal(row.worker), journal.row_line(row))

    def began(self, name: str, worker: str) -> None:
        """Adds a beginning to the journal of a worker."""
        journal.append(self._journal(worker), journal.begun_line(name))

    def _journal(self, worker: str) -> Path:
        """A worker's file; a caller without a name has one for each process."""
        name = worker or f"{socket.gethostname()}-{os.getpid()}"
        return self.root / JOURNAL / f"{file_of(name)}.jsonl"

    def _files(self) -> list[Path]:
        return sorted((self.root / JOURNAL).glob("*.jsonl"))

    def unfinished(self) -> set[str]:
        """Names that began and have no later row."""
        rows, begun = journal.last_lines(self._files())
        return {name for name, at in begun.items() if name not in rows or rows[name].at < at}

    def each_row(self) -> Iterator[FleetRow]:
        """The last row of each model, sorted by name."""
        return journal.read_rows(journal.last_lines(self._files())[0])

    def missing_ports(self, names: Iterable[str]) -> set[str]:
        """Names without a whole port: three files that are not empty."""
        return {name for name in names if not is_whole(_sizes(self.port_path(name)))}

    def forget(self, names: Iterable[str]) -> None:
        """Does nothing: a port is replaced in one step."""

    def drop_ports(self, names: Iterable[str]) -> None:
        """Removes the folders of older ports; a folder with files of others stays."""
        for path in (Path(self.port_path(name)) for name in names):
            if path.is_dir() and not path.is_symlink() and only_ours(path):
                shutil.rmtree(path)

    def compact(self) -> list[str]:
        """Writes the tables, and flushes all ports to the disk once."""
        if hasattr(os, "sync"):
            os.sync()

        @contextlib.contextmanager
        def place(name: str) -> Iterator[Path]:
            with written_file(self.root / name) as work:
                yield work

        places = journal.last_lines(self._files())[0]
        names = write_table(lambda: journal.read_rows(places), place)
        return [self.where(name) for name in names]

    def sweep(self) -> None:
        """Removes unfinished ports, and unfinished files of the target itself."""
        for folder in (self.root / WORK, self.root):
            with contextlib.suppress(FileNotFoundError):
                clear_all(folder)


def _sizes(folder: str) -> dict[str, int]:
    try:
        with os.scandir(folder) as items:
            return {item.name: item.stat().st_size for item in items}
    except OSError:
        return {}


def _check_port(folder: Path) -> None:
    """Raises UsageError for a folder that has files of others; a damaged port may be replaced."""
    if folder.is_symlink() or not folder.is_dir() or not only_ours(folder):
        got = "a link, a file, or files that xlstm did not write"
        raise UsageError(folder, "a port of this fleet", got, "move them away")


def _no_folder(path: str, error: OSError | ValueError) -> UsageError:
    got = getattr(error, "strerror", None) or str(error)
    return UsageError(path, "a folder that can be read and written", got, "name another target")


def owner() -> bytes:
    """The text of a lock: who has it, and since when."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return json.dumps(
        {"who": f"process {os.getpid()} on {socket.gethostname()}", "since": since}
    ).encode()


def busy(url: str, text: bytes, do: str = "wait until it ends") -> UsageError:
    """Returns the error for a target in which another fleet runs."""
    try:
        data = json.loads(text)
        got = f"one of {data['who']} since {data['since']}"
    except (ValueError, TypeError, KeyError):  # it is being written
        got = "one that has just begun"
    want = "a target without a running fleet"
    return UsageError(url, want, got, f"{do}, or name another target")
