"""Compares two graphs apart from their names, and gives one the names of another.

    first_difference(a, b)  # None, or the layer and the option that differ

In: two models. Out: the first difference; or a model with other layer names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from xlstm.errors import printable
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers import LayerSpec


class GraphDifference(NamedTuple):
    """Two graphs' first difference, in words.

    Attributes:
        expected: the first graph's side.
        got: the second one's.
    """

    expected: str
    got: str


def first_difference(first: Model, other: Model) -> GraphDifference | None:
    """The first difference of two graphs, None if only names and sources differ.

    >>> from xlstm.model import LSTM, Source, chain
    >>> a, b = (chain("m", [("a", LSTM(1, n), True)], (None, 1), {}, Source("")) for n in (2, 3))
    >>> first_difference(a, b)
    GraphDifference(expected='units 2 in layer a (LSTM)', got='3')
    """
    return next(_differences(first, other), None)


def _differences(first: Model, other: Model) -> Iterator[GraphDifference]:
    places = {node.name: number for number, node in enumerate(other.nodes)}
    names = {node.name: number for number, node in enumerate(first.nodes)}
    for mine, theirs in zip(first.nodes, other.nodes, strict=False):
        yield from _of_specs(mine.spec, theirs.spec, _layer(mine))
        yield from _of_nodes(mine, theirs, names, places)
    if len(first.nodes) != len(other.nodes):
        yield GraphDifference(f"{len(first.layers)} layers", f"{len(other.layers)}")
    for what in ("inputs", "outputs"):
        ends = (_numbered(getattr(first, what), names), _numbered(getattr(other, what), places))
        if ends[0] != ends[1]:
            yield GraphDifference(f"{what} in the first model's order", "others")
    if first.keys != other.keys:
        yield GraphDifference(f"outputs named {[*first.keys]}", f"{[*other.keys]}")
    if first.lone != other.lone:
        yield GraphDifference("a bare layer" if first.lone else "a whole model", "the other")


def _numbered(ends: Any, places: Mapping[str, int]) -> list[Any]:
    """Inputs or outputs of a graph, by the numbers of their nodes."""
    return [
        (places[end.node], end.output) if isinstance(end, Edge) else places[end] for end in ends
    ]


def _layer(node: Node) -> str:
    return f"layer {printable(node.name)} ({node.spec.kind})"


def _of_specs(mine: LayerSpec, theirs: LayerSpec, where: str) -> Iterator[GraphDifference]:
    """Differences of two layers: another kind, or the options of one kind, also inside."""
    if type(mine) is not type(theirs):
        yield GraphDifference(where, theirs.kind)
        return
    for option in fields(mine):
        a, b = getattr(mine, option.name), getattr(theirs, option.name)
        if isinstance(a, LayerSpec) and isinstance(b, LayerSpec):
            yield from _of_specs(a, b, where)
        elif a != b:
            yield GraphDifference(f"{option.name} {a} in {where}", f"{b}")


def _of_nodes(
    mine: Node, theirs: Node, names: Mapping[str, int], places: Mapping[str, int]
) -> Iterator[GraphDifference]:
    """Differences of what two nodes read, and of the layers that they call again."""
    for what in ("inputs", "mask", "states", "layer"):
        a, b = getattr(mine, what), getattr(theirs, what)
        if what in ("inputs", "states"):
            same = _numbered(a, names) == _numbered(b, places)
        elif what == "mask":
            same = _numbered([a] if a else [], names) == _numbered([b] if b else [], places)
        else:
            same = names.get(a) == places.get(b)
        if not same:
            want = f"{what if what != 'layer' else 'weights'} of {_layer(mine)} as in the first"
            yield GraphDifference(f"{want} model", "others")
            return
    if mine.shapes != theirs.shapes:
        yield GraphDifference(f"shapes {mine.shapes} of {_layer(mine)}", f"{theirs.shapes}")


def renamed(model: Model, graph: Model) -> Model:
    """A model under the layer names of another graph, which differs in names only."""
    names = dict(zip(model.names, graph.names, strict=True))
    weights = {names[name]: layer for name, layer in model.weights.items()}
    return replace(graph, weights=weights)
