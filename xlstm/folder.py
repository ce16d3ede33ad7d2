"""The folders that `save` writes, read back: any ported folder ports on to every framework."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors
from safetensors.numpy import load_file

from xlstm import registry
from xlstm.errors import FileError
from xlstm.files.guards import as_text, open_regular, parse_json
from xlstm.graph_json import from_json
from xlstm.mapping import unpack_model
from xlstm.model import Model

WEIGHTS = "weights.safetensors"
SOURCE = "model.py"
REPORT = "report.json"
KEY = "xlstm"
"""Name of the metadata entry of the weights that holds the graph."""


def is_ported_folder(path: Path) -> bool:
    """Whether `save` wrote this folder, by the files it has."""
    return path.is_dir() and all((path / name).is_file() for name in (WEIGHTS, SOURCE, REPORT))


def read_folder(path: Path) -> Model:
    """The model of a ported folder; its code is not run.

    Raises:
        FileError: weights that are damaged or carry no graph.
        WeightsError: weights that do not fit the graph.
    """
    file = path / WEIGHTS
    open_regular(file).close()
    try:
        with safetensors.safe_open(file, "numpy") as opened:
            metadata = opened.metadata() or {}
        arrays = load_file(file)
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(file, "a safetensors file", got, "port the model anew") from None
    if KEY not in metadata:
        raise FileError(file, "a graph in the metadata", "none", "port the model anew with xlstm")
    data = parse_json(metadata[KEY], str(file))
    adapter = registry.adapter(as_text(data.get("to"), str(file)))
    model = from_json(data.get("graph"), {}, str(file))
    return replace(model, weights=unpack_model(model, adapter, arrays))
