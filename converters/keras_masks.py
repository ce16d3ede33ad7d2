"""Masks that Keras carries from layer to layer by itself, and where a port has to say more."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from xlstm.model import (
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Edge,
    Masking,
    Model,
    Node,
    Recurrent,
    Spec,
    TimeDistributed,
)

CARRIES = (Activation, Bidirectional, Dense, Dropout, Recurrent, TimeDistributed)
"""Layers that hand a mask on with their output; the others lose it."""


@dataclass
class Masks:
    """How the masks of a model come about in Keras.

    Attributes:
        explicit: node -> the mask that its call has to name.
        cut: nodes whose input brings along a mask that they must not see.
        carried: edge -> the mask that Keras attaches to it.
    """

    explicit: dict[str, Edge] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    carried: dict[Edge, Edge] = field(default_factory=dict)

    def wanted(self, model: Model) -> set[Edge]:
        """Masks of Masking layers that need a tensor of their own, which Keras does not give."""
        return {*self.explicit.values(), *model.outputs}


def obeys(node: Node) -> bool:
    """Whether a mask changes what a layer computes."""
    return isinstance(node.spec, (Recurrent, Bidirectional))


def masks_of(model: Model, apart: Container[str]) -> Masks:
    """Follows the masks through a model as Keras would carry them.

    Args:
        model: any model.
        apart: bidirectional layers that are two layers of Keras.
    """
    masks = Masks()
    for node in model.layers:
        brought = masks.carried.get(node.inputs[0])
        if obeys(node):
            brought = _recurrent(node, brought, masks)
        elif brought and isinstance(node.spec, TimeDistributed) and _inner_obeys(node.spec):
            masks.cut.add(node.name)
            brought = None
        if isinstance(node.spec, Masking):
            masks.carried[Edge(node.name)] = Edge(node.name, 1)
        elif brought and isinstance(node.spec, CARRIES):
            kept = _masked(node.spec, node.name in apart)
            masks.carried |= {Edge(node.name, n): brought for n in range(kept)}
    return masks


def _recurrent(node: Node, brought: Edge | None, masks: Masks) -> Edge | None:
    """Notes what a recurrent layer's call has to say; gives the mask that goes on from it."""
    # Keras hands a carried mask on to a layer only where the call has no other tensors
    seen = None if node.states else brought
    if node.mask is not None and node.mask != seen:
        masks.explicit[node.name] = node.mask
    elif node.mask is None and seen:
        masks.cut.add(node.name)
        return None
    return node.mask or brought


def _inner_obeys(spec: TimeDistributed) -> bool:
    return isinstance(spec.layer, (Recurrent, Bidirectional))


def _masked(spec: Spec, apart: bool) -> int:
    """How many outputs of a layer, the first ones, have its input's mask."""
    if isinstance(spec, (Recurrent, Bidirectional)) and not spec.return_sequences:
        return 0
    unmerged = isinstance(spec, Bidirectional) and spec.merge == "none"
    # of two layers the second is turned round, and merging them is an operation: both drop masks
    return int(unmerged) if apart else 1 + unmerged
