"""Lists the files and folders of models below a folder or a URL.

    [found.short for found in search("zoo/**/*.h5")]

In: a path, a pattern or a URL. Out: `Found`. Files with a usual ending are not opened: others count
if they begin as HDF5 or a zip archive. Names that begin with a dot are left out, and so are targets
of fleets below a source. A folder that is reached twice, through a link, is searched once.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from xlstm.errors import FileError, UsageError, no_such_file
from xlstm.files.detect import READERS
from xlstm.files.keras.folder import CONFIG as KERAS_CONFIG
from xlstm.files.keras.folder import METADATA as KERAS_METADATA
from xlstm.files.port_folder import CONFIG, REPORT, SOURCE, WEIGHTS
from xlstm.fleets.storage.remote import connect, errors_in_words, in_time, is_url
from xlstm.fleets.storage.target import MARK, MODELS

MODEL = frozenset(".keras .h5 .hdf5 .hdf .pt .pth .onnx .tflite .safetensors .msgpack".split())
"""Endings of models, also of kinds that are refused: each gets a row with its reason."""

OTHER = frozenset(
    ".7z .avi .bat .bib .bmp .bz2 .c .cfg .conf .cpp .css .csv .db .doc .docx .egg .gif .gz .html "
    ".ini .ipynb .jar .jpeg .jpg .js .json .jsonl .lock .log .md .mp3 .mp4 .npy .npz .ods .odt "
    ".parquet .pdf .pkl .png .pptx .py .pyc .r .rar .rst .sh .sql .sqlite .svg .tar .tex .tfevents "
    ".tgz .tif .tiff .toml .ts .tsv .txt .wav .webp .whl .xls .xlsx .xml .xz .yaml .yml".split()
)
"""Endings of files that are no models; they are not opened."""

INDEX = ".weights.json"
"""End of the index of weights in shards."""

SHARD = re.compile(r"(.+)_\d{5}\.weights\.h5")

MARKS = (
    {"saved_model.pb"},
    {"keras_metadata.pb"},
    {"_CHECKPOINT_METADATA"},
    {KERAS_CONFIG, KERAS_METADATA},
    {SOURCE, REPORT},
    *({weights, other} for weights in WEIGHTS for other in (SOURCE, CONFIG)),
)
"""Names of files that make a folder a model: SavedModel, Orbax, Keras 3, and ports."""

MAGIC = re.compile(r"[*?\[]")
"""Characters of a pattern."""

STAMPS = tuple(
    "ETag etag md5Hash md5 LastModified last_modified mtime updated created modified".split()
)
"""Keys of fsspec's `info` that change with an object; the first one counts."""


class Found(NamedTuple):
    """A file or folder of a model.

    Attributes:
        path: absolute local path, or URL.
        short: path below the source, its parts joined by "/".
        stamp: text that changes with the content.
        size: bytes; 0 if unknown.
        is_folder: True for a folder.
    """

    path: str
    short: str
    stamp: str
    size: int
    is_folder: bool = False


def search(text: str) -> Iterator[Found]:
    """The models of a folder, a file, a pattern, or a URL of one.

    Raises:
        FileError: it does not exist, or a folder in it cannot be read.
        UsageError: a storage that fails, or a protocol that is unknown.
    """
    if is_url(text) and not text.startswith("file://"):
        yield from _remote(text)
        return
    text = text.removeprefix("file://")
    if MAGIC.search(text) and not os.path.lexists(text):
        root, pattern = _split(os.path.abspath(text).replace(os.sep, "/"))
        yield from _below(root, Pattern(pattern))
    elif os.path.isdir(text):
        path = os.path.abspath(text)
        names = set(os.listdir(path))
        if is_model_folder(names):
            yield _folder(path, os.path.basename(path))
        else:
            yield from _below(os.path.join(path, MODELS) if MARK in names else path, Pattern(None))
    else:
        yield one_model(text)


def one_model(path: str) -> Found:
    """A file or folder that the user names; its content is not looked at.

    Raises:
        FileError: it does not exist, or is a device.
        UsageError: a storage that fails.
    """
    if is_url(path):
        return _one_remote(path)
    full = os.path.abspath(path)
    try:
        status = os.stat(full)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise no_such_file(path) from None
        got = getattr(error, "strerror", None) or str(error)
        raise FileError(path, "a readable model file", got, "check the path") from None
    name = os.path.basename(full)
    if stat.S_ISDIR(status.st_mode):
        return _folder(full, name)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(path, "a regular file", "a device or pipe", "give a model file")
    return Found(full, name, _stamp(status), status.st_size)


class Pattern:
    """Parts of a pattern of paths; None for all.

    >>> Pattern(["**", "*.h5"]).fits("a/b/c.h5"), Pattern(["*.h5"]).fits("a/c.h5")
    (True, False)
    """

    def __init__(self, parts: list[str] | None) -> None:
        self.parts = parts
        if parts is None:
            return
        self.ending = os.path.splitext(parts[-1])[1].lower()
        if MAGIC.search(self.ending):
            self.ending = ""
        text = "".join("(?:[^/]+/)*" if part == "**" else f"{_regex(part)}/" for part in parts[:-1])
        last = "(?:[^/]+/)*[^/]+" if parts[-1] == "**" else _regex(parts[-1])
        self.whole = re.compile(text + last, re.S)
        self.each = [re.compile(_regex(part), re.S) for part in parts]

    def fits(self, short: str) -> bool:
        """True for a path that the pattern names."""
        return self.parts is None or bool(self.whole.fullmatch(short))

    def enters(self, short: str) -> bool:
        """True for a folder that may have such paths in it."""
        if self.parts is None:
            return True
        for place, name in enumerate(short.split("/")):
            if place < len(self.parts) and self.parts[place] == "**":
                return True
            if place >= len(self.parts):
                return False
            if not self.each[place].fullmatch(name):
                return False
        return True

    def names(self, name: str) -> bool:
        """True if the pattern spells out the ending of this file: it counts as a model."""
        return self.parts is not None and bool(self.ending) and name.lower().endswith(self.ending)


def _regex(part: str) -> str:
    """A part of a pattern as a regular expression in which nothing is "/"."""
    text = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z").removesuffix(r")\z")
    return f"(?:{text.replace('.*', '[^/]*')})"


def _split(text: str) -> tuple[str, list[str]]:
    """The folder before the first part with a wildcard, and the parts from it on."""
    parts = text.split("/")
    first = next(n for n, part in enumerate(parts) if MAGIC.search(part))
    return "/".join(parts[:first]) or "/", [part for part in parts[first:] if part]


def is_model_folder(names: set[str]) -> bool:
    """True for the names in a folder that is a model as a whole."""
    return any(mark <= names for mark in MARKS)


def _is_model(name: str, names: set[str], pattern: Pattern) -> bool | None:
    """True for a file that is a model; None if its first bytes decide."""
    lower = name.lower()
    ending = os.path.splitext(lower)[1]
    if (shard := SHARD.fullmatch(name)) and f"{shard[1]}{INDEX}" in names:
        return False
    if lower.endswith(INDEX) or ending in MODEL or pattern.names(name):
        return True
    return False if ending in OTHER else None


def _below(root: str, pattern: Pattern) -> Iterator[Found]:
    """Models below a local folder; folders behind links come last."""
    seen, todo, links = set[tuple[int, int]](), [(root, "")], list[tuple[str, str]]()
    while todo or links:
        here, short = todo.pop() if todo else links.pop(0)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as items:
                found = sorted((i for i in items if i.name[0] != "."), key=lambda i: i.name)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not short:
                raise no_such_file(here) from None
            got = error.strerror or str(error)
            raise FileError(here, "a folder that can be read", got, "check its rights") from None
        names = {item.name for item in found}
        if short and is_model_folder(names):
            if pattern.fits(short[:-1]):
                yield _folder(here, short[:-1])
            continue
        if short and MARK in names:
            continue
        for item in found:
            if item.is_dir():
                if pattern.enters(f"{short}{item.name}"):
                    (links if item.is_symlink() else todo).append(
                        (item.path, f"{short}{item.name}/")
                    )
            elif pattern.fits(short + item.name) and item.is_file():
                kind = _is_model(item.name, names, pattern)
                if kind or (kind is None and _start(item.path).startswith(tuple(READERS))):
                    status = item.stat()
                    yield Found(item.path, short + item.name, _stamp(status), status.st_size)


def _start(path: str) -> bytes:
    """The first bytes of a file; of one that cannot be read, those of a model: it gets a row."""
    try:
        with open(path, "rb") as stream:
            return stream.read(8)
    except OSError:
        return next(iter(READERS))


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _folder(path: str, short: str) -> Found:
    """A folder that is a model, with the stamp of all its files."""
    lines, size = [], 0
    for here, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(here, name)
            with contextlib.suppress(OSError):  # a broken link
                status = os.stat(full)
                lines.append(f"{os.path.relpath(full, path)} {_stamp(status)}")
                size += status.st_size
    return Found(path, short, _digest(lines), size, is_folder=True)


def _digest(lines: Iterable[str]) -> str:
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:32]


def _one_remote(url: str) -> Found:
    """One object, or the folder of a model."""
    with errors_in_words(url):
        files, path = connect(url)
        info = in_time(url, lambda: files.info(path))
        name = path.rstrip("/").rpartition("/")[2]
        if info["type"] != "directory":
            return Found(url, name, _info_stamp(info), info.get("size") or 0)
        return _remote_folder(url, name, files.find(path, detail=True))


def _remote_folder(url: str, short: str, infos: Mapping[str, Any]) -> Found:
    lines = [f"{path} {_info_stamp(info)}" for path, info in sorted(infos.items())]
    size = sum(info.get("size") or 0 for info in infos.values())
    return Found(f"{url.rstrip('/')}/", short, _digest(lines), size, is_folder=True)


def _info_stamp(info: Mapping[str, Any]) -> str:
    """Text that changes with an object."""
    found = next((info[key] for key in STAMPS if info.get(key)), "")
    return f"{info.get('size') or 0}-{str(found).strip(chr(34))}"


def _remote(url: str) -> Iterator[Found]:
    """Models below a URL: one listing, whatever the pattern."""
    protocol, _, rest = url.partition("://")
    root, pattern = (rest, None) if not MAGIC.search(rest) else _split(rest)
    if root == "/" and not rest.startswith("/"):
        raise UsageError(url, "a bucket without wildcards", url, "name the bucket")
    start = f"{protocol}://{root}"
    with errors_in_words(start):
        files, path = connect(start)
        info = in_time(start, lambda: files.info(path))
        if info["type"] != "directory":
            yield _one_remote(start)
            return
        infos = files.find(path, detail=True)
        yield from _in_listing(start, files, path.rstrip("/"), infos, Pattern(pattern))


def _in_listing(
    url: str, files: Any, path: str, infos: Mapping[str, Any], pattern: Pattern
) -> Iterator[Found]:
    """Models in a listing of objects."""
    tree: dict[str, dict[str, Any]] = {}
    for full, info in infos.items():
        folder, _, name = full.removeprefix(path).lstrip("/").rpartition("/")
        if name and not re.search(r"(^|/)\.", f"{folder}/{name}"):
            tree.setdefault(folder, {})[name] = info
    if is_model_folder(set(tree.get("", ()))):
        yield _remote_folder(url.rstrip("/"), path.rpartition("/")[2], infos)
        return
    if MARK in tree.get("", ()):
        tree = {f: n for f, n in tree.items() if f.split("/")[0] == MODELS}
    whole = {folder for folder, names in tree.items() if folder and is_model_folder(set(names))}
    closed = whole | {folder for folder, names in tree.items() if folder and MARK in names}
    inner: dict[str, dict[str, Any]] = {}
    for folder, names in sorted(tree.items()):
        outer = _outer(folder, closed)
        if not outer:
            yield from _objects(url.rstrip("/"), files, folder, names, pattern)
        elif outer in whole:
            inner.setdefault(outer, {}).update({f"{folder}/{n}": i for n, i in names.items()})
    for folder, found in inner.items():
        if pattern.fits(folder):
            yield _remote_folder(f"{url.rstrip('/')}/{folder}", folder, found)


def _outer(folder: str, closed: set[str]) -> str:
    """The outermost closed folder around or at a folder, "" for none."""
    parts = folder.split("/")
    around = ("/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((one for one in around if one in closed), "")


def _objects(
    url: str, files: Any, folder: str, names: Mapping[str, Any], pattern: Pattern
) -> Iterator[Found]:
    """Models among the objects of one folder; unusual endings are read together."""
    prefix = f"{folder}/" if folder else ""
    fitting = [name for name in sorted(names) if pattern.fits(prefix + name)]
    kinds = {name: _is_model(name, set(names), pattern) for name in fitting}
    unusual = [names[name]["name"] for name, kind in kinds.items() if kind is None]
    starts = files.cat_ranges(unusual, [0] * len(unusual), [8] * len(unusual)) if unusual else []
    magic = tuple(READERS)
    others = {p for p, s in zip(unusual, starts, strict=True) if bytes(s).startswith(magic)}
    for name, kind in kinds.items():
        info = names[name]
        if kind or info["name"] in others:
            size = info.get("size") or 0
            yield Found(f"{url}/{prefix}{name}", prefix + name, _info_stamp(info), size)
