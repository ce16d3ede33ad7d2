"""The folders that `save` writes, read back: any ported folder ports on to every framework."""

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
    """Raises UsageError where options of source files are given with a ported folder."""
    if given:
        names = ", ".join(f"{name}=" for name in given)
        want = f"a file of Keras for {names}"
        raise UsageError(path.name, want, "a ported folder, whose graph is known", "leave it out")


def read_folder(path: Path, budget: Budget | None = None, *, numbers: bool = True) -> Model:
    """The model of a ported folder; its code is not run.

    Args:
        path: of the folder.
        budget: what reading it may cost; a new one if None.
        numbers: whether to read the weights; if not, zeros that take no memory stand for them.

    Raises:
        FileError: weights that are damaged or carry no graph.
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
    """The target of a ported folder, as its weights name it.

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
