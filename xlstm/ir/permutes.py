"""Removes permutes that undo each other from a graph; imports no framework.

In: nodes and outputs of a graph, such as Permute, Activation, Permute back. Out: the nodes that are
left, here the Activation alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Node
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.types import Shape

OVER_LAST_AXIS = ("softmax", "log_softmax")
"""Activations that are functions of an axis."""

SPATIAL = {f"SpatialDropout{rank}D": rank for rank in (1, 2, 3)}
"""Layers that drop whole channels -> axes of space."""

Order = tuple[int, ...]


def is_elementwise(spec: L.LayerSpec) -> bool:
    """True if a layer computes each number from one number, in the same way at every place."""
    spec = unwrap_time_distributed(spec)
    if isinstance(spec, L.Activation):
        return spec.activation not in OVER_LAST_AXIS
    if isinstance(spec, L.TrainingOnly):
        return spec.layer not in SPATIAL
    return isinstance(spec, (L.Relu, L.Elu, L.Dropout))


def time_distributed(spec: L.LayerSpec) -> L.TimeDistributed:
    """A layer at every time step; a layer that sees the last axis alone is wrapped once at most."""
    if isinstance(spec, L.TimeDistributed):
        layer = spec.layer
        plain = isinstance(layer, (L.Dense, L.Activation)) or is_elementwise(layer)
        if plain or (isinstance(layer, L.LayerNorm) and not layer.groups):
            return spec
    return L.TimeDistributed(spec)


def order_of(spec: L.LayerSpec) -> Order:
    """The order of a sample's axes after a permute, from 0 on; () for other layers."""
    if isinstance(spec, L.TimeDistributed):
        inner = order_of(spec.layer)
        return (0, *(axis + 1 for axis in inner)) if inner else ()
    return tuple(axis - 1 for axis in spec.order) if isinstance(spec, L.Permute) else ()


def _undoes(first: Order, second: Order) -> bool:
    return len(first) == len(second) and all(first[axis] == n for n, axis in enumerate(second))


class _Graph:
    """The readers of every edge, and the permutes to remove."""

    def __init__(self, nodes: Sequence[Node], outputs: Iterable[Edge], added: Container[str]):
        # a shared layer stays: its other calls see other axes
        shared = {name for node in nodes if node.layer for name in (node.name, node.layer)}
        self.outputs = frozenset(outputs)
        self.moves = {n.name for n in nodes if n.name in added and n.name not in shared}
        self.plain = {n.name for n in nodes if n.name not in shared and is_elementwise(n.spec)}
        self.readers: dict[Edge, list[Node]] = defaultdict(list)
        for node in nodes:
            for edge in dict.fromkeys(node.reads):
                self.readers[edge].append(node)

    def region(self, edge: Edge, order: Order) -> tuple[list[str], list[str]] | None:
        """Permutes that undo the one before `edge`, and the layers between; None if one differs."""
        ends: list[str] = []
        between: list[str] = []
        todo = [edge]
        while todo:
            here = todo.pop()
            if here in self.outputs or not self.readers[here]:
                return None
            for node in self.readers[here]:
                if node.name in self.moves and _undoes(order, order_of(node.spec)):
                    ends.append(node.name)
                elif node.name in self.plain and node.reads == (here,):
                    between.append(node.name)
                    todo.append(Edge(node.name))
                else:
                    return None
        return ends, between


def settled(
    nodes: Sequence[Node], outputs: Sequence[Edge], added: Container[str]
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """A graph without the permutes that undo each other.

    A permute is left out together with those that undo it, if only elementwise layers are between
    them. These layers then see the axes in their first order.

    Args:
        nodes: of the graph, in order.
        outputs: of the graph.
        added: names of the permutes that may be left out: those that a reader added.

    Returns:
        The nodes that are left, and the outputs.
    """
    graph, gone, turned = _Graph(nodes, outputs, added), set[str](), dict[str, Order]()
    for node in nodes:
        order = order_of(node.spec)
        if not order or node.name not in graph.moves or node.name in gone:
            continue
        found = graph.region(Edge(node.name), order)
        if found is not None:
            gone |= {node.name, *found[0]}
            turned |= dict.fromkeys(found[1], order)
    if not gone:
        return tuple(nodes), tuple(outputs)
    read: dict[Edge, Edge] = {}
    for node in nodes:
        if node.name in gone:  # its input comes before it, and may be gone too
            read[Edge(node.name)] = read.get(node.inputs[0], node.inputs[0])
    left = (node for node in nodes if node.name not in gone)
    return tuple(_rewired(left, read, turned)), tuple(read.get(edge, edge) for edge in outputs)


def _rewired(
    nodes: Iterable[Node], read: Mapping[Edge, Edge], turned: Mapping[str, Order]
) -> Iterable[Node]:
    for node in nodes:
        shapes = node.shapes
        if node.name in turned:
            shapes = tuple(_before(shape, turned[node.name]) for shape in shapes)
        inputs = tuple(read.get(edge, edge) for edge in node.inputs)
        states = tuple(read.get(edge, edge) for edge in node.states)
        yield replace(node, inputs=inputs, states=states, shapes=shapes)


def _before(shape: Shape, order: Order) -> Shape:
    """The shape before a permute."""
    return tuple(shape[order.index(axis)] for axis in range(len(shape)))
