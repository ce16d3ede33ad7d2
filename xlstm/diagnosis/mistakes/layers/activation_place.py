"""Rows of the table of causes: activations over the wrong axis, or after a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, parts, pieces
from xlstm.diagnosis.hypothesis.time_distributed import Whole
from xlstm.diagnosis.mistakes.layers.activations import PLAIN, with_options, words
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.graph import Edge
from xlstm.ir.layers import (
    Activation,
    Bidirectional,
    LayerSpec,
    Recurrent,
    Softmax,
    TimeDistributed,
)
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

SOFT = ("softmax", "log_softmax")
"""Activations that run over an axis."""


def _bare(spec: LayerSpec) -> LayerSpec:
    """A layer without its activation."""
    if isinstance(spec, TimeDistributed):
        return replace(spec, layer=_bare(spec.layer))
    own: Any = spec
    return Activation("linear") if isinstance(spec, Softmax) else replace(own, activation="linear")


def _over(name: str, axis: int) -> Call:
    """A layer whose softmax runs over another axis of a batch."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y, *more = forward(_bare(spec), inputs, context)
        return [np.moveaxis(FUNCTIONS[name](np.moveaxis(y, axis, -1)), -1, axis), *more]

    return Whole(call)


def _axis_of(site: SuspectLayer) -> tuple[str, int]:
    """The softmax of a layer and the axis of a batch that it runs over; "" where it has none."""
    axes = len(site.node.shape) + 1
    spec: Any = site.spec
    if isinstance(spec, Softmax):
        inner = axes - isinstance(site.node.spec, TimeDistributed)
        return "softmax", axes - inner + spec.axis % (inner - 1) + 1
    name = getattr(spec, "activation", "")
    alone = name in SOFT and not isinstance(spec, (Recurrent, Bidirectional))
    return name if alone else "", axes - 1


def softmax_axes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A softmax over the batch, over time, or over another axis that is not a's."""
    name, own = _axis_of(site)
    axes = len(site.node.shape) + 1
    for axis in range(axes) if name and site.layer.call is forward else ():
        if axis != own:
            text = f"Your {name} runs over axis {axis}{_which(axis, axes)}; "
            text += f"a's runs over axis {own}{_which(own, axes)}."
            fix = f"Set dim={-1 if own == axes - 1 else own} (without a dim PyTorch takes axis 0 "
            say = site.said(text, f"{fix}of three axes, axis 1 of two).")
            layer = replace(site.layer, call=_over(name, axis))
            yield AlteredLayer(layer, say, f"softmax-axis {axis - axes}")


def _which(axis: int, axes: int) -> str:
    """An axis in words."""
    if axis == 0:
        return ", the batch"
    return ", the units" if axis == axes - 1 else (", time" if axes == 3 else "")


def _then(name: str) -> Call:
    """A layer whose output an activation is applied to."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        found = forward(spec, inputs, context)
        own = spec.layer if isinstance(spec, TimeDistributed) else spec
        outputs = 2 if isinstance(own, Bidirectional) and own.merge == "none" else 1
        return [*(FUNCTIONS[name](y) for y in found[:outputs]), *found[outputs:]]

    return Whole(call)


def outside(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A recurrent layer's activation applied to what the framework's own layer gives."""
    if not isinstance(site.spec, (Recurrent, Bidirectional)) or site.layer.call is not forward:
        return
    piece = pieces(site.spec)[0]
    first: Any = piece.specs[0]
    gates = getattr(first, "gate_activation", "")
    choices = [{"activation": "tanh"}]
    choices += [{"activation": "tanh", "gate_activation": "sigmoid"}] if gates != "sigmoid" else []
    for options in choices if first.activation not in ("tanh", "linear") else ():
        specs = [with_options(spec, **options) for spec in piece.specs]
        if None in specs:
            continue
        act = words(first.activation)
        text = f"{act} is applied to your layer's output, and tanh inside it"
        text += " (its gates are sigmoid)" if len(options) > 1 else ""
        text += f"; a applies {act} inside, in every step"
        text += f" (its gates are {words(gates)})." if len(options) > 1 else "."
        fix = f"Compute {act} inside a cell of your own, as `xlstm.port` writes it: PyTorch's own "
        say = site.said(text[:1].upper() + text[1:], f"{fix}layers cannot.")
        layer = replace(site.layer, spec=piece.rebuild(specs), call=_then(first.activation))
        yield AlteredLayer(layer, say, f"outside {options}")


def _between(site: SuspectLayer) -> str:
    """The layer that alone reads another one's output, in words."""
    readers = site.model.readers(Edge(site.node.name))
    alone = len(readers) == 1 and Edge(site.node.name) not in site.model.returned
    return f", between it and {readers[0].name}" if alone else ""


LIKELY = ("relu", "tanh", "sigmoid", "softmax")
"""Activations that are worth a try after a layer together with other mistakes."""


def extra(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """One more activation after a layer that is not linear."""
    own = getattr(pieces(site.spec)[0].specs[0], "activation", "")
    around = isinstance(site.spec, (Recurrent, Bidirectional))
    linear = own == "linear" and not around  # there it is another activation
    some = parts(site.spec) or isinstance(site.spec, (Activation, *PLAIN))
    for name in ACTIVATIONS[1:] if some and not linear and site.layer.call is forward else ():
        text = f"{words(name)} is applied to the output of your {site.node.name}"
        text += f", after its own {words(own)}" if own and not around else ""
        text += _between(site)
        say = site.said(f"{text[:1].upper()}{text[1:]}; a has no such step.", "Leave it out.")
        layer = replace(site.layer, call=_then(name))
        yield AlteredLayer(layer, say, f"extra {name}", rare=name not in LIKELY)


ROWS = (Mistake("softmax-axis", softmax_axes),)

AFTER = (
    Mistake("activation-outside", outside),
    Mistake("extra-activation", extra),
)
"""Activations after a layer."""
