"""Layers that native PyTorch modules compute exactly; imports no framework."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

from xlstm.frameworks.adapter import NativeLayer
from xlstm.ir import layers as L
from xlstm.ir.graph import Node

_STACKED: ContextVar[bool] = ContextVar("stacked", default=False)
"""True while the module of many models is written."""


@contextlib.contextmanager
def for_many_models() -> Iterator[None]:
    """In it no recurrent layer is native: `nn.LSTM` and its like run one model only."""
    before = _STACKED.set(True)
    try:
        yield
    finally:
        _STACKED.reset(before)


def is_stacked() -> bool:
    """True inside `for_many_models`."""
    return _STACKED.get()


def native(spec: L.LayerSpec) -> bool:
    """True if a native layer computes this one, apart from masks."""
    if is_stacked() and isinstance(spec, L.Recurrent):
        return False
    match spec:
        case L.LSTM(activation="tanh", gate_activation="sigmoid", peepholes=False):
            return True
        case L.GRU(activation="tanh", gate_activation="sigmoid", reset_after=True):
            return True
        case L.SimpleRNN(activation="tanh" | "relu"):
            return True
    return False


def pair(node: Node) -> bool:
    """True if both halves of a bidirectional layer are one native layer with two directions."""
    spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    if not isinstance(spec, L.Bidirectional) or node.mask:
        return False
    one, other = map(_bare_half, spec.halves)
    return one == other and native(one)


def _bare_half(spec: L.Recurrent) -> L.Recurrent:
    """Returns a half without options that have no effect without masks and training."""
    plain = replace(spec, go_backwards=False, zero_output_for_mask=False)
    return replace(plain, dropout=0.0, recurrent_dropout=0.0)


def halves(node: Node) -> tuple[str, str]:
    """Returns the prefixes of the weights of a bidirectional layer's halves."""
    return ("{}", "{}_reverse") if pair(node) else ("forward_layer.{}", "backward_layer.{}")


def bare(spec: L.LayerSpec) -> bool:
    """True if the native module alone returns the layer's output; it may return states as well."""
    if is_stacked():
        return False
    if isinstance(spec, L.Bidirectional):
        whole = spec.merge == "concat" and pair(Node("", spec))
        return whole and bare(spec.forward)
    if isinstance(spec, L.Recurrent):
        wrapped = spec.return_state or spec.go_backwards or spec.stateful
        return native(spec) and spec.return_sequences and not wrapped
    return isinstance(spec, L.Dense) and spec.activation == "linear"


def own(node: Node) -> str:
    """Returns the reason why a port has its own cell for a layer, "" for a native module."""
    spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    halves_ = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    found = [reason(s, node.mask is not None) for s in halves_ if isinstance(s, L.Recurrent)]
    found.append(OWN.get(own_class(spec), ""))
    return "; ".join(dict.fromkeys(filter(None, found)))


HEADS = "nn.MultiheadAttention has one size for all it projects to"
SCALE = "PyTorch has no attention with a learnt scale"
MEAN = "nn.BatchNorm1d adds its eps to the variance"

OWN = {
    "PReLU": "nn.PReLU has a slope per channel",
    "Normalization": MEAN,
    "Denormalization": MEAN,
    "GaussianNoise": "PyTorch has no layer of noise",
    "GaussianDropout": "PyTorch drops numbers, and multiplies none by noise",
    "DotScores": SCALE,
    "ConcatScores": SCALE,
    "ScaledConcatScores": SCALE,
    "AdditiveScores": SCALE,
    "MultiHeadAttention": HEADS,
    "MaskedMultiHeadAttention": HEADS,
    "ZeroingMultiHeadAttention": HEADS,
    **dict.fromkeys(
        (f"{how}WeighingMultiHeadAttention" for how in ("", "Masked", "Zeroing")), HEADS
    ),
}
"""Layers of our own that are not recurrent -> the reason for each."""


def own_class(spec: L.LayerSpec) -> str:
    """Returns the name of our own class for a layer that is not recurrent, "" for a native one."""
    match spec:
        case L.PRelu() if len(spec.shape) > 1:
            return "PReLU"
        case L.Normalization():
            return "Denormalization" if spec.invert else "Normalization"
        case L.TrainingOnly() if spec.layer in OWN:
            return spec.layer
        case L.Attention() if spec.weighted_parts:
            return _scores(spec)
        case L.MultiHeadAttention():
            how = "Zeroing" if spec.blind == "zeros" else "Masked"
            how = how if spec.masks or spec.causal else ""
            return f"{how}{'Weighing' * spec.scores}MultiHeadAttention"
    return ""


def _scores(spec: L.Attention) -> str:
    if spec.score == "concat":
        return "ScaledConcatScores" if spec.scaled else "ConcatScores"
    return "DotScores" if spec.score == "dot" else "AdditiveScores"


def native_layer(spec: L.LayerSpec) -> NativeLayer | None:
    """Returns the native layer with another number of parameters than a port, None for no such."""
    if not isinstance(spec, L.PRelu) or own_class(spec) != "PReLU":
        return None
    channels, slopes = spec.shape[-1] or 1, math.prod(spec.sizes().values())
    why = "it has a slope for each channel"
    return NativeLayer("PReLU", "nn.PReLU", channels, why) if slopes != channels else None


def reads_cell(spec: L.Recurrent) -> bool:
    """True if the last cell state of a layer is read: a mask that holds h alone is not enough."""
    return isinstance(spec, (L.LSTM, L.ConvLSTM)) and (spec.return_state or spec.stateful)


def reason(spec: L.Recurrent, masked: bool) -> str:
    """Returns the reason why a layer is an own cell, "" for a native one."""
    if isinstance(spec, L.ConvLSTM):
        return "PyTorch has no ConvLSTM"
    if is_stacked():
        return f"nn.{'RNN' if isinstance(spec, L.SimpleRNN) else spec.kind} runs one model only"
    lacks = []
    if isinstance(spec, L.GRU) and not spec.reset_after:
        lacks.append("resets after the recurrent product")
    elif not native(spec):
        has = "tanh and relu" if isinstance(spec, L.SimpleRNN) else "tanh and sigmoid"
        lacks.append(f"has {has} only")
    lacks += ["ends with the c of the last step, masked or not"] * (masked and reads_cell(spec))
    layer = "nn.RNN" if isinstance(spec, L.SimpleRNN) else f"nn.{spec.kind}"
    return f"{layer} {' and '.join(lacks)}" if lacks else ""
