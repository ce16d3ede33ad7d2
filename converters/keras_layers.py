"""How Keras 3 writes each layer: constructors as source text; imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite

from xlstm.converters.keras_activations import CELLS as ACTIVATION_CELLS
from xlstm.converters.keras_activations import NAMES, REFUSED, STOCK
from xlstm.converters.keras_tables import DEFAULT
from xlstm.converters.source import Argument, Call, Parts, call

from xlstm.kinds import KINDS
from xlstm.model import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Masking,
    Model,
    Node,
    Recurrent,
    Reverse,
    SimpleRNN,
    Spec,
    TimeDistributed,
)

CELLS = "keras_cells.py"

Arguments = tuple[Argument | None, ...]

DTYPE = ("dtype", "dtype")
"""Every layer is told the dtype: a policy set for the process is none of ours."""


@dataclass(frozen=True)
class Around:
    """What the constructor of a layer depends on besides its spec.

    Attributes:
        parts: takes the helpers that it needs.
        rank: number of axes of its input, the batch's counted.
        masked: whether it obeys a mask.
        trainable: whether training changes its weights.
    """

    parts: Parts
    rank: int
    masked: bool = False
    trainable: bool = True

    def tail(self, *name: Argument) -> Arguments:
        """Last arguments of every layer; Keras's wrappers do not freeze what they wrap."""
        return (_flag("trainable", self.trainable, True), DTYPE, *name)


def _activation(name: str, around: Around, rank: int) -> str:
    """Expression for an activation of an array with `rank` axes."""
    if name in NAMES:
        return f'"{NAMES[name]}"'
    text, helper = STOCK[name]
    around.parts.need(ACTIVATION_CELLS, helper)
    return text.format(rank=rank)


def _option(
    keyword: str, name: str, default: str, around: Around, rank: int = 2
) -> Argument | None:
    return None if name == default else (keyword, _activation(name, around, rank))


def _flag(keyword: str, value: bool, default: bool = False) -> Argument | None:
    return None if value == default else (keyword, str(value))


def _rate(keyword: str, rate: float) -> Argument | None:
    return (keyword, repr(rate)) if rate else None


def _recurrent(spec: Recurrent, around: Around) -> Arguments:
    gate = getattr(spec, "gate_activation", "sigmoid")
    return (
        f"{spec.units}",
        _option("activation", spec.activation, "tanh", around),
        _option("recurrent_activation", gate, "sigmoid", around),
        _flag("use_bias", spec.use_bias, True),
        _flag("reset_after", getattr(spec, "reset_after", True), True),
        _flag("return_sequences", spec.return_sequences),
        _flag("return_state", spec.return_state),
        _flag("go_backwards", spec.go_backwards),
        _flag("stateful", spec.stateful),
        _flag("zero_output_for_mask", spec.zero_output_for_mask),
        _rate("dropout", spec.dropout),
        _rate("recurrent_dropout", spec.recurrent_dropout),
        # cuDNN takes right padding only, and gives zeros there
        _flag("use_cudnn", not (around.masked and _suits_cudnn(spec)), True),
    )


def _suits_cudnn(spec: Recurrent) -> bool:
    return (
        isinstance(spec, (LSTM, GRU))
        and (spec.activation, spec.gate_activation, spec.use_bias) == ("tanh", "sigmoid", True)
        and getattr(spec, "reset_after", True)
    )


def _bidirectional(spec: Bidirectional, around: Around) -> Arguments:
    # keras.layers.Bidirectional sets zero_output_for_mask itself
    forward, backward = (replace(s, zero_output_for_mask=False) for s in spec.halves)
    mirrored = not forward.go_backwards and backward == replace(forward, go_backwards=True)
    implied = mirrored and not _built_up(forward)
    merge = "None" if spec.merge == "none" else f'"{spec.merge}"'
    return (
        layer(forward, around),
        None if spec.merge == "concat" else ("merge_mode", merge),
        None if implied else ("backward_layer", layer(backward, around)),
    )


def _built_up(spec: Recurrent) -> bool:
    """Whether a layer has an activation that is made of several layers."""
    return bool({spec.activation, getattr(spec, "gate_activation", "")} & set(STOCK))


def _dense(spec: Dense, around: Around) -> Arguments:
    chosen = _option("activation", spec.activation, "linear", around, around.rank)
    return f"{spec.units}", chosen, _flag("use_bias", spec.use_bias, True)


def _dropout(spec: Dropout, _around: Around) -> Arguments:
    return (repr(spec.rate),)


def _activation_layer(spec: Activation, around: Around) -> Arguments:
    return (_activation(spec.activation, around, around.rank),)


def _time_distributed(spec: TimeDistributed, around: Around) -> Arguments:
    return (layer(spec.layer, replace(around, rank=around.rank - 1)),)


def number(value: float) -> str:
    """A float as source text."""
    return repr(float(value)) if isfinite(value) else f'float("{float(value)}")'


def _masking(spec: Masking, _around: Around) -> Arguments:
    return (number(spec.value) if spec.value else None,)


LAYERS: dict[type[Spec], Callable[..., Arguments]] = {
    LSTM: _recurrent,
    GRU: _recurrent,
    SimpleRNN: _recurrent,
    Bidirectional: _bidirectional,
    Dense: _dense,
    TimeDistributed: _time_distributed,
    Dropout: _dropout,
    Activation: _activation_layer,
    Masking: _masking,
}
"""Spec -> the first arguments of its constructor."""


def layer(spec: Spec, around: Around, name: str = "") -> Call:
    """Constructor of a layer; layers inside another one have no name."""
    made = f"keras.layers.{spec.kind}"
    if isinstance(spec, Bidirectional) and _built_up(spec.forward):
        around.parts.need(CELLS, made := "bidirectional")
    named = [("name", f'"{name}"')] if name else []
    return call(made, *LAYERS[type(spec)](spec, around), *around.tail(*named))


def two_layers(node: Node) -> str:
    """Why a bidirectional layer has to be two layers of Keras, "" where one is exact.

    Keras splits initial states in the middle, gives both halves' states the shapes of the forward
    one's, and sets zero_output_for_mask to return_sequences.
    """
    spec = node.spec
    if not isinstance(spec, Bidirectional):
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
    """As `two_layers`; layers that follow have to be told the right size as well."""
    spec = node.spec
    followed = any(edge.node == node.name for other in model.nodes for edge in other.reads)
    if isinstance(spec, Bidirectional) and spec.forward.width != spec.backward.width and followed:
        return "keras.layers.Bidirectional takes halves of one size"
    return two_layers(node)


def refusal(node: Node) -> str:
    """Why Keras 3 has no exact form of a layer, "" where it has one."""
    inner = node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
    if inner is not node.spec and isinstance(inner, Bidirectional):
        return "Bidirectional inside TimeDistributed"
    for spec in (inner, *(inner.halves if isinstance(inner, Bidirectional) else ())):
        if type(spec) not in LAYERS and not (spec is node.spec and isinstance(spec, Reverse)):
            return f"{spec.kind}, which ports to Keras do not have"
        kind = KINDS.get(spec.form)
        if spec.sizes() and (kind is None or kind.name not in DEFAULT):
            return f"{spec.form}, which Keras has no layer of"
        for name in (getattr(spec, "activation", ""), getattr(spec, "gate_activation", "")):
            if name and name not in NAMES and name not in STOCK:
                return f"activation {name}: {REFUSED.get(name, 'Keras has no such function')}"
    return ""
