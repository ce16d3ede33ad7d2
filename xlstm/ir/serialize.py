"""The graph of a model as JSON, and back with every field checked.

In: a model. Out: plain data for `json.dumps`; `from_json` takes them and the weights.

    >>> spec_from_json({"kind": "Softmax", "axis": -1}, "file.json")
    Softmax(axis=-1)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError, UnsupportedError, UsageError, kind_in_words
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.source import BatchAxis, Source
from xlstm.ir.types import Array, Shape

VERSION = 2


def spec_to_json(spec: L.LayerSpec) -> dict[str, Any]:
    """A spec's kind and options as plain data."""
    options = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    plain = {k: spec_to_json(v) if isinstance(v, L.LayerSpec) else v for k, v in options.items()}
    return {"kind": spec.kind, **plain}


def to_json(model: Model) -> dict[str, Any]:
    """A model without its weights as plain data."""
    nodes = [
        {
            "name": node.name,
            "spec": spec_to_json(node.spec),
            "inputs": [list(edge) for edge in node.inputs],
            "mask": None if node.mask is None else list(node.mask),
            "states": [list(edge) for edge in node.states],
            "shapes": [list(shape) for shape in node.shapes],
            "trainable": node.trainable,
            "layer": node.layer,
        }
        for node in model.nodes
    ]
    return {
        "version": VERSION,
        "name": model.name,
        "nodes": nodes,
        "inputs": list(model.inputs),
        "outputs": [list(edge) for edge in model.outputs],
        "source": _source_json(model.source),
        "lone": model.lone,
        "keys": list(model.keys),
    }


def _source_json(source: Source) -> dict[str, Any]:
    """The source of a model as plain data, without the facts about its files."""
    fields = dataclasses.asdict(source)
    return {name: value for name, value in fields.items() if name not in OF_FILES}


OF_FILES = ("optimizer", "code_warning")
"""Fields of a source that are about the files of one model, and not about its graph."""


def _checked(data: Any, types: Any, where: str) -> Any:
    if not isinstance(data, types) or (isinstance(data, bool) and types is not bool):
        want = getattr(types, "__name__", str(types))
        raise FileError(where, want, kind_in_words(data), "port the model again")
    return data


def _shape(data: Any, where: str) -> Shape:
    sizes = _checked(data, list, where)
    if not all(size is None or (type(size) is int and size > 0) for size in sizes):
        raise FileError(where, "a shape", sizes, "port the model again")
    return tuple(sizes)


def _plain(value: Any, where: str) -> Any:
    """The value of an option: a layer inside another one, a tuple for a list of JSON, or itself.

    Its type is checked when the spec is constructed.
    """
    if isinstance(value, list):
        return tuple(_plain(item, where) for item in value)
    if not isinstance(value, dict):
        return value
    inner = spec_from_json(value, where)
    if isinstance(inner, (L.Input, L.TimeDistributed)):
        raise FileError(where, "a wrapped layer", inner.kind, "port the model again")
    return inner


def spec_from_json(data: Any, where: str) -> L.LayerSpec:
    """The spec that `spec_to_json` wrote.

    Raises:
        FileError: an unknown kind, or options that are missing, unknown or of another type.
        UnsupportedError: values that this version does not have, such as a later version's.
    """
    options = dict(_checked(data, dict, where))
    kind = options.pop("kind", None)
    cls = L.SPECS.get(kind) if isinstance(kind, str) else None
    names = {f.name for f in dataclasses.fields(cls)} if cls else set()
    if cls is None or names != set(options):
        got = ", ".join(map(str, options)) or "none"
        raise FileError(where, "a layer with its options", got, "port the model again")
    fields = {name: _plain(value, f"{where}, {name}") for name, value in options.items()}
    try:
        return cls(**fields)
    except UsageError as error:
        got = f"{error.where}: {error.got}"
        raise FileError(where, error.expected, got, "port the model again") from None
    except UnsupportedError as error:
        place = f"{where}, {error.where}"
        raise UnsupportedError(place, error.expected, error.got, error.do) from None


def _edges(data: Any, where: str) -> tuple[Edge, ...]:
    return tuple(_edge(item, where) for item in _checked(data, list, where))


def _edge(data: Any, where: str) -> Edge:
    item = _checked(data, list, where)
    if len(item) != 2:
        raise FileError(where, "a node and its output", item, "port the model again")
    return Edge(_checked(item[0], str, where), _checked(item[1], int, where))


def _add(graph: Builder, data: Any, where: str) -> None:
    """Adds a node to the graph, which checks its edges and computes its shapes."""
    item = _checked(data, dict, where)
    name = _checked(item.get("name"), str, where)
    place = f"{where}, node {name}"
    spec = spec_from_json(item.get("spec"), place)
    inputs, states = (_edges(item.get(key), place) for key in ("inputs", "states"))
    mask = None if item.get("mask") is None else _edge(item["mask"], place)
    trainable = _checked(item.get("trainable"), bool, place)
    again = _checked(item.get("layer"), str, place)
    try:
        graph.add(name, spec, inputs, mask=mask, states=states, trainable=trainable, layer=again)
    except UsageError as error:
        raise FileError(place, error.expected, error.got, "port the model again") from None
    shapes = tuple(_shape(s, place) for s in _checked(item.get("shapes"), list, place))
    if shapes != graph.node(name).shapes:
        want = f"shapes {graph.node(name).shapes}"
        raise FileError(place, want, shapes, "port the model again")


def from_json(
    data: Any,
    weights: Mapping[str, Mapping[str, Array]],
    where: str,
    budget: Budget | None = None,
) -> Model:
    """The model that `to_json` wrote, with its weights.

    Args:
        data: parsed JSON.
        weights: node name -> tensor name -> array.
        where: file or part of it, for messages.
        budget: limit of the cost of the graph; a new one if None.

    Raises:
        FileError: data that is not such a graph.
    """
    graph = _checked(data, dict, where)
    if graph.get("version") != VERSION:
        raise FileError(where, f"graph version {VERSION}", graph.get("version"), "update xlstm")
    built = Builder()
    nodes = _checked(graph.get("nodes"), list, where)
    (budget or Budget()).spend("expanded nodes", len(nodes), where)
    for item in nodes:
        _add(built, item, where)
    inputs, outputs = _ends(graph, built, where)
    if graph.get("lone") is True and len(built.nodes) != 2:
        got = f"{len(built.nodes) - 1} layers"
        raise FileError(where, "one layer alone", got, "port the model again")
    try:
        return Model(
            name=graph["name"],
            nodes=built.nodes,
            inputs=inputs,
            outputs=outputs,
            weights=weights,
            source=source_from_json(graph.get("source"), where),
            lone=graph["lone"],
            # graphs of versions without dicts of outputs have none
            keys=tuple(_checked(graph.get("keys", []), list, f"{where}, keys")),
        )
    except KeyError as error:
        raise FileError(where, f"an entry {error}", "none", "port the model again") from None
    except UsageError as error:
        place = f"{where}, {error.where}"
        raise FileError(place, error.expected, error.got, "port the model again") from None


def _ends(
    graph: dict[str, Any], built: Builder, where: str
) -> tuple[tuple[str, ...], tuple[Edge, ...]]:
    """The inputs and outputs of a graph, which its nodes must have."""
    names = _checked(graph.get("inputs"), list, where)
    inputs = tuple(_checked(name, str, f"{where}, inputs") for name in names)
    outputs = _edges(graph.get("outputs"), f"{where}, outputs")
    known = {node.name for node in built.nodes if isinstance(node.spec, L.Input)}
    try:
        for edge in outputs:
            built.shape(edge)
    except UsageError:
        outputs = ()
    if set(inputs) != known or len(inputs) != len(known) or not outputs:
        got = [inputs, outputs]
        raise FileError(where, "the inputs and outputs of its nodes", got, "port the model again")
    return inputs, outputs


def source_from_json(data: Any, where: str) -> Source:
    """The source that `to_json` wrote.

    Raises:
        FileError: other data.
    """
    fields = _checked(data, dict, where)
    texts = [fields.get(name) for name in ("framework", "version", "container", "file", "sha256")]
    lists = [_checked(fields.get(name), list, where) for name in ("notes", "warnings")]
    # graphs of versions that did not store the axes have none
    inputs, outputs = (
        tuple(
            _axis(axis, f"{where}, {name}")
            for axis in _checked(fields.get(name, []), list, f"{where}, {name}")
        )
        for name in ("input_axes", "output_axes")
    )
    found = Source(*texts, *map(tuple, lists))
    return dataclasses.replace(found, input_axes=inputs, output_axes=outputs)


def _axis(data: Any, where: str) -> BatchAxis:
    found = _checked(data, list, where)
    if len(found) != len(BatchAxis._fields):
        raise FileError(where, "a node, its output and an axis", found, "port the model again")
    return BatchAxis(*found)
