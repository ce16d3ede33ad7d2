"""Reads safetensors files without the library, which maps them: a JSON header, then the numbers.

In: a stream. Out: metadata and handles of the tensors; only the header is read.

    found = open_safetensors(stream, "weights.safetensors", Budget())
    found.tensors["lstm.weight_ih_l0"].load()
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.bfloat16 import widen
from xlstm.files.description import Stored
from xlstm.files.file_slice import exactly, numbers
from xlstm.files.guards import MAX_TEXT, as_object, parse_json

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "|b1",
}
"""Names of dtypes -> numpy's; BF16 becomes float32, which is exact."""

METADATA = "__metadata__"

ANEW = "save the tensors again"


@dataclass(frozen=True)
class Tensors:
    """The content of a safetensors file.

    Attributes:
        metadata: texts of the writer, by name.
        tensors: name -> handle, in the order of the header.
    """

    metadata: Mapping[str, str]
    tensors: Mapping[str, Stored]


def open_safetensors(stream: BinaryIO, where: str, budget: Budget) -> Tensors:
    """The header of a safetensors file; the stream must stay open while tensors are loaded.

    Raises:
        FileError: a damaged file, or tensors that do not fill it exactly, one after the other.
    """
    size = stream.seek(0, os.SEEK_END)
    length = int.from_bytes(exactly(stream, 0, min(8, size), where), "little")
    if size < 8 or length > min(size - 8, MAX_TEXT):
        got = f"a header of {length} bytes in a file of {size}"
        raise FileError(where, "a safetensors file", got, ANEW)
    header = as_object(parse_json(exactly(stream, 8, length, where), where, budget), where)
    metadata = as_object(header.pop(METADATA, {}), where)
    if not all(isinstance(text, str) for text in metadata.values()):
        raise FileError(where, "metadata of texts", "other values", ANEW)
    budget.spend("nodes", len(header), where)
    places = {name: _place(entry, f"{where}, {name}") for name, entry in header.items()}
    _check_filled(places, size - 8 - length, where)
    start = 8 + length
    return Tensors(
        metadata, {n: p.stored(stream, start, n, f"{where}, {n}") for n, p in places.items()}
    )


@dataclass(frozen=True)
class _ByteRange:
    """Dtype, shape, and begin and end of the bytes of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def stored(self, stream: BinaryIO, start: int, name: str, where: str) -> Stored:
        """A handle of the tensor in a file whose numbers begin at `start`."""
        dtype = np.dtype(DTYPES[self.dtype])

        def load() -> Any:
            found = numbers(stream, start + self.begin, self.shape, dtype, where)
            return widen(found) if self.dtype == "BF16" else found

        return Stored(name, self.shape, "bfloat16" if self.dtype == "BF16" else dtype.name, load)


def _place(entry: Any, where: str) -> _ByteRange:
    """An entry of the header, checked."""
    found = as_object(entry, where)
    if set(found) != {"dtype", "shape", "data_offsets"}:
        raise FileError(where, "dtype, shape and data_offsets", ", ".join(found), ANEW)
    dtype = found["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        do = f"save it as one of {', '.join(DTYPES)}"
        raise FileError(where, "a dtype that numpy has, or BF16", dtype, do)
    shape, ends = (_sizes(found[key], where) for key in ("shape", "data_offsets"))
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if len(ends) != 2 or ends[1] - ends[0] != size:
        raise FileError(where, f"{size} bytes for shape {shape}", f"places {ends}", ANEW)
    return _ByteRange(dtype, shape, *ends)


def _sizes(data: Any, where: str) -> tuple[int, ...]:
    """A list of whole numbers that are not negative."""
    if not isinstance(data, list) or not all(type(n) is int and n >= 0 for n in data):
        raise FileError(where, "a list of sizes", data, ANEW)
    return tuple(data)


def _check_filled(places: Mapping[str, _ByteRange], size: int, where: str) -> None:
    """Raises FileError for tensors that share bytes, leave some out, or go beyond the end."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != end:
            raise FileError(f"{where}, {name}", f"numbers from {end} on", f"{place.begin}", ANEW)
        end = place.end
    if end != size:
        raise FileError(where, f"numbers of {end} bytes", f"{size}", ANEW)
