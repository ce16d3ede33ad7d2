"""What PyTorch's own recurrent layers can compute, and why not the rest; imports no framework."""

from __future__ import annotations

from dataclasses import replace

from xlstm.model import (
    GRU,
    LSTM,
    Bidirectional,
    ConvLSTM,
    Dense,
    Node,
    Recurrent,
    SimpleRNN,
    Spec,
    TimeDistributed,
)


def native(spec: Spec) -> bool:
    """Whether a native layer computes what this one does, but for masks."""
    match spec:
        case LSTM(activation="tanh", gate_activation="sigmoid", peepholes=False):
            return True
        case GRU(activation="tanh", gate_activation="sigmoid", reset_after=True):
            return True
        case SimpleRNN(activation="tanh" | "relu"):
            return True
    return False


def pair(node: Node) -> bool:
    """Whether both halves of a bidirectional layer are one native layer with two directions."""
    spec = node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
    if not isinstance(spec, Bidirectional) or node.mask:
        return False
    one, other = map(_bare_half, spec.halves)
    return one == other and native(one)


def _bare_half(spec: Recurrent) -> Recurrent:
    """A half without what does not matter where nothing is masked and nothing is trained."""
    plain = replace(spec, go_backwards=False, zero_output_for_mask=False)
    return replace(plain, dropout=0.0, recurrent_dropout=0.0)


def halves(node: Node) -> tuple[str, str]:
    """Names of the weights of a bidirectional layer's halves."""
    return ("{}", "{}_reverse") if pair(node) else ("forward_layer.{}", "backward_layer.{}")


def bare(spec: Spec) -> bool:
    """Whether the native module alone returns what the layer returns, the states beside it."""
    if isinstance(spec, Bidirectional):
        whole = spec.merge == "concat" and pair(Node("", spec))
        return whole and bare(spec.forward)
    if isinstance(spec, Recurrent):
        wrapped = spec.return_state or spec.go_backwards or spec.stateful
        return native(spec) and spec.return_sequences and not wrapped
    return isinstance(spec, Dense) and spec.activation == "linear"


def own(node: Node) -> str:
    """Why a port writes a cell of its own for a layer, "" where PyTorch's modules do."""
    spec = node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
    halves_ = spec.halves if isinstance(spec, Bidirectional) else (spec,)
    found = (reason(s, node.mask is not None) for s in halves_ if isinstance(s, Recurrent))
    return "; ".join(dict.fromkeys(filter(None, found)))


def reason(spec: Recurrent, masked: bool) -> str:
    """Why a layer is an own cell, "" where it is native."""
    if isinstance(spec, ConvLSTM):
        return "PyTorch has no ConvLSTM"
    lacks = []
    if isinstance(spec, GRU) and not spec.reset_after:
        lacks.append("resets after the recurrent product")
    elif not native(spec):
        has = "tanh and relu" if isinstance(spec, SimpleRNN) else "tanh and sigmoid"
        lacks.append(f"has {has} only")
    lacks += ["knows no masks"] * masked
    layer = "nn.RNN" if isinstance(spec, SimpleRNN) else f"nn.{spec.kind}"
    return f"{layer} {' and '.join(lacks)}" if lacks else ""
