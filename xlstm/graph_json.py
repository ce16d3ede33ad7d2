"""The graph of a model as JSON, and back with every field checked."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from xlstm.errors import FileError
from xlstm.model import SPECS, Array, Model, Node, Shape, Source, Spec

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
    if not isinstance(data, types) or (isinstance(data, bool) and types is int):
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
        return spec_from_json(value, where)
    if kind == Shape:
        return _shape(value, where)
    return _checked(value, (int, float) if kind is float else kind, f"{where}, {name}")


def spec_from_json(data: Any, where: str) -> Spec:
    """The spec that `spec_to_json` wrote.

    Raises:
        FileError: an unknown kind, or options that are missing, unknown or of another type.
    """
    options = dict(_checked(data, dict, where))
    cls = SPECS.get(str(options.pop("kind", None)))
    names = {f.name for f in dataclasses.fields(cls)} if cls else set()
    if cls is None or names != set(options):
        got = ", ".join(map(str, options)) or "none"
        raise FileError(where, "a layer with its options", got, "port the model anew")
    return cls(**{name: _field(cls, name, value, where) for name, value in options.items()})


def _node(data: Any, where: str) -> Node:
    item = _checked(data, dict, where)
    name = _checked(item.get("name"), str, where)
    inputs = tuple(_checked(i, str, where) for i in _checked(item.get("inputs"), list, where))
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
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen or not seen.issuperset(node.inputs):
            raise FileError(where, "nodes in order", node.name, "port the model anew")
        seen.add(node.name)
    ends = [tuple(_checked(graph.get(key), list, where)) for key in ("inputs", "outputs")]
    if not all(names and seen.issuperset(names) for names in ends):
        raise FileError(where, "inputs and outputs of the graph", ends, "port the model anew")
    return Model(
        name=_checked(graph.get("name"), str, where),
        nodes=nodes,
        inputs=ends[0],
        outputs=ends[1],
        weights=weights,
        source=_source(graph.get("source"), where),
        lone=_checked(graph.get("lone"), bool, where),
    )


def _source(data: Any, where: str) -> Source:
    fields = _checked(data, dict, where)
    names = ("framework", "version", "container", "file", "sha256")
    texts = [_checked(fields.get(name), str, where) for name in names]
    lists = [_checked(fields.get(name), list, where) for name in ("notes", "warnings")]
    return Source(*texts, *(tuple(map(str, found)) for found in lists))
