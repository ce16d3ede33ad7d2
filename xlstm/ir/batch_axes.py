"""Inputs and outputs whose batch is not the first axis in the source, though it is in every port.

A module with PyTorch's `batch_first=False`, or a Flax `RNN(time_major=True)`, takes (time, batch,
features). Its port takes (batch, time, features). The same call then returns other numbers, often
of the same shape. In: a model with the axes that its reader found. Out: sentences that warn of it.

    model = on_axes(model, inputs=[1], outputs=[1])   # a reader: axis 1 is the batch
    axes_line(model)                                  # reports; "" where the batch is first
    warn_of_axes(model)                               # port and save
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from xlstm.errors import AxesWarning
from xlstm.ir.graph import Edge, Model
from xlstm.ir.source import BatchAxis
from xlstm.ir.types import Shape


def on_axes(model: Model, inputs: Sequence[int], outputs: Sequence[int]) -> Model:
    """The model, with the axis of the source that is the batch for each input and output."""
    pairs = zip(map(Edge, model.inputs), inputs, strict=True)
    found = [tuple(BatchAxis(*edge, n) for edge, n in pairs if n)]
    pairs = zip(model.outputs, outputs, strict=True)
    found.append(tuple(BatchAxis(*edge, n) for edge, n in pairs if n))
    return replace(model, source=replace(model.source, input_axes=found[0], output_axes=found[1]))


def as_ported(model: Model) -> Model:
    """A model that was read from a port: the batch is its first axis."""
    if not (model.source.input_axes or model.source.output_axes):
        return model
    return replace(model, source=replace(model.source, input_axes=(), output_axes=()))


def late(model: Model) -> tuple[str, str]:
    """Shapes in the source of the inputs and of the outputs that have the batch elsewhere.

    >>> from xlstm.model import LSTM, Source, chain
    >>> layer = ("lstm", LSTM(2, 4, return_sequences=True), True)
    >>> model = chain("m", [layer], (None, 2), {}, Source("torch"))
    >>> late(on_axes(model, [1], [1]))
    ('(time, batch, 2)', '(time, batch, 4)')
    >>> late(model)
    ('', '')
    """
    (inputs, _), (outputs, _) = _both(model)
    return inputs, outputs


def _both(model: Model) -> list[tuple[str, str]]:
    """Shapes in the source and in ports, of the inputs, then of the outputs, where they differ."""
    source, found = model.source, []
    ends = ((source.input_axes, [*map(Edge, model.inputs)]), (source.output_axes, model.outputs))
    for axes, edges in ends:
        here = [(Edge(node, n), axis) for node, n, axis in axes if Edge(node, n) in edges]
        shapes = [(model.shape(edge), axis) for edge, axis in here]
        there = dict.fromkeys(_text(shape, axis) for shape, axis in shapes)
        ports = dict.fromkeys(_text(shape, 0) for shape, _ in shapes)
        found.append((", ".join(there), ", ".join(ports)))
    return found


def _text(shape: Shape, batch: int) -> str:
    """A sample's shape with its batch at this axis."""
    names = ["any" if size is None else str(size) for size in shape]
    if shape and shape[0] is None and len(shape) < 3:
        names[0] = "time"
    names.insert(batch, "batch")
    return f"({', '.join(names)})"


def axes_line(model: Model) -> str:
    """The sentence for reports and warnings; "" where the batch is first in the source too."""
    (taken, takes), (given, gives) = _both(model)
    if not (taken or given):
        return ""
    there = " and ".join(
        ([f"takes {taken}"] if taken else []) + ([f"gives {given}"] if given else [])
    )
    ports = " and ".join(
        ([f"take {takes}"] if taken else []) + ([f"give {gives}"] if given else [])
    )
    return (
        f"the batch is not the first axis in the source, which {there}. Ports are batch first, and "
        f"{ports}. The same call gives other numbers: move the batch to the front of what you pass "
        "to a port, and back in what it gives"
    )


def warnings_of(model: Model) -> list[str]:
    """All warnings for the user: the axes, other code, then those of the source's reader."""
    own = filter(None, (axes_line(model), model.source.code_warning))
    return [*own, *model.source.warnings]


def warn_of_axes(model: Model) -> None:
    """Warns the caller of a public function that is `unmoved` if a port has other axes."""
    if line := axes_line(model):
        warnings.warn(f"{model.name}: {line}", AxesWarning, stacklevel=4)
