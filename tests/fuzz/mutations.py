"""Chooses a mutation by what the bytes are; the same number always gives the same case."""

from __future__ import annotations

from random import Random

from fuzz.bases import Base
from fuzz.mutate_bytes import mutated_bytes
from fuzz.mutate_hdf5 import mutated_hdf5
from fuzz.mutate_json import mutated_json
from fuzz.mutate_zip import mutated_zip


def kind_of(data: bytes) -> str:
    """What the mutations take these bytes for."""
    if data.startswith(b"PK\x03\x04"):
        return "zip"
    if data.startswith(b"\x89HDF"):
        return "hdf5"
    return "json" if data[:1] in (b"{", b"[") else "other"


def mutated(data: bytes, rng: Random) -> tuple[str, bytes]:
    """What was done, and the outcome."""
    kind = kind_of(data)
    if kind == "zip":
        return mutated_zip(data, rng, mutated)
    if kind == "hdf5":
        return mutated_hdf5(data, rng)
    if kind == "json" and rng.random() < 0.8:
        return mutated_json(data, rng)
    return mutated_bytes(data, rng)


def case(found: list[Base], seed: int, number: int) -> tuple[Base, str, dict[str, bytes]]:
    """The base, what was done to it, and its files: case `number` of a run."""
    rng = Random(f"{seed}:{number}")
    base = rng.choice(found)
    name = rng.choice(sorted(base.files))
    how, data = mutated(base.files[name], rng)
    return base, f"{name}: {how}".removeprefix(": "), {**base.files, name: data}
