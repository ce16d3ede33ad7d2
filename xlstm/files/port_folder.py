"""Recognises folders of `save` by the files in them; `xlstm.reading.ports` reads them.

In: a path. Out: True or False, or the metadata of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.guards import is_folder, open_regular

WEIGHTS = "weights.safetensors"
SOURCE = "model.py"
REPORT = "report.json"
KEY = "xlstm"
"""Name of the weights' metadata entry with the graph."""


def has_port(path: Path) -> bool:
    """True if a folder has the files that `save` writes."""
    return is_folder(path) and all((path / name).is_file() for name in (WEIGHTS, SOURCE, REPORT))


def half_port(path: Path) -> list[str]:
    """Missing files of a folder of `save`; empty if no file shows that it was one."""
    if not is_folder(path):
        return []
    there = [name for name in (WEIGHTS, SOURCE, REPORT) if (path / name).is_file()]
    meant = len(there) > 1 or (WEIGHTS in there and KEY in metadata(path / WEIGHTS, Budget()))
    return [n for n in (WEIGHTS, SOURCE, REPORT) if n not in there] if meant else []


def is_ours(path: Path) -> bool:
    """True if `save` wrote a folder: it has the files, and the weights carry our graph."""
    if not has_port(path):
        return False
    try:
        return KEY in metadata(path / WEIGHTS, Budget())
    except FileError:
        return False


def metadata(file: Path, budget: Budget) -> Mapping[str, str]:
    """Returns the metadata of a file of weights.

    Raises:
        FileError: an unreadable file, or no safetensors.
    """
    with open_regular(file) as stream:
        return open_safetensors(stream, str(file), budget).metadata
