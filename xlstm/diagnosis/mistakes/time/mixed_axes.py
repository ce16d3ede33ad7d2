"""Rows of the table of causes: views that mix samples, steps or units.

B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, with_input
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.hypothesis.time_distributed import Whole
from xlstm.diagnosis.mistakes.time.bidirectional import whole
from xlstm.diagnosis.mistakes.time.returned_piece import MOVE
from xlstm.ir.graph import Edge
from xlstm.ir.layers import (
    Bidirectional,
    ConvLSTM,
    Dense,
    Flatten,
    LayerSpec,
    Recurrent,
    RepeatVector,
    Reshape,
)
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

Change = Callable[[Array], Array]


def _batch_as_time(y: Array) -> Array:
    """(T, B, ...) taken for (B, T, ...)."""
    return y.swapaxes(0, 1).reshape(y.shape)


def _time_as_batch(y: Array) -> Array:
    """(B, T, ...) taken for (T, B, ...), and moved to (B, T, ...)."""
    return y.reshape(y.shape[1], y.shape[0], *y.shape[2:]).swapaxes(0, 1)


def _stacked(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """A layer whose steps, stacked time first, are viewed as batch first."""
    own: Any = spec
    sequences = own
    if isinstance(own, Bidirectional):
        sequences = replace(own, forward=whole(own.forward), backward=whole(own.backward))
    elif not own.return_sequences:
        sequences = whole(own)
    y, *states = forward(sequences, inputs, context)
    y = _batch_as_time(y)
    return [y if own.return_sequences else y[:, -1], *states]


def _pointwise(site: SuspectLayer) -> bool:
    """True for a Dense that every step goes through by itself."""
    return isinstance(site.spec, Dense) and len(site.node.shape) == 2


STACKED = (
    "Your steps (time, batch, units) are viewed as (batch, time, units): samples are mixed, and"
    " their axes had to be moved."
)


def stacks(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Steps of a layer that land in other samples."""
    spec = site.spec
    if isinstance(spec, (Recurrent, Bidirectional)) and not isinstance(spec, ConvLSTM):
        yield called(site, _stacked, STACKED, MOVE)._replace(rare=True)
    elif _pointwise(site):
        call = Whole(with_input(_batch_as_time))
        yield called(site, call, f"Of your input: {STACKED}", MOVE)._replace(rare=True)


def _exchanged(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    return [_time_as_batch(y) for y in forward(spec, inputs, context)]


def outputs(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """An output of the model for every step, viewed with batch and time exchanged."""
    if _pointwise(site) and Edge(site.node.name) in site.model.outputs:
        text = "Your output is viewed in the shape (time, batch, units), its first axes in the"
        text += " other order: samples are mixed."
        fix = "View it as (batch, time, units)."
        yield called(site, Whole(_exchanged), text, fix)._replace(rare=True)


def flattened(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Steps that are flattened from the last one to the first."""
    flat = isinstance(site.spec, (Flatten, Reshape)) and len(site.node.shape) == 1
    if flat and len(site.model.shape(site.node.inputs[0])) == 2:
        text = "Your steps are flattened in reverse order, turned round in time."
        call = with_input(lambda x: x[:, ::-1])
        yield called(site, call, text, "Flatten them as they are.")._replace(rare=True)


def repeats(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A vector repeated along another axis and viewed in the right shape."""
    spec = site.spec
    if not isinstance(spec, RepeatVector) or spec.times < 2:
        return
    times = spec.times
    changes: tuple[tuple[str, Change], ...] = (
        ("batch", lambda x: np.tile(x, (times, 1)).reshape(len(x), times, -1)),
        ("units", lambda x: np.repeat(x, times, axis=1).reshape(len(x), times, -1)),
        ("units", lambda x: np.tile(x, (1, times)).reshape(len(x), -1, times).swapaxes(1, 2)),
    )
    for number, (axis, change) in enumerate(changes):
        text = f"Your vector is repeated along the {axis} and viewed as steps: its numbers are"
        text += f" mixed with those of other {'samples' if axis == 'batch' else 'units'}."
        layer = replace(site.layer, call=_instead(change))
        fix = "Repeat it along a new axis 1, time."
        yield AlteredLayer(layer, site.said(text, fix), f"repeat {number}", rare=True)


def _instead(change: Change) -> Call:
    return lambda _spec, inputs, _context: [change(inputs[0])]


ROWS = (
    Mistake("other-repeat", repeats),
    Mistake("mixed-samples", stacks),
    Mistake("mixed-samples", outputs),
    Mistake("go-backwards", flattened),
)
