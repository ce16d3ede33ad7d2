"""Rows of the table of mistakes: inputs that are late, turned, scaled, rounded, lost or doubled.

In: a layer that reads an input of the model, or that adds up or joins several layers. Out: the same
layer with other inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from xlstm.diagnosis.altered_model import Call, times, with_input, with_inputs
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.returned_piece import MOVE
from xlstm.diagnosis.mistakes.weights.contents import bfloat16, decimal, float16
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Array
from xlstm.reference.basic import forward

Change = Callable[[Array], Array]


def _moved(by: int, fill: str) -> Change:
    """A sequence one step late or early; its end is zeros, or a step that is read twice."""

    def change(x: Array) -> Array:
        y = np.roll(x, by, axis=1)
        at, near = (0, 0) if by > 0 else (-1, -1)
        if fill == "mirrored" and x.shape[1] > 1:
            y[:, at] = x[:, 1 if by > 0 else -2]
        elif fill != "wrapped":
            y[:, at] = 0 if fill == "zeros" else x[:, near]
        return y

    return change


SHIFTS: tuple[tuple[str, Change], ...] = tuple(
    (f"Your input is one step {word}: the {end} step reads {what}.", _moved(by, fill))
    for by, word, end, other in ((1, "late", "first", "last"), (-1, "early", "last", "first"))
    for fill, what in (
        ("zeros", "zeros"),
        ("again", f"the {end} one again"),
        ("wrapped", f"the {other} one"),
        ("mirrored", "the one beside it, which is read twice"),
    )
)

SCALES = (255.0, 127.5, 100.0, 10.0, 2.0)
"""Numbers that inputs are multiplied or divided by."""


def _standardised(axis: int | None) -> Change:
    def change(x: Array) -> Array:
        spread = x.std(axis=axis, keepdims=True)
        return np.asarray((x - x.mean(axis=axis, keepdims=True)) / np.where(spread == 0, 1, spread))

    return change


def _over_batch(ddof: int, x: Array) -> Array:
    """Every feature by the mean and deviation of all samples and steps, as in training."""
    axes = tuple(range(x.ndim - 1))
    spread = x.std(axis=axes, ddof=ddof)
    return np.asarray((x - x.mean(axis=axes)) / np.where(spread == 0, 1, spread))


def _cut(limit: float, x: Array) -> Array:
    return np.clip(x, -limit, limit)


def _half_round(decimals: int, x: Array) -> Array:
    return np.asarray(x.astype(np.float16).round(decimals)).astype(x.dtype)


NUMBERS: tuple[tuple[str, Change], ...] = (
    ("Your input has its features in reverse order.", lambda x: x[..., ::-1]),
    ("Your input is negated.", lambda x: -x),
    *((f"Your input is divided by {s:g}.", times(1 / s)) for s in SCALES),
    *((f"Your input is multiplied by {s:g}.", times(s)) for s in SCALES),
    ("Your input is rounded to whole numbers (integers).", np.round),
    ("Your input is cut to whole numbers (integers).", np.trunc),
    ("Your input is cut off below 0.", lambda x: np.maximum(x, 0)),
    *((f"Your input is cut off below -{s:g} and above {s:g}.", partial(_cut, s))
      for s in (1, 0.5, 2, 3, 5, 10)),
    ("Your input is cut off below 0 and above 1.", lambda x: np.clip(x, 0, 1)),
    ("Your input has lost its signs.", np.abs),
    ("Your input has its samples in reverse order.", lambda x: x[::-1]),
    ("Your input is its first sample for all of them.", lambda x: x[:1].repeat(len(x), axis=0)),
    *((f"Your input has its features shifted by one place, to the {word}.",
       partial(np.roll, shift=by, axis=-1)) for by, word in ((1, "right"), (-1, "left"))),
    ("Your input is rounded to half precision (float16).", float16),
    ("Your input is rounded to half precision (bfloat16).", bfloat16),
    *((f"Your input is rounded to {d} decimal{'s' * (d > 1)}.", partial(decimal, d))
      for d in (1, 2, 3)),
    *((f"Your input is rounded to {d} decimal{'s' * (d > 1)} in half precision (float16).",
       partial(_half_round, d)) for d in (1, 2, 3)),
    ("Your input is standardised over all its numbers.", _standardised(None)),
    *((f"Your input is standardised over time and the batch, feature by feature{how}.",
       partial(_over_batch, ddof)) for ddof, how in ((0, ""), (1, " (n - 1)"))),
    ("Your input is standardised over the batch.", _standardised(0)),
    ("Your input is standardised over its features.", _standardised(-1)),
    ("Your input is standardised over time.", _standardised(1)),
)  # fmt: skip
"""Sentence and change, for inputs of numbers."""


def changed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another input of a layer that reads one of the model's; of recurrent layers any."""
    if not site.node.inputs or site.layer.call is not forward:
        return
    first = site.node.inputs[0]
    is_first = isinstance(site.model.node(first.node).spec, L.Input)
    recurrent = isinstance(site.spec, (L.Recurrent, L.Bidirectional))
    if not (is_first or recurrent):
        return
    axes = len(site.model.shape(first)) + 1
    wrapped = isinstance(site.node.spec, L.TimeDistributed)
    numbers = isinstance(site.spec, L.Embedding)
    shifted = (axes == 3 or numbers) and not wrapped and not isinstance(site.spec, L.Dense)
    options = [*(SHIFTS if shifted and axes > 1 else ())]
    options += NUMBERS[: len(NUMBERS) - (axes < 3)] if not numbers else ()
    options = options if is_first else options[: len(SHIFTS) + 1]
    # a layer that reads in one direction has `go-backwards` for it
    if shifted and axes > 1 and not isinstance(site.spec, L.Recurrent):
        options.append(("Your input is turned round in time.", lambda x: x[:, ::-1]))
    for text, change in options:
        yield site.altered(text, "Pass it as it is.", rare=True, call=with_input(change))


ROWS = (Mistake("other-input", changed),)


def _label(model: Model, edge: Edge) -> str:
    """The layer that gives an edge, and which of its states that is."""
    spec = model.node(edge.node).spec
    if isinstance(spec, L.Recurrent) and edge.output:
        return f"{'hc'[edge.output - 1]} of {edge.node}"
    return edge.node


def _without(number: int, count: int) -> Call:
    """A layer without one of its inputs; of two the other one passes as it is."""
    if count == 2:
        return lambda _spec, inputs, _context: [inputs[1 - number]]
    return with_inputs(lambda xs: xs[:number] + xs[number + 1 :])


def _labels(site: SuspectLayer) -> list[str]:
    """Names of the inputs where all are of one shape; none otherwise."""
    shapes = {site.model.shape(edge) for edge in site.node.inputs}
    return [_label(site.model, edge) for edge in site.node.inputs] if len(shapes) == 1 else []


def left_out(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sum, or another way to merge, without one of its inputs."""
    labels = _labels(site)
    if not isinstance(site.spec, L.Merge) or len(labels) < 2:
        return
    for number, label in enumerate(labels):
        call = _without(number, len(labels))
        rest = ", ".join(other for other in labels if other != label)
        text = f"Your {site.node.name} ({site.spec.how}) leaves out {label}: it has {rest} alone."
        yield called(site, call, text, f"Put {label} in.", rare=True)


JOIN_SHIFTS: tuple[tuple[str, Callable[[Array], Array]], ...] = (
    ("late, its first step being the last one", lambda x: np.roll(x, 1, axis=1)),
    ("early, its last step being the first one", lambda x: np.roll(x, -1, axis=1)),
    ("late, its first step being zeros", lambda x: np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]),
    ("early, its last step being zeros", lambda x: np.pad(x, ((0, 0), (0, 1), (0, 0)))[:, 1:]),
)


def shifted(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sum one of whose sequences is one step off."""
    labels = _labels(site)
    if not isinstance(site.spec, L.Merge) or len(labels) != 2 or len(site.node.shape) != 2:
        return
    for number, label in enumerate(labels):
        for words, change in JOIN_SHIFTS:
            text = f"In your {site.node.name} {label} is one step {words}."
            call = with_input(change, number)
            yield called(site, call, text, "Do not shift it.", rare=True)


def _same(number: int) -> Call:
    return with_inputs(lambda xs: [xs[number]] * len(xs))


def joined(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Two arrays of one shape of which one is joined twice, or which are joined by a view."""
    labels = _labels(site)
    if not isinstance(site.spec, L.Concatenate) or len(labels) != 2:
        return
    # the states of two halves have rows of their own
    if isinstance(site.model.node(site.node.inputs[0].node).spec, L.Bidirectional):
        return
    for number, label in enumerate(labels):
        text = f"You join {label} twice; a joins {labels[0]} and {labels[1]}."
        fix = f"Join {labels[0]} and {labels[1]}."
        yield called(site, _same(number), text, fix, rare=True)
    if len(site.node.shape) != 1:
        return
    names = f"{labels[0]} and {labels[1]}"
    for axis, text in (
        (0, f"Your {names} are stacked and viewed as (batch, units): samples are mixed."),
        (-1, f"The units of {names} are interleaved in your join."),
    ):
        yield called(site, _stacked(axis), text, MOVE, rare=True)


def _stacked(axis: int) -> Call:
    """Inputs stacked along an axis and viewed as (batch, units)."""
    return lambda _spec, inputs, _context: [np.stack(inputs, axis).reshape(len(inputs[0]), -1)]


JOINED = (
    Mistake("missing-input", left_out),
    Mistake("other-input", shifted),
    Mistake("repeated-input", joined),
)
