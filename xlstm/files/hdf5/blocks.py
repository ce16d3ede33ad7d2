r"""Reads structures of an HDF5 file: object headers, trees of links, heaps of names and texts.

In: a stream. Out: the members and attributes of objects by address. No two structures of a valid
file share a byte, so all of them together are no larger than the file. A file with overlapping
structures is refused, and the time of reading is linear in the file's size.

    blocks = Blocks(stream, "model.h5", Budget())
    blocks.object(blocks.root).links      # name -> Link

The functions below `Blocks` parse one message each: shapes, types, places of data, attributes,
links. They read only the forms that Keras writes (HDF5's oldest: plain numbers and texts in one
piece). Other forms get a name for the error that refuses them.

    shape(b"\1\1\0\0\0\0\0\0" + (3).to_bytes(8, "little"), "example")   # (3,)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.file_slice import exactly

SPACE, LINK_INFO, TYPE, LINK, OUTSIDE, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUED, TABLE, MANY_ATTRIBUTES = 11, 12, 16, 17, 21
"""Numbers of the messages that are read."""

MAX_LINKS = 20_000
"""Most members of one group."""

SHARED = 2
"""Flag of a message whose content is elsewhere in the file."""

SOFT = 2
"""Mark of a link to a name, in a table of links."""

NEWER = "objects of HDF5 1.8 and later"

ANEW = "save the model again"


@dataclass(frozen=True)
class Link:
    """A member of a group: the kind of the link to it, and the address of a hard one."""

    kind: str
    address: int


@dataclass
class Object:
    """The header of a group or dataset.

    Attributes:
        links: members of a group by name, None for a dataset.
        attributes: name -> undecoded message.
        space: shape of a dataset.
        type: of a dataset's values, None for a group.
        layout: place of a dataset's values.
    """

    links: dict[str, Link] | None = None
    attributes: dict[bytes, bytes] = field(default_factory=dict)
    space: tuple[int, ...] | None = None
    type: Type | None = None
    layout: StorageLayout | None = None


class Blocks:
    """The structures of one file, each read once.

    Attributes:
        where: the file, for messages.
        budget: limit of the cost of the file.
        end: position behind the last byte of HDF5.
        root: address of the root group.
    """

    def __init__(self, stream: BinaryIO, where: str, budget: Budget) -> None:
        self.stream, self.where, self.budget = stream, where, budget
        self._claimed = 0
        self._starts: set[int] = set()
        self._objects: dict[int, Object] = {}
        self._heaps: dict[int, dict[int, bytes]] = {}
        self.end, self.root = self._superblock()

    def _superblock(self) -> tuple[int, int]:
        """Position behind the last byte, and address of the root group."""
        size = self.stream.seek(0, os.SEEK_END)
        head = exactly(self.stream, 0, min(96, size), self.where)
        if head[8:9] != b"\0":
            got = f"superblock version {head[8] if head[8:] else 'missing'}"
            raise FileError(self.where, "superblock version 0, as Keras writes it", got, ANEW)
        widths, base, end, driver, root = (
            *unpack("2s", head, 13, self.where),
            *unpack("Q8xQQ8xQ", head, 24, self.where),
        )
        if widths != b"\x08\x08" or base or driver != UNDEFINED:
            raise FileError(self.where, "a superblock as Keras writes it", "another", ANEW)
        if end > size:
            raise damaged(self.where, f"{size} of {end} bytes, truncated")
        return end, root

    def claim(self, at: int, size: int, where: str) -> None:
        """Counts bytes that no other structure may use.

        Raises:
            FileError: they are outside the file, or all structures have more bytes than it.
        """
        self._claimed += size
        if at + size > self.end:
            raise damaged(where, f"{size} bytes at {at}, beyond the end at {self.end}")
        if self._claimed > self.end:
            raise damaged(where, "parts that share bytes")

    def take(self, at: int, size: int, where: str) -> bytes:
        """The bytes of a structure, which no other may use.

        Raises:
            FileError: as `claim`, or a structure that is read a second time.
        """
        if at in self._starts:
            raise damaged(where, "parts that share bytes")
        self._starts |= {at} if size else set()
        self.claim(at, size, where)
        self.budget.spend("steps", 1, where)
        return exactly(self.stream, at, size, where)

    def object(self, address: int, where: str) -> Object:
        """The object whose header is at an address.

        Raises:
            FileError: a damaged object, or a form that Keras never writes.
        """
        if address not in self._objects:
            self._objects[address] = self._object(address, where)
        return self._objects[address]

    def _object(self, address: int, where: str) -> Object:
        found, links = Object(), list[tuple[bytes, str, int]]()
        for kind, data in self._messages(address, where):
            if kind == ATTRIBUTE:
                found.attributes.setdefault(attribute_name(data, where), data)
            elif kind == TABLE:
                tree, heap = unpack("QQ", data, 0, where)
                found.links = self._members(self._table(tree, heap, where), where)
            elif kind == LINK_INFO:
                found.links = found.links or {}
            elif kind == LINK:
                links.append(link(data, where))
            elif kind == SPACE:
                found.space = shape(data, where)
            elif kind == TYPE:
                found.type = type_of(data, where)
            elif kind == LAYOUT:
                found.layout = found.layout or layout(data, where)
            elif kind == OUTSIDE:
                found.layout = StorageLayout("external storage")
            elif kind == FILTERS:
                found.layout = StorageLayout(
                    "chunked storage with a filter, which Keras never writes"
                )
        if links:
            found.links = self._members(links, where)
        return found

    def _messages(self, address: int, where: str) -> Iterator[tuple[int, bytes]]:
        """Number and content of each message of a header."""
        head = self.take(address, 16, where)
        if head[:1] != b"\1":
            newer = head[:4] == b"OHDR"
            got = NEWER if newer else "none"
            raise FileError(where, "an object header as Keras writes it", got, ANEW)
        count, size = unpack("H4xI", head, 2, where)
        todo = [(address + 16, size)]
        self.budget.spend("steps", count, where)
        while todo and count:
            chunk, at = self.take(*todo.pop(), where), 0
            while count and at + 8 <= len(chunk):
                kind, size, flags = unpack("HHB", chunk, at, where)
                data = chunk[at + 8 : at + 8 + size]
                if len(data) < size:
                    raise damaged(where, "a message that is cut off")
                if kind == CONTINUED:
                    todo.append(unpack("QQ", data, 0, where))
                else:
                    _check_message(kind, flags, data, where)
                    yield kind, data
                at, count = at + 8 + size, count - 1

    def _members(self, links: Iterable[tuple[bytes, str, int]], where: str) -> dict[str, Link]:
        """Links by name."""
        found: dict[str, Link] = {}
        for count, (name, kind, address) in enumerate(links, start=1):
            if count > MAX_LINKS:
                raise FileError(where, f"at most {MAX_LINKS} members", "more", "check the file")
            self.budget.spend("characters", len(name), where)
            try:
                found[name.decode("utf-8")] = Link(kind, address)
            except UnicodeDecodeError:
                raise damaged(where, "names of other bytes than UTF-8") from None
        self.budget.spend("nodes", len(found), where)
        return found

    def _table(self, tree: int, heap: int, where: str) -> Iterator[tuple[bytes, str, int]]:
        """Name, kind and address of every link in a tree whose names are in a heap."""
        head = self.take(heap, 32, where)
        if head[:5] != b"HEAP\0":
            raise damaged(where, "no heap of names")
        size, _, start = unpack("QQQ", head, 8, where)
        names = self.take(start, size, where)
        for node in self._nodes(tree, where):
            for entry in range(0, len(node), 40):
                at, address, cached = unpack("QQI", node, entry, where)
                end = names.find(b"\0", at) if at < size else -1
                if end < 0:
                    raise damaged(where, "a name outside the heap of names")
                kind = "SoftLink" if cached == SOFT else "HardLink"
                yield names[at:end], kind, address

    def _nodes(self, tree: int, where: str) -> Iterator[bytes]:
        """The entries of every leaf of a tree of links, in order."""
        todo = [(tree, 256)]
        while todo:
            at, above = todo.pop()
            head = self.take(at, 24, where)
            level, used = unpack("BH", head, 5, where)
            if head[:5] != b"TREE\0" or level >= above:
                raise damaged(where, "no tree of links")
            body = self.take(at + 24, 16 * used + 8, where)
            below = [unpack("Q", body, 16 * n + 8, where)[0] for n in range(used)]
            if level:
                todo += [(child, level) for child in reversed(below)]
                continue
            for child in below:
                leaf = self.take(child, 8, where)
                if leaf[:5] != b"SNOD\1":
                    raise damaged(where, "no leaf of a tree of links")
                yield self.take(child + 8, 40 * unpack("H", leaf, 6, where)[0], where)

    def text(self, reference: bytes, where: str) -> bytes:
        """The text of an attribute's reference: its length, its heap and its number there.

        Raises:
            FileError: a wrong reference or heap.
        """
        length, heap, number = unpack("IQI", reference, 0, where)
        if not length:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._texts(heap, where))
        found = self._heaps[heap].get(number, b"")
        if length > len(found):
            got = f"a reference to {length} bytes that are not there"
            raise FileError(where, "texts of the length they have", got, ANEW)
        self.budget.spend("characters", length, where)
        return found[:length]

    def _texts(self, heap: int, where: str) -> Iterator[tuple[int, bytes]]:
        """Number and content of each text of a heap; the heap must be filled exactly."""
        head = self.take(heap, 16, where)
        (size,) = unpack("Q", head, 8, where)
        body = self.take(heap + 16, max(size - 16, 0), where) if head[:5] == b"GCOL\1" else b""
        at = 0
        while at + 16 <= len(body):
            number, length = unpack("H6xQ", body, at, where)
            if not number:  # free space: its length counts its own header
                at += length if length >= 16 else len(body) + 1
                break
            self.budget.spend("steps", 1, where)
            yield number, body[at + 16 : at + 16 + length]
            at += 16 + (length + 7) // 8 * 8
        if not body or not len(body) - 16 < at <= len(body):
            raise FileError(where, "a sound heap of texts", "a damaged one", ANEW)


def _check_message(kind: int, flags: int, data: bytes, where: str) -> None:
    """Raises FileError for forms of messages that Keras never writes."""
    shared = flags & SHARED and kind in (SPACE, TYPE, LAYOUT, ATTRIBUTE, LINK)
    newer = kind == MANY_ATTRIBUTES or (kind == LINK_INFO and _heap_of(data) != UNDEFINED)
    if shared or newer:
        got = "a type or shape that lies elsewhere" if shared else NEWER
        raise FileError(where, "objects as Keras writes them", got, ANEW)


def _heap_of(data: bytes) -> int:
    """Address of the heap of links in a message that describes a group's links."""
    start = 2 + 8 * (data[1:2] in (b"\1", b"\3"))
    return int.from_bytes(data[start : start + 8], "little")


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
    return FileError(where, "whole HDF5", f"damaged data: {got}", "copy or save the file again")


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
        raise FileError(where, "attributes as Keras writes them", "others", "save the model again")
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
