"""Rows of the table of mistakes: layers left out, twice or in another order; normalisations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import Call, in_place_of
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called, parts
from xlstm.diagnosis.mistakes.time.bidirectional import whole
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

NORMS = (L.BatchNorm, L.LayerNorm)


def left_out(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer with weights, of one shape before and after it, that is left out."""
    node = site.node
    if not parts(site.spec) or len(node.inputs) != 1 or len(node.shapes) != 1 or node.states:
        return
    if site.model.shape(node.inputs[0]) == node.shape and site.layer.call is forward:
        text = f"Your model leaves out {node.name} ({site.spec.kind})."
        yield called(site, in_place_of(np.asarray), text, "Put it in.")


def plain(model: Model, node: Node, x: Array, spec: L.LayerSpec | None = None) -> Array:
    """The output of a layer of the truth for one array."""
    own = model.weights.get(node.owner, {})
    weights = {name: a.astype(x.dtype, copy=False) for name, a in own.items()}
    return forward(spec or node.spec, [x], Context(node.name, weights))[0]


@dataclass(frozen=True)
class Reordered:
    """Calls a layer and one right before it in another order.

    Attributes:
        also: what the layer before reads.
        order: (the layer's own function, its own input, what the layer before reads) -> output.
    """

    also: tuple[Edge, ...]
    order: Callable[[Callable[[Array], Array], Array], Array]

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """The output alone."""
        return [self.order(lambda x: forward(spec, [x], context)[0], inputs[-1])]


def orders(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A normalisation one layer late, or before an activation for after it."""
    node, model = site.node, site.model
    if len(node.inputs) != 1 or len(node.shapes) != 1 or node.states or node.mask is not None:
        return
    before = model.node(node.inputs[0].node)
    if len(before.inputs) != 1 or before.mask is not None or before.states:
        return
    one, spec, also = before.spec, site.spec, (before.inputs[0],)
    order = Reordered(also, lambda own, x: plain(model, before, own(x)))
    if isinstance(one, NORMS) and not isinstance(spec, NORMS):
        if node.shape[-1:] == model.shape(before.inputs[0])[-1:]:
            text = f"Your {before.name} comes after {node.name}, not before it."
            yield called(site, order, text, f"Put {before.name} before {node.name}.")
    elif isinstance(spec, NORMS) and isinstance(one, L.Activation):
        text = f"Your {node.name} comes before {before.name}, not after it."
        yield called(site, order, text, f"Put {node.name} after {before.name}.")
    elif (
        isinstance(spec, NORMS)
        and isinstance(one, (L.Dense, L.Conv))
        and one.activation != "linear"
    ):
        bare: Any = replace(one, activation="linear")
        act = FUNCTIONS[one.activation]
        text = f"Your {node.name} comes before the {one.activation} of {before.name}, not after it."
        order = Reordered(also, lambda own, x: act(own(plain(model, before, x, bare))))
        yield called(site, order, text, f"Put {node.name} after the {one.activation}.")


def _over(axes: tuple[int, ...], ddof: int = 0, floor: float = 1) -> Call:
    """A LayerNorm over other axes, scaled along the last one all the same.

    Args:
        axes: of a batch.
        ddof: 1 for the unbiased variance.
        floor: what epsilon is multiplied by.
    """

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        assert isinstance(spec, L.LayerNorm)
        x = inputs[0]
        spread = x.var(axis=axes, keepdims=True, ddof=ddof) + x.dtype.type(floor * spec.epsilon)
        return [scaled(spec, (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(spread), context)]

    return call


def scaled(spec: Any, y: Array, context: Context) -> Array:
    """Normalised numbers, times gamma and plus beta where the layer has them."""
    y = y * context.weights["gamma"] if spec.scale else y
    return np.asarray(y + context.weights["beta"] if spec.center else y)


SPREADS = (
    (0, 1, ""),
    (1, 0, " (by the unbiased variance, without epsilon)"),
    (1, 1, " (by the unbiased variance)"),
    (0, 0, " (without epsilon)"),
)
"""Degrees of freedom, a factor of epsilon, words: how a norm by hand is written."""


def norm_axes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A LayerNorm whose mean is over the batch, time, or all axes of a sample."""
    if not isinstance(site.spec, L.LayerNorm) or site.spec.groups:
        return
    count = len(site.node.shape)
    options: list[tuple[int, ...]] = [(0,), *((axis,) for axis in range(1, count))]
    options += [(*range(1, count + 1),)] if count > 1 else []
    for axes in options:
        text = f"Your LayerNorm runs over {'axes' if len(axes) > 1 else 'axis'} "
        text += f"{', '.join(map(str, axes))}; a's runs over the last one."
        for ddof, floor, how in SPREADS:
            call, fix = _over(axes, ddof, floor), "Normalise the last axis alone."
            yield called(site, call, f"{text[:-1]}{how}.", fix)


Fold = Callable[..., Array]
"""(input, gamma, beta, mean, variance + epsilon, variance) -> what a BatchNorm gives."""

FOLDS: tuple[tuple[Fold, str, str], ...] = (
    (lambda x, g, b, m, v, w: g * x / np.sqrt(1 + v - w) + b,
     "Your BatchNorm has lost its statistics: mean 0 and variance 1, as in a new layer.",
     "Copy the moving mean and the moving variance."),
    (lambda x, g, b, m, v, _: g * x / np.sqrt(v) + b - m,
     "Your BatchNorm is folded wrongly: the shift is beta - mean, without the scale.",
     "Compute beta - mean * scale."),
    (lambda x, g, b, m, v, _: g * (x + m) / np.sqrt(v) + b,
     "Your BatchNorm is folded wrongly: the shift is beta + mean * scale, with the other sign.",
     "Compute beta - mean * scale."),
    (lambda x, g, b, m, v, _: g * (x - m) / v + b,
     "Your BatchNorm divides by the variance, not by its square root.",
     "Divide by sqrt(variance + epsilon)."),
    (lambda x, g, b, m, v, _: g * (x - m) * np.sqrt(v) + b,
     "Your BatchNorm multiplies by the deviation where a divides by it.",
     "Divide by sqrt(variance + epsilon)."),
    (lambda x, g, b, m, v, _: g * (x - m / np.sqrt(v)) + b,
     "Your BatchNorm is folded wrongly: the deviation divides the mean alone.",
     "Divide x - mean by sqrt(variance + epsilon)."),
    (lambda x, g, b, m, v, _: (x - m) / np.sqrt(v) + b,
     "Your BatchNorm lacks gamma.", "Multiply by gamma."),
    (lambda x, g, b, m, v, w: g * (x - m) / (np.sqrt(w) + (v - w)) + b,
     "Your BatchNorm adds epsilon to the deviation; a adds it to the variance.",
     "Divide by sqrt(variance + epsilon)."),
    (lambda x, g, b, m, v, w: g * (x - m) / np.sqrt(np.sqrt(w) + (v - w)) + b,
     "Your BatchNorm takes the deviation for the variance: its square root is taken twice.",
     "Divide by sqrt(variance + epsilon)."),
    (lambda x, g, b, m, v, w: g * (x - w) / np.sqrt(np.abs(m) + (v - w)) + b,
     "Your BatchNorm has the moving mean and the moving variance in each other's place (swapped).",
     "Read mean and variance in a's order."),
)  # fmt: skip
"""Formula of a BatchNorm, the mistake in words, the way to correct it."""


def _folded(fold: Fold) -> Call:
    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        weights, one = context.weights, np.ones_like(context.weights["mean"])
        gamma, beta = weights.get("gamma", one), weights.get("beta", 0 * one)
        mean, variance = weights["mean"], weights["variance"]
        spread = variance + variance.dtype.type(own.epsilon)
        return [fold(inputs[0], gamma, beta, mean, spread, variance)]

    return call


def folds(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A BatchNorm of another formula."""
    if isinstance(site.spec, L.BatchNorm) and site.layer.call is forward:
        for fold, text, fix in FOLDS:
            yield called(site, _folded(fold), text, fix, rare=True)


def exchanged(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Two layers of one kind and size, one right after the other, that run in the other order."""
    node, model = site.node, site.model
    if not parts(site.spec) or len(node.inputs) != 1 or node.states or node.mask is not None:
        return
    before = model.node(node.inputs[0].node)
    while isinstance(before.spec, L.Dropout):
        before = model.node(before.inputs[0].node)
    if type(before.spec) is not type(node.spec) or len(before.inputs) != 1 or before.states:
        return
    mine, other = (model.weights.get(n.owner, {}) for n in (node, before))
    if {n: a.shape for n, a in mine.items()} != {n: a.shape for n, a in other.items()}:
        return
    own = {name: a.astype(np.float64) for name, a in other.items()}

    def order(_own: Callable[[Array], Array], x: Array) -> Array:
        first = forward(before.spec, [x], Context(before.name, site.layer.weights))[0]
        return forward(site.spec, [first], Context(node.name, own))[0]

    text = f"Your {before.name} and {node.name} run in the other order, or have each other's "
    call, fix = Reordered((before.inputs[0],), order), "Run them in a's order."
    yield called(site, call, f"{text}weights.", fix)


def twice(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that is applied to its own output once more."""
    node = site.node
    if not parts(site.spec) or len(node.inputs) != 1 or len(node.shapes) != 1 or node.states:
        return
    every = whole(site.spec) if isinstance(site.spec, L.Recurrent) else site.spec
    shape = site.model.shape(node.inputs[0])
    if every.output_shapes(shape)[0] == shape and site.layer.call is forward:

        def again(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
            first = whole(spec) if isinstance(spec, L.Recurrent) else spec
            return forward(spec, forward(first, inputs, context)[:1], context)

        text = f"Your model applies {node.name} twice: its output goes through it again."
        yield called(site, again, text, "Apply it once.", rare=True)


def causal(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A causal convolution that is padded at its end, or reads time from its end."""
    spec: Any = site.spec
    if not isinstance(spec, (L.Conv, L.DepthwiseConv)) or spec.padding != "causal":
        return
    more = (spec.window[0] - 1) * spec.dilation[0]

    def ahead(own: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        wide = np.pad(inputs[0], [(0, 0), (0, more), *[(0, 0)] * (inputs[0].ndim - 2)])
        return [forward(own, [wide], context)[0][:, more:]]

    def turned(own: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        return [forward(own, [inputs[0][:, ::-1]], context)[0][:, ::-1]]

    fix = f"Pad {more} zeros before the first step."
    if set(spec.strides) == {1}:
        text = "Your causal convolution is padded at its end: each step sees the ones after it."
        yield called(site, ahead, text, fix)
    text = "Your causal convolution reads time from its end: each step sees the ones after it."
    yield called(site, turned, text, fix)


ROWS = (
    Mistake("missing-layer", left_out),
    Mistake("norm-order", orders),
    Mistake("swapped-layers", exchanged),
    Mistake("norm-axis", norm_axes),
    Mistake("norm-formula", folds),
    Mistake("repeated-layer", twice),
    Mistake("causal", causal),
)
