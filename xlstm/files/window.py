"""A part of a file as a file of its own, without copying it."""

from __future__ import annotations

import io
from typing import Any, BinaryIO


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
