"""The distributions that are installed: their versions and entry points, each searched for once.

In: a name. Out: what `importlib.metadata` says, which opens a file of every distribution for it.
It is asked again after a change of the folders that packages lie in.

>>> version("no-such-distribution")
''
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys


def entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """The entry points of a group, of all distributions."""
    return _entry_points(group, _places())


def version(distribution: str) -> str:
    """The version of a distribution, "" if it is not installed."""
    return _version(distribution, _places())


@functools.lru_cache(maxsize=8)
def _entry_points(group: str, _places: object) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=group))


@functools.lru_cache(maxsize=64)
def _version(distribution: str, _places: object) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _places() -> object:
    """The finders of packages, and the folders with the times of their last changes."""
    return tuple(sys.meta_path), tuple((path, _changed_at(path)) for path in sys.path)


def _changed_at(path: str) -> int:
    """The time of the last change of a folder or an archive; 0 if it is missing."""
    try:
        return os.stat(path or ".").st_mtime_ns
    except (OSError, ValueError):
        return 0
