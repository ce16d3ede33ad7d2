"""Mutations that know nothing of a format but where its fields may begin."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

Regions = Sequence[tuple[int, int]]
"""Parts (start, stop) of a file in which positions are chosen; each is as likely as another."""

WIDTHS = (1, 2, 4, 8)
BOUNDARIES = (0, 1, 2, 7, 8, 16, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31)
BOUNDARIES += (2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)


def position(rng: Random, regions: Regions) -> int:
    """A byte in one of the regions."""
    start, stop = rng.choice(regions)
    return rng.randrange(start, max(stop, start + 1))


def number(rng: Random, size: int, addresses: Sequence[int]) -> int:
    """A number that hurts: a boundary, the file's size, near it, or an address within it."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(BOUNDARIES)
    if kind < 0.8 and addresses:
        return rng.choice(addresses)
    return rng.choice((size - 1, size, size + 1, size * 2, rng.randrange(max(size, 1))))


def flip(data: bytearray, rng: Random, regions: Regions) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[position(rng, regions)] ^= 1 << rng.randrange(8)


def run(data: bytearray, rng: Random, regions: Regions) -> None:
    """A run of bytes, at random or all alike."""
    length = rng.choice((1, 2, 4, 8, 16, 64, 512))
    start = position(rng, regions)
    length = min(length, len(data) - start)
    fill = rng.choice((b"\0", b"\xff", b" ", None))
    data[start : start + length] = rng.randbytes(length) if fill is None else fill * length


def cut(data: bytearray, rng: Random, regions: Regions) -> None:
    del data[position(rng, regions) :]


def splice(data: bytearray, rng: Random, regions: Regions) -> None:
    """Copies a part of the file over another."""
    length = rng.choice((4, 8, 24, 40, 128, 1024))
    source, target = position(rng, regions), position(rng, regions)
    part = data[source : source + length]
    data[target : target + len(part)] = part


def insert(data: bytearray, rng: Random, regions: Regions) -> None:
    start = position(rng, regions)
    data[start:start] = rng.randbytes(rng.choice((1, 2, 8, 64)))


def delete(data: bytearray, rng: Random, regions: Regions) -> None:
    start = position(rng, regions)
    del data[start : start + rng.choice((1, 2, 8, 64, 1024))]


def field(data: bytearray, rng: Random, regions: Regions, addresses: Sequence[int] = ()) -> None:
    """A little-endian integer, most often at a multiple of its width, becomes one that hurts."""
    width = rng.choice(WIDTHS)
    start = position(rng, regions)
    if rng.random() < 0.7:
        start = start // width * width
    value = number(rng, len(data), addresses) % 256**width
    data[start : start + width] = value.to_bytes(width, "little")


SIMPLE = (flip, flip, run, cut, splice, insert, delete, field)


def mutated_bytes(data: bytes, rng: Random, regions: Regions = ()) -> tuple[str, bytes]:
    """What was done, and the outcome: one to three simple mutations."""
    changed, done = bytearray(data or b"\0"), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        how = rng.choice(SIMPLE)
        whole = ((0, len(changed)),)
        inside = [part for part in regions if part[1] <= len(changed)]
        if changed:
            how(changed, rng, inside or whole)
            done.append(how.__name__)
    return "+".join(done), bytes(changed)
