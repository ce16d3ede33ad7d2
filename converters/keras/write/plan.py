"""Decisions for a whole Keras port before its layers are written; no framework.

In: a model. Out: a ModelPlan, with the masks that Keras carries from layer to layer, and those that
a port must name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import count, pairwise

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import unwrap_time_distributed

from ...codegen.variables import inputs_of, places
from .constructors import apart, folded
from .layer_arguments import own_blind
from .operations import is_operation

CARRIES: tuple[type[L.LayerSpec], ...] = (
    *(L.Activation, L.Affine, L.BatchNorm, L.Dense, L.Dropout, L.Elu, L.LayerNorm),
    *(L.Normalization, L.PRelu, L.Relu, L.TimeDistributed, L.TrainingOnly, L.UnitNorm),
)
"""Layers of one input that pass its mask on; other layers drop it."""

ATTENDS = (L.Attention, L.MultiHeadAttention)

PERHAPS = Edge("", -1)
"""Stands for a mask that Keras may or may not carry."""


@dataclass
class Masks:
    """Masks of a model as Keras carries them.

    Attributes:
        explicit: node -> the mask that its call must name.
        told: attention -> the names of the masks that its call must name.
        cut: nodes, and the numbers of inputs whose mask must be dropped.
        carried: edge -> the mask that Keras attaches to it.
    """

    explicit: dict[str, Edge] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    cut: set[tuple[str, int]] = field(default_factory=set)
    carried: dict[Edge, Edge] = field(default_factory=dict)

    def wanted(self, model: Model) -> set[Edge]:
        """Returns masks that need a tensor, which Keras's layers do not return."""
        found = {*self.explicit.values(), *model.outputs}
        for node in model.layers:
            told = self.told.get(node.name, "")
            names = node.spec.masks if isinstance(node.spec, ATTENDS) else ""
            count = len(node.inputs) - len(names)
            pairs = zip(names, node.inputs[count:], strict=True)
            found |= {*node.inputs[:count], *(mask for name, mask in pairs if name in told)}
        return found


def has_mask_output(spec: L.LayerSpec) -> bool:
    """True if the second output of a layer is a mask, which Keras attaches to the first."""
    inner = unwrap_time_distributed(spec)
    return isinstance(inner, L.Masking) or (isinstance(inner, L.Embedding) and inner.mask_zero)


def obeys(spec: L.LayerSpec) -> bool:
    """True if a mask of its one input changes the numbers of a layer."""
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
    """Returns edges whose mask Keras's MultiHeadAttention may remove before others read it.

    Its call sets the masks of its inputs to None (keras/src/layers/attention of 3.15).
    """
    read = Counter(edge for node in model.layers for edge in {*node.reads})
    heads = [node for node in model.layers if isinstance(node.spec, L.MultiHeadAttention)]
    return {edge for node in heads for edge in node.inputs if read[edge] > 1}


def _after(node: Node, brought: list[Edge | None], masks: Masks) -> Edge | None:
    """Records the masks that a layer's call must name; returns the mask of its output."""
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
    """Checks a registered layer that uses no mask; its class passes one on if registered so."""
    if spec.passes_mask and len({*brought}) == 1:
        return brought[0]
    masks.cut |= {(node.name, n) for n, mask in enumerate(brought) if mask}
    return None


def _minds(spec: L.LayerSpec, rank: int) -> bool:
    """True if Keras's layer uses a mask that its input only carries."""
    if isinstance(spec, L.TimeDistributed):
        return isinstance(spec.layer, (L.Softmax, L.BatchNorm))
    return isinstance(spec, L.Softmax) or (isinstance(spec, L.BatchNorm) and rank != 2)


def _obeyed(node: Node, brought: Edge | None, masks: Masks) -> Edge | None:
    # keras/src/layers/layer.py passes a carried mask only if the call has no other tensors
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
    """Returns the mask that all inputs share; none if masks differ, or change the values."""
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
    """Reads inputs query, value, perhaps key; the masks that `spec.masks` names follow."""
    count = len(brought) - len(spec.masks)
    named = dict(zip(spec.masks, node.inputs[count:], strict=True))
    wanted = [named.get(name) for name in "qvk"[:count]]
    right = [a == b for a, b in zip(brought, wanted, strict=False)]
    if isinstance(spec, L.Attention):
        right = [all(right[:2])] * 2 + [True] * (count - 2)
    elif not own_blind(spec):
        right = [a is None and b is None for a, b in zip(brought, wanted, strict=False)]
    letters = "".join(name for name, fits in zip("qvk", right, strict=False) if not fits)
    masks.told[node.name] = "".join(name for name in letters if name in named)
    wrong = [n for n, fits in enumerate(right) if brought[n] and not fits]
    masks.cut |= {(node.name, n) for n in wrong}
    return wanted[0] if right[0] else None


def _masked(spec: L.LayerSpec, apart: bool) -> int:
    """Returns the number of a layer's first outputs that have its input's mask."""
    if isinstance(spec, (L.Recurrent, L.Bidirectional)) and not spec.return_sequences:
        return 0
    unmerged = isinstance(spec, L.Bidirectional) and spec.merge == "none"
    # the second of two layers is reversed, and their merge is an operation: both drop masks
    return int(unmerged) if apart else 1 + unmerged


@dataclass(frozen=True)
class ModelPlan:
    """Decisions about one model.

    Attributes:
        masks: masks that Keras carries, and masks that calls must name.
        apart: bidirectional layers that must be two layers -> the reason.
        folded: layers at every time step that get the steps as one batch.
        shared: nodes whose layer is called again -> its variable.
        wanted: masks that need a tensor, which Keras's layers do not return.
        batch: the one batch size of a stateful model, None for any.
    """

    masks: Masks
    apart: dict[str, str]
    folded: frozenset[str]
    shared: dict[str, str]
    wanted: frozenset[Edge]
    batch: int | None

    def plain(self, model: Model) -> bool:
        """True if `keras.Sequential` can express the model."""
        told = (self.masks.explicit, self.masks.cut, self.apart, self.folded, self.shared)
        ends = (Edge(model.nodes[-1].name),)
        return (
            len(model.inputs) == 1
            and model.outputs == ends
            and not model.keys
            and not any(told)
            and all(_follows(before, node) for before, node in pairwise(model.nodes))
        )


def _follows(before: Node, node: Node) -> bool:
    """True if a node reads only the node before it, and has one output."""
    alone = node.inputs == (Edge(before.name),) and not node.states
    one = node.spec.arity == (1, 1) or isinstance(node.spec, L.Custom)
    native = one and not is_operation(node.spec)
    return alone and native and len(outputs_of(node)) == 1


def mixed(model: Model, node: Node) -> bool:
    """True if a layer runs at every time step here and on its whole input elsewhere."""
    if not isinstance(node.spec, L.TimeDistributed):
        return False
    return any(not isinstance(call.spec, L.TimeDistributed) for call in model.calls(node.owner))


def outputs_of(node: Node) -> tuple[object, ...]:
    """Returns the outputs of a layer in Keras, without masks."""
    return node.shapes[:1] if has_mask_output(node.spec) else node.shapes


def plan_of(model: Model) -> ModelPlan:
    """Decides how to write a model.

    Raises:
        UnsupportedError: a stateful model without the batch size that Keras needs, or a layer
            without a reader, which Keras drops.
    """
    _check_read(model)
    _check_shapes(model)
    reasons = {node.name: why for node in model.layers if (why := apart(model, node))}
    rows = frozenset(node.name for node in model.layers if folded(node) or mixed(model, node))
    masks = masks_of(model, reasons, rows)
    wanted = frozenset(masks.wanted(model))
    return ModelPlan(masks, reasons, rows, _shared(model), wanted, _batch(model))


MOST_AXES = 4
"""Most axes of samples for Keras's pooling layers, which take 2 or more."""


def _check_shapes(model: Model) -> None:
    """Raises UnsupportedError for inputs whose shapes Keras does not support."""
    for node in model.layers:
        shape = model.shape(node.inputs[0])
        spec = unwrap_time_distributed(node.spec)
        most = MOST_AXES + (spec is not node.spec)
        why = ""
        if isinstance(spec, L.GlobalPool) and len(shape) > most:
            why = f"one of {len(shape)} axes"
        elif mixed(model, node) and not isinstance(spec, L.Dense) and None in shape:
            why = "one of any length, for a layer that is called without TimeDistributed as well"
        elif folded(node) and None in shape:
            why = "one of any length, of whose outputs Keras loses the shape"
        elif isinstance(spec, L.MultiHeadAttention) and spec.causal and not own_blind(spec):
            steps = [model.shape(edge)[0] for edge in node.inputs[:2]]
            why = "one of any length, with a causal mask of an older Keras" if None in steps else ""
        if why:
            where, do = f"port to Keras, layer {node.name}", "port to another framework"
            raise UnsupportedError(where, "a sample that Keras has a layer for", why, do)


def _check_read(model: Model) -> None:
    alive = {edge.node for edge in model.outputs}
    for node in reversed(model.nodes):
        alive |= {edge.node for edge in node.reads} if node.name in alive else set()
    owners = {node.owner for node in model.layers if node.name in alive}
    for node in model.layers:
        if node.spec.weighted_parts and node.owner not in owners:
            where, want = f"port to Keras, layer {node.name}", "a layer that an output depends on"
            raise UnsupportedError(where, want, "one that nothing reads", "remove the layer")


def _batch(model: Model) -> int | None:
    if not model.stateful:
        return None
    kept = [node.spec.batch for node in model.nodes if isinstance(node.spec, L.Input)]
    batch = next((size for size in kept if size), None)
    if batch is None:
        raise UnsupportedError(
            f"port to Keras, layer {model.stateful[0].name}",
            "a batch size, which Keras fixes for stateful layers",
            "stateful without a batch size",
            "give the model's Input a batch, or port to another framework",
        )
    return batch


def _shared(model: Model) -> dict[str, str]:
    """Returns a variable for every layer that is called more than once."""
    taken = {*identifiers(model).values(), *inputs_of(model).values()}
    taken |= {name for site in places(model) for name in site.outputs}
    free = (f"shared_{number}" for number in count(1))
    free = (name for name in free if not any(other.startswith(name) for other in taken))
    owners = dict.fromkeys(node.layer for node in model.layers if node.layer)
    return dict(zip(owners, free, strict=False))
