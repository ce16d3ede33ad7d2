"""Rows of the table of causes: sequences that lack a step, and other steps than the one meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.returned_piece import Held, Picked
from xlstm.ir.layers import (
    Bidirectional,
    Conv,
    ConvLSTM,
    Dense,
    Embedding,
    GlobalPool,
    Input,
    LayerSpec,
    Masking,
    Pool,
    Recurrent,
    Reduce,
    Slice,
    TimeDistributed,
)
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

ENDS = (("first", slice(1, None)), ("last", slice(None, -1)))
"""An end of a sequence, and the steps without it."""

LONG = 32
"""Steps of the longest sequence of which every step is tried for the last one."""

USUAL = 16
"""Steps that are tried of a sequence of any length."""


def _short(steps: slice) -> Call:
    """A layer that reads some steps of its sequence and of its mask."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        mask = context.mask
        around = context if mask is None else replace(context, mask=mask[:, steps])
        return forward(spec, [inputs[0][:, steps], *inputs[1:]], around)

    return call


def _reads_input(site: SuspectLayer) -> bool:
    """True for a layer that reads a sequence which is the model's own input."""
    first = site.node.inputs[0]
    if not isinstance(site.model.node(first.node).spec, Input):
        return False
    axes = len(site.model.shape(first))
    if isinstance(site.node.spec, TimeDistributed):
        return False
    if isinstance(site.spec, Embedding):
        return axes == 1
    return axes == 2 and isinstance(site.spec, (Conv, Dense, Masking))


def lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence that is read without its first or its last step."""
    if site.layer.call is not forward or not site.node.inputs:
        return
    if isinstance(site.spec, (Recurrent, Bidirectional)) or _reads_input(site):
        for end, steps in ENDS:
            text = f"Your layer reads all steps but the {end} one."
            fix = "Pass the whole sequence, and let loops run over all of its steps."
            yield called(site, _short(steps), text, fix)._replace(rare=True)


def pools(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A pool over time that leaves a step out, or whose windows begin one step early."""
    spec: Any = site.spec
    if isinstance(spec, Pool) and len(spec.window) == 1:
        yield from _windows(site, spec)
    elif not isinstance(spec, GlobalPool) and not (isinstance(spec, Reduce) and spec.axes == (0,)):
        return
    if len(site.model.shape(site.node.inputs[0])) == 2:
        for end, steps in ENDS:
            text = f"Your pooling over time ({spec.how}) leaves out the {end} step."
            yield called(site, _short(steps), text, "Pool over all steps.")._replace(rare=True)


def _windows(site: SuspectLayer, spec: Pool) -> Iterator[AlteredLayer]:
    """Padding around the windows of a pool, whose numbers count for nothing or for zeros."""
    for fill, what in ((-np.inf, "one step"), (0.0, "one step of zeros")):
        if spec.how != "max" and not np.isfinite(fill):
            continue
        for ends, where in (((1, 1), "each end"), ((1, 0), "its start")):

            def padded(
                own: LayerSpec,
                inputs: list[Array],
                context: Context,
                fill: float = fill,
                ends: tuple[int, int] = ends,
            ) -> list[Array]:
                wide = np.pad(inputs[0], ((0, 0), ends, (0, 0)), constant_values=fill)
                return forward(own, [wide], context)

            text = f"Your pooling pads its input by {what} at {where}: the windows are shifted."
            fix = "Leave the padding out: the first window begins at the first step."
            yield called(site, padded, text, fix)._replace(rare=True)


@dataclass(frozen=True)
class _LostStep:
    """Takes one step of every step."""

    number: int

    def __call__(self, held: Held) -> Array:
        return held.out[:, self.number]


def _tried(site: SuspectLayer) -> range:
    """Steps of a layer's input that may be taken for the last one, but for those at its ends."""
    steps = site.model.shape(site.node.inputs[0])[0]
    return range(1, min(steps - 2, LONG) if steps else USUAL)


def _said(number: int) -> tuple[str, str]:
    text = f"You take step {number}, counted from 0, for the last one: out[:, {number}], or a loop"
    return f"{text} that ends there.", "Take out[:, -1]."


def slices(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A step in the middle where a model takes the last one by itself."""
    spec = site.spec
    if isinstance(spec, Slice) and spec.axis == 0 and spec.drop and spec.start == -1:
        for number in _tried(site):
            layer = replace(site.layer, spec=replace(spec, start=number))
            yield AlteredLayer(layer, site.said(*_said(number)), f"step {number}", rare=True)


def others(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A step in the middle for the last one."""
    yield from slices(site)
    spec = site.spec
    if not isinstance(spec, (Recurrent, Bidirectional)) or isinstance(spec, ConvLSTM):
        return
    if spec.return_sequences or site.layer.call is not forward:
        return
    if isinstance(spec, Bidirectional) and spec.merge == "none":
        return
    shared = Picked(_LostStep(0))
    for number in _tried(site):
        layer = replace(site.layer, call=replace(shared, pick=_LostStep(number)))
        yield AlteredLayer(layer, site.said(*_said(number)), f"step {number}", rare=True)


POOLS = (Mistake("pooled-steps", pools),)
"""Tried before outputs that are shifted: the maximum over shifted steps is the same."""

ROWS = (
    Mistake("other-step", others),
    Mistake("lost-step", lost),
)
