r"""Parses messages of HDF5 object headers: shapes, types, places of data, attributes, links.

In: the bytes of one message. Out: plain values. Only forms that Keras writes are read (HDF5's
oldest: plain numbers and texts in one piece). Others get a name for the error that refuses them.

    shape(b"\1\1\0\0\0\0\0\0" + (3).to_bytes(8, "little"), "example")   # (3,)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.errors import FileError

UNDEFINED = 2**64 - 1
"""Address of data that is not stored."""

CLASSES = dict(
    enumerate(
        "integer float time text bits opaque compound reference enumeration variable-length "
        "array".split()
    )
)
"""Number of a class of types -> its name."""

FLOATS = {
    size: struct.pack("<HHBBBBI", 0, 8 * size, mantissa, exponent, 0, mantissa, bias)
    for size, mantissa, exponent, bias in ((2, 10, 5, 15), (4, 23, 8, 127), (8, 52, 11, 1023))
}
"""Bytes of an IEEE 754 float -> HDF5's description of its parts."""

BOOL = b"\x10\x08\0\0\1\0\0\0\0\0\x08\0" + b"FALSE\0\0\0" + b"TRUE\0\0\0\0" + b"\0\1"
"""The enumeration for bools of h5py: a type of one byte, two names, two values."""

OWN = "number format of its own"

FIXED, VARIABLE = "text of fixed length", "text"

LINKS = {0: "HardLink", 1: "SoftLink", 64: "ExternalLink"}
"""Number of a kind of link -> its name."""


def damaged(where: str, got: str) -> FileError:
    """The error for bytes that are no valid HDF5."""
    return FileError(where, "whole HDF5", f"damaged data: {got}", "copy or save the file anew")


def unpack(form: str, data: bytes, at: int, where: str) -> tuple[Any, ...]:
    """Little-endian fields at a position.

    Raises:
        FileError: the data ends before them.
    """
    if at + struct.calcsize(f"<{form}") > len(data):
        raise damaged(where, "a structure that is cut off")
    return struct.unpack_from(f"<{form}", data, at)


def shape(data: bytes, where: str) -> tuple[int, ...] | None:
    """The shape of a dataspace message, () for one value, None for no value.

    Raises:
        FileError: a message of no known form.
    """
    version, rank = unpack("BB", data, 0, where)
    if version not in (1, 2):
        raise damaged(where, f"a dataspace of version {version}")
    if version == 2 and data[3:4] == b"\2":
        return None
    return unpack(f"{rank}Q", data, 8 if version == 1 else 4, where)


@dataclass(frozen=True)
class Type:
    """The type of stored values.

    Attributes:
        title: its name, for messages.
        size: bytes of one value.
        dtype: the same in numpy, None for texts and for types that are not read.
        padded: for texts of fixed length: True if zeros at the end are padding.
    """

    title: str
    size: int
    dtype: np.dtype[Any] | None = None
    padded: bool = False


def type_of(data: bytes, where: str) -> Type:
    """The type of a datatype message; `dtype` is None for types that are not read.

    Raises:
        FileError: a message that is cut off.
    """
    first, low, sign, _, size = unpack("BBBBI", data, 0, where)
    number, rest = first & 15, data[8:]
    title = CLASSES.get(number, f"class {number}")
    if number in (0, 1):
        found = (_integer if number == 0 else _float)(low, sign, size, rest)
        return Type(found.name if found else f"{title}, a {OWN}", size, found)
    if number == 3 and low & 15 in (0, 1):
        return Type(FIXED, size, padded=bool(low & 15))
    if number == 5 and size == 2 and not rest.strip(b"\0"):
        return Type("opaque", size, np.dtype("V2"))
    if number == 8:
        stock = size == 1 and low == 2 and rest.startswith(BOOL)
        return Type(*(("bool", 1, np.dtype(bool)) if stock else (f"{title}, a {OWN}", size)))
    if number == 9 and low & 15 == 1 and size == 16:
        return Type(VARIABLE, size)
    return Type(title, size)


def _integer(low: int, _sign: int, size: int, rest: bytes) -> np.dtype[Any] | None:
    """The dtype of a whole number that uses all of its bits, else None."""
    if size not in (1, 2, 4, 8) or rest[:4] != struct.pack("<HH", 0, 8 * size) or low & 0xF6:
        return None
    return np.dtype(f"{'>' if low & 1 else '<'}{'i' if low & 8 else 'u'}{size}")


def _float(low: int, sign: int, size: int, rest: bytes) -> np.dtype[Any] | None:
    """The dtype of an IEEE 754 number, else None: another layout would change every value."""
    if rest[:12] != FLOATS.get(size) or low & 0xFE != 0x20 or sign != 8 * size - 1:
        return None
    return np.dtype(f"{'>' if low & 1 else '<'}f{size}")


@dataclass(frozen=True)
class StorageLayout:
    """The place of the values of a dataset.

    Attributes:
        problem: a way of storing them that is not read, "" for one piece.
        address: of the piece.
        size: its bytes.
        inside: the values, if they are in the header; else None.
    """

    problem: str = ""
    address: int = UNDEFINED
    size: int = 0
    inside: bytes | None = None


def layout(data: bytes, where: str) -> StorageLayout:
    """The place of the values that a layout message names.

    Raises:
        FileError: a message that is cut off.
    """
    version, kind = unpack("BB", data, 0, where)
    if version not in (3, 4) or kind > 1:
        names = {2: "chunked storage", 3: "virtual storage"}
        named = names.get(kind, "an old form of storage") if version > 2 else names[2]
        return StorageLayout(f"{named}, which Keras never writes")
    if kind == 0:
        (size,) = unpack("H", data, 2, where)
        return StorageLayout(size=size, inside=data[4 : 4 + size])
    address, size = unpack("QQ", data, 2, where)
    return StorageLayout(address=address, size=size)


@dataclass(frozen=True)
class Attribute:
    """An attribute: its name, the messages of its type and shape, and its values' bytes."""

    name: str
    type: Type
    shape: tuple[int, ...] | None
    data: bytes


def _eights(size: int) -> int:
    return (size + 7) // 8 * 8


def attribute_name(data: bytes, where: str) -> bytes:
    """The name in an attribute message.

    Raises:
        FileError: a message of no known form.
    """
    version, _, size = unpack("BBH", data, 0, where)
    if version not in (1, 2, 3):
        raise damaged(where, f"an attribute of version {version}")
    start = 9 if version == 3 else 8
    return data[start : start + size].split(b"\0")[0]


def attribute(data: bytes, where: str) -> Attribute:
    """An attribute message as its parts.

    Raises:
        FileError: a message of no known form, or a type that is stored elsewhere in the file.
    """
    name = attribute_name(data, where)
    version, flags, *sizes = unpack("BBHHH", data, 0, where)
    if version > 1 and flags & 3:
        raise FileError(where, "attributes as Keras writes them", "others", "save the model anew")
    at, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(data[at : at + size])
        at += _eights(size) if version == 1 else size
    return Attribute(
        name.decode("utf-8", "replace"), type_of(parts[1], where), shape(parts[2], where), data[at:]
    )


def link(data: bytes, where: str) -> tuple[bytes, str, int]:
    """Name, kind and address of the link in a link message; only hard links have an address.

    Raises:
        FileError: a message of no known form.
    """
    version, flags = unpack("BB", data, 0, where)
    if version != 1:
        raise damaged(where, f"a link of version {version}")
    at, kind = 2, 0
    if flags & 8:
        kind, at = data[at] if at < len(data) else 255, at + 1
    at += 8 * bool(flags & 4) + bool(flags & 16)
    form = "BHIQ"[flags & 3]
    (size,) = unpack(form, data, at, where)
    at += struct.calcsize(f"<{form}")
    name = data[at : at + size]
    address = unpack("Q", data, at + size, where)[0] if kind == 0 else UNDEFINED
    return name, LINKS.get(kind, f"link of kind {kind}"), address
