"""Rows of the table of causes: weighted sums over time, built of a softmax, products and sums.

Such an attention is a graph of small layers: the weights are a softmax, then comes Multiply or Dot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, times, with_input, with_output
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called, parts
from xlstm.ir.graph import Edge, Model
from xlstm.ir.layers import Activation, Attention, Dense, Dot, LayerSpec, Merge, Softmax
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

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
        if isinstance(spec, Softmax):
            return node.name, node.shape[spec.axis] or 0
        if getattr(spec, "activation", "") == "softmax" and isinstance(spec, (Activation, Dense)):
            return node.name, node.shape[-1] or 0
        if parts(spec) or len(node.inputs) != 1:
            return None
        edge = node.inputs[0]
    return None


def weighted(site: SuspectLayer) -> Weighted | None:
    """A layer that multiplies values with the weights of a softmax; None for any other."""
    spec, node = site.spec, site.node
    product = isinstance(spec, Dot) or (isinstance(spec, Merge) and spec.how == "multiply")
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
    sums = isinstance(site.spec, Dot)
    if not (sums and 1 in site.model.node(found.softmax).shape):
        alone = f"the plain sum of {values}" if sums else f"{values} alone"
        yield called(
            site, _constant(found.weights, 1), f"{text}it is {alone}, as if all were 1.", fix
        )
    equal = f"{values} counts alike everywhere, {'a plain mean' if sums else f'1/{found.total}'}"
    yield called(site, _constant(found.weights, 1 / found.total), f"{text}{equal}.", fix)
    if sums:
        text = f"Your {name} is the mean of the weighted {values} over time; a's is the sum."
        yield called(
            site,
            with_output(times(1 / found.total)),
            text,
            "Take the sum: the weights add up to 1.",
        )


@dataclass(frozen=True)
class Replaced:
    """Calls a layer that reads another one in place of an input.

    Attributes:
        place: of the input.
        also: what is read in its place.
    """

    place: int
    also: tuple[Edge, ...]

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
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
    if not isinstance(site.spec, (Dot, Merge, Attention)) or len(site.node.inputs) < 2:
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

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
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
    if not isinstance(site.spec, Softmax):
        return
    for width in _widths(site):
        for number, words in ((math.sqrt(width), "divided by"), (width**-0.5, "multiplied with")):
            text = f"Your scores are {words} the square root of {width} features before the "
            text += "softmax; a's are not scaled."
            yield called(site, with_input(times(1 / number)), text, "Leave the scale out.")


ROWS = (
    Mistake("attention", unweighted),
    Mistake("attention", scaled_scores),
)
"""Before activations and axes of a softmax: some of those do the same by chance."""

LATER = (
    Mistake("other-input", other_inputs),
    Mistake("other-input", other_model_inputs),
)
"""After the rows that alter a layer itself."""
