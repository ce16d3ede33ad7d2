"""Rows of the table of causes: a sum or a join of layers without one of them, or with one twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, with_input
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.returned_piece import MOVE
from xlstm.ir.graph import Edge, Model
from xlstm.ir.layers import Bidirectional, Concatenate, LayerSpec, Merge, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


def _label(model: Model, edge: Edge) -> str:
    """The layer that gives an edge, and which of its states that is."""
    spec = model.node(edge.node).spec
    if isinstance(spec, Recurrent) and edge.output:
        return f"{'hc'[edge.output - 1]} of {edge.node}"
    return edge.node


def _with(change: Callable[[list[Array]], list[Array]]) -> Call:
    """A layer whose inputs are changed first."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        return forward(spec, change([*inputs]), context)

    return call


def _alone(number: int) -> Call:
    return lambda _spec, inputs, _context: [inputs[number]]


def _without(number: int) -> Call:
    return _with(lambda xs: [x for n, x in enumerate(xs) if n != number])


def _labels(site: SuspectLayer) -> list[str]:
    """Names of the inputs where all are of one shape; none otherwise."""
    shapes = {site.model.shape(edge) for edge in site.node.inputs}
    return [_label(site.model, edge) for edge in site.node.inputs] if len(shapes) == 1 else []


def left_out(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sum, or another way to merge, without one of its inputs."""
    labels = _labels(site)
    if not isinstance(site.spec, Merge) or len(labels) < 2:
        return
    for number, label in enumerate(labels):
        call = _alone(1 - number) if len(labels) == 2 else _without(number)
        rest = ", ".join(other for other in labels if other != label)
        text = f"Your {site.node.name} ({site.spec.how}) leaves out {label}: it has {rest} alone."
        yield called(site, call, text, f"Put {label} in.")._replace(rare=True)


SHIFTS: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    ("late, its first step being the last one", lambda x: np.roll(x, 1, axis=1)),
    ("early, its last step being the first one", lambda x: np.roll(x, -1, axis=1)),
    ("late, its first step being zeros", lambda x: np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]),
    ("early, its last step being zeros", lambda x: np.pad(x, ((0, 0), (0, 1), (0, 0)))[:, 1:]),
)


def shifted(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sum one of whose sequences is one step off."""
    labels = _labels(site)
    if not isinstance(site.spec, Merge) or len(labels) != 2 or len(site.node.shape) != 2:
        return
    for number, label in enumerate(labels):
        for words, change in SHIFTS:
            text = f"In your {site.node.name} {label} is one step {words}."
            altered = called(site, with_input(change, number), text, "Do not shift it.")
            yield altered._replace(rare=True)


def _same(number: int) -> Call:
    return _with(lambda xs: [xs[number]] * len(xs))


def _viewed(inputs: Sequence[Array]) -> Array:
    both = np.stack(inputs)
    return both.reshape(both.shape[1], -1)


def _interleaved(inputs: Sequence[Array]) -> Array:
    both = np.stack(inputs, axis=-1)
    return both.reshape(len(both), -1)


def joined(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Two arrays of one shape of which one is joined twice, or which are joined by a view."""
    labels = _labels(site)
    if not isinstance(site.spec, Concatenate) or len(labels) != 2:
        return
    # the states of two halves have rows of their own
    if isinstance(site.model.node(site.node.inputs[0].node).spec, Bidirectional):
        return
    for number, label in enumerate(labels):
        text = f"You join {label} twice; a joins {labels[0]} and {labels[1]}."
        fix = f"Join {labels[0]} and {labels[1]}."
        yield called(site, _same(number), text, fix)._replace(rare=True)
    if len(site.node.shape) != 1:
        return
    names = f"{labels[0]} and {labels[1]}"
    views = (
        (_viewed, f"Your {names} are stacked and viewed as (batch, units): samples are mixed."),
        (_interleaved, f"The units of {names} are interleaved in your join."),
    )
    for view, text in views:
        layer = replace(site.layer, call=_seen(view))
        yield AlteredLayer(layer, site.said(text, MOVE), text, rare=True)


def _seen(view: Callable[[Sequence[Array]], Array]) -> Call:
    return lambda _spec, inputs, _context: [view(inputs)]


ROWS = (
    Mistake("missing-input", left_out),
    Mistake("other-input", shifted),
    Mistake("repeated-input", joined),
)
