"""Which tensors have another form between layers of emitted PyTorch; imports no framework.

PyTorch's convolutions, pools and batch norms want channels before the axes of space, where the hub
has them last, and know of no time steps: these are laid end to end for them. Between two such
layers there is nothing to move.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.permutes import OVER_LAST_AXIS, SPATIAL, is_elementwise
from xlstm.ir.types import Shape

Edges = frozenset[Edge]


def moves_first(spec: L.LayerSpec) -> bool:
    """Whether a layer does nothing but move the last axis to the front."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((rank, *range(1, rank)))


def moves_last(spec: L.LayerSpec) -> bool:
    """Whether a layer does nothing but move the first axis to the end."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((*range(2, rank + 1), 1))


def _turns(spec: L.LayerSpec, shape: Shape) -> bool:
    """Whether PyTorch's layer has channels first, of samples of this shape."""
    if len(shape) < 2:
        return False
    if isinstance(spec, L.BatchNorm):
        return len(shape) < 5
    if isinstance(spec, L.LayerNorm):
        return bool(spec.groups)
    if isinstance(spec, L.TrainingOnly):
        return spec.layer in SPATIAL
    return isinstance(spec, (L.Conv, L.ConvTranspose, L.DepthwiseConv, L.Pool))


def _activated(spec: L.LayerSpec) -> str:
    return getattr(spec, "activation", "linear")


def _gives(spec: L.LayerSpec, shape: Shape) -> bool:
    """Whether a layer can leave its output with channels first."""
    return moves_last(spec) or (_turns(spec, shape) and _activated(spec) not in OVER_LAST_AXIS)


def _takes(spec: L.LayerSpec, shape: Shape, masked: bool) -> bool:
    """Whether a layer takes channels first, whatever comes after it."""
    if isinstance(spec, L.GlobalPool):
        return not masked and not spec.keep and len(shape) > 1
    return moves_first(spec) or _turns(spec, shape)


Rule = Callable[[Node], bool]


def _settled(model: Model, takes: Rule, passes: Rule, gives: Callable[[Node, bool], bool]) -> Edges:
    """Edges whose tensors have a form of their own: all that read one want it, what writes it can.

    Args:
        model: the graph.
        takes: whether a layer wants its first input so, whatever comes after it.
        passes: whether a layer leaves its output as its first input is.
        gives: whether a layer can leave its output so; the second argument says how its input is.
    """
    readers: dict[Edge, list[tuple[Node, bool]]] = defaultdict(list)
    for node in model.layers:
        for edge in node.reads:
            readers[edge].append((node, edge in node.inputs[:1]))
    wanted: set[Edge] = set()
    for node in reversed(model.layers):
        edge = Edge(node.name)
        own = (
            first and (takes(reader) or (passes(reader) and Edge(reader.name) in wanted))
            for reader, first in readers[edge]
        )
        if readers[edge] and edge not in model.returned and all(own):
            wanted.add(edge)
    found: set[Edge] = set()
    for node in model.layers:
        given = node.inputs[0] in found
        if Edge(node.name) in wanted and (given if passes(node) else gives(node, given)):
            found.add(Edge(node.name))
    return frozenset(found)


def end_to_end(model: Model) -> Edges:
    """Edges between layers at every time step whose tensors have all steps as one batch."""

    def turns(node: Node) -> bool:
        spec = node.spec
        if not isinstance(spec, L.TimeDistributed) or node.mask is not None:
            return False
        # by itself it is a layer over one axis more: its other calls would not fit
        alone = not isinstance(spec.layer, L.BatchNorm) or len(model.calls(node.owner)) == 1
        return alone and _turns(spec.layer, model.shape(node.inputs[0])[1:])

    def moves(node: Node) -> bool:
        own = unwrap_time_distributed(node.spec)
        return isinstance(node.spec, L.TimeDistributed) and (moves_first(own) or moves_last(own))

    def takes(node: Node) -> bool:
        at_steps = isinstance(node.spec, L.TimeDistributed) and node.mask is None
        ends = at_steps and isinstance(
            unwrap_time_distributed(node.spec), (L.Flatten, L.GlobalPool)
        )
        return ends or turns(node) or moves(node)

    found = _settled(
        model,
        takes,
        lambda node: is_elementwise(node.spec),
        lambda node, _given: turns(node) or moves(node),
    )
    return _runs_with(model, turns, found)


def _runs_with(model: Model, needed: Rule, edges: Edges) -> Edges:
    """The edges that lead, from one to the next, past a layer that needs them."""
    start: dict[Edge, Edge] = {}
    wanted: set[Edge] = set()
    for node in model.layers:
        before, after = node.inputs[0], Edge(node.name)
        if after in edges:
            start[after] = start.get(before, after)
        if needed(node):
            wanted |= {start[edge] for edge in (before, after) if edge in start}
    return frozenset(edge for edge in edges if start[edge] in wanted)


def channels_first(model: Model, flat: Edges) -> Edges:
    """Edges whose tensors have channels first.

    Args:
        model: the graph.
        flat: edges whose tensors have all time steps as one batch.
    """

    def seen(node: Node, edge: Edge) -> tuple[L.LayerSpec, Shape]:
        """A layer as it is for an edge: at every time step where the steps are one batch."""
        spec, shape = node.spec, model.shape(node.inputs[0])
        at_steps = edge in flat and isinstance(spec, L.TimeDistributed)
        return (unwrap_time_distributed(spec), shape[1:]) if at_steps else (spec, shape)

    def gives(node: Node, given: bool) -> bool:
        spec, shape = seen(node, Edge(node.name))
        # a move of two axes undoes itself: it cannot be left out on both of its sides
        return _gives(spec, shape) and not (given and moves_last(spec))

    return _settled(
        model,
        lambda node: _takes(*seen(node, node.inputs[0]), node.mask is not None),
        lambda node: is_elementwise(node.spec),
        gives,
    )
