"""Layers without an exact form in PyTorch, with reasons; imports no framework."""

from __future__ import annotations

from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Node

from .activations import FUNCTIONS
from .native import native, reads_cell
from .write.layers import WRITERS


def refuse(node: Node) -> str:
    """Returns the reason why a layer has no exact form, "" if it has one."""
    spec = node.spec
    if type(spec) not in WRITERS:
        return spec.kind
    if isinstance(spec, L.TimeDistributed):
        return refuse(replace(node, spec=spec.layer))
    if node.layer and getattr(spec, "stateful", False):
        return f"a stateful {spec.kind} called a second time, whose states would be two"
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    return next(filter(None, (_refuse(half, node) for half in halves)), "")


def _refuse(spec: L.LayerSpec, node: Node) -> str:
    if type(spec) not in WRITERS:
        return spec.kind
    for option in ("activation", "gate_activation"):
        if (name := getattr(spec, option, None)) is not None and name not in FUNCTIONS:
            return f"{option}={name}, which has no PyTorch source here"
    if isinstance(spec, L.LSTM) and spec.peepholes:
        return "peepholes, which nn.LSTM has not"
    if isinstance(spec, L.LSTM) and spec.projection and not native(spec):
        return "a projection (nn.LSTM has it with tanh and sigmoid only)"
    if isinstance(spec, L.LSTM) and spec.projection and node.mask and reads_cell(spec):
        return "a projection and a mask, where the last cell state is read"
    if isinstance(spec, L.Recurrent) and spec.stateful and node.states:
        return "stateful=True and an initial state: either could be what the layer starts from"
    if isinstance(spec, L.ConvLSTM) and spec.stateful and None in spec.space:
        return "stateful=True and a ConvLSTM of any size, whose first state has no known size"
    return ""
