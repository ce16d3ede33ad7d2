"""Files of named arrays: safetensors, `.npz`, and Flax msgpack; plain numbers only."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_safetensors

from xlstm.budget import Budget
from xlstm.errors import FileError, MissingFrameworkError
from xlstm.files.guards import open_regular
from xlstm.model import Array
from xlstm.syntax import steady

MAX_BYTES = 8 * 2**30
DEEPEST = 32


def read_arrays(path: Path, budget: Budget | None = None) -> dict[str, Array]:
    """The arrays of a file by name; nested names of msgpack are joined with dots.

    Args:
        path: of the file.
        budget: what reading it may cost; a new one if None.

    Raises:
        FileError: unreadable, damaged, or anything but plain arrays.
        MissingFrameworkError: msgpack, where its package is not installed.
    """
    budget = budget or Budget()
    with open_regular(path) as file:
        start = file.read(16)
        file.seek(0)
        if start[:4] == b"PK\x03\x04":
            return _guarded(lambda: _npz(path, file), path, "an .npz of plain arrays")
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise FileError(path, f"at most {MAX_BYTES} bytes", size, "check the file")
        data = file.read(size)
    if start[8:9] == b"{":
        return _guarded(lambda: load_safetensors(data), path, "a safetensors file")
    return _msgpack(data, path)


def is_arrays(path: Path) -> bool:
    """Whether a file looks like one of named arrays, by its first bytes."""
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            start = file.read(16)
    except (OSError, ValueError, FileError):
        return False  # whoever reads it says what is wrong
    if start[:4] == b"PK\x03\x04":
        return _is_npz(path)
    # a small map of msgpack: not the first byte of anything else that is read
    return start[8:9] == b"{" or start[:1] in (b"\x81", b"\x82", b"\x83", b"\x84", b"\xde")


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist()[:8])
    except Exception:
        return False


def _guarded(read: Any, path: Path, want: str) -> dict[str, Array]:
    try:
        found: dict[str, Array] = read()
    except FileError:
        raise
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(path, want, got, "save the arrays anew") from None
    return found


def _npz(path: Path, file: Any) -> dict[str, Array]:
    with np.load(file, allow_pickle=False) as archive:
        sizes = sum(info.file_size for info in archive.zip.infolist())
        if sizes > MAX_BYTES:
            raise FileError(path, f"at most {MAX_BYTES} bytes", sizes, "check the file")
        # numpy parses each header as Python
        return {name: steady(partial(archive.__getitem__, name)) for name in archive.files}


def _msgpack(data: bytes, path: Path) -> dict[str, Array]:
    try:
        import msgpack
    except ImportError:
        want, do = "msgpack to read Flax's files", "pip install 'xlstm-converter[flax]'"
        raise MissingFrameworkError(path, want, "no module msgpack", do) from None
    want = "named arrays (safetensors, .npz or Flax msgpack)"

    def read() -> dict[str, Array]:
        tree = msgpack.unpackb(data, ext_hook=_ext, raw=False, strict_map_key=True)
        if not isinstance(tree, Mapping):
            raise FileError(path, want, type(tree).__name__, "save the arrays anew")
        found: dict[str, Array] = {}
        _flatten(tree, "", found, path, 0)
        return found

    return _guarded(read, path, want)


def _ext(code: int, data: bytes) -> Array:
    """An array as flax.serialization writes it: (shape, dtype name, bytes)."""
    import msgpack

    if code != 1:
        raise ValueError(f"extension {code}")
    shape, name, raw = msgpack.unpackb(data, raw=True)
    text = name.decode("ascii")
    if text not in ("bfloat16", "float16", "float32", "float64", "int32", "int64", "bool"):
        raise ValueError(f"dtype {text}")
    size = 2 if text == "bfloat16" else np.dtype(text).itemsize
    if math.prod(shape) * size != len(raw):
        raise ValueError("an array that lies about its size")
    if text == "bfloat16":
        bits = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    return np.frombuffer(raw, text).reshape(shape)


def _flatten(tree: Any, before: str, found: dict[str, Array], path: Path, depth: int) -> None:
    if depth > DEEPEST:
        raise FileError(path, f"at most {DEEPEST} levels", "more", "check the file")
    for name, item in tree.items():
        if isinstance(item, Mapping):
            _flatten(item, f"{before}{name}.", found, path, depth + 1)
        elif isinstance(item, np.ndarray):
            found[f"{before}{name}"] = item
        elif isinstance(item, int) and abs(item) < 2**63:  # the step of a training state
            found[f"{before}{name}"] = np.array(item)
        else:
            got = f"{before}{name}: {type(item).__name__}"
            raise FileError(path, "arrays alone", got, "save the parameters without the rest")
