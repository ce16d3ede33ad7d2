"""Masks that Keras carries from layer to layer by itself, and where a port has to say more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node

from .layer_arguments import own_blind
from .operations import is_operation

CARRIES: tuple[type[L.LayerSpec], ...] = (
    L.Activation,
    L.Affine,
    L.BatchNorm,
    L.Dense,
    L.Dropout,
    L.Elu,
    L.LayerNorm,
    L.Normalization,
    L.PRelu,
    L.Relu,
    L.TimeDistributed,
    L.TrainingOnly,
    L.UnitNorm,
)
"""Layers of one input that hand its mask on; the others lose it."""

ATTENDS = (L.Attention, L.MultiHeadAttention)

PERHAPS = Edge("", -1)
"""Stands for a mask of which it is not certain that Keras carries it."""


@dataclass
class Masks:
    """How the masks of a model come about in Keras.

    Attributes:
        explicit: node -> the mask that its call has to name.
        told: attention -> the names of the masks that its call has to name.
        cut: nodes, and the numbers of their inputs that bring along a mask that they must not see.
        carried: edge -> the mask that Keras attaches to it.
    """

    explicit: dict[str, Edge] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    cut: set[tuple[str, int]] = field(default_factory=set)
    carried: dict[Edge, Edge] = field(default_factory=dict)

    def wanted(self, model: Model) -> set[Edge]:
        """Masks that need a tensor of their own, which Keras's layers do not give."""
        found = {*self.explicit.values(), *model.outputs}
        for node in model.layers:
            told = self.told.get(node.name, "")
            names = node.spec.masks if isinstance(node.spec, ATTENDS) else ""
            count = len(node.inputs) - len(names)
            pairs = zip(names, node.inputs[count:], strict=True)
            found |= {*node.inputs[:count], *(mask for name, mask in pairs if name in told)}
        return found


def has_mask_output(spec: L.LayerSpec) -> bool:
    """Whether the second output of a layer is a mask, which Keras attaches to the first."""
    inner = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    return isinstance(inner, L.Masking) or (isinstance(inner, L.Embedding) and inner.mask_zero)


def obeys(spec: L.LayerSpec) -> bool:
    """Whether a mask of its one input changes what a layer computes."""
    if isinstance(spec, L.TimeDistributed):
        return obeys(spec.layer)
    if isinstance(spec, L.Custom):
        return spec.sees_mask
    mean = isinstance(spec, L.GlobalPool) and spec.how == "average"
    return mean or isinstance(spec, (L.Recurrent, L.Bidirectional))


def masks_of(model: Model, apart: Container[str], folded: Container[str]) -> Masks:
    """Follows the masks through a model as Keras would carry them.

    Args:
        model: any model.
        apart: bidirectional layers that are two layers of Keras.
        folded: layers whose input is reshaped first.
    """
    masks = Masks()
    doubtful = _doubtful(model)
    for node in model.layers:
        brought = [masks.carried.get(edge) for edge in node.inputs]
        brought = [
            PERHAPS if edge in doubtful and mask else mask
            for edge, mask in zip(node.inputs, brought, strict=True)
        ]
        if node.name in folded:
            if node.mask is not None:
                masks.explicit[node.name] = node.mask
        elif has_mask_output(node.spec) and not isinstance(node.spec, L.TimeDistributed):
            masks.carried[Edge(node.name)] = Edge(node.name, 1)
        elif kept := _after(node, brought, masks):
            count = _masked(node.spec, node.name in apart)
            masks.carried |= {Edge(node.name, n): kept for n in range(count)}
    return masks


def _doubtful(model: Model) -> set[Edge]:
    """Edges whose mask Keras's MultiHeadAttention takes off before others may have read it."""
    read = Counter(edge for node in model.layers for edge in {*node.reads})
    heads = [node for node in model.layers if isinstance(node.spec, L.MultiHeadAttention)]
    return {edge for node in heads for edge in node.inputs if read[edge] > 1}


def _after(node: Node, brought: list[Edge | None], masks: Masks) -> Edge | None:
    """Notes what a layer's call has to say; gives the mask that goes on with its output."""
    spec = node.spec
    if isinstance(spec, ATTENDS):
        return _attention(node, spec, brought, masks)
    if isinstance(spec, (L.Merge, L.Concatenate)):
        return _merged(node, spec, brought, masks)
    if obeys(spec):
        return _obeyed(node, brought[0], masks)
    if isinstance(spec, L.Custom):
        return _custom(node, spec, brought, masks)
    if is_operation(spec) or not brought[0]:
        return None
    if _minds(spec, len(node.shape)):
        masks.cut.add((node.name, 0))
        return None
    return brought[0] if isinstance(spec, CARRIES) else None


def _custom(node: Node, spec: L.Custom, brought: list[Edge | None], masks: Masks) -> Edge | None:
    """A registered layer that sees no mask; its class hands one on if it is told so."""
    if spec.passes_mask and len({*brought}) == 1:
        return brought[0]
    masks.cut |= {(node.name, n) for n, mask in enumerate(brought) if mask}
    return None


def _minds(spec: L.LayerSpec, rank: int) -> bool:
    """Whether Keras's layer does something with a mask that its input merely brings along."""
    if isinstance(spec, L.TimeDistributed):
        return isinstance(spec.layer, (L.Softmax, L.BatchNorm))
    return isinstance(spec, L.Softmax) or (isinstance(spec, L.BatchNorm) and rank != 2)


def _obeyed(node: Node, brought: Edge | None, masks: Masks) -> Edge | None:
    # Keras hands a carried mask on to a layer only where the call has no other tensors
    seen = None if node.states else brought
    if node.mask is not None and node.mask != seen:
        masks.explicit[node.name] = node.mask
    elif node.mask is None and seen:
        masks.cut.add((node.name, 0))
        return None
    lost = isinstance(node.spec, L.Custom) and not node.spec.passes_mask
    return None if lost or isinstance(node.spec, L.GlobalPool) else node.mask or brought


def _merged(
    node: Node, spec: L.Merge | L.Concatenate, brought: list[Edge | None], masks: Masks
) -> Edge | None:
    """The mask that all inputs have; where they differ, or change the values, there is none."""
    one = brought[0] if len({*brought}) == 1 else None
    harmless = spec.how in ("add", "subtract", "average") if isinstance(spec, L.Merge) else False
    harmless |= isinstance(spec, L.Concatenate) and spec.axis == -1 and len(node.shape) == 2
    if one and one != PERHAPS and harmless:
        return one
    masks.cut |= {(node.name, n) for n, mask in enumerate(brought) if mask}
    return None


def _attention(
    node: Node, spec: L.Attention | L.MultiHeadAttention, brought: list[Edge | None], masks: Masks
) -> Edge | None:
    """Inputs query, value, perhaps key; the masks that `spec.masks` names follow."""
    count = len(brought) - len(spec.masks)
    named = dict(zip(spec.masks, node.inputs[count:], strict=True))
    wanted = [named.get(name) for name in "qvk"[:count]]
    right = [a == b for a, b in zip(brought, wanted, strict=False)]
    if isinstance(spec, L.Attention):
        right = [all(right[:2])] * 2 + [True] * (count - 2)
    elif not own_blind(spec):
        right = [a is None and b is None for a, b in zip(brought, wanted, strict=False)]
    told = "".join(name for name, fits in zip("qvk", right, strict=False) if not fits)
    masks.told[node.name] = "".join(name for name in told if name in named)
    wrong = [n for n, fits in enumerate(right) if brought[n] and not fits]
    masks.cut |= {(node.name, n) for n in wrong}
    return wanted[0] if right[0] else None


def _masked(spec: L.LayerSpec, apart: bool) -> int:
    """How many outputs of a layer, the first ones, have its input's mask."""
    if isinstance(spec, (L.Recurrent, L.Bidirectional)) and not spec.return_sequences:
        return 0
    unmerged = isinstance(spec, L.Bidirectional) and spec.merge == "none"
    # of two layers the second is turned round, and merging them is an operation: both drop masks
    return int(unmerged) if apart else 1 + unmerged
