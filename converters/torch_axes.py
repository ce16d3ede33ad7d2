"""Which tensors keep their channels first between layers of emitted PyTorch; imports no framework.

PyTorch's convolutions, pools and batch norms want channels before the axes of space, where the hub
has them last. Between two such layers there is nothing to move.
"""

from __future__ import annotations

from collections import defaultdict

from xlstm.converters.axes import OVER_LAST_AXIS, SPATIAL, number_by_number

from xlstm.model import (
    BatchNorm,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Edge,
    GlobalPool,
    LayerNorm,
    Model,
    Node,
    Permute,
    Pool,
    Shape,
    TrainingOnly,
)
from xlstm.specs import Spec


def moves_first(spec: Spec) -> bool:
    """Whether a layer does nothing but move the last axis to the front."""
    rank = len(spec.order) if isinstance(spec, Permute) else 0
    return rank > 1 and spec == Permute((rank, *range(1, rank)))


def moves_last(spec: Spec) -> bool:
    """Whether a layer does nothing but move the first axis to the end."""
    rank = len(spec.order) if isinstance(spec, Permute) else 0
    return rank > 1 and spec == Permute((*range(2, rank + 1), 1))


def _turns(spec: Spec, shape: Shape) -> bool:
    """Whether PyTorch's layer has channels first, of samples of this shape."""
    if len(shape) < 2:
        return False
    if isinstance(spec, BatchNorm):
        return len(shape) < 5
    if isinstance(spec, LayerNorm):
        return bool(spec.groups)
    if isinstance(spec, TrainingOnly):
        return spec.layer in SPATIAL
    return isinstance(spec, (Conv, ConvTranspose, DepthwiseConv, Pool))


def _activated(spec: Spec) -> str:
    return getattr(spec, "activation", "linear")


def _gives(spec: Spec, shape: Shape) -> bool:
    """Whether a layer can leave its output with channels first."""
    return moves_last(spec) or (_turns(spec, shape) and _activated(spec) not in OVER_LAST_AXIS)


def _takes(node: Node, shape: Shape) -> bool:
    """Whether a layer takes channels first, whatever comes after it."""
    spec = node.spec
    if isinstance(spec, GlobalPool):
        return node.mask is None and not spec.keep and len(shape) > 1
    return moves_first(spec) or _turns(spec, shape)


def channels_first(model: Model) -> frozenset[Edge]:
    """Edges whose tensors have channels first: all that give and all that read one want it so."""
    readers: dict[Edge, list[tuple[Node, bool]]] = defaultdict(list)
    for node in model.layers:
        for edge in node.reads:
            readers[edge].append((node, edge in node.inputs[:1]))
    wanted: set[Edge] = set()
    for node in reversed(model.layers):
        edge = Edge(node.name)
        if edge in readers and edge not in model.outputs:
            own = (first and _reads(reader, model, wanted) for reader, first in readers[edge])
            if all(own):
                wanted.add(edge)
    found: set[Edge] = set()
    for node in model.layers:
        # a move of two axes undoes itself: it cannot be left out on both of its sides
        given = node.inputs[0] in found
        gives = (
            given if number_by_number(node.spec) else _gives(node.spec, model.shape(node.inputs[0]))
        )
        if Edge(node.name) in wanted and gives and not (given and moves_last(node.spec)):
            found.add(Edge(node.name))
    return frozenset(found)


def _reads(node: Node, model: Model, wanted: set[Edge]) -> bool:
    later = number_by_number(node.spec) and Edge(node.name) in wanted
    return later or _takes(node, model.shape(node.inputs[0]))
