"""Writes a stack as one folder, and takes single models out of a folder or an object.

    save(stack({"a": "a.keras", "b": "b.keras"}, to="torch"), "both")
    unstack("both")["a"]  # a Model

The folder has `model.py`, which needs no xlstm, the weights of all models in `stacked.safetensors`,
the axis of models first, and `report.json` with their names and digests.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlstm._version import VERSION
from xlstm.budget import Budget
from xlstm.counting.count import count
from xlstm.errors import FileError, UsageError, WeightsError, printable
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.arrays.safe_tensors_writer import write_safetensors
from xlstm.files.description import Stored
from xlstm.files.free_memory import check_memory
from xlstm.files.guards import as_object, as_text, open_regular, parse_json
from xlstm.files.port_folder import SOURCE, STACKED, has_stack
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import unpack_model
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.serialize import from_json, source_from_json, to_json
from xlstm.ir.types import Array
from xlstm.porting.save import atomic_folder, write_report
from xlstm.stacking.stack import StackedModels, StackMember, facts_of

KEY = "xlstm_stack"
"""Name of the entry with the models, in the metadata of the weights."""

AGAIN = "stack the models again with xlstm"


class Stacked(NamedTuple):
    """A stack whose weights are numpy arrays.

    Attributes:
        facts: its models.
        weights: name of one model's tensor -> array (models, ...).
        where: file or object, for messages.
    """

    facts: StackedModels
    weights: Mapping[str, Array]
    where: str


@unmoved
def save(stacked: Any, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Writes a stack as `model.py`, `stacked.safetensors` and `report.json`; all or none.

    `model.py` needs the framework and safetensors only. Its `load()` returns the stack, with the
    arguments `folder`, `dtype` and `chunk`.

    Args:
        stacked: what `xlstm.stack` returned, with its present weights; not one of numpy.
        folder: where to write; its parent must exist.
        overwrite: True to replace the folder of a stack; no other folder is ever replaced.

    Returns:
        The folder's path.

    Raises:
        UsageError: another object, a stack of numpy, or a folder that must not be written.
    """
    found, target = _of_object(stacked), Path(os.fspath(folder))
    adapter, graph = found.facts.adapter, found.facts.graph
    if adapter.emit is None:
        want, do = "a stack of torch, nnx or linen", "call xlstm.stack with another to="
        raise UsageError("save", want, f"one of {adapter.name}", do)
    typed = replace(graph, weights=_one(found, 0).weights)
    digests = [_digest(arrays) for arrays in _each(found)]
    with atomic_folder(target, overwrite, has_stack) as work:
        (work / SOURCE).write_text(adapter.emit(typed), "utf-8", newline="\n")
        metadata = {KEY: json.dumps(_facts_to_json(found.facts, digests))}
        sha256 = write_safetensors(work / STACKED, _stored(found.weights), metadata)
        write_report(work, _report(found.facts, typed, digests, sha256))
    return target


def _report(
    facts: StackedModels, typed: Model, digests: Iterable[str], sha256: str
) -> dict[str, Any]:
    """The content of report.json."""
    models = [
        {
            "name": member.name,
            "file": member.graph.source.file,
            "sha256": member.graph.source.sha256,
            "weights": digest,
        }
        for member, digest in zip(facts.members, digests, strict=True)
    ]
    return {
        "xlstm": VERSION,
        "to": facts.adapter.name,
        "dtype": facts.dtype,
        "files": {STACKED: sha256},
        "counts of each": count(typed).to_json(),
        "models": models,
        "verification": "not verified",
    }


def _stored(weights: Mapping[str, Array]) -> Iterator[Stored]:
    for name, array in weights.items():
        yield Stored(name, array.shape, array.dtype.name, functools.partial(np.asarray, array))


def _each(found: Stacked) -> Iterator[dict[str, Array]]:
    """The tensors of each model, by name."""
    for number in range(len(found.facts.members)):
        yield {name: array[number] for name, array in found.weights.items()}


def _digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of one model's tensors, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _facts_to_json(facts: StackedModels, digests: Iterable[str]) -> dict[str, Any]:
    """The facts of a stack as plain data; of each model only what differs from the first's graph.

    The graph is stored under the first model's names, with its source.
    """
    first = facts.members[0].graph
    members = []
    for member, digest in zip(facts.members, digests, strict=True):
        own: dict[str, Any] = {"name": member.name, "model": member.graph.name, "weights": digest}
        if member.graph.names != first.names:
            own["layers"] = [*member.graph.names]
        frozen = [n for n, node in enumerate(member.graph.nodes) if not node.trainable]
        own |= {"frozen": frozen} if frozen else {}
        source, usual = _source(member.graph), _source(first)
        own["source"] = {name: value for name, value in source.items() if value != usual[name]}
        members.append(own)
    graph = to_json(replace(facts.graph, weights={}))
    return {"to": facts.adapter.name, "dtype": facts.dtype, "graph": graph, "models": members}


def _source(graph: Model) -> dict[str, Any]:
    source: dict[str, Any] = to_json(replace(graph, weights={}))["source"]
    return source


def _facts_from_json(data: Mapping[str, Any], where: str, budget: Budget) -> Any:
    """The facts that `_facts_to_json` wrote, and the digests.

    Raises:
        FileError: other data.
    """
    name, dtype = as_text(data.get("to"), where), as_text(data.get("dtype"), where)
    makes = registry.adapter(name).stacks if name in registry.names() else None
    adapter = makes() if makes else None
    if adapter is None or adapter.emit is None:  # `save` writes no stack without code
        raise FileError(where, "a stack of a known framework", name, "install its adapter")
    graph, models = as_object(data.get("graph"), where), data.get("models")
    if not isinstance(models, list) or not models:
        raise FileError(where, "a list of models", "another value or none", AGAIN)
    every = [as_object(model, where) for model in models]
    first = from_json(graph, {}, where, budget)
    budget.spend("nodes", len(every) * len(first.nodes), where)
    members, digests = [], []
    for own in every:
        place = f"{where}, model {printable(as_text(own.get('name'), where))}"
        members.append(StackMember(own["name"], _own_graph(first, graph, own, place)))
        digests.append(as_text(own.get("weights"), place))
    if len({member.name for member in members}) != len(members):
        raise FileError(where, "names of models that differ", "two equal ones", AGAIN)
    return StackedModels(adapter, first, tuple(members), dtype, None), digests


def _own_graph(first: Model, graph: Mapping[str, Any], own: Mapping[str, Any], where: str) -> Model:
    """The graph of one model: the first one's with the names of its own.

    Raises:
        FileError: names or other data that do not fit.
    """
    source = {**as_object(graph.get("source"), where), **as_object(own.get("source"), where)}
    names, frozen = own.get("layers", [*first.names]), own.get("frozen", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise FileError(where, "names of layers", f"{names!r:.80}", AGAIN)
    if len(names) != len(first.names) or len({*names}) != len(names):
        raise FileError(where, f"{len(first.names)} names that differ", f"{names!r:.80}", AGAIN)
    if not isinstance(frozen, list) or not all(type(number) is int for number in frozen):
        raise FileError(where, "numbers of frozen layers", f"{frozen!r:.80}", AGAIN)
    name, origin = as_text(own.get("model"), where), source_from_json(source, where)
    named = _named(first, dict(zip(first.names, names, strict=True)), {*frozen})
    return replace(named, name=name, source=origin)


def _named(graph: Model, names: Mapping[str, str], frozen: set[int]) -> Model:
    """A graph under other names, with the layers of these numbers not trainable."""
    nodes = tuple(
        replace(
            node,
            name=names[node.name],
            inputs=tuple(edge._replace(node=names[edge.node]) for edge in node.inputs),
            mask=node.mask and node.mask._replace(node=names[node.mask.node]),
            states=tuple(edge._replace(node=names[edge.node]) for edge in node.states),
            layer=names.get(node.layer, ""),
            trainable=number not in frozen,
        )
        for number, node in enumerate(graph.nodes)
    )
    outputs = tuple(edge._replace(node=names[edge.node]) for edge in graph.outputs)
    inputs = tuple(names[name] for name in graph.inputs)
    return replace(graph, nodes=nodes, inputs=inputs, outputs=outputs)


@unmoved
def unstack(source: Any, names: Iterable[str] | None = None) -> dict[str, Model]:
    """The single models of a stack, by name, in its order.

    Their weights are bit for bit those of the ports that were stacked, in the stack's dtype.
    Layers have the names of their own model. `xlstm.port`, `save` and the others take them.

    Args:
        source: what `xlstm.stack` returned, with its present weights; a folder that
            `xlstm.stacking.save` wrote, whose code is not run; or what its `load()` returned.
        names: of the models to return; None for all.

    Raises:
        FileError: a folder that is damaged, or no stack.
        UsageError: another object, or names that the stack does not have.
        WeightsError: weights that do not fit the graph.

    >>> import xlstm
    >>> many = xlstm.stack({"a": xlstm.demo.path(), "b": xlstm.demo.path()}, to="numpy")
    >>> sorted(xlstm.unstack(many, ["b"]))
    ['b']
    """
    is_path = isinstance(source, (str, os.PathLike))
    found = _read(Path(source)) if is_path else _of_object(source)
    known = {name: number for number, name in enumerate(found.facts.names)}
    wanted = [*known] if names is None else [*names]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        got = ", ".join(printable(str(name)) for name in unknown[:3])
        raise UsageError("unstack", f"names of {len(known)} models", got, "name some of these")
    return {name: _one(found, known[name]) for name in wanted}


def _one(found: Stacked, number: int) -> Model:
    """One model of a stack, with its weights."""
    facts = found.facts
    own = {name: array[number].copy() for name, array in found.weights.items()}
    if facts.adapter.emit is None:
        weights: Any = _canonical(own)
    else:
        weights = unpack_model(facts.graph, facts.adapter, own)
    graph = facts.members[number].graph
    names = dict(zip(facts.graph.names, graph.names, strict=True))
    return replace(graph, weights={names[name]: layer for name, layer in weights.items()})


def _canonical(own: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Canonical tensors by layer, from names such as "0/lstm/kernel" without the number."""
    found: dict[str, dict[str, Array]] = {}
    for name, array in own.items():
        layer, _, tensor = name.rpartition("/")
        found.setdefault(layer, {})[tensor] = array
    return found


def _of_object(made: Any) -> Stacked:
    """A stack of this process, or the object of a folder's `load()`, with its present weights."""
    try:
        facts = facts_of(made)
    except UsageError:
        folder = _folder_of(made)
        if folder is None:
            raise
        facts = _read(folder, digests=False).facts
    live: Any = facts.adapter.live()
    weights = live.stack_weights(made)
    sizes = {len(array) for array in weights.values()}
    if sizes != {len(facts.members)}:
        got, do = f"{sorted(sizes)}", "pass a stack as xlstm made it"
        raise WeightsError("stack", f"{len(facts.members)} models in each tensor", got, do)
    return Stacked(facts, weights, type(made).__name__)


def _folder_of(made: Any) -> Path | None:
    """The folder of a stack whose `model.py` defines the class of an object."""
    call = inspect.unwrap(getattr(type(made), "__init__", object))
    code = getattr(call, "__code__", None)
    path = Path(code.co_filename) if code else Path()
    return path.parent if path.name == SOURCE and has_stack(path.parent) else None


def _read(folder: Path, *, digests: bool = True) -> Stacked:
    """The stack in a folder; its code is not run.

    Raises:
        FileError: no stack, or a damaged one.
    """
    if not has_stack(folder):
        want, do = f"a folder with {STACKED}", "pass a folder of xlstm.stacking.save"
        raise FileError(folder, want, "none", do)
    file, budget = folder / STACKED, Budget()
    with open_regular(file) as stream:
        tensors = open_safetensors(stream, str(file), budget)
        text = tensors.metadata.get(KEY)
        if text is None:
            raise FileError(file, "a stack in the metadata", "none", AGAIN)
        data = as_object(parse_json(text, str(file), budget), str(file))
        facts, wanted = _facts_from_json(data, str(file), budget)
        check_memory(tensors.tensors.values(), str(file))
        weights = {name: tensor.load() for name, tensor in tensors.tensors.items()}
    found = Stacked(facts, weights, str(file))
    if {len(a) if np.ndim(a) else 0 for a in weights.values()} != {len(facts.members)}:
        want = f"tensors with an axis of {len(facts.members)} models"
        raise FileError(file, want, "other shapes", AGAIN)
    if digests:
        for member, digest, arrays in zip(facts.members, wanted, _each(found), strict=True):
            if _digest(arrays) != digest:
                where = f"{file}, model {printable(member.name)}"
                raise FileError(where, "the weights that were written", "others", AGAIN)
    return found


def facts_for(source: Any) -> StackedModels:
    """The facts of a stack, from its object or its folder.

    Raises:
        XlstmError: as `unstack` raises.
    """
    is_path = isinstance(source, (str, os.PathLike))
    return _read(Path(source), digests=False).facts if is_path else _of_object(source).facts
