"""Mutations of zip archives: a member's content, the list of members, and the container itself."""

from __future__ import annotations

import functools
import io
import re
import warnings
import zipfile
from collections.abc import Callable
from random import Random

from fuzz.mutate_bytes import field, mutated_bytes

Members = list[tuple[str, bytes]]
Content = Callable[[bytes, Random], tuple[str, bytes]]

HEADERS = re.compile(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06\x06)")
NEAR = 46
"""Bytes after a header's start in which its fields lie."""

NAMES = ("config.json", "metadata.json", "model.weights.h5", "../evil", "/abs", "x" * 5000, "\0")


@functools.lru_cache(maxsize=1024)
def members(data: bytes) -> Members:
    """Names and bytes of a whole archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def zipped(found: Members, rng: Random) -> bytes:
    """An archive of these members, stored or packed; two may have one name."""
    stream = io.BytesIO()
    method = rng.choice((0, 0, 8, 8, 8, 8, 12, 14))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for name, data in found:
            archive.writestr(zipfile.ZipInfo(name), data, method, 1)
    return stream.getvalue()


def in_member(data: bytes, rng: Random, content: Content) -> tuple[str, bytes]:
    """One member's content is mutated by its own kind, and all is packed again."""
    found = list(members(data))
    place = rng.randrange(len(found))
    name, old = found[place]
    how, new = content(old, rng)
    found[place] = name, new
    return f"{name}: {how}", zipped(found, rng)


def in_list(data: bytes, rng: Random) -> tuple[str, bytes]:
    """A member is lost, doubled, renamed or added."""
    found = list(members(data))
    place = rng.randrange(len(found))
    how = rng.choice(("lost", "doubled", "renamed", "added"))
    if how == "lost":
        del found[place]
    elif how == "doubled":
        found.append(found[place])
    else:
        entry = rng.choice(NAMES), found[place][1]
        found[place : place + (how == "renamed")] = [entry]
    return f"member {how}", zipped(found, rng)


def in_container(data: bytes, rng: Random) -> tuple[str, bytes]:
    """Fields of the archive's own headers."""
    starts = [match.start() for match in HEADERS.finditer(data)]
    changed = bytearray(data)
    near = [(start, min(start + NEAR, len(data))) for start in starts]
    for _ in range(rng.choice((1, 1, 2, 4))):
        field(changed, rng, near, starts)
    return "zip field", bytes(changed)


def mutated_zip(data: bytes, rng: Random, content: Content) -> tuple[str, bytes]:
    """What was done, and the outcome; `content` mutates a member by what it is."""
    kind = rng.random()
    if kind < 0.65:
        return in_member(data, rng, content)
    if kind < 0.75:
        return in_list(data, rng)
    return in_container(data, rng) if kind < 0.9 else mutated_bytes(data, rng)
