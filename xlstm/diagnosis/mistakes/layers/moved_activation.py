"""Rows of the table of causes: an activation before a layer in place of after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.layers.activations import PLAIN, words
from xlstm.diagnosis.mistakes.layers.layer_order import Reordered, plain
from xlstm.ir.layers import Activation, Conv, Dense, DepthwiseConv, LayerSpec, TimeDistributed
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

LAYERS = (Dense, Conv, DepthwiseConv)
"""Layers with an activation of their output, which is easily put around their input."""


def _before(name: str) -> Call:
    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        if own.activation == "linear":
            raise ValueError("seen without its activation")
        return forward(replace(own, activation="linear"), [FUNCTIONS[name](inputs[0])], context)

    return call


def own_activation(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer's activation that its input goes through, and its output does not."""
    spec, name = site.spec, site.node.name
    if not isinstance(spec, LAYERS) or spec.activation == "linear":
        return
    if site.layer.call is forward and len(site.node.inputs) == 1:
        act = words(spec.activation)
        text = f"The activation of your {name}, {act}, is applied before the layer, to its input;"
        call, fix = _before(spec.activation), f"Apply {act} to the output of {name}."
        yield called(site, call, f"{text} a applies it after.", fix)


def layer_after(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that is an activation, and comes before the layer that it follows."""
    node, model = site.node, site.model
    if not isinstance(site.spec, (Activation, *PLAIN)) or len(node.inputs) != 1:
        return
    before = model.node(node.inputs[0].node)
    spec = before.spec.layer if isinstance(before.spec, TimeDistributed) else before.spec
    if isinstance(spec, LAYERS) and len(before.inputs) == 1 and before.mask is None:
        text = f"Your activation {node.name} is applied before {before.name}; a applies it after."
        order = Reordered((before.inputs[0],), lambda own, x: plain(model, before, own(x)))
        yield called(site, order, text, f"Put {node.name} after {before.name}.")


ROWS = (
    Mistake("activation-place", own_activation),
    Mistake("activation-place", layer_after),
)
