"""Writes safetensors files tensor by tensor, so that no second copy of the weights is in memory.

In: handles of tensors, and a path. Out: the file that the library writes, byte for byte, and its
SHA-256.

    write_safetensors(Path("weights.safetensors"), packed_tensors(model, adapter), {"xlstm": "{}"})
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from xlstm.errors import WeightsError
from xlstm.files.arrays.safe_tensors import DTYPES, METADATA
from xlstm.files.atomic import flush
from xlstm.files.description import Stored
from xlstm.files.hashes import in_background
from xlstm.ir.types import Array

ORDER = "U64 I64 F64 F32 U32 I32 F16 U16 I16 I8 U8 BOOL".split()
"""Names of dtypes in the order of the library: wide ones first, so that all are aligned."""

NAMES = {np.dtype(DTYPES[name]).name: name for name in ORDER}
"""Dtype of numpy -> its name in the file."""

BLOCK = 2**22
"""Bytes that are put in C order, hashed and written at a time."""

SMALL = 2**16
"""Bytes of a piece that is not worth a write of its own."""

FLUSHED = 16
"""Blocks after which the disk starts to store what is written."""


def write_safetensors(path: Path, tensors: Iterable[Stored], metadata: Mapping[str, str]) -> str:
    """Writes tensors and texts; returns the SHA-256 of the file, in hexadecimal digits.

    Args:
        path: of the new file; an old one is replaced.
        tensors: each is loaded once, and released before the next one.
        metadata: texts by name.

    Raises:
        WeightsError: a dtype that the format does not have.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> ones = Stored("w", (2, 1), "float32", lambda: np.ones((2, 1), "float32"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = write_safetensors(Path(folder, "a.safetensors"), [ones], {})
    ...     Path(folder, "a.safetensors").read_bytes()[8:-8].strip()
    b'{"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    """
    ordered = sorted(tensors, key=lambda tensor: (ORDER.index(_name(tensor)), tensor.name))
    total = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        flushed: Callable[[], object] = int
        for number, block in enumerate(_joined(_pieces(ordered, metadata)), 1):
            hashed = in_background(functools.partial(total.update, block))
            _write(file, block)
            hashed()
            if number % FLUSHED == 0:  # the disk works while the next blocks are made
                flushed()
                flushed = in_background(functools.partial(flush, file.fileno()))
        flushed()
    return total.hexdigest()


def _write(file: Any, block: memoryview) -> None:
    """Writes a whole block; the system may take a part of it at a time."""
    at = 0
    while at < len(block):
        at += file.write(block[at:])


def _name(tensor: Stored) -> str:
    """The format's name of a tensor's dtype."""
    if tensor.dtype not in NAMES:
        do = "cast the weights to float32"
        raise WeightsError(tensor.name, f"one of {', '.join(NAMES)}", tensor.dtype, do)
    return NAMES[tensor.dtype]


def _pieces(tensors: Sequence[Stored], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """The bytes of the file, in order."""
    header = _header(tensors, metadata)
    yield memoryview(len(header).to_bytes(8, "little") + header)
    for tensor in tensors:
        for block in blocks(tensor.load()):
            little = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
            yield memoryview(cast(Any, little.reshape(-1).view(np.uint8)))


def _joined(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """The same bytes, small pieces joined: thousands of tensors need no thousands of writes."""
    small = bytearray()
    for piece in pieces:
        if len(piece) < SMALL and len(small) < BLOCK:
            small += piece
            continue
        if small:
            yield memoryview(small)
            small = bytearray()
        yield piece
    if small:
        yield memoryview(small)


def _header(tensors: Sequence[Stored], metadata: Mapping[str, str]) -> bytes:
    """The JSON of the file, filled up with spaces to a multiple of 8 bytes."""
    entries: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for tensor in tensors:
        start, end = end, end + math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        places = {"shape": tensor.shape, "data_offsets": (start, end)}
        entries[tensor.name] = {"dtype": _name(tensor), **places}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def blocks(array: Array) -> Iterator[Array]:
    """Parts of at most about `BLOCK` bytes whose elements, one after the other, are the array's."""
    if array.nbytes <= BLOCK or not array.ndim:
        yield array
    elif array.nbytes > BLOCK * len(array):  # one row is larger than a block
        for row in array:
            yield from blocks(row)
    else:
        rows = BLOCK * len(array) // array.nbytes
        for start in range(0, len(array), rows):
            yield array[start : start + rows]
