"""Reads parts of files by position, never mapped: another process may truncate the file.

A read past the new end of a mapped file kills the process (SIGBUS); a short read is an error here.

    exactly(stream, 8, 4, "model.h5")   # 4 bytes from position 8, or a FileError
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO, cast

import numpy as np

from xlstm.errors import FileError
from xlstm.ir.types import Array

AGAIN = "copy or save the file again"
"""Advice for a file that ends too early."""


PIECE = 2**22
"""Bytes of one read."""


class Window(io.RawIOBase):
    """Bytes `start` to `start + size` of another file, for reading.

    >>> window = Window(io.BytesIO(b"abcdef"), 2, 3)
    >>> window.read(), window.seek(1), window.read(9)
    (b'cde', 1, b'de')
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.start, self.size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        before = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(before + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self.size - self._at, 0))
        self.file.seek(self.start + self._at)
        view = memoryview(buffer)[:wanted]
        got = self.file.readinto(view) if wanted else 0  # type: ignore[attr-defined]
        self._at += got
        return int(got)


def exactly(stream: BinaryIO, at: int, size: int, where: object) -> bytes:
    """The `size` bytes from position `at`.

    Raises:
        FileError: the file ends before them, or cannot be read.
    """
    try:
        stream.seek(at)
        found = stream.read(size)
    except (OSError, ValueError) as error:
        raise FileError(where, f"{size} bytes at {at}", str(error), AGAIN) from None
    _check_whole(len(found), size, at, where)
    return found


def numbers(
    stream: BinaryIO, at: int, shape: tuple[int, ...], dtype: np.dtype[Any], where: object
) -> Array:
    """The array whose elements lie one after the other from position `at`, in C order.

    Args:
        stream: a file.
        at: position of the first element.
        shape: of the array.
        dtype: as stored, in either byte order.
        where: file or part of it, for messages.

    Returns:
        An array of that shape in the byte order of this machine.

    Raises:
        FileError: the file ends before them, or cannot be read, or there is not enough memory.

    >>> numbers(io.BytesIO(bytes([9, 0, 1, 0, 2])), 1, (2,), np.dtype(">u2"), "example")
    array([1, 2], dtype=uint16)
    """
    try:
        found: Array = np.empty(shape, dtype)
        stream.seek(at)
        got, bytes_of = 0, found.reshape(-1).view(np.uint8)
        while got < found.nbytes:
            piece = cast(Any, stream).readinto(bytes_of[got : got + PIECE])
            if not piece:
                break
            got += piece
    except MemoryError:
        want, do = f"memory for numbers of shape {shape}", "allow this process more of it"
        raise FileError(where, want, "too little", do) from None
    except (OSError, ValueError) as error:
        raise FileError(where, f"numbers of shape {shape}", error, AGAIN) from None
    _check_whole(got, found.nbytes, at, where)
    return found.astype(dtype.newbyteorder("="), copy=False)


def _check_whole(got: int, size: int, at: int, where: object) -> None:
    if got != size:
        message = f"{got}: the file ends there, or was cut short while it was read"
        raise FileError(where, f"{size} bytes at {at}", message, AGAIN)
