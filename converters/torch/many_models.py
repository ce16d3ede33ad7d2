"""Writes many models of one architecture as one PyTorch module; imports no framework.

In: one of the models. Out: source text of `model.py`, whose `Stack` runs all of them at once.
"""

from __future__ import annotations

from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node

from ..codegen.many_models import stacked_source
from .native import for_many_models, halves, own
from .refusals import refuse
from .write.module import emit
from .write.writer import STACKED

LINES = (
    "Needs torch and safetensors. `load()` gives the module with the trained weights of all.",
    "Letters of axes: M models, T time, B batch, H hidden, G gates x hidden.",
)

LOOPS = {
    "LSTM": ("lstm_loop", "lstm_joined_loop"),
    "GRU": ("gru_loop",),
    "GRUResetBefore": ("gru_reset_before_loop",),
    "RNN": ("rnn_loop",),
}
"""Class of a layer -> the functions that run its steps."""

HELPERS = ("ForEachModel", "product", "products")
"""Class and functions of all recurrent layers."""

ENDS = ("Stack", "joined", "chunk_for", "build", "load")
"""Classes and functions of every stack."""


def stack_halves(node: Node) -> tuple[str, str]:
    """Returns the prefixes of the weights of a bidirectional layer's halves."""
    with for_many_models():
        return halves(node)


def stack_reason(node: Node) -> str:
    """Returns the reason why a stack has its own cell for a layer."""
    with for_many_models():
        return own(node)


def refuse_stack(node: Node) -> str:
    """Returns the reason why a layer has no exact form in a stack, "" if it has one."""
    inner = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    if isinstance(inner, L.MultiHeadAttention):
        return "MultiHeadAttention, whose kernel in PyTorch runs one model only"
    with for_many_models():
        return refuse(node)


def never(_spec: L.LayerSpec) -> bool:
    """False: a stack is always a class of its own."""
    return False


def stack_config(_model: Model) -> dict[str, Any]:
    """Nothing: a stack is no model of the Hugging Face hub."""
    return {}


def emit_stack(model: Model) -> str:
    """Returns the source text of `model.py` for many models with the graph of `model`."""
    with for_many_models():
        one = emit(model)
    loops = [loop for name in LOOPS if f"\nclass {name}(" in one for loop in LOOPS[name]]
    text = stacked_source(
        model,
        one,
        STACKED,
        ("Pretrained", "build", "load", "stream"),
        [*(HELPERS if loops else ()), *loops, *ENDS],
        LINES,
        {"class Model(Pretrained)": "class Model(nn.Module)"},
    )
    head, build, tail = text.rpartition("\ndef build(")
    dtype = model.compute_dtype().name
    return head + build + tail.replace("torch.float32", f"torch.{dtype}")
