"""Compares the memory that arrays of a file need with the memory that this process may still take.

In: handles of arrays that are about to be loaded. Out: nothing, or a FileError before any number is
read. The limits are those of the process (`ulimit -v`), of its control group (containers) and of
the machine. On systems other than Linux nothing is known, and nothing is refused.

    check_memory([array], "model.h5")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from xlstm.errors import FileError
from xlstm.files.description import Stored

SMALL = 2**24
"""Bytes of arrays that are loaded without this check, whose own cost would be felt."""

PROCESS, MACHINE, GROUPS = Path("/proc/self"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""Files and folders of Linux with the limits."""


def check_memory(arrays: Iterable[Stored], where: object) -> None:
    """Raises FileError if arrays would not fit in memory together with a copy of the largest."""
    sizes = [size_of(array) for array in {id(array): array for array in arrays}.values()]
    need = sum(sizes) + max(sizes, default=0)
    if need <= SMALL:
        return
    room = min(_rooms(), default=None)
    if room is not None and need > room:
        want, got = f"{_megabytes(need)} of free memory for its weights", _megabytes(max(room, 0))
        do = "allow this process more memory, or close other programs"
        raise FileError(where, want, got, do)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def size_of(array: Stored) -> int:
    """The bytes of an array in memory; bfloat16 becomes float32."""
    dtype = "float32" if "bfloat16" in array.dtype else array.dtype
    return math.prod(array.shape) * np.dtype(dtype).itemsize


def _rooms() -> Iterator[int]:
    """The bytes that each known limit leaves."""
    status = _sizes(PROCESS / "status")
    for kind, name in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
        if name in status:  # Linux, where there is such a module
            import resource

            limit = resource.getrlimit(getattr(resource, kind))[0]
            if limit != resource.RLIM_INFINITY:
                yield limit - status[name]
    machine = _sizes(MACHINE)
    if "MemAvailable" in machine:
        yield machine["MemAvailable"] + machine.get("SwapFree", 0)
    yield from _group_room()


def _sizes(path: Path) -> dict[str, int]:
    """Name -> bytes, from lines such as "VmSize:  1234 kB"; empty if there is no such file."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}


def _group_room() -> Iterator[int]:
    """The bytes that the control group of this process leaves, caches of files counted as free."""
    for line in _text(PROCESS / "cgroup").splitlines():
        if line.startswith("0::/"):
            group = GROUPS / line.removeprefix("0::/")
            limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current")
            words = _text(group / "memory.stat").split()
            if limit.isdecimal() and used.strip().isdecimal():
                stat = dict(zip(words[::2], words[1::2], strict=False))
                yield int(limit) - int(used) + int(stat.get("file", 0))


def _text(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
