"""Files that a test session reads once: later tests of the same file get the same Model.

In: a path. Out: a Model, or named arrays; read again where the file has changed.

>>> import xlstm
>>> files = LoadedFiles()
>>> files.get(xlstm.demo.path()) is files.get(xlstm.demo.path())
True
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlstm.errors import XlstmError
from xlstm.files.arrays.named_arrays import is_arrays
from xlstm.files.port_folder import has_port
from xlstm.ir.graph import Model
from xlstm.reading.load import load

KEPT = 2**30
"""Bytes of weights that are kept, of all files together; the oldest go first."""

Stamp = tuple[tuple[str, int, int, int, int], ...]


class LoadedFiles:
    """A cache of models by path, and by size and times of change of all files below it."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._models: dict[str, tuple[Stamp, Model]] = {}

    def get(self, path: str | os.PathLike[str]) -> Any:
        """Returns the model of a file, or the path itself where no model is kept of it.

        Ported folders are such paths, because their `model.py` is checked each time. So are files
        of named arrays.

        Raises:
            XlstmError: as `xlstm.load` raises.
        """
        path = Path(path)
        if has_port(path) or is_arrays(path):
            return path
        key, stamp = str(path.resolve()), stamp_of(path)
        known = self._models.pop(key, None)
        if known is None or known[0] != stamp:
            try:
                known = stamp, load(path)
            except XlstmError:
                if path.is_file():
                    return path  # weights alone: a suspect may be these
                raise
        self._models[key] = known
        self._drop()
        return known[1]

    def clear(self) -> None:
        """Forgets all files."""
        self._models.clear()

    def _drop(self) -> None:
        """Forgets the files that were not used for the longest time."""
        sizes = {key: _bytes(model) for key, (_, model) in self._models.items()}
        for key in [*sizes]:
            if sum(sizes.values()) <= self._most:
                return
            del self._models[key], sizes[key]


def stamp_of(path: Path) -> Stamp:
    """Returns what changes with a file, or with any file below a folder."""
    found = []
    for one in sorted(_files(path)):
        stat = one.stat()
        times = stat.st_mtime_ns, stat.st_ctime_ns
        found.append((str(one), stat.st_size, stat.st_ino, *times))
    return tuple(found)


def _files(path: Path) -> Iterator[Path]:
    yield from (
        (one for one in path.rglob("*") if one.is_file())
        if path.is_dir()
        else ([path] if path.is_file() else [])
    )


def _bytes(model: Model) -> int:
    return sum(array.nbytes for tensors in model.weights.values() for array in tensors.values())
