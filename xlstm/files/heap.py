"""What libhdf5 itself trips over, looked for in the bytes before it sees them.

Newer superblocks crash it when damaged; a global heap (the place of texts of variable length) that
lies about its free space makes it loop for ever; many references to one long text fill the memory.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from typing import BinaryIO

from xlstm.errors import FileError
from xlstm.files.window import Window

HEAP = b"GCOL\x01\0\0\0"
"""Start of a global heap."""

LONG = 2**14
"""Texts above this many bytes are long: each is looked for wherever it is referred to."""

MAX_LONG = 64
"""Most long texts; Keras writes two, the configs of the model and of its training."""

MAX_REPEATED = 32 * 2**20
"""Most bytes that long texts come to where they are referred to more than once."""


class Mapped:
    """A part of a file as bytes to look into, without reading it."""

    def __init__(self, stream: BinaryIO, start: int = 0, size: int | None = None) -> None:
        self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._start, self._end = start, len(self._map) if size is None else start + size

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(len(self))
        return self._map[self._start + start : self._start + stop]

    def find(self, what: bytes, start: int = 0) -> int:
        """As bytes.find."""
        found = self._map.find(what, self._start + start, self._end)
        return found - self._start if found >= 0 else -1


Bytes = bytes | Mapped


def check_bytes(stream: BinaryIO, where: str) -> None:
    """Refuses HDF5 that would crash, hang or bloat libhdf5.

    Raises:
        FileError: a superblock that Keras never writes, or heaps of texts that lie.
    """
    data = _bytes_of(stream, where)
    version = data[8:9]
    if version != b"\0":
        got = f"superblock version {version[0] if version else 'missing'}"
        raise FileError(where, "superblock version 0, as Keras writes it", got, "save it anew")
    long = [text for heap in _heaps(data) for text in _objects(data, heap, where)]
    if len(long) > MAX_LONG:
        got = f"{len(long)} texts of over {LONG} bytes"
        raise FileError(where, f"at most {MAX_LONG} long texts", got, "save the model anew")
    repeated = sum(_repeats(data, reference) * size for reference, size in long)
    if repeated > MAX_REPEATED:
        got = f"references to {repeated} bytes"
        raise FileError(where, "each long text once", got, "save the model anew")


def _bytes_of(stream: BinaryIO, where: str) -> Bytes:
    if isinstance(stream, io.BytesIO):
        return stream.getvalue()
    try:
        if isinstance(stream, Window):
            return Mapped(stream.file, stream.start, stream.size)
        return Mapped(stream)
    except (OSError, ValueError) as error:
        raise FileError(where, "whole HDF5", str(error), "check the file") from None


def _heaps(data: Bytes) -> Iterator[int]:
    start = data.find(HEAP)
    while start >= 0:
        yield start
        start = data.find(HEAP, start + len(HEAP))


def _objects(data: Bytes, start: int, where: str) -> Iterator[tuple[bytes, int]]:
    """Reference and size of each long text of a heap; the heap must be filled exactly."""
    size = int.from_bytes(data[start + 8 : start + 16], "little")
    end, position = start + size, start + 16
    while position + 16 <= end <= len(data):
        number = data[position : position + 2]
        length = int.from_bytes(data[position + 8 : position + 16], "little")
        if number == b"\0\0":  # free space: its length counts its own header
            position += length if length >= 16 else size + 1
            break
        if length > LONG:
            # a reference is the address of the heap and the number in it
            yield start.to_bytes(8, "little") + number + b"\0\0", length
        position += 16 + (length + 7) // 8 * 8
    if not end - 16 < position <= end <= len(data):
        raise FileError(where, "a sound heap of texts", "a damaged one", "save the model anew")


def _repeats(data: Bytes, reference: bytes) -> int:
    """How often a reference occurs after its first time."""
    found, start = -1, data.find(reference)
    while start >= 0:
        found += 1
        start = data.find(reference, start + len(reference))
    return max(found, 0)
