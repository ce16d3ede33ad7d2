"""The graph of a model as JSON, and back with every field checked."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from xlstm.errors import FileError, UsageError
from xlstm.model import SPECS, Array, Input, Model, Node, Shape, Source, Spec, TimeDistributed

VERSION = 1


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec's kind and options as plain data."""
    options = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    plain = {k: spec_to_json(v) if isinstance(v, Spec) else v for k, v in options.items()}
    return {"kind": spec.kind, **plain}


def to_json(model: Model) -> dict[str, Any]:
    """A model without its weights as plain data."""
    nodes = [
        {
            "name": node.name,
            "spec": spec_to_json(node.spec),
            "inputs": list(node.inputs),
            "shape": list(node.shape),
            "trainable": node.trainable,
        }
        for node in model.nodes
    ]
    return {
        "version": VERSION,
        "name": model.name,
        "nodes": nodes,
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "source": dataclasses.asdict(model.source),
        "lone": model.lone,
    }


def _checked(data: Any, types: Any, where: str) -> Any:
    if not isinstance(data, types) or (isinstance(data, bool) and types is not bool):
        want = getattr(types, "__name__", str(types))
        raise FileError(where, want, type(data).__name__, "port the model anew")
    return data


def _shape(data: Any, where: str) -> Shape:
    sizes = _checked(data, list, where)
    if not all(size is None or (type(size) is int and size > 0) for size in sizes):
        raise FileError(where, "a shape", sizes, "port the model anew")
    return tuple(sizes)


def _field(cls: type[Spec], name: str, value: Any, where: str) -> Any:
    kind = typing.get_type_hints(cls)[name]
    if kind is Spec:
        inner = spec_from_json(value, where)
        if isinstance(inner, (Input, TimeDistributed)):
            raise FileError(where, "a wrapped layer", inner.kind, "port the model anew")
        return inner
    if kind == Shape:
        return _shape(value, where)
    return _checked(value, (int, float) if kind is float else kind, f"{where}, {name}")


def spec_from_json(data: Any, where: str) -> Spec:
    """The spec that `spec_to_json` wrote.

    Raises:
        FileError: an unknown kind, or options that are missing, unknown or of another type.
    """
    options = dict(_checked(data, dict, where))
    kind = options.pop("kind", None)
    cls = SPECS.get(kind) if isinstance(kind, str) else None
    names = {f.name for f in dataclasses.fields(cls)} if cls else set()
    if cls is None or names != set(options):
        got = ", ".join(map(str, options)) or "none"
        raise FileError(where, "a layer with its options", got, "port the model anew")
    fields = {name: _field(cls, name, value, where) for name, value in options.items()}
    try:
        return cls(**fields)
    except UsageError as error:
        got = f"{error.where}: {error.got}"
        raise FileError(where, error.expected, got, "port the model anew") from None


def _node(data: Any, where: str) -> Node:
    item = _checked(data, dict, where)
    name = _checked(item.get("name"), str, where)
    inputs = _names(item.get("inputs"), f"{where}, node {name}")
    trainable = _checked(item.get("trainable"), bool, where)
    spec = spec_from_json(item.get("spec"), f"{where}, node {name}")
    return Node(name, spec, inputs, _shape(item.get("shape"), where), trainable)


def from_json(data: Any, weights: Mapping[str, Mapping[str, Array]], where: str) -> Model:
    """The model that `to_json` wrote, with its weights.

    Raises:
        FileError: data that is not such a graph.
    """
    graph = _checked(data, dict, where)
    if graph.get("version") != VERSION:
        raise FileError(where, f"graph version {VERSION}", graph.get("version"), "update xlstm")
    nodes = tuple(_node(item, where) for item in _checked(graph.get("nodes"), list, where))
    _check_nodes(nodes, where)
    ends = [_names(graph.get(key), f"{where}, {key}") for key in ("inputs", "outputs")]
    inputs = tuple(node.name for node in nodes if isinstance(node.spec, Input))
    if ends[0] != inputs or not ends[1] or not {n.name for n in nodes}.issuperset(ends[1]):
        raise FileError(where, "the inputs and outputs of its nodes", ends, "port the model anew")
    if graph.get("lone") is True and len(nodes) != 2:
        raise FileError(where, "one layer alone", f"{len(nodes) - 1} layers", "port the model anew")
    return Model(
        name=_checked(graph.get("name"), str, where),
        nodes=nodes,
        inputs=ends[0],
        outputs=ends[1],
        weights=weights,
        source=_source(graph.get("source"), where),
        lone=_checked(graph.get("lone"), bool, where),
    )


def _names(data: Any, where: str) -> tuple[str, ...]:
    return tuple(_checked(name, str, where) for name in _checked(data, list, where))


def _check_nodes(nodes: tuple[Node, ...], where: str) -> None:
    """Raises FileError unless every node follows what it reads and has the shape that gives."""
    shapes: dict[str, Shape] = {}
    for node in nodes:
        place = f"{where}, node {node.name}"
        wanted = 0 if isinstance(node.spec, Input) else 1
        known = node.name not in shapes and all(name in shapes for name in node.inputs)
        if len(node.inputs) != wanted or not known:
            got = f"inputs {', '.join(node.inputs) or 'none'}"
            raise FileError(place, "a new name, and inputs before it", got, "port the model anew")
        try:
            before = node.spec.shape if isinstance(node.spec, Input) else shapes[node.inputs[0]]
            shapes[node.name] = node.spec.output_shape(before)
        except UsageError as error:
            raise FileError(place, error.expected, error.got, "port the model anew") from None
        if shapes[node.name] != node.shape:
            want = f"shape {shapes[node.name]}"
            raise FileError(place, want, node.shape, "port the model anew")


def _source(data: Any, where: str) -> Source:
    fields = _checked(data, dict, where)
    names = ("framework", "version", "container", "file", "sha256")
    texts = [_checked(fields.get(name), str, where) for name in names]
    lists = [_checked(fields.get(name), list, where) for name in ("notes", "warnings")]
    return Source(*texts, *(tuple(map(str, found)) for found in lists))
