"""Recognises folders of ports by the files in them; `xlstm.reading.ports` reads them.

`save` writes source, weights and a report, for PyTorch config.json too. `save_pretrained` of a port
to PyTorch writes the same without a report. The mixin of the Hugging Face hub writes weights and
config.json alone. The graph is in the metadata of the weights, or in config.json.

In: a path. Out: True or False, the file of weights, or the data of the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.guards import MAX_TEXT, as_object, as_text, is_folder, open_regular, parse_json

STACKED = "stacked.safetensors"
"""File of the weights of many models in one folder, which `xlstm.stacking` writes."""

WEIGHTS = ("model.safetensors", "weights.safetensors")
"""Names of the file of weights: PyTorch's, and that of other targets and of older ports."""

SOURCE = "model.py"
REPORT = "report.json"
CONFIG = "config.json"
STATEMENT = "port.intoto.json"
"""The statement about all other files, which `xlstm.reading.statement` writes and reads."""

KEY = "xlstm"
"""Name of the entry with the graph, in the weights' metadata and in config.json."""


def has_port(path: Path) -> bool:
    """True if a folder has weights, and beside them a `model.py` or a graph."""
    if not is_folder(path) or not _weights_in(path):
        return False
    return (path / SOURCE).is_file() or has_graph(path)


def has_stack(path: Path) -> bool:
    """True if a folder has the weights of many models, as `xlstm.stacking.save` writes them."""
    return is_folder(path) and (path / STACKED).is_file()


def half_port(path: Path) -> list[str]:
    """Missing files of a folder that was a port; empty if no file shows that it was one."""
    if not is_folder(path) or has_port(path):
        return []
    if _weights_in(path):
        return [SOURCE] if (path / REPORT).is_file() else []
    there = [name for name in (SOURCE, REPORT, CONFIG) if (path / name).is_file()]
    if has_stack(path):
        return []
    return [" or ".join(WEIGHTS)] if SOURCE in there and len(there) > 1 else []


def is_ours(path: Path) -> bool:
    """True if a folder has the files of a port, and a graph."""
    return has_port(path) and has_graph(path)


def has_graph(path: Path) -> bool:
    """True if a folder of weights has a graph; False too if its files are damaged."""
    with contextlib.suppress(FileError):
        return bool(graph_data(path, Budget()))
    return False


def _weights_in(path: Path) -> list[Path]:
    """The files of weights in a folder."""
    return [path / name for name in WEIGHTS if (path / name).is_file()]


def weights_of(path: Path) -> Path:
    """The file of weights of a ported folder.

    Raises:
        FileError: two files, of which one belongs to another port; or none.
    """
    found = _weights_in(path)
    if len(found) == 1:
        return found[0]
    got = " and ".join(file.name for file in found) or "none"
    do = "remove the one that model.py does not load" if found else "port the model again"
    raise FileError(path, "one file of weights", got, do)


def graph_data(path: Path, budget: Budget) -> Mapping[str, Any]:
    """The data of the graph of a ported folder, empty if it has none.

    Raises:
        FileError: damaged files.
    """
    return graph_beside(metadata(weights_of(path), budget), path, budget)


def graph_beside(texts: Mapping[str, str], path: Path, budget: Budget) -> Mapping[str, Any]:
    """As `graph_data`, with the metadata of the weights.

    The metadata comes first: one file cannot be of two ports. Tools that drop the metadata leave
    config.json as it is.
    """
    if KEY not in texts:
        return config_graph(path, budget)
    return _graph(texts[KEY], str(weights_of(path)), budget)


def config_graph(path: Path, budget: Budget) -> Mapping[str, Any]:
    """The data of the graph in config.json, empty if there is none.

    Raises:
        FileError: a damaged file.
    """
    file = path / CONFIG
    if not file.is_file():
        return {}
    with open_regular(file) as stream:
        data = as_object(parse_json(stream.read(MAX_TEXT + 1), str(file), budget), str(file))
    return _graph(data[KEY], str(file), budget) if KEY in data else {}


def _graph(text: Any, where: str, budget: Budget) -> Mapping[str, Any]:
    return as_object(parse_json(as_text(text, where), where, budget), where)


def metadata(file: Path, budget: Budget) -> Mapping[str, str]:
    """Returns the metadata of a file of weights.

    Raises:
        FileError: an unreadable file, or no safetensors.
    """
    with open_regular(file) as stream:
        return open_safetensors(stream, str(file), budget).metadata
