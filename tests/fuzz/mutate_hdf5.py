"""Mutations of HDF5: in its headers, heaps and attributes, and of its tree through h5py."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from random import Random

import h5py
import numpy as np

from fuzz.mutate_bytes import field, mutated_bytes
from fuzz.mutate_json import mutated_json

SIGNATURES = re.compile(rb"TREE|HEAP|SNOD|GCOL|FRHP|BTHD|OHDR")
NEAR = 256
"""Bytes after the start of a structure in which its fields lie."""

SOME = 8
"""About how many references to texts are taken as places to damage; files have hundreds."""

Layout = tuple[tuple[tuple[int, int], ...], tuple[int, ...], tuple[int, ...]]


def _objects(file: h5py.File) -> tuple[set[int], list[tuple[int, int]]]:
    """Addresses of object headers, and the parts that hold nothing but numbers."""
    found, bulk = {h5py.h5o.get_info(file.id).addr}, [(0, 0)]

    def visit(_name: str, item: h5py.Group | h5py.Dataset) -> None:
        found.add(h5py.h5o.get_info(item.id).addr)
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            bulk.append((item.id.get_offset(), item.id.get_offset() + item.nbytes))

    file.visititems(visit)
    return found, sorted(bulk)


@functools.lru_cache(maxsize=1024)
def layout(data: bytes) -> Layout:
    """The parts of a whole file outside its arrays, its structures, and references to texts."""
    with h5py.File(io.BytesIO(data), "r") as file:
        starts, bulk = _objects(file)
    starts |= {match.start() for match in SIGNATURES.finditer(data)}
    stops = [start for start, _ in bulk[1:]] + [len(data)]
    parts = [(stop, start) for (_, stop), start in zip(bulk, stops, strict=True) if start > stop]
    return tuple(parts), tuple(sorted(starts | {0})), _references(data)


def _references(data: bytes) -> tuple[int, ...]:
    """Where attributes refer to texts of variable length: length, address of the heap, number."""
    found = []
    for heap in re.finditer(rb"GCOL", data):
        address = re.escape(heap.start().to_bytes(8, "little"))
        found += [match.start() - 4 for match in re.finditer(address, data)]
    return tuple(found[:: len(found) // SOME + 1])


def in_metadata(data: bytes, rng: Random) -> tuple[str, bytes]:
    parts, _, _ = layout(data)
    how, changed = mutated_bytes(data, rng, parts)
    return f"metadata {how}", changed


def in_fields(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Fields of structures become boundary values, sizes, or addresses of other structures."""
    _, starts, references = layout(data)
    changed = bytearray(data)
    near = [(start, min(start + NEAR, len(data))) for start in starts]
    near += [(start, start + 16) for start in references]
    for _ in range(rng.choice((1, 1, 2, 4))):
        field(changed, rng, near, starts)
    return "field", bytes(changed)


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found


def _odd_dataset(file: h5py.File, name: str, rng: Random) -> None:
    """Something in place of a dataset or group that Keras never puts there."""
    new = rng.choice(
        (
            lambda: file.create_dataset(name, shape=(2**34,), dtype="f4"),
            lambda: file.create_dataset(name, (2**20,), "f4", chunks=(2**14,), compression="gzip"),
            lambda: file.create_dataset(name, (4,), "f4", external=[("/etc/hostname", 0, 16)]),
            lambda: file.create_dataset(name, (2**29,), "f4"),
            lambda: file.create_dataset(name, data=np.zeros(3, [("a", "f4"), ("b", "i8")])),
            lambda: file.create_dataset(name, data=h5py.Empty("f4")),
            lambda: file.create_dataset(name, data=["text"] * 3),
            lambda: file.create_dataset(name, (3,), h5py.ref_dtype),
            lambda: file.create_group(name),
            lambda: file.__setitem__(name, np.dtype("f4")),
            lambda: file.__setitem__(name, h5py.SoftLink("/")),
            lambda: file.__setitem__(name, h5py.ExternalLink("/etc/hostname", "/")),
            lambda: file.__setitem__(name, file["/"]),
            lambda: None,
        )
    )
    del file[name]
    new()


def _odd_attribute(file: h5py.File, name: str, rng: Random) -> None:
    """An attribute becomes one of another kind, or loses or repeats some of its texts."""
    item = file[name]
    keys = list(item.attrs)
    if not keys:
        return
    key = rng.choice(keys)
    old = np.ravel(item.attrs[key])
    new = rng.choice((3, "", "x" * 70_000, h5py.Empty("f4"), np.zeros(0), np.bytes_(b"\xff"), None))
    if new is None and isinstance(item.attrs[key], np.ndarray):
        item.attrs[key] = rng.choice((old[::-1], old[:1], np.concatenate([old, old[:1]])))
    elif new is None:
        del item.attrs[key]
    else:
        item.attrs[key] = new


def in_tree(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Members and attributes are changed through h5py, so that all checks inside HDF5 pass."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        name = rng.choice(_names(file) or ["/"])
        how: Callable[[h5py.File, str, Random], None] = _odd_dataset
        if rng.random() < 0.5 or name == "/":
            how, name = _odd_attribute, rng.choice((name, "/", "model_weights"))
        if name in file:
            how(file, name, rng)
    return how.__name__.strip("_"), stream.getvalue()


def in_config(data: bytes, rng: Random) -> tuple[str, bytes]:
    """The config in an attribute is changed as JSON."""
    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        text = file.attrs.get("model_config")
        if text is None:
            return in_metadata(data, rng)
        how, changed = mutated_json(text.encode() if isinstance(text, str) else bytes(text), rng)
        file.attrs["model_config"] = changed.decode().replace("\0", "")
    return how, stream.getvalue()


WAYS = (
    mutated_bytes,
    in_metadata,
    in_metadata,
    in_fields,
    in_fields,
    in_fields,
    in_tree,
    in_config,
)


def mutated_hdf5(data: bytes, rng: Random) -> tuple[str, bytes]:
    """What was done, and the outcome."""
    return rng.choice(WAYS)(data, rng)
