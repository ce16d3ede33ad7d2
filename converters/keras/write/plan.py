"""Decisions for a whole Keras port before its layers are written; no framework.

In: a model. Out: a ModelPlan.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, pairwise

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers

from ...codegen.variables import inputs_of, places
from .constructors import apart, folded
from .layer_arguments import own_blind
from .masks import Masks, has_mask_output, masks_of
from .operations import is_operation


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
    return alone and native and len(given(node)) == 1


def mixed(model: Model, node: Node) -> bool:
    """True if a layer runs at every time step here and on its whole input elsewhere."""
    if not isinstance(node.spec, L.TimeDistributed):
        return False
    return any(not isinstance(call.spec, L.TimeDistributed) for call in model.calls(node.owner))


def given(node: Node) -> tuple[object, ...]:
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
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
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
            where, do = f"adapter keras, layer {node.name}", "port to another framework"
            raise UnsupportedError(where, "a sample that Keras has a layer for", why, do)


def _check_read(model: Model) -> None:
    alive = {edge.node for edge in model.outputs}
    for node in reversed(model.nodes):
        alive |= {edge.node for edge in node.reads} if node.name in alive else set()
    owners = {node.owner for node in model.layers if node.name in alive}
    for node in model.layers:
        if node.spec.weighted_parts and node.owner not in owners:
            where, want = f"adapter keras, layer {node.name}", "a layer that an output depends on"
            raise UnsupportedError(where, want, "one that nothing reads", "leave it out")


def _batch(model: Model) -> int | None:
    if not model.stateful:
        return None
    kept = [node.spec.batch for node in model.nodes if isinstance(node.spec, L.Input)]
    batch = next((size for size in kept if size), None)
    if batch is None:
        raise UnsupportedError(
            f"adapter keras, layer {model.stateful[0].name}",
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
