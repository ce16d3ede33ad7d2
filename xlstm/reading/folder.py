"""Reads the folders that `save` writes: any ported folder can be ported to every framework.

In: the path of a folder. Out: a Model from the graph and the weights; no code is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xlstm.budget import Budget
from xlstm.errors import FileError, UsageError
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.guards import as_object, as_text, open_regular, parse_json
from xlstm.files.port_folder import KEY, WEIGHTS, metadata
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import unpack_model
from xlstm.ir.graph import Model
from xlstm.ir.serialize import from_json


def check_plain(path: Path, given: Sequence[str]) -> None:
    """Raises UsageError for options of source files in a call with a ported folder."""
    if given:
        names = ", ".join(f"{name}=" for name in given)
        want = f"a file of Keras for {names}"
        raise UsageError(path.name, want, "a ported folder, whose graph is known", "leave it out")


def read_folder(path: Path, budget: Budget | None = None, *, numbers: bool = True) -> Model:
    """The model of a ported folder; its code is not run.

    Args:
        path: of the folder.
        budget: limit of the cost of reading it; a new one if None.
        numbers: True to read the weights, False for zeros that need no memory.

    Raises:
        FileError: weights that are damaged or have no graph.
        WeightsError: weights that do not fit the graph.
    """
    file, budget = path / WEIGHTS, budget or Budget()
    with open_regular(file) as stream:
        found = open_safetensors(stream, str(file), budget)
        metadata, tensors = found.metadata, found.tensors
        arrays = {name: t.load() if numbers else t.zeros() for name, t in tensors.items()}
    if KEY not in metadata:
        raise FileError(file, "a graph in the metadata", "none", "port the model anew with xlstm")
    data = as_object(parse_json(metadata[KEY], str(file), budget), str(file))
    model = from_json(data.get("graph"), {}, str(file), budget)
    adapter = _target(as_text(data.get("to"), str(file)), file)
    return replace(model, weights=unpack_model(model, adapter, arrays))


def target_of(path: Path) -> Adapter:
    """The target of a ported folder, by its weights.

    Raises:
        FileError: as `read_folder`.
    """
    file, budget = path / WEIGHTS, Budget()
    data = as_object(
        parse_json(metadata(file, budget).get(KEY, "{}"), str(file), budget), str(file)
    )
    return _target(as_text(data.get("to"), str(file)), file)


def _target(name: str, file: Path) -> Adapter:
    if name in registry.names() and registry.adapter(name).emit is not None:
        return registry.adapter(name)
    raise FileError(file, "the weights of a known framework", name, "install its adapter")
