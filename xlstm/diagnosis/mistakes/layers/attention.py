"""Rows of the table of mistakes: attention.

Another scale or axis, exchanged inputs, mixed heads; and weighted sums over time that are built of
a softmax, products and sums: there the weights are a softmax, then comes Multiply or Dot.

B batch, N heads, Q queries, V values, D features of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Call, in_place_of, times, with_input, with_output
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called, parts
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

Weigh = Callable[[Array], Array]
"""(..., Q, V) scores -> weights."""


def _over(axis: int) -> Weigh:
    return lambda scores: np.moveaxis(FUNCTIONS["softmax"](np.moveaxis(scores, axis, -1)), -1, axis)


WEIGHS: tuple[tuple[str, Weigh], ...] = (
    ("runs over the queries", _over(-2)),
    ("runs over the batch", _over(0)),
    ("is a sigmoid", FUNCTIONS["sigmoid"]),
    ("is left out", lambda scores: scores),
    ("is left out, and every value has the same weight, as in a mean",
     lambda scores: np.full_like(scores, 1 / scores.shape[-1])),
)  # fmt: skip
"""Functions in place of the softmax over the values, with their sentences."""


def _weighed(weigh: Weigh) -> Call:
    """Attention without masks whose softmax is something else."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        query, value, key = (*inputs, inputs[1])[:3]
        weights = context.weights
        if isinstance(own, L.Attention):
            scores = query @ key.swapaxes(1, 2) * weights.get("scale", query.dtype.type(1))
            given = weigh(scores)
            return [given @ value, *([given] if own.scores else [])]
        three = {"query": query, "key": key, "value": value}
        q, k, v = (_heads(own, x, name, weights) for name, x in three.items())
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
    by = times(factor)

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        if isinstance(spec, L.Attention):
            return with_input(by)(spec, inputs, context)
        own = {n: by(a) for n, a in context.weights.items() if "query" in n}
        return forward(spec, inputs, weighing(context, own))

    return call


def weighing(context: Context, tensors: Mapping[str, Array]) -> Context:
    """The same surroundings with other tensors."""
    return replace(context, weights={**context.weights, **tensors})


def scales(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Scores that are divided by another number, or by none."""
    spec = site.spec
    if isinstance(spec, L.Attention) and spec.score == "dot":
        if spec.scaled:
            own = {**site.layer.weights, "scale": np.ones_like(site.layer.weights["scale"])}
            text = "Your scores are not multiplied by a's trained scale."
            yield site.altered(text, "Multiply them by `scale`.", weights=own)
            return
        for power, by in ((-0.5, "the square root of the features"), (-1, "the features")):
            text = f"Your scores are divided by {by}; a's are not."
            yield called(site, _scaled(spec.features**power), text, "Remove the scale.")
    elif isinstance(spec, L.MultiHeadAttention):
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
    dot = isinstance(spec, L.MultiHeadAttention) or getattr(spec, "score", "") == "dot"
    if not isinstance(spec, (L.Attention, L.MultiHeadAttention)) or not dot:
        return
    if not spec.masks and not spec.causal:
        for words, weigh in WEIGHS:
            text = f"The softmax of your attention {words}; a's runs over the values."
            yield called(site, _weighed(weigh), text, "Use softmax over the last axis (dim=-1).")


def _ordered(*order: int) -> Call:
    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
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
    if isinstance(site.spec, (L.Attention, L.MultiHeadAttention)):
        fix = "Pass query, value and key as a does (PyTorch takes query, key, value)."
        for order, text in ORDERS:
            yield called(site, _ordered(*order), text, fix)


def _pooled(site: SuspectLayer) -> bool:
    """True if a mean or a sum over the queries is all that reads the layer."""
    model, own = site.model, Edge(site.node.name)
    readers = [node.spec for node in model.layers if own in node.reads]
    pools = [isinstance(s, L.GlobalPool) and s.how in ("mean", "average", "sum") for s in readers]
    return bool(pools) and all(pools) and own not in model.outputs


def left_out(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No attention at all: the query, the value or the key passes as it is."""
    spec: Any = site.spec
    node = site.node
    if not isinstance(spec, (L.Attention, L.MultiHeadAttention)) or spec.scores:
        return
    edges = node.inputs[: len(node.inputs) - len(spec.masks)]
    places = {edge: place for place, edge in [*enumerate(edges)][::-1]}
    for edge, place in sorted(places.items(), key=lambda found: found[1] != 1):
        if site.model.shape(edge) == node.shape:
            text = f"Your {node.name} is left out: its input {edge.node} passes as it is."
            plain = isinstance(spec, L.Attention) and not spec.masks and not spec.causal
            if place == 1 and plain and _pooled(site):
                text = f"{text[:-1]}, or the softmax of its weights runs over the queries: "
                text += "after the sum over them both give the same."
            call = in_place_of(np.asarray, place)
            yield called(site, call, text, "Weigh the values by softmax (dim=-1).")


ROWS = (
    Mistake("attention", left_out),
    Mistake("attention", scales),
    Mistake("attention", axes),
    Mistake("attention", exchanged),
)


THREE = ("query", "key", "value")
Change = Callable[[Array, int], Array]


def _viewed(x: Array, axis: int) -> Array:
    """Numbers of (N, D), as they lie, taken for (D, N), and put in a's order: `axis` is N's."""
    shape = list(x.shape)
    shape[axis : axis + 2] = shape[axis + 1], shape[axis]
    return x.reshape(shape).swapaxes(axis, axis + 1)


def _laid(x: Array, axis: int) -> Array:
    """Numbers of (N, D) laid out as (D, N) where (N, D) is read."""
    return x.swapaxes(axis, axis + 1).reshape(x.shape)


CHANGES: tuple[tuple[Change, str], ...] = (
    (_viewed, "viewed as (features, heads) where a has (heads, features)"),
    (_laid, "laid out as (features, heads) where a has (heads, features)"),
)


def _chosen(names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, int]]]:
    """The inputs that are mixed up, in words, and their tensors with the axis of their heads."""
    for name in names:
        yield f"its {name}'s kernel is", {f"{name}_kernel": 1}
        yield f"its {name} is", {f"{name}_kernel": 1, f"{name}_bias": 0}
    yield "the output of its heads is", {"output_kernel": 0}
    tensors = (("kernel", 1), ("bias", 0))
    both = {f"{name}_{tensor}": axis for name in names for tensor, axis in tensors}
    yield "its query, key and value are", both


def mixed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Heads and their features in each other's place: a view where axes had to be moved."""
    spec, own = site.spec, site.layer.weights
    if not isinstance(spec, L.MultiHeadAttention):
        return
    for words, axes in _chosen(THREE):
        for change, how in CHANGES:
            found = {n: change(own[n], axis) for n, axis in axes.items() if n in own}
            if any(not np.array_equal(found[n], own[n]) for n in found):
                text = f"The heads of your attention are mixed up: {words} {how}."
                say = site.said(text, "Reshape to (heads, features), heads first.")
                yield site.with_tensors(found, say, f"{words} {how}", rare=True)


def _projected(name: str, other: str) -> Call:
    """Attention one of whose three is projected as another one is."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own = context.weights
        mine = {t: t.replace(name, other) for t in own if t.startswith(f"{name}_")}
        places = ("query", "value", "key")
        three = [*inputs, inputs[1]][:3]
        three[places.index(name)] = three[places.index(other)]
        return forward(spec, three, weighing(context, {t: own[o] for t, o in mine.items()}))

    return call


def projected(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The projected query, key or value used in another one's place."""
    spec: Any = site.spec
    if not isinstance(spec, L.MultiHeadAttention) or spec.masks:
        return
    for name, other in ((n, o) for n in THREE[::-1] for o in THREE if n != o):
        text = f"Your attention uses the projected {other} for the {name} too."
        yield called(site, _projected(name, other), text, f"Use the {name}'s own projection.")


def _unprojected(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """The heads laid end to end."""
    kernel = context.weights["output_kernel"]
    size = kernel.shape[0] * kernel.shape[1]
    if size != kernel.shape[2]:
        raise ValueError("the heads have another number of features than the output")
    own = np.eye(size, dtype=kernel.dtype).reshape(kernel.shape)
    return forward(spec, inputs, weighing(context, {"output_kernel": own}))


def output_lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No projection of the output."""
    if isinstance(site.spec, L.MultiHeadAttention):
        text = "The output projection of your attention is left out: its heads are laid end to end."
        yield called(site, _unprojected, text, "Multiply with the output kernel.")


HEADS = (
    Mistake("attention", projected),
    Mistake("attention", output_lost),
    Mistake("attention", mixed),
)


FAR = 6
"""Layers without weights between a softmax and the product that it weighs, at most."""

OTHERS = 6
"""Layers of one shape that are tried in place of an input, at most."""


class Weighted(NamedTuple):
    """A product of weights and values: the places of both among its inputs, and the softmax.

    Attributes:
        weights: the place of the weights.
        values: the place of what they weigh.
        softmax: the node that gives the weights.
        total: how many weights add up to 1.
    """

    weights: int
    values: int
    softmax: str
    total: int


def _softmax(model: Model, edge: Edge) -> tuple[str, int] | None:
    """The softmax that an edge comes from, by layers that only move numbers, and its axis' size."""
    for _ in range(FAR):
        node = model.node(edge.node)
        spec = node.spec
        if isinstance(spec, L.Softmax):
            return node.name, node.shape[spec.axis] or 0
        if getattr(spec, "activation", "") == "softmax" and isinstance(
            spec, (L.Activation, L.Dense)
        ):
            return node.name, node.shape[-1] or 0
        if parts(spec) or len(node.inputs) != 1:
            return None
        edge = node.inputs[0]
    return None


def weighted(site: SuspectLayer) -> Weighted | None:
    """A layer that multiplies values with the weights of a softmax; None for any other."""
    spec, node = site.spec, site.node
    product = isinstance(spec, L.Dot) or (isinstance(spec, L.Merge) and spec.how == "multiply")
    if not product or len(node.inputs) != 2:
        return None
    for place, edge in enumerate(node.inputs):
        found = _softmax(site.model, edge)
        if found is not None and found[1] > 1:
            return Weighted(place, 1 - place, *found)
    return None


def _constant(place: int, number: float) -> Call:
    """A layer one of whose inputs is the same number everywhere."""
    return with_input(lambda x: np.full_like(x, number), place)


def unweighted(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Weights that are left out, or a mean of what they weigh for the sum.

    A plain sum is not tried where a softmax over an axis of one number gives it: that is likelier.
    """
    found = weighted(site)
    if found is None:
        return
    name, values = site.node.name, site.node.inputs[found.values].node
    text = f"The weights of {found.softmax} are left out of your {name}: "
    fix = f"Multiply {values} with them."
    sums = isinstance(site.spec, L.Dot)
    if not (sums and 1 in site.model.node(found.softmax).shape):
        alone = f"the plain sum of {values}" if sums else f"{values} alone"
        ones = _constant(found.weights, 1)
        yield called(site, ones, f"{text}it is {alone}, as if all were 1.", fix)
    equal = f"{values} counts alike everywhere, {'a plain mean' if sums else f'1/{found.total}'}"
    yield called(site, _constant(found.weights, 1 / found.total), f"{text}{equal}.", fix)
    if sums:
        text = f"Your {name} is the mean of the weighted {values} over time; a's is the sum."
        call, fix = with_output(times(1 / found.total)), "Take the sum: the weights add up to 1."
        yield called(site, call, text, fix)


@dataclass(frozen=True)
class Replaced:
    """Calls a layer that reads another one in place of an input.

    Attributes:
        place: of the input.
        also: what is read in its place.
    """

    place: int
    also: tuple[Edge, ...]

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """The layer's own outputs."""
        *own, other = inputs
        return forward(spec, [other if n == self.place else x for n, x in enumerate(own)], context)


def _alike(model: Model, site: SuspectLayer, edge: Edge) -> list[Edge]:
    """Layers before a node that give arrays of an input's shape, the nearest first."""
    names = [node.name for node in model.nodes]
    before = model.nodes[: names.index(site.node.name)]
    shape = model.shape(edge)
    found = [Edge(n.name) for n in before if n.shape == shape and Edge(n.name) != edge]
    return found[::-1][:OTHERS]


def other_inputs(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that joins another layer's output than a joins."""
    if not isinstance(site.spec, (L.Dot, L.Merge, L.Attention)) or len(site.node.inputs) < 2:
        return
    for place, edge in enumerate(site.node.inputs):
        for other in _alike(site.model, site, edge):
            if other not in site.node.inputs:
                text = f"Your {site.node.name} reads {other.node} in place of {edge.node}."
                yield called(site, Replaced(place, (other,)), text, f"Pass {edge.node}.")


@dataclass(frozen=True)
class Cut:
    """Calls a layer that reads another input of the model, as many steps of it as of its own.

    Attributes:
        also: what is read in place of the layer's first input.
    """

    also: tuple[Edge, ...]

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """The layer's own outputs."""
        first, *own, other = inputs
        cut = other[:, : first.shape[1]] if first.ndim > 2 else other
        if cut.shape != first.shape:
            raise ValueError("the other input is shorter")
        return forward(spec, [cut, *own], context)


def other_model_inputs(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that reads another input of the model."""
    model, node = site.model, site.node
    if not node.inputs or node.inputs[0].node not in model.inputs or site.layer.call is not forward:
        return
    own = node.inputs[0].node
    for other in (name for name in model.inputs if name != own):
        shape, wanted = model.node(other).shape, model.node(own).shape
        if len(shape) == len(wanted) and shape[1:] == wanted[1:]:
            text = f"Your {node.name} reads {other} in place of {own}: the same input twice."
            yield called(site, Cut((Edge(other),)), text, f"Pass {own}.")


def _widths(site: SuspectLayer) -> list[int]:
    """Numbers of features whose square root scores may be divided by: those of layers before."""
    found, edge = [], site.node.inputs[0]
    for _ in range(FAR):
        node = site.model.node(edge.node)
        found.append(node.shape[-1] if node.shape else None)
        if len(node.inputs) != 1:
            break
        edge = node.inputs[0]
    return [n for n in dict.fromkeys(found) if n is not None and n > 1]


def scaled_scores(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Scores that are divided or multiplied by the root of a number of features before softmax."""
    if not isinstance(site.spec, L.Softmax):
        return
    for width in _widths(site):
        for number, words in ((math.sqrt(width), "divided by"), (width**-0.5, "multiplied with")):
            text = f"Your scores are {words} the square root of {width} features before the "
            text += "softmax; a's are not scaled."
            yield called(site, with_input(times(1 / number)), text, "Remove the scale.")


WEIGHTED = (
    Mistake("attention", unweighted),
    Mistake("attention", scaled_scores),
)
"""Before activations and axes of a softmax: some of those do the same by chance."""

OTHER_INPUTS = (
    Mistake("other-input", other_inputs),
    Mistake("other-input", other_model_inputs),
)
"""After the rows that alter a layer itself."""
