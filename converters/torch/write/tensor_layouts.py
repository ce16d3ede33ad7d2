"""Edges whose tensors have another layout in emitted PyTorch source; imports no framework.

In: a graph. Out: sets of edges. PyTorch's convolutions, pools and batch norms need channels before
the axes of space; canonical tensors have them last. They take no time axis: batch and steps are
joined for them. Between two such layers nothing is moved.
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
    """True for a layer that only moves the last axis to the front."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((rank, *range(1, rank)))


def moves_last(spec: L.LayerSpec) -> bool:
    """True for a layer that only moves the first axis to the end."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((*range(2, rank + 1), 1))


def _turns(spec: L.LayerSpec, shape: Shape) -> bool:
    """True if PyTorch's layer needs channels first, for samples of this shape."""
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
    """True if a layer can leave its output with channels first."""
    return moves_last(spec) or (_turns(spec, shape) and _activated(spec) not in OVER_LAST_AXIS)


def _takes(spec: L.LayerSpec, shape: Shape, masked: bool) -> bool:
    """True if a layer takes channels first, whatever comes after it."""
    if isinstance(spec, L.GlobalPool):
        return not masked and not spec.keep and len(shape) > 1
    return moves_first(spec) or _turns(spec, shape)


Rule = Callable[[Node], bool]


def _settled(model: Model, takes: Rule, passes: Rule, gives: Callable[[Node, bool], bool]) -> Edges:
    """Returns edges with another layout: every reader wants it, and the writer can produce it.

    Args:
        model: the graph.
        takes: True if a layer needs its first input so, whatever follows it.
        passes: True if a layer's output has the layout of its first input.
        gives: True if a layer can leave its output so; the second argument is the input's layout.
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
    """Returns edges between layers at every time step whose tensors join steps and batch."""

    def turns(node: Node) -> bool:
        spec = node.spec
        if not isinstance(spec, L.TimeDistributed) or node.mask is not None:
            return False
        # alone it is a layer over one axis more: its other calls would not fit
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
    """Returns the edges that lead, from one to the next, past a layer that needs them."""
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
    """Returns the edges whose tensors have channels first.

    Args:
        model: the graph.
        flat: edges whose tensors have all time steps as one batch.
    """

    def seen(node: Node, edge: Edge) -> tuple[L.LayerSpec, Shape]:
        """Returns a layer and its input shape; joined steps count as a batch."""
        spec, shape = node.spec, model.shape(node.inputs[0])
        at_steps = edge in flat and isinstance(spec, L.TimeDistributed)
        return (unwrap_time_distributed(spec), shape[1:]) if at_steps else (spec, shape)

    def gives(node: Node, given: bool) -> bool:
        spec, shape = seen(node, Edge(node.name))
        # a swap of two axes is its own inverse: only one of its two sides may be skipped
        return _gives(spec, shape) and not (given and moves_last(spec))

    return _settled(
        model,
        lambda node: _takes(*seen(node, node.inputs[0]), node.mask is not None),
        lambda node: is_elementwise(node.spec),
        gives,
    )
