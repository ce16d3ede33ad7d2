"""Reads Flax's msgpack files without a library: named arrays in maps of maps, token by token.

In: a stream. Out: handles of the arrays, their names joined with dots; no array is read here.

    open_msgpack(stream, "params.msgpack", Budget())["params.lstm.ii.kernel"].load()
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.bfloat16 import widen
from xlstm.files.description import Stored
from xlstm.files.file_slice import exactly, numbers
from xlstm.ir.types import Array

DEEPEST = 32
"""Most levels of maps."""

LONGEST_NAME = 4_096
"""Most bytes of one name."""

DTYPES = {
    name: np.dtype("bool" if name == "bool" else f"<{np.dtype(name).str[1:]}")
    for name in "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool"
    " bfloat16".split()
    if name != "bfloat16"
} | {"bfloat16": np.dtype("<u2")}
"""Names of dtypes in flax.serialization -> numpy's dtypes."""

ARRAY = 1
"""Number of the extension by which flax.serialization marks an array."""

WANT = "named arrays (safetensors, .npz or Flax msgpack)"

ANEW = "save the arrays again"

# first byte -> (kind, bytes of its length or value)
MAPS = {0xDE: 2, 0xDF: 4}
LISTS = {0xDC: 2, 0xDD: 4}
TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
WHOLE = dict(zip(range(0xCC, 0xD4), "BHIQbhiq", strict=True))


def open_msgpack(stream: BinaryIO, where: str, budget: Budget) -> dict[str, Stored]:
    """Handles of the arrays of a file; the stream must stay open while they are loaded.

    Raises:
        FileError: a damaged file, or values other than arrays and whole numbers in maps.
    """
    tokens = _Tokens(stream, where, budget)
    found: dict[str, Stored] = {}
    for name, array in _below(tokens, "", 0):
        if name in found:
            raise FileError(where, "names that differ", f"{name} twice", ANEW)
        found[name] = array
    if tokens.at != tokens.end:
        got = f"{tokens.end - tokens.at} bytes after them"
        raise FileError(where, WANT, got, ANEW)
    return found


class _Tokens:
    """A position in a file, and the token that begins there."""

    def __init__(self, stream: BinaryIO, where: str, budget: Budget) -> None:
        self.stream, self.where, self.budget = stream, where, budget
        self.at, self.end = 0, stream.seek(0, os.SEEK_END)

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.end - self.at:
            raise FileError(self.where, f"{size} bytes at {self.at}", "the end of the file", ANEW)
        self.at += size
        return exactly(self.stream, self.at - size, size, self.where)

    def number(self, size: int) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(size), "big")

    def size(self, first: int, short: tuple[int, int], long: dict[int, int], what: str) -> int:
        """The size of a token of one kind whose first byte is `first`.

        Args:
            first: the byte.
            short: first byte and number of the bytes that contain a small size.
            long: first bytes of this kind -> number of bytes of size that follow.
            what: its name, for messages.
        """
        if short[0] <= first < short[0] + short[1]:
            return first - short[0]
        if first in long:
            return self.number(long[first])
        raise FileError(self.where, what, f"byte {first:#x} at {self.at - 1}", ANEW)

    def map(self) -> int:
        """The number of entries of the map that begins here."""
        return self.size(self.number(1), (0x80, 16), MAPS, "a map")

    def text(self) -> str:
        """The text that begins here."""
        size = self.size(self.number(1), (0xA0, 32), TEXTS, "a name")
        if size > LONGEST_NAME:
            raise FileError(self.where, f"names of at most {LONGEST_NAME} bytes", size, ANEW)
        self.budget.spend("characters", size, self.where)
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise FileError(self.where, "names of UTF-8", "other bytes", ANEW) from None

    def whole(self) -> int:
        """The whole number that begins here."""
        first = self.number(1)
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first not in WHOLE:
            raise FileError(self.where, "a whole number", f"byte {first:#x}", ANEW)
        form = f">{WHOLE[first]}"
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def peek(self) -> int:
        """The byte that comes next."""
        found = self.number(1)
        self.at -= 1
        return found


def _below(tokens: _Tokens, before: str, depth: int) -> Iterator[tuple[str, Stored]]:
    """Full name and handle of every array of the map that begins here."""
    if depth > DEEPEST:
        raise FileError(tokens.where, f"at most {DEEPEST} levels", "more", "check the file")
    for _ in range(tokens.map()):
        tokens.budget.spend("nodes", 1, tokens.where)
        name, first = f"{before}{tokens.text()}", tokens.peek()
        if 0x80 <= first < 0x90 or first in MAPS:
            yield from _below(tokens, f"{name}.", depth + 1)
        elif first in EXTENSIONS or first in FIXED:
            yield name, _array(tokens, name)
        elif first < 0x80 or first >= 0xE0 or first in WHOLE:
            yield name, _step(name, tokens.whole())
        else:
            do = "save the parameters without the rest"
            raise FileError(tokens.where, "arrays alone", f"{name}: byte {first:#x}", do)


def _step(name: str, number: int) -> Stored:
    """A whole number, such as the step of a training state, as an array."""
    dtype = "int64" if number < 2**63 else "uint64"
    return Stored(name, (), dtype, lambda: np.array(number, dtype))


def _array(tokens: _Tokens, name: str) -> Stored:
    """An array of flax.serialization: its shape, its dtype's name and its bytes."""
    where, first = f"{tokens.where}, {name}", tokens.number(1)
    size = FIXED[first] if first in FIXED else tokens.number(EXTENSIONS[first])
    kind, start = tokens.number(1), tokens.at
    if kind != ARRAY:
        raise FileError(where, "an array", f"extension {kind}", ANEW)
    if tokens.size(tokens.number(1), (0x90, 16), LISTS, "an array's parts") != 3:
        raise FileError(where, "an array's shape, dtype and bytes", "others", ANEW)
    rank = tokens.size(tokens.number(1), (0x90, 16), LISTS, "an array's shape")
    if rank > DEEPEST:
        raise FileError(where, f"at most {DEEPEST} axes", f"{rank}", ANEW)
    shape = tuple(tokens.whole() for _ in range(rank))
    named = tokens.text()
    bytes_first = tokens.number(1)
    length = tokens.size(bytes_first, (0xA0, 32), {**BINARIES, **TEXTS}, "an array's bytes")
    at, dtype = tokens.at, DTYPES.get(named)
    tokens.at += length
    if dtype is None:
        raise FileError(where, "a dtype of plain numbers", named, ANEW)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != length:
        got = f"{length} bytes for {named} of shape {shape}"
        raise FileError(where, "as many bytes as the shape says", got, ANEW)
    if tokens.at != start + size or tokens.at > tokens.end:
        raise FileError(where, f"an array of {size} bytes", "another length", ANEW)

    def load() -> Array:
        found = numbers(tokens.stream, at, shape, dtype, where)
        return widen(found) if named == "bfloat16" else found

    return Stored(name, shape, named, load)
