"""Reads checkpoints of TensorFlow (`variables.index` and its data files) without TensorFlow.

In: a folder. Out: a `Bundle`, whose `stored(key, name)` is a handle of a tensor. The index is a
table of LevelDB: blocks of (key, value) pairs with shared prefixes of keys, a block that lists the
blocks, and a footer with its place. A value has the place of a tensor in a data file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Stored
from xlstm.files.guards import open_regular
from xlstm.files.tensorflow.protobuf import ANEW, Message, piece, text, varint
from xlstm.ir.types import Array

MAX_INDEX = 32 * 2**20
"""Largest index, in bytes; one entry has about a hundred."""

MAX_KEY = 1_024
"""Longest key, in bytes."""

MAX_SHARDS = 64
"""Most data files; Keras writes one or two."""

MAX_BYTES = 8 * 2**30
"""Largest single tensor."""

MAX_STRING = 8 * 2**20
"""Longest text that is stored as a tensor; the graph of objects has about 20 KB."""

MAX_RANK = 32
"""Most axes of a tensor."""

MAX_SHARED = 8
"""Largest number of uses of the bytes of a data file; layers may share a variable."""

PIECE = 2**24
"""Bytes that are summed at once."""

FOOTER, MAGIC = 48, bytes.fromhex("57fb808b247547db")
"""Length of the end of a table, and its last bytes."""

PLAIN, SNAPPY, TRAILER = 0, 1, 5
"""Kinds of blocks, and the bytes after a block: its kind and its checksum."""

DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
"""TensorFlow's number -> dtype; others (strings, complex, quantized) are not weights."""

AS_KERAS = "save the model as .keras or .h5: these keep plain arrays"
LITTLE = "save the model again on a machine with little-endian numbers"

STRING = 7
"""TensorFlow's number for text."""


def _crc_table() -> Array:
    table: Array = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(0x82F63B78)
    return table


CRC = _crc_table()
"""CRC-32C of every byte."""


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C (Castagnoli) of bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    state = 0xFFFFFFFF
    for start in range(0, len(data), PIECE):
        part = data[start : start + PIECE]
        state = _advance(state, part) if len(part) < 64 else _advance_rows(state, part)
    return state ^ 0xFFFFFFFF


def _advance(state: int, data: bytes | bytearray | memoryview) -> int:
    for byte in data:
        state = int(CRC[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state


def _advance_rows(state: int, data: bytes | bytearray | memoryview) -> int:
    """The same for many bytes: cut into as many rows as columns, which advance together.

    Below them, 32 rows of zeros, each from a state with one bit, show how a row changes a state.
    """
    count = math.isqrt(len(data))
    width = -(-len(data) // count)
    cells = np.zeros((count + 32) * width, np.uint8)
    start = count * width - len(data)  # zeros in front leave the state 0 as it is
    cells[start : count * width] = np.frombuffer(data, np.uint8)
    cells[start : start + 4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    states = np.zeros(count + 32, np.uint32)
    states[count:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for column in np.ascontiguousarray(cells.reshape(count + 32, width).T):
        states = CRC[(states ^ column) & 0xFF] ^ (states >> 8)
    whole, joined = states[count:].tolist(), 0
    for row in states[:count].tolist():
        for bit in range(32):
            row ^= whole[bit] if joined >> bit & 1 else 0
        joined = row
    return joined


def masked(data: bytes | bytearray | memoryview) -> int:
    """The checksum in LevelDB's form: rotated, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _block(table: memoryview, handle: tuple[int, int], where: str) -> memoryview:
    """The block at (offset, size), its checksum verified."""
    offset, size = handle
    whole = piece(table, offset, size + TRAILER, where)
    kind, stored = whole[size], int.from_bytes(whole[size + 1 :], "little")
    if masked(whole[: size + 1]) != stored:
        raise FileError(where, "blocks that match their checksums", f"another at {offset}", ANEW)
    if kind != PLAIN:
        got = "snappy compression" if kind == SNAPPY else f"compression {kind}"
        raise FileError(where, "blocks without compression", got, "save the model as .keras or .h5")
    return whole[:size]


def _pairs(block: memoryview, where: str) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a block: each key has a prefix of the key before and its own end."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise FileError(where, "a block of keys and values", f"{restarts} restarts", ANEW)
    block, at, key = block[:end], 0, b""
    while at < end:
        shared, at = varint(block, at, where)
        own, at = varint(block, at, where)
        size, at = varint(block, at, where)
        if shared > len(key) or shared + own > MAX_KEY:
            raise FileError(where, f"keys of at most {MAX_KEY} bytes", f"{shared} + {own}", ANEW)
        key = key[:shared] + bytes(piece(block, at, own, where))
        value = piece(block, at + own, size, where)
        at += own + size
        yield key, value


def _handle(data: memoryview, where: str) -> tuple[int, int]:
    offset, at = varint(data, 0, where)
    size, _ = varint(data, at, where)
    return offset, size


def _table(table: memoryview, where: str) -> Iterator[tuple[bytes, memoryview]]:
    """All keys and values of a table; blocks and keys are in ascending order."""
    if len(table) < FOOTER or table[-8:] != MAGIC:
        raise FileError(where, "a table that ends in its magic number", "another end", ANEW)
    footer = table[-FOOTER:-8]
    _, at = varint(footer, 0, where)
    _, at = varint(footer, at, where)
    end, before = 0, None
    for _, value in _pairs(_block(table, _handle(footer[at:], where), where), where):
        offset, size = _handle(value, where)
        if offset < end:
            raise FileError(where, "blocks one after the other", f"one at {offset}", ANEW)
        end = offset + size
        for key, value in _pairs(_block(table, (offset, size), where), where):
            if before is not None and key <= before:
                raise FileError(where, "keys in order", repr(key), ANEW)
            before = key
            yield key, value


@dataclass(frozen=True)
class Entry:
    """The place of a tensor: `size` bytes at `offset` of data file `shard`."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Bundle:
    """A checkpoint: keys -> undecoded entries, and the open data files.

    Attributes:
        where: its folder, for messages.
        entries: in the order of the index.
        files: index and data files, in order; their bytes are the checkpoint.
        budget: limit of the cost of the checkpoint.
    """

    where: str
    entries: Mapping[str, memoryview]
    files: tuple[BinaryIO, ...]
    budget: Budget
    _claimed: dict[int, int] = field(default_factory=dict, repr=False)

    def stored(self, key: str, name: str) -> Stored:
        """A handle of a tensor; only its own bytes are read, when it is loaded.

        Raises:
            FileError: a tensor that is missing, has no plain numbers, or sizes that contradict each
                other or the data file.
        """
        where = f"{self.where}, {name}"
        entry = self._entry(key, where)
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise FileError(where, "a plain array", f"dtype number {entry.dtype}", AS_KERAS)
        want = math.prod(entry.shape) * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
        if entry.size != want:
            got = f"{entry.size} bytes"
            raise FileError(where, f"{want} bytes for shape {entry.shape}", got, ANEW)
        self._claim(entry, where)

        def load() -> Array:
            return _array(self._read(entry, where), dtype, entry, where)

        return Stored(name, entry.shape, dtype, load)

    def string(self, key: str) -> memoryview:
        """The bytes of a tensor that is one text.

        Raises:
            FileError: a tensor that is missing, damaged, or of another type.
        """
        where = f"{self.where}, {key}"
        entry = self._entry(key, where)
        if entry.dtype != STRING or entry.shape or entry.size > MAX_STRING:
            got = f"dtype number {entry.dtype}, shape {entry.shape}, {entry.size} bytes"
            raise FileError(where, "one text", got, ANEW)
        data = memoryview(self._read(entry, where))
        size, at = varint(data, 0, where)
        # the checksum covers the length as a fixed number, then the checksum of that, then the text
        length = size.to_bytes(4 if size < 2**32 else 8, "little")
        summed = masked(length).to_bytes(4, "little")
        if data[at : at + 4] != summed or masked(length + summed + data[at + 4 :]) != entry.crc:
            raise FileError(where, "text that matches its checksum", "other text", ANEW)
        return piece(data, at + 4, size, where)

    def _entry(self, key: str, where: str) -> Entry:
        if key not in self.entries:
            raise FileError(where, f"a tensor {key} in the index", "none", ANEW)
        message = Message(self.entries[key], where, self.budget)
        if message.has(7):
            got = "a variable stored in slices"
            raise FileError(where, "whole variables", got, "save the model as .keras or .h5")
        entry = Entry(
            message.integer(1),
            _shape(message.message(2), where),
            *(message.integer(number) for number in (3, 4, 5, 6)),
        )
        self._check(entry, where)
        return entry

    def _check(self, entry: Entry, where: str) -> None:
        """Raises FileError, before anything is allocated, for a missing or short data file."""
        count = len(self.files) - 1
        if entry.shard >= count:
            raise FileError(where, f"one of {count} data files", f"number {entry.shard}", ANEW)
        size = self.files[1 + entry.shard].seek(0, 2)
        if entry.size > MAX_BYTES or entry.offset + entry.size > size:
            got = f"{entry.size} at {entry.offset}"
            raise FileError(where, f"bytes within the {size} of the data file", got, ANEW)

    def _claim(self, entry: Entry, where: str) -> None:
        """Counts the bytes of a tensor; few layers share one."""
        total = self._claimed.get(entry.shard, 0) + entry.size
        size = self.files[1 + entry.shard].seek(0, 2)
        if total > MAX_SHARED * size:
            got = f"{total} bytes of tensors in a data file of {size}"
            raise FileError(where, "tensors with bytes of their own", got, "check the file")
        self._claimed[entry.shard] = total

    def _read(self, entry: Entry, where: str) -> bytearray:
        file = self.files[1 + entry.shard]
        data = bytearray(entry.size)
        try:
            file.seek(entry.offset)
            count = file.readinto(data)  # type: ignore[attr-defined]
        except (OSError, ValueError) as error:
            raise FileError(where, f"{entry.size} bytes", str(error), ANEW) from None
        if count != entry.size:
            raise FileError(where, f"{entry.size} bytes", f"{count}", ANEW)
        return data


def _shape(message: Message, where: str) -> tuple[int, ...]:
    shape = tuple(axis.integer(1) for axis in message.messages(2))
    if len(shape) > MAX_RANK or any(n >> 63 for n in shape) or message.integer(3):
        raise FileError(where, "a known shape", f"{len(shape)} axes, some unknown", ANEW)
    return shape


def _array(data: bytearray, dtype: str, entry: Entry, where: str) -> Array:
    if masked(data) != entry.crc:
        raise FileError(where, "numbers that match their checksum", "others", ANEW)
    if dtype == "bool":
        return np.frombuffer(data, np.uint8).astype(bool).reshape(entry.shape)
    if dtype == "bfloat16":  # the upper half of a float32
        wide: Array = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).reshape(entry.shape)
    little: Array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
    return np.asarray(little, np.dtype(dtype)).reshape(entry.shape)


def _header(table: Iterator[tuple[bytes, memoryview]], where: str, budget: Budget) -> int:
    """The number of data files, from the first entry of the index."""
    key, value = next(table, (None, memoryview(b"")))
    message = Message(value, where, budget)
    count = message.integer(1)
    if key != b"" or not 1 <= count <= MAX_SHARDS:
        raise FileError(where, f"1 to {MAX_SHARDS} data files", f"{count}", ANEW)
    if message.integer(2):
        raise FileError(where, "little-endian numbers", "big-endian ones", LITTLE)
    return count


def open_file(path: Path, opened: ExitStack) -> BinaryIO:
    """Opens a regular file until `opened` is closed.

    Raises:
        FileError: missing, unreadable, or not a regular file.
    """
    try:
        return opened.enter_context(open_regular(path))
    except IsADirectoryError:
        raise FileError(path, "a regular file", "a folder", ANEW) from None


def open_bundle(folder: Path, where: str, opened: ExitStack, budget: Budget) -> Bundle:
    """Opens `variables.index` and its data files in a folder, until `opened` is closed.

    Raises:
        FileError: a checkpoint that is missing, damaged or hostile.
    """
    index = open_file(folder / "variables.index", opened)
    inside = f"{where}, variables.index"
    table = _table(memoryview(read_whole(index, MAX_INDEX, inside)), inside)
    count = _header(table, inside, budget)
    names = [f"variables.data-{number:05}-of-{count:05}" for number in range(count)]
    entries: dict[str, memoryview] = {}
    for key, value in table:
        budget.spend("nodes", 1, inside)
        budget.spend("characters", len(key), inside)
        entries[text(memoryview(key), inside)] = value
    files = [open_file(folder / name, opened) for name in names]
    return Bundle(where, entries, (index, *files), budget)


def read_whole(file: BinaryIO, limit: int, where: str) -> bytes:
    """All bytes of a file of limited size.

    Raises:
        FileError: a larger file, or an unreadable one.
    """
    try:
        file.seek(0)
        data = file.read(limit + 1)
    except OSError as error:
        raise FileError(where, "a readable file", str(error), ANEW) from None
    if len(data) > limit:
        raise FileError(where, f"at most {limit} bytes", "more", "check the file")
    return data
