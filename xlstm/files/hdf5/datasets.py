"""Reads HDF5 without its library: the members, texts and arrays of files that Keras writes.

In: a stream. Out: groups and datasets; only hard links are followed, only data in one piece within
the file is read, and declared sizes are checked before anything is allocated.

    root = open_hdf5(stream, "model.h5", Budget())
    root.child("model_weights", "model.h5")        # Group, Dataset or None
    root.text("model_config", "model.h5")          # str or None
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.bfloat16 import widen
from xlstm.files.description import UNMARKED, Stored
from xlstm.files.file_slice import numbers
from xlstm.files.guards import as_text
from xlstm.files.hdf5.blocks import (
    ANEW,
    FIXED,
    UNDEFINED,
    VARIABLE,
    Attribute,
    Blocks,
    Object,
    StorageLayout,
    Type,
    attribute,
    damaged,
)
from xlstm.ir.types import Array

MAX_BYTES = 8 * 2**30
"""Largest single array."""

SPLIT = 1_000
"""Most numbered pieces of an attribute that Keras split because of its length."""


def open_hdf5(stream: BinaryIO, where: str, budget: Budget) -> Hdf5Group:
    """The root group of a file; the stream must stay open while arrays are read.

    Raises:
        FileError: a damaged or truncated file, or not HDF5 of Keras.
    """
    blocks = Blocks(stream, where, budget)
    found = _item(blocks, blocks.root, where)
    if not isinstance(found, Hdf5Group):
        raise damaged(where, "no root group")
    return found


def _item(blocks: Blocks, address: int, where: str) -> Hdf5Group | Dataset | None:
    """The object at an address; None for a type that is stored as an object."""
    found = blocks.object(address, where)
    if found.links is not None:
        return Hdf5Group(blocks, found)
    return Dataset(blocks, found) if found.layout is not None else None


@dataclass(frozen=True)
class _Hdf5Item:
    """A group or dataset of an open file."""

    blocks: Blocks
    header: Object

    def has(self, name: str) -> bool:
        """True if there is an attribute of this name."""
        return name.encode() in self.header.attributes

    def text(self, name: str, where: str) -> str | None:
        """An attribute that is one text, None if there is none.

        Raises:
            FileError: damaged data, or a value that is not one text.
        """
        found = self._attribute(name, where)
        if found is not None and found.shape != ():
            raise FileError(f"{where}, attribute {name}", "one text", "a list", ANEW)
        return None if found is None else self._texts(found, where)[0]

    def texts(self, name: str, where: str) -> list[str]:
        """An attribute that lists texts, joined again where Keras split it into name0, name1, ...

        Raises:
            FileError: damaged data, or values that are no texts.
        """
        whole = self._attribute(name, where)
        if whole is not None:
            return self._texts(whole, where)
        found: list[str] = []
        for number in range(SPLIT):
            part = self._attribute(f"{name}{number}", where)
            if part is None:
                break
            found += self._texts(part, where)
        return found

    def attributes(self, where: str) -> Iterator[tuple[str, str | list[str]]]:
        """Name and value of each attribute that is a text or a list of texts.

        Raises:
            FileError: damaged data.
        """
        for raw in self.header.attributes:
            name = as_text(raw, where)
            found = cast(Attribute, self._attribute(name, where))
            if found.type.title in (FIXED, VARIABLE) or found.shape == (0,):
                texts = self._texts(found, where)
                yield name, texts[0] if found.shape == () else texts

    def _attribute(self, name: str, where: str) -> Attribute | None:
        message = self.header.attributes.get(name.encode())
        return None if message is None else attribute(message, f"{where}, attribute {name}")

    def _texts(self, found: Attribute, where: str) -> list[str]:
        where = f"{where}, attribute {found.name}"
        count = 0 if found.shape is None else math.prod(found.shape)
        if not count:
            return []  # Keras writes an empty list as an empty float array
        if found.type.title not in (FIXED, VARIABLE):
            raise FileError(where, "text", found.type.title, ANEW)
        size = found.type.size
        if not size or count * size > len(found.data):
            raise damaged(where, f"{count} texts of {size} bytes in {len(found.data)}")
        self.blocks.budget.spend("nodes", count, where)
        pieces = (found.data[at : at + size] for at in range(0, count * size, size))
        return [as_text(self._whole(found.type, piece, where), where) for piece in pieces]

    def _whole(self, kind: Type, piece: bytes, where: str) -> bytes:
        if kind.title == VARIABLE:
            return self.blocks.text(piece, where)
        self.blocks.budget.spend("characters", len(piece), where)
        return piece.rstrip(b"\0") if kind.padded else piece.split(b"\0")[0]


@dataclass(frozen=True)
class Hdf5Group(_Hdf5Item):
    """A group of an open file."""

    def child(self, name: str, where: str) -> Hdf5Group | Dataset | None:
        """One member by name, None if there is none; only hard links are followed.

        Raises:
            FileError: a soft or external link, or damaged data.
        """
        link = (self.header.links or {}).get(name)
        if link is None:
            return None
        where = f"{where}, {name}"
        if link.kind != "HardLink":
            do = "save the model without links"
            raise FileError(where, "data in this file", link.kind, do)
        return _item(self.blocks, link.address, where)

    def walk(self, path: str, where: str) -> Hdf5Group | Dataset | None:
        """The member at a path of names joined with "/", None if a step is missing."""
        found: Hdf5Group | Dataset | None = self
        for name in path.split("/"):
            if not isinstance(found, Hdf5Group):
                return None
            found = found.child(name, where)
        return found

    def names(self, where: str) -> list[str]:
        """Names of all members; follows no link.

        Raises:
            FileError: too many names, those of other groups included.
        """
        found = list(self.header.links or ())
        self.blocks.budget.spend("nodes", len(found), where)
        return found

    def members(self, where: str) -> Iterator[tuple[str, Hdf5Group | Dataset]]:
        """All members; hard links only.

        Raises:
            FileError: too many of them, a link of another kind, or damaged data.
        """
        for name in self.names(where):
            found = self.child(name, where)
            if found is not None:
                yield name, found


@dataclass(frozen=True)
class Dataset(_Hdf5Item):
    """A dataset of an open file."""

    def stored(self, name: str, where: str) -> Stored:
        """A handle of the values, which are in one piece in this file.

        Raises:
            FileError: external or virtual storage, filters, a type that is no plain number, or a
                declared size that is larger than the file.
        """
        where = f"{where}, {name}"
        if problem := self._problem():
            raise FileError(where, "a plain array stored in this file", problem, ANEW)
        kind, shape = cast(Type, self.header.type), self.header.space or ()
        dtype = cast("np.dtype[Any]", kind.dtype)
        stream, at = self._place(math.prod(shape) * kind.size, where)

        def load() -> Array:
            return numbers(stream, at, shape, dtype, where)

        if dtype.kind != "V":
            return Stored(name, shape, dtype.name, load)
        marked = self.has("dtype") and self.texts("dtype", where) == ["bfloat16"]
        return Stored(name, shape, "bfloat16" if marked else UNMARKED, lambda: widen(load()))

    def _problem(self) -> str:
        """The reason why this is no plain array of the file, "" if it is one."""
        kind, shape, layout = self.header.type, self.header.space, self.header.layout
        if layout is None or layout.problem:
            return layout.problem if layout else "no values"
        if kind is None or kind.dtype is None:
            return f"dtype {kind.title if kind else 'missing'}"
        if shape is None:
            return f"no value of dtype {kind.title}"
        size = math.prod(shape) * kind.size
        if size > MAX_BYTES:
            return f"a dataset that declares {size} bytes"
        stored = 0 if layout.address == UNDEFINED and layout.inside is None else layout.size
        return f"a dataset that declares {size} bytes and stores {stored}" if size > stored else ""

    def _place(self, size: int, where: str) -> tuple[BinaryIO, int]:
        """The stream and the position of the values, whose bytes no other array may use."""
        layout = cast(StorageLayout, self.header.layout)
        if layout.inside is not None:
            return io.BytesIO(layout.inside), 0
        if size:
            self.blocks.claim(layout.address, size, where)
        return self.blocks.stream, layout.address if size else 0
