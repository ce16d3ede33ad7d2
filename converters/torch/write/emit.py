"""Writes a model as PyTorch source; imports no framework."""

from __future__ import annotations

from xlstm.ir.graph import Bidirectional, Model, Recurrent, Spec

from ...codegen.custom_layers import checked, merged
from ...codegen.source import Call, Parts, axes_words, collect, docstring, join, origin, statement
from ..native import bare
from .elementwise import linear
from .layers import emit_nodes
from .module import functions, import_lines, model_class, start_of, states, stream
from .recurrent import CELLS, LAYER_CELLS, native_call


def _made(spec: Spec) -> Call:
    """The native module that a lone layer is."""
    if isinstance(spec, Bidirectional):
        return native_call(spec.forward, both=True)
    return native_call(spec) if isinstance(spec, Recurrent) else linear(spec)


def _make(model: Model, lone: bool) -> tuple[str, list[str]]:
    """Class of what build returns, and the lines that make it."""
    if not lone:
        return "Model", ["    model = Model().to(dtype)"]
    node = model.layers[0]
    made = _made(node.spec)
    frozen = [] if node.trainable else ["    model.requires_grad_(False)"]
    return made.name, [*statement("model = ", made, 4, ".to(dtype)"), *frozen]


def emit(model: Model) -> str:
    """Source text of `model.py` for PyTorch."""
    lone = model.lone and bare(model.layers[0].spec)
    parts = Parts() if lone else collect(model, emit_nodes(model))
    if model.stateful:
        own = start_of(model)
        parts.need(CELLS if own == "start" else LAYER_CELLS, own)
    held = states(model)
    blocks = [
        *([text] for text in parts.helpers),
        [] if lone else model_class(model, parts),
        *functions(model.compute_dtype().name, *_make(model, lone)),
        stream(model),
    ]
    head = docstring(
        f"A PyTorch module ported from {origin(model)}.",
        "Needs torch and safetensors. `load()` gives the model with its trained weights.",
        *axes_words(model),
    )
    head += merged(import_lines(join([held, *blocks])), parts)
    if held:
        head[-1:] = held  # one blank line, not two, between imports and an assignment
    return checked(join([head, *blocks]), parts)
