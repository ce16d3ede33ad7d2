"""Rows of the table of causes: attention with another scale, over another axis, of other inputs.

B batch, N heads, Q queries, V values, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.ir.graph import Edge
from xlstm.ir.layers import Attention, GlobalPool, LayerSpec, MultiHeadAttention
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

Weigh = Callable[[Array], Array]
"""(..., Q, V) scores -> weights."""


def _over(axis: int) -> Weigh:
    return lambda scores: np.moveaxis(FUNCTIONS["softmax"](np.moveaxis(scores, axis, -1)), -1, axis)


def _even(scores: Array) -> Array:
    return np.full_like(scores, 1 / scores.shape[-1])


WEIGHS: tuple[tuple[str, Weigh], ...] = (
    ("runs over the queries", _over(-2)),
    ("runs over the batch", _over(0)),
    ("is a sigmoid", FUNCTIONS["sigmoid"]),
    ("is left out", lambda scores: scores),
    ("is left out, and every value has the same weight, as in a mean", _even),
)
"""Functions in place of the softmax over the values, with their sentences."""


def _weighed(weigh: Weigh) -> Call:
    """Attention without masks whose softmax is something else."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        query, value, key = (*inputs, inputs[1])[:3]
        weights = context.weights
        if isinstance(own, Attention):
            scores = query @ key.swapaxes(1, 2) * weights.get("scale", query.dtype.type(1))
            given = weigh(scores)
            return [given @ value, *([given] if own.scores else [])]
        q, k, v = (
            _heads(own, x, name, weights)
            for x, name in ((query, "query"), (key, "key"), (value, "value"))
        )
        given = weigh(q @ k.swapaxes(2, 3) / np.sqrt(q.dtype.type(own.key_dim)))
        y = np.tensordot((given @ v).swapaxes(1, 2), weights["output_kernel"], 2)
        y = y + weights["output_bias"] if own.use_bias else y
        return [y, *([given] if own.scores else [])]

    return call


def _heads(spec: Any, x: Array, name: str, weights: Any) -> Array:
    """(B, N, T, D)."""
    y = np.tensordot(x, weights[f"{name}_kernel"], 1)
    y = y + weights[f"{name}_bias"] if spec.use_bias else y
    return np.asarray(y.swapaxes(1, 2))


def _scaled(factor: float) -> Call:
    """Attention whose scores are multiplied by a number."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        if isinstance(spec, Attention):
            return forward(spec, [inputs[0] * inputs[0].dtype.type(factor), *inputs[1:]], context)
        own = {n: a * a.dtype.type(factor) for n, a in context.weights.items() if "query" in n}
        return forward(spec, inputs, replace(context, weights={**context.weights, **own}))

    return call


def scales(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Scores that are divided by another number, or by none."""
    spec = site.spec
    if isinstance(spec, Attention) and spec.score == "dot":
        if spec.scaled:

            def plain(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
                scale = np.ones_like(context.weights["scale"])
                own = {**context.weights, "scale": scale}
                return forward(spec, inputs, replace(context, weights=own))

            text = "Your scores are not multiplied by a's trained scale."
            yield called(site, plain, text, "Multiply them by `scale`.")
        else:
            text = "Your scores are divided by the square root of the features; a's are not."
            yield called(site, _scaled(spec.features**-0.5), text, "Leave the scale out.")
            text = "Your scores are divided by the features; a's are not."
            yield called(site, _scaled(1 / spec.features), text, "Leave the scale out.")
    elif isinstance(spec, MultiHeadAttention):
        fix = "Divide them by the square root of a head's key features."
        text = "Your scores are not divided by the square root of a head's key features."
        yield called(site, _scaled(spec.key_dim**0.5), text, fix)
        text = "Your scores are divided by a head's key features, not by their square root."
        yield called(site, _scaled(spec.key_dim**-0.5), text, fix)
        if spec.heads > 1:
            text = "Your scores are divided by the square root of all heads' features together."
            yield called(site, _scaled(spec.heads**-0.5), text, fix)


def axes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A softmax over another axis than the values', or none."""
    spec: Any = site.spec
    dot = isinstance(spec, MultiHeadAttention) or getattr(spec, "score", "") == "dot"
    if not isinstance(spec, (Attention, MultiHeadAttention)) or not dot:
        return
    if not spec.masks and not spec.causal:
        for words, weigh in WEIGHS:
            text = f"The softmax of your attention {words}; a's runs over the values."
            yield called(site, _weighed(weigh), text, "Use softmax over the last axis (dim=-1).")


def _ordered(*order: int) -> Call:
    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        count = len(inputs) - len(own.masks)
        three = [*inputs[:count], inputs[1]][:3]
        return forward(spec, [*(three[n] for n in order), *inputs[count:]], context)

    return call


ORDERS = (
    ((1, 0, 0), "Your query and value are in each other's place."),
    ((0, 2, 1), "Your key and value are in each other's place."),
    ((2, 1, 0), "Your query and key are in each other's place."),
    ((0, 0, 0), "Your query is taken for value and key too."),
    ((1, 1, 1), "Your value is taken for query and key too."),
    ((0, 1, 1), "Your value is taken for the key too."),
    ((0, 0, 2), "Your query is taken for the value."),
    ((0, 2, 2), "Your key is taken for the value."),
    ((0, 1, 0), "Your query is taken for the key too."),
)
"""Orders in which query, value and key may be exchanged."""


def exchanged(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Query, value and key in each other's place."""
    if isinstance(site.spec, (Attention, MultiHeadAttention)):
        fix = "Pass query, value and key as a does (PyTorch takes query, key, value)."
        for order, text in ORDERS:
            yield called(site, _ordered(*order), text, fix)


def _passing(place: int) -> Call:
    return lambda _spec, inputs, _context: [inputs[place]]


def _pooled(site: SuspectLayer) -> bool:
    """True if a mean or a sum over the queries is all that reads the layer."""
    model, own = site.model, Edge(site.node.name)
    readers = [node.spec for node in model.layers if own in node.reads]
    pools = [isinstance(s, GlobalPool) and s.how in ("mean", "average", "sum") for s in readers]
    return bool(pools) and all(pools) and own not in model.outputs


def left_out(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No attention at all: the query, the value or the key passes as it is."""
    spec: Any = site.spec
    node = site.node
    if not isinstance(spec, (Attention, MultiHeadAttention)) or spec.scores:
        return
    edges = node.inputs[: len(node.inputs) - len(spec.masks)]
    places = {edge: place for place, edge in [*enumerate(edges)][::-1]}
    for edge, place in sorted(places.items(), key=lambda found: found[1] != 1):
        if site.model.shape(edge) == node.shape:
            text = f"Your {node.name} is left out: its input {edge.node} passes as it is."
            plain = isinstance(spec, Attention) and not spec.masks and not spec.causal
            if place == 1 and plain and _pooled(site):
                text = f"{text[:-1]}, or the softmax of its weights runs over the queries: "
                text += "after the sum over them both give the same."
            yield called(site, _passing(place), text, "Weigh the values by softmax (dim=-1).")


ROWS = (
    Mistake("attention", left_out),
    Mistake("attention", scales),
    Mistake("attention", axes),
    Mistake("attention", exchanged),
)
