"""What libhdf5 itself trips over, looked for in the bytes before it sees them.

Newer superblocks crash it when damaged; a global heap (the place of texts of variable length) that
lies about its free space makes it loop for ever, and so does a local heap (the place of names)
whose free blocks go round in a circle; many references to one long text fill the memory.
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

LOCAL_HEAP = b"HEAP\0\0\0\0"
"""Start of a local heap: the names of the members of one group."""

NO_BLOCK = 1
"""Offset of a free block that means: there is no further one."""

TEXT_TYPE = b"\x10\0\0\0\x10\0\0\0\1\0\0\0\0\0\x08\0"
TEXT_TYPES = (b"\x19\1\0\0" + TEXT_TYPE, b"\x19\1\1\0" + TEXT_TYPE)
"""The two types of texts of variable length, ASCII and UTF-8, as h5py writes them."""

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
    # what lies behind the end that the superblock names is never read as HDF5
    end = int.from_bytes(data[40:48], "little")
    for start in _places(data, LOCAL_HEAP):
        if start < end:
            _check_free_blocks(data, start, where)
    texts = [(heap, *text) for heap in _places(data, HEAP) for text in _objects(data, heap, where)]
    _check_lengths(data, texts, where)
    # a reference is the address of the heap and the number in it
    long = [(h.to_bytes(8, "little") + n + b"\0\0", size) for h, n, size in texts if size > LONG]
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


def _places(data: Bytes, what: bytes) -> Iterator[int]:
    start = data.find(what)
    while start >= 0:
        yield start
        start = data.find(what, start + len(what))


def _objects(data: Bytes, start: int, where: str) -> Iterator[tuple[bytes, int]]:
    """Number and size of each text of a heap; the heap must be filled exactly."""
    size = int.from_bytes(data[start + 8 : start + 16], "little")
    end, position = start + size, start + 16
    while position + 16 <= end <= len(data):
        number = data[position : position + 2]
        length = int.from_bytes(data[position + 8 : position + 16], "little")
        if number == b"\0\0":  # free space: its length counts its own header
            position += length if length >= 16 else size + 1
            break
        yield number, length
        position += 16 + (length + 7) // 8 * 8
    if not end - 16 < position <= end <= len(data):
        raise FileError(where, "a sound heap of texts", "a damaged one", "save the model anew")


def _check_free_blocks(data: Bytes, start: int, where: str) -> None:
    """Raises FileError where the free blocks of a local heap do not come to an end."""
    fields = [data[at : at + 8] for at in (start + 8, start + 16, start + 24)]
    size, block, segment = (int.from_bytes(field, "little") for field in fields)
    seen: set[int] = set()
    while block != NO_BLOCK and block + 16 <= size and segment + block + 16 <= len(data):
        if block in seen:
            got = "free places that go round in a circle"
            raise FileError(where, "a sound heap of names", got, "save the model anew")
        seen.add(block)
        at = segment + block
        block = int.from_bytes(data[at : at + 8], "little")


def _references(data: Bytes, where: str) -> Iterator[bytes]:
    """All references of attributes to texts: length, address of the heap, number in it."""
    for start in (at for kind in TEXT_TYPES for at in _places(data, kind)):
        space = data[start + 20 : start + 32]
        if len(space) < 12:
            raise FileError(where, "whole attributes", "the end of the file", "copy the file anew")
        if space[:4] == b"\0\0\0\0" and space[4:5] not in (b"\1", b"\2"):
            continue  # the type of an array, which is refused when it is asked for
        rank, flags = space[5:6], space[6:7]
        if space[:5] != b"\0\0\0\0\1" or rank not in (b"\0", b"\1") or flags > b"\1":
            raise FileError(where, "attributes as Keras writes them", "others", "save it anew")
        first = start + 32 + 8 * rank[0] * (1 + flags[0])
        number = int.from_bytes(data[start + 32 : start + 40], "little") if rank[0] else 1
        for at in range(first, min(first + 16 * number, len(data) - 15), 16):
            yield data[at : at + 16]


def _check_lengths(data: Bytes, texts: list[tuple[int, bytes, int]], where: str) -> None:
    """Refuses references that overstate a text: HDF5 takes the memory before it looks."""
    sizes = {heap.to_bytes(8, "little") + number: size for heap, number, size in texts}
    for reference in _references(data, where):
        length = int.from_bytes(reference[:4], "little")
        if length > sizes.get(reference[4:14], 0):
            got = f"a reference to {length} bytes that are not there"
            raise FileError(where, "texts of the length they have", got, "save the model anew")


def _repeats(data: Bytes, reference: bytes) -> int:
    """How often a reference occurs after its first time."""
    found, start = -1, data.find(reference)
    while start >= 0:
        found += 1
        start = data.find(reference, start + len(reference))
    return max(found, 0)
