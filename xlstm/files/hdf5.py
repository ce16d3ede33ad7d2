"""HDF5 through guards: hard links only, own storage only, declared sizes before allocation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import h5py
import numpy as np

from xlstm.errors import FileError
from xlstm.files.description import UNMARKED, Stored
from xlstm.files.guards import as_text
from xlstm.files.heap import TEXT_TYPES, check_bytes
from xlstm.model import Array

MAX_BYTES = 8 * 2**30
"""Largest single array."""

MAX_NAMES = 4_096
"""Most texts of variable length in one attribute: more do not fit where Keras writes them."""

SPLIT = 1_000
"""Most numbered pieces of an attribute that Keras split because of its length."""

MAX_LINKS = 20_000
"""Most members of one group."""

NUMBERS = "IEEE_F16 IEEE_F32 IEEE_F64 STD_I8 STD_I16 STD_I32 STD_I64 STD_U8 STD_U16 STD_U32 STD_U64"
STOCK = (
    *(getattr(h5py.h5t, f"{name}{order}") for name in NUMBERS.split() for order in ("LE", "BE")),
    h5py.h5t.py_create(np.dtype(bool), logical=True),
)
"""The numbers that Keras writes. HDF5 knows others, of any exponent, bias or offset of bits: h5py
gives each the nearest dtype of numpy (`TypeFloatID.py_dtype` in h5t.pyx), and with it other values.
"""


def is_stock(kind: h5py.h5t.TypeID) -> bool:
    """True if a type of numbers is one that Keras writes."""
    return any(kind == known for known in STOCK)


def open_hdf5(stream: BinaryIO, where: str, opened: ExitStack) -> h5py.File:
    """Opens HDF5 through a Python file object, so that links cannot reach other files.

    The file stays open until `opened` is closed.

    Raises:
        FileError: damaged, truncated, or not HDF5.
    """
    check_bytes(stream, where)
    try:
        return opened.enter_context(h5py.File(stream, "r"))
    except Exception as error:
        raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> FileError:
    got = f"damaged or truncated data ({type(error).__name__})"
    return FileError(where, "whole HDF5", got, "copy or save the file anew")


def child(group: h5py.Group, name: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """One member of a group by name, None if there is none; only hard links are followed.

    Raises:
        FileError: a soft or external link, or damaged data.
    """
    try:
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.HardLink):
            return group.get(name)
    except Exception as error:
        raise _damaged(f"{where}, {name}", error) from None
    kind = type(link).__name__
    raise FileError(f"{where}, {name}", "data in this file", kind, "save the model without links")


def walk(group: h5py.Group, path: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """The member at a path of names joined with "/", None if a step is missing."""
    found: h5py.Group | h5py.Dataset | None = group
    for name in path.split("/"):
        if not isinstance(found, h5py.Group):
            return None
        found = child(found, name, where)
    return found


def names(group: h5py.Group, where: str) -> list[str]:
    """Names of all members of a group; follows no link.

    Raises:
        FileError: too many of them, or damaged data.
    """
    try:
        number = len(group)
        found = list(group) if number <= MAX_LINKS else []
    except Exception as error:
        raise _damaged(where, error) from None
    if number > MAX_LINKS:
        raise FileError(where, f"at most {MAX_LINKS} members", f"{number} links", "check the file")
    return found


def members(group: h5py.Group, where: str) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """All members of a group; hard links only.

    Raises:
        FileError: too many of them, a link of another kind, or damaged data.
    """
    for name in names(group, where):
        found = child(group, name, where)
        if found is not None:
            yield name, found


def attribute(item: h5py.Group | h5py.Dataset, name: str, where: str) -> Any:
    """An attribute's value, None if there is none.

    Raises:
        FileError: damaged data.
    """
    try:
        if name not in item.attrs:
            return None
        found = item.attrs.get_id(name)
        if not _plain_attribute(found):
            raise TypeError("a type that Keras never writes")
        if math.prod(found.shape or ()) <= MAX_NAMES or found.dtype.kind != "O":
            return item.attrs[name]
    except Exception as error:
        raise _damaged(f"{where}, attribute {name}", error) from None
    got = f"{math.prod(found.shape)} texts"
    raise FileError(f"{where}, attribute {name}", f"at most {MAX_NAMES}", got, "check the file")


def _plain_attribute(found: h5py.h5a.AttrID) -> bool:
    """Numbers, texts of fixed length, or those of variable length that `heap` has looked at."""
    kind = found.get_type()
    if found.dtype.kind == "O":
        # in memory only its size is another than in the file
        code = kind.encode()[2:]
        return not kind.committed() and any(code[:4] + t[4:8] + code[8:] == t for t in TEXT_TYPES)
    if found.dtype.kind in "fiub":
        return is_stock(kind)
    return found.dtype.names is None and found.dtype.subdtype is None


def texts(item: h5py.Group, name: str, where: str) -> list[str]:
    """An attribute that lists texts, joined again where Keras split it into name0, name1, ...

    Raises:
        FileError: damaged data, or other than texts.
    """
    whole = attribute(item, name, where)
    if whole is not None:
        return _texts(whole, where)
    found: list[str] = []
    for number in range(SPLIT):
        part = attribute(item, f"{name}{number}", where)
        if part is None:
            break
        found += _texts(part, where)
    return found


def _texts(value: Any, where: str) -> list[str]:
    # Keras writes an empty list as an empty float array.
    return [as_text(item, where) for item in np.ravel(value).tolist()]


def stored(dataset: h5py.Dataset, name: str, where: str) -> Stored:
    """A handle on a dataset that keeps its data plainly in this file.

    Raises:
        FileError: external or virtual storage, filters, a type that is no plain number, or a
            declared size that the file does not back.
    """
    where = f"{where}, {name}"
    try:
        problem = _problem(dataset)
        size, dtype = tuple(int(n) for n in dataset.shape or ()), dataset.dtype
    except Exception as error:
        raise _damaged(where, error) from None
    if problem:
        raise FileError(where, "a plain array stored in this file", problem, "save the model anew")

    def load() -> Array:
        try:
            found = np.asarray(dataset[()])
            return found.astype(found.dtype.newbyteorder("="), copy=False)
        except Exception as error:
            raise _damaged(where, error) from None

    if dtype.kind != "V":
        return Stored(name, size, dtype.name, load)
    marked = attribute(dataset, "dtype", where) in ("bfloat16", b"bfloat16")
    return Stored(name, size, "bfloat16" if marked else UNMARKED, lambda: widen(load()))


def widen(raw: Array) -> Array:
    """bfloat16, stored as two opaque bytes, as float32: exact."""
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(raw.shape)


def _problem(dataset: h5py.Dataset) -> str:
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        return "external storage"
    if dataset.is_virtual or plist.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS):
        return "virtual or chunked storage, which Keras never writes"
    plain = dataset.dtype.kind in "fiub" and dataset.dtype.itemsize <= 8
    if dataset.shape is None or not (plain or dataset.dtype == np.dtype("V2")):
        return f"dtype {dataset.dtype}"
    if plain and not is_stock(dataset.id.get_type()):
        return f"dtype {dataset.dtype} made of a number format of its own"
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if size > MAX_BYTES:
        return f"a dataset that declares {size} bytes"
    if size and dataset.id.get_storage_size() < size:
        return f"a dataset that declares {size} bytes and stores {dataset.id.get_storage_size()}"
    return ""
