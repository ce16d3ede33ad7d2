"""Reads members of zip archives (`.keras`, `.npz`): counted, bounded, in pieces.

In: a stream. Out: one member's bytes, or a window on them if they are not compressed.

    archive = open_zip(stream, "a.keras", opened, Budget())
    member(archive, find(archive, "config.json", 2**20, "a.keras"), "a.keras")   # its bytes
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, cast

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.file_slice import Window, exactly

MAX_PACKED = 64 * 2**20
"""Largest compressed member that may be more than `RATIO` times its stored size, in bytes."""

RATIO = 50
"""Highest compression of a larger member; weights shrink little, a GiB of one letter to a MiB."""

PIECE = 2**16
"""Bytes of one read: a member that is longer than declared is noticed before it is inflated."""

ENTRY, END, LOCATOR, END64 = 46, 22, 20, 56
"""Bytes of an entry of the list of members, and of the three records that end an archive."""

LONGEST_COMMENT = 2**16
"""Most bytes after the record that ends an archive."""


def open_zip(stream: BinaryIO, where: str, opened: ExitStack, budget: Budget) -> zipfile.ZipFile:
    """Opens an archive until `opened` is closed; its list of members is bounded before it is read.

    Raises:
        FileError: damaged, no archive, or with too many members.
    """
    budget.spend("nodes", _listed(stream, where) // ENTRY, where)
    try:
        stream.seek(0)
        archive = opened.enter_context(zipfile.ZipFile(stream))
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(where, "a whole zip archive", got, "copy or save the file again") from None
    budget.spend("characters", sum(map(len, archive.namelist())), where)
    return archive


def _listed(stream: BinaryIO, where: str) -> int:
    """Bytes of the list of members: the largest number in the records at the end."""
    size = stream.seek(0, os.SEEK_END)
    start = max(size - LONGEST_COMMENT - END - LOCATOR - END64, 0)
    tail = exactly(stream, start, size - start, where)
    at = tail.rfind(b"PK\5\6")
    found = [tail[at + 12 : at + 16]]
    if at >= LOCATOR + END64 and tail[at - LOCATOR : at].startswith(b"PK\6\7"):
        found.append(tail[at - LOCATOR - END64 + 40 : at - LOCATOR - END64 + 48])
    return max(int.from_bytes(field, "little") for field in found) if at >= 0 else 0


def find(archive: zipfile.ZipFile, name: str, limit: int, file: str) -> zipfile.ZipInfo:
    """The one member of this name, if it may be read.

    Args:
        archive: of `open_zip`.
        name: of the member.
        limit: most bytes of its content.
        file: name of the archive, for messages.

    Raises:
        FileError: no such member or several, another compression, or too many bytes.
    """
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        got = f"{len(found)} members of that name"
        raise FileError(f"{file}, {name}", "one member", got, "save the file again")
    check_member(found[0], limit, f"{file}, {name}")
    return found[0]


def check_member(info: zipfile.ZipInfo, limit: int, where: str) -> None:
    """Raises for a member that is too large, or compressed in another way than deflate.

    Raises:
        FileError: with the reason.
    """
    packed = info.compress_type == zipfile.ZIP_DEFLATED
    if not (packed or info.compress_type == zipfile.ZIP_STORED) or info.flag_bits & 1:
        raise FileError(where, "stored or deflated data", "other", "save the file again")
    if info.file_size > limit:
        got = f"{info.file_size} bytes"
        raise FileError(where, f"at most {limit} bytes", got, "check the file")
    bomb = info.file_size > MAX_PACKED and info.file_size > RATIO * info.compress_size
    if bomb or (not packed and info.file_size != info.compress_size):
        got = f"{info.file_size} bytes packed into {info.compress_size}"
        raise FileError(where, "a member of numbers or text", got, "check the file")


def pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """A member piece by piece, with its length and its checksum verified.

    Raises:
        FileError: they differ from the declared ones.
    """
    total = 0
    try:
        with archive.open(info) as found:
            while piece := found.read(PIECE):
                total += len(piece)
                if total > info.file_size:
                    raise zipfile.BadZipFile("longer than declared")
                yield piece
        if total != info.file_size:
            raise zipfile.BadZipFile("shorter than declared")
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(where, "a whole member", got, "copy or save the file again") from None


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> bytes:
    """The bytes of a member.

    Raises:
        FileError: a damaged member, or one of another length than declared.
    """
    data = io.BytesIO()
    for piece in pieces(archive, info, where):
        data.write(piece)
    return data.getvalue()


def window(stream: BinaryIO, info: zipfile.ZipInfo, where: str) -> BinaryIO:
    """A member that is not compressed as a separate file object, without a copy.

    Raises:
        FileError: the archive ends before it.
    """
    header = exactly(stream, info.header_offset, 30, where)
    name, extra = struct.unpack("<HH", header[26:30])
    start = info.header_offset + 30 + name + extra
    return cast(BinaryIO, Window(stream, start, info.file_size))
