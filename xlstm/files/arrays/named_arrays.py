"""Reads files of named arrays: safetensors, `.npz`, and Flax msgpack; plain numbers only.

In: a path. Out: arrays by name. Shapes are checked in the headers before a number is read.

    read_arrays(Path("weights.safetensors"))["lstm.weight_ih_l0"]
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.flax_msgpack import open_msgpack
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.description import Stored
from xlstm.files.file_slice import numbers
from xlstm.files.free_memory import check_memory
from xlstm.files.guards import open_regular
from xlstm.files.zips import MAX_PACKED, RATIO, check_member, open_zip
from xlstm.ir.python_source import steady
from xlstm.ir.types import Array

MAX_BYTES = 8 * 2**30
"""Largest file of arrays, and largest content of an `.npz`."""

NPY = b"\x93NUMPY"
"""The first bytes of an array in numpy's own format."""

ZIP = b"PK\x03\x04"

ANEW = "save the arrays again"

SMALL_MAPS = (b"\x81", b"\x82", b"\x83", b"\x84", b"\xde")
"""First bytes of small maps of msgpack, different from those of all other file types."""

Opener = Callable[[BinaryIO, str, ExitStack, Budget], Mapping[str, Stored]]


def open_arrays(path: Path, opened: ExitStack, budget: Budget) -> Mapping[str, Stored]:
    """Handles of the arrays of a file by name; nested names of msgpack are joined with dots.

    Args:
        path: of the file.
        opened: keeps the file open; handles can be loaded until it is closed.
        budget: limit of the cost of reading it.

    Raises:
        FileError: an unreadable or damaged file, or one with other values than plain arrays.
    """
    stream = opened.enter_context(open_regular(path))
    start = stream.read(16)
    return ARRAYS[_kind(start)](stream, str(path), opened, budget)


def read_arrays(path: Path, budget: Budget | None = None) -> dict[str, Array]:
    """The arrays of a file by name; nested names of msgpack are joined with dots.

    Args:
        path: of the file.
        budget: limit of the cost of reading it; a new one if None.

    Raises:
        FileError: unreadable, damaged, or anything but plain arrays.
    """
    with ExitStack() as opened:
        found = open_arrays(path, opened, budget or Budget())
        check_memory(found.values(), path.name)
        return {name: array.load() for name, array in found.items()}


def read_shapes(path: Path, budget: Budget | None = None) -> dict[str, Array]:
    """As `read_arrays`, with zeros that take no memory for numbers: only headers are read.

    Two names of one stored array have one and the same array.

    Raises:
        FileError: as `read_arrays` does.
    """
    with ExitStack() as opened:
        found = open_arrays(path, opened, budget or Budget())
        zeros = {id(array): array.zeros() for array in found.values()}
        return {name: zeros[id(array)] for name, array in found.items()}


def _kind(start: bytes) -> str:
    """The key in `ARRAYS` of the function that reads a file with these first bytes."""
    if start.startswith(ZIP):
        return "npz"
    return "safetensors" if start[8:9] == b"{" else "msgpack"


def is_arrays(path: Path) -> bool:
    """True for a file that looks like one of named arrays, by its first bytes."""
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            start = file.read(16)
            if start.startswith(ZIP):
                return _is_npz(file)
    except (OSError, ValueError, FileError):
        return False  # the reader of the file raises the error
    return _kind(start) == "safetensors" or start[:1] in SMALL_MAPS


def _is_npz(stream: BinaryIO) -> bool:
    with ExitStack() as opened:
        archive = open_zip(stream, "", opened, Budget())
        return all(name.endswith(".npy") for name in archive.namelist()[:8])


def _safetensors(
    stream: BinaryIO, where: str, _opened: ExitStack, budget: Budget
) -> Mapping[str, Stored]:
    found = open_safetensors(stream, where, budget)
    # PyTorch's save_model stores a tensor of several names once: metadata name the others
    other = {
        name: found.tensors[stored]
        for name, stored in found.metadata.items()
        if stored in found.tensors and name not in found.tensors
    }
    return {**found.tensors, **other}


def _msgpack(
    stream: BinaryIO, where: str, _opened: ExitStack, budget: Budget
) -> Mapping[str, Stored]:
    return open_msgpack(stream, where, budget)


def _npz(stream: BinaryIO, where: str, opened: ExitStack, budget: Budget) -> Mapping[str, Stored]:
    archive = open_zip(stream, where, opened, budget)
    members = archive.infolist()
    size = sum(info.file_size for info in members)
    packed = sum(info.compress_size for info in members)
    if size > MAX_BYTES or (size > MAX_PACKED and size > RATIO * packed):
        got = f"{size} bytes packed into {packed}"
        raise FileError(
            where, f"at most {MAX_BYTES} bytes, and {RATIO} x what is stored", got, ANEW
        )
    found: dict[str, Stored] = {}
    for info in members:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in found:
            raise FileError(where, "arrays of names that differ", info.filename, ANEW)
        found[name] = _member(archive, info, name, f"{where}, {name}")
    return found


ARRAYS: Mapping[str, Opener] = {
    "safetensors": _safetensors,
    "npz": _npz,
    "msgpack": _msgpack,
}
"""Kind of file -> the function that opens it."""


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, where: str) -> Stored:
    """A handle on an array of an `.npz`, whose header is read here."""
    check_member(info, MAX_BYTES, where)
    with _sound(where), archive.open(info) as file:
        header = npy_header(cast(BinaryIO, file), info.file_size, where)

    def load() -> Array:
        with _sound(where), archive.open(info) as file:
            found = header.numbers(cast(BinaryIO, file), where)
            if file.read(1):  # to its end, where the checksum is looked at
                raise zipfile.BadZipFile("longer than declared")
        return found

    return Stored(name, header.shape, header.dtype.name, load)


@contextlib.contextmanager
def _sound(where: str) -> Iterator[None]:
    """Turns any exception inside into a FileError."""
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(where, "a whole array", got, ANEW) from None


@dataclass(frozen=True)
class Npy:
    """The header of an array in numpy's own form.

    Attributes:
        shape: of the array.
        dtype: as stored.
        start: position of the first number.
        fortran: True if the first axis changes fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    fortran: bool

    def numbers(self, stream: BinaryIO, where: str) -> Array:
        """The array itself.

        Raises:
            FileError: the file ends too early.
        """
        if self.fortran:
            return numbers(stream, self.start, self.shape[::-1], self.dtype, where).T
        return numbers(stream, self.start, self.shape, self.dtype, where)


def npy_header(stream: BinaryIO, size: int, where: str) -> Npy:
    """The header of an array in numpy's own form, at the start of a stream of `size` bytes.

    Raises:
        FileError: a damaged header, no plain numbers, or a number of bytes that contradicts the
            shape.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        header = read if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = steady(lambda: header(stream))  # numpy parses it as Python
    except Exception as error:  # the header is a Python literal, which fails in any way
        got = f"a damaged header ({type(error).__name__})"
        raise FileError(where, "an array in numpy's form", got, ANEW) from None
    if dtype.hasobject or dtype.kind not in "fiub":
        got = f"dtype {dtype}, which is not read"
        raise FileError(where, "plain numbers", got, "save plain numbers")
    want, left = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if want != left or want > MAX_BYTES or min(shape, default=0) < 0:
        expected = f"{want} bytes of numbers for shape {shape}, at most {MAX_BYTES}"
        raise FileError(where, expected, f"{left}", ANEW)
    return Npy(shape, dtype, stream.tell(), fortran)
