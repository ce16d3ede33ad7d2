"""Checks if the `model.py` of a ported folder still is the code of its graph; does not run it.

A folder is read from its graph and weights. Whoever edits `model.py` would not see it in what they
get, so reading such a folder warns.

In: a folder, its graph and its target. Out: a sentence, "" if the code is that of the graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from xlstm._version import VERSION
from xlstm.errors import FileError, FolderCodeWarning, XlstmError
from xlstm.files.guards import MAX_TEXT, open_regular
from xlstm.files.port_folder import REPORT, SOURCE
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.graph import Model
from xlstm.reading.ports import emitted_for, same_code
from xlstm.reading.record import read_record


def other_code(folder: Path, graph: Model, adapter: Adapter) -> str:
    """The kind of difference between a folder's `model.py` and the code of its graph, in words.

    Formatting, comments and docstrings do not count. A text that the report has the hash of is the
    one of the port, which another version of xlstm may have written.

    Returns:
        "" for the code of the graph, and for a folder without `model.py`.
    """
    if not (folder / SOURCE).is_file():
        return ""
    with open_regular(folder / SOURCE) as file:
        data = file.read(MAX_TEXT + 1)
    try:
        if _is_of(data, graph, adapter):
            return ""
        known, why = _recorded(folder), f"is not what xlstm {VERSION} writes for this graph"
    except XlstmError:  # no form in the target, such as a custom layer that is not registered
        known = _recorded(folder)
        if not known:
            return "was not checked: this process cannot write the code of this graph"
        why = f"is not the one that {REPORT} records"
    return "" if known == hashlib.sha256(data).hexdigest() else why


def _is_of(data: bytes, graph: Model, adapter: Adapter) -> bool:
    """True if a text is the code of a graph, whatever its formatting and comments are."""
    if emitted_for(data, graph, adapter):
        return True
    try:
        return same_code(data.decode("utf-8"), adapter, graph)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # no Python
        return False


def _recorded(folder: Path) -> str:
    """SHA-256 of `model.py` at the port, "" if no report has it."""
    try:
        return read_record(folder).hashes[SOURCE] if (folder / REPORT).is_file() else ""
    except FileError:
        return ""


def with_code_warning(folder: Path, graph: Model, adapter: Adapter) -> Model:
    """The graph, with a warning in its source if the folder's `model.py` is other code.

    Warns the caller of the package too (FolderCodeWarning).
    """
    why = other_code(folder, graph, adapter)
    if not why:
        return graph
    line = f"{SOURCE} of {folder.name} {why}. It was not run: {FOLLOWS}. {how_to_compare(folder)}"
    warnings.warn(line, FolderCodeWarning, stacklevel=_caller())
    return replace(graph, source=replace(graph.source, code_warning=line))


FOLLOWS = "what you get follows the graph and the weights of the folder"


def how_to_compare(folder: Path) -> str:
    """The command that runs a `model.py` and compares it with the graph of its folder.

    `verify --trust` runs no text that differs from the recorded one.
    """
    if (folder / REPORT).is_file():
        return f"To compare it with them: xlstm diagnose {folder} {folder} --trust"
    return f"To compare it with them: xlstm verify {folder} --trust"


PASSED = (os.path.dirname(os.path.dirname(__file__)) + os.sep, contextlib.__file__)
"""Files whose frames are not the caller's: this package, and its decorators."""


def _caller() -> int:
    """The `stacklevel` of the first frame outside this package, as seen from the caller."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PASSED):
        frame, level = frame.f_back, level + 1
    return level
