"""Writes the constructor of each layer as Keras 3 source; imports no framework.

In: a spec. Out: a constructor call. `LSTM(3, 4, return_sequences=True)`, named a:

    keras.layers.LSTM(4, return_sequences=True, dtype=dtype, name="a")
"""

from __future__ import annotations

from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.literals import literal

from ...codegen import custom_layers
from ...codegen.source import CallExpr, call
from ..activations import NAMES, REFUSED, STOCK
from ..slots import DEFAULT
from .layer_arguments import ARGUMENTS, CELLS, REFUSALS, TITLES, Arguments, Around
from .operations import is_operation


@ARGUMENTS.of(L.Bidirectional)
def _bidirectional(spec: L.Bidirectional, around: Around) -> Arguments:
    # keras/src/layers/rnn/bidirectional.py sets zero_output_for_mask of both layers itself
    forward, backward = (replace(s, zero_output_for_mask=False) for s in spec.halves)
    mirrored = not forward.go_backwards and backward == replace(forward, go_backwards=True)
    implied = mirrored and not _built_up(forward)
    merge = "None" if spec.merge == "none" else literal(spec.merge)
    return (
        layer(forward, around),
        None if spec.merge == "concat" else ("merge_mode", merge),
        None if implied else ("backward_layer", layer(backward, around)),
    )


def _built_up(spec: L.Recurrent) -> bool:
    """True if a layer has an activation that consists of several layers."""
    return bool({spec.activation, getattr(spec, "gate_activation", "")} & set(STOCK))


@ARGUMENTS.of(L.TimeDistributed)
def _time_distributed(spec: L.TimeDistributed, around: Around) -> Arguments:
    return (layer(spec.layer, replace(around, rank=around.rank - 1)),)


def layer(spec: L.LayerSpec, around: Around, name: str = "") -> CallExpr:
    """Returns the constructor of a layer; layers inside another one have no name."""
    if isinstance(spec, L.TimeDistributed) and isinstance(spec.layer, L.Normalization):
        return layer(spec.layer, around, name)  # the last axis is the same without TimeDistributed
    named = [("name", f'"{name}"')] if name else []
    if isinstance(spec, L.Custom):
        made_so = custom_layers.made(spec, "keras", around.parts)
        return call(made_so.name, *made_so.args, *around.tail(*named))
    title = TITLES.get(type(spec))
    made = f"keras.layers.{title(spec, around.rank) if title else spec.kind}"
    if isinstance(spec, L.Bidirectional) and _built_up(spec.forward):
        around.parts.use_template(CELLS, made := "bidirectional")
    return call(made, *ARGUMENTS[type(spec)](spec, around), *around.tail(*named))


UNLIKE = "keras.layers.Bidirectional takes halves of one size"


def two_layers(node: Node) -> str:
    """Returns the reason why a bidirectional layer must be two layers of Keras, "" if not.

    Keras splits initial states in the middle, uses the forward half's shapes for the states of both
    halves, and sets zero_output_for_mask to return_sequences (keras/src/layers/rnn/bidirectional.py
    of 3.15).
    """
    spec = node.spec
    if not isinstance(spec, L.Bidirectional):
        return ""
    first, second = spec.halves
    if first.state_shapes() != second.state_shapes() and (first.return_state or node.states):
        return "keras.layers.Bidirectional takes halves with states of one shape"
    if spec.stateful and first.return_state:
        return "keras.layers.Bidirectional cannot return the states of stateful halves"
    zeros = {half.zero_output_for_mask for half in spec.halves}
    if node.mask is not None and zeros != {spec.return_sequences}:
        done = "gives zeros" if spec.return_sequences else "repeats the last output"
        return f"keras.layers.Bidirectional {done} at masked steps"
    return ""


def apart(model: Model, node: Node) -> str:
    """Returns the same as `two_layers`; later layers need the right size as well."""
    spec = node.spec
    unlike = isinstance(spec, L.Bidirectional) and spec.forward.width != spec.backward.width
    if unlike and any(edge.node == node.name for other in model.nodes for edge in other.reads):
        return UNLIKE
    return two_layers(node)


def folded(node: Node) -> bool:
    """True if a layer at every time step is applied to all steps at once, as one batch.

    keras.layers.TimeDistributed takes layers of one output, and Bidirectional only unsplit.
    """
    spec = node.spec
    if not isinstance(spec, L.TimeDistributed):
        return False
    inner = spec.layer
    several = isinstance(inner, (L.Recurrent, L.Bidirectional)) and len(node.shapes) > 1
    halves = inner.halves if isinstance(inner, L.Bidirectional) else ()
    return several or len({half.width for half in halves}) > 1 or bool(two_layers(inside(node)))


def inside(node: Node) -> Node:
    """Returns the layer at one time step, as a node."""
    assert isinstance(node.spec, L.TimeDistributed)
    shapes = tuple(shape[1:] for shape in node.shapes)
    return replace(node, spec=node.spec.layer, shapes=shapes)


def refusal(node: Node) -> str:
    """Returns the reason why Keras 3 has no exact form of a layer, "" if it has one."""
    inner = unwrap_time_distributed(node.spec)
    rank = len(node.shape) + (inner is node.spec)
    if folded(node) and any(None in shape for shape in node.shapes):
        return f"{inner.kind} at every one of any number of time steps, with such outputs"
    if isinstance(inner, L.Custom) and inner is not node.spec and len(node.shapes) > 1:
        return f"{inner.layer} at every time step, with several outputs"
    for spec in (inner, *(inner.halves if isinstance(inner, L.Bidirectional) else ())):
        if why := _refused(spec, rank):
            return why
    return ""


def _refused(spec: L.LayerSpec, rank: int) -> str:
    if isinstance(spec, L.Custom):
        return ""
    if type(spec) not in ARGUMENTS and not is_operation(spec):
        return f"{spec.kind}, which ports to Keras do not have"
    kind = KINDS.get(spec.weight_kind)
    if spec.sizes() and (kind is None or kind.name not in DEFAULT):  # an LSTM with peepholes, say
        return f"{spec.weight_kind}, which Keras has no layer of"
    if isinstance(spec, L.ConvLSTM) and spec.forget_offset:
        return "a forget gate with an offset, which Keras's ConvLSTM has not"
    if isinstance(spec, L.ConvLSTM) and None in spec.space:
        return "ConvLSTM over axes of any size, which Keras does not take"
    for name in (getattr(spec, "activation", ""), getattr(spec, "gate_activation", "")):
        if name and name not in NAMES and name not in STOCK:
            return f"activation {name}: {REFUSED.get(name, 'Keras has no such function')}"
    return REFUSALS[type(spec)](spec, rank) if type(spec) in REFUSALS else ""
