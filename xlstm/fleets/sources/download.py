"""Copies a model from a URL to a local file, no larger than a limit.

    with local_copy(entry, job) as path:
        xlstm.load(path)

In: an entry. Out: a local path: that of the entry itself, or a copy that is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from xlstm.errors import FileError, XlstmError
from xlstm.fleets.entry import FleetEntry, FleetJob
from xlstm.fleets.storage.names import file_of
from xlstm.fleets.storage.remote import connect, is_url, read_error

PIECE = 2**23
"""Bytes of one request."""

STREAMS = ("http", "https")
"""Protocols whose servers may ignore the range of a request, and send all."""


@contextlib.contextmanager
def local_copy(entry: FleetEntry, job: FleetJob) -> Iterator[Path]:
    """The local path of a model.

    Args:
        entry: a file or folder, local or of a URL.
        job: its `largest` is the limit in bytes, before and during the download.

    Raises:
        FileError: a larger model, or an object that does not exist.
        StorageError: the storage fails; another attempt may succeed.
    """
    _check_size(entry, job, entry.size)
    if not is_url(entry.path):
        if os.path.isfile(entry.path):
            _check_size(entry, job, os.path.getsize(entry.path))
        yield Path(entry.path)
        return
    with tempfile.TemporaryDirectory(prefix="xlstm-fleet-") as folder:
        name = entry.path.rstrip("/").rpartition("/")[2]
        path = Path(folder, file_of(name))
        _download(entry, job, path)
        yield path


@contextlib.contextmanager
def local_options(entry: FleetEntry, job: FleetJob) -> Iterator[dict[str, str]]:
    """The options of an entry for `xlstm.load`; an architecture of a URL becomes a local file.

    Raises:
        XlstmError: as `local_copy` raises.
    """
    options = dict(entry.options)
    url = options.get("architecture", "")
    if not is_url(url):
        yield options
        return
    with local_copy(FleetEntry(entry.name, url, ""), job) as path:
        yield {**options, "architecture": str(path)}


def _check_size(entry: FleetEntry, job: FleetJob, size: int) -> None:
    if size > job.largest:
        want, do = f"a model of at most {job.largest:,} bytes", "raise the limit, or leave it out"
        raise FileError(entry.path, want, f"{size:,} bytes", do)


def _download(entry: FleetEntry, job: FleetJob, path: Path) -> None:
    """Copies an object, or all objects of a folder, whose URL ends with "/"."""
    try:
        files, remote = connect(entry.path)
        remote, left = remote.rstrip("/"), job.largest
        if not entry.path.endswith("/"):
            _copy(_pieces(files, remote, entry.size), path, left, entry, job)
            return
        for one, info in files.find(remote, detail=True).items():
            target = _inside(path, one.removeprefix(remote).lstrip("/"), entry)
            target.parent.mkdir(parents=True, exist_ok=True)
            left -= _copy(_pieces(files, one, info.get("size")), target, left, entry, job)
    except XlstmError:
        raise
    except Exception as error:  # noqa: BLE001  each kind of storage has errors of its own
        raise read_error(entry.path, error) from None


def _inside(folder: Path, inner: str, entry: FleetEntry) -> Path:
    """A path below a folder.

    Raises:
        FileError: a name that leads out of it.
    """
    parts = inner.split("/")
    if any(part != file_of(part) for part in parts if not part.startswith(".")) or ".." in parts:
        want, do = "plain names of files", "rename them"
        raise FileError(entry.path, want, inner, do)
    return folder.joinpath(*parts)


def _copy(
    pieces: Generator[bytes, None, None], path: Path, left: int, entry: FleetEntry, job: FleetJob
) -> int:
    """Writes an object of at most `left` bytes; returns its size."""
    size = 0
    with open(path, "wb") as stream, contextlib.closing(pieces):
        for piece in pieces:
            size += len(piece)
            if size > left:
                _check_size(entry, job, job.largest + size - left)
            stream.write(piece)
    return size


def _pieces(files: Any, remote: str, size: int | None) -> Generator[bytes, None, None]:
    """The bytes of an object, also if it is larger than its listed size.

    A small object of a known size is one request.
    """
    protocols = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    size = size or files.size(remote)
    if size is None or set(protocols) & set(STREAMS):
        with files.open(remote, "rb", block_size=0) as stream:
            while piece := stream.read(PIECE):
                yield piece
        return
    start = 0
    while start < size:
        piece = files.cat_file(remote, start=start, end=start + PIECE)
        yield piece
        start += len(piece)
        if len(piece) < PIECE:
            return
        if start >= size:
            size = files.size(remote)  # it may have grown
