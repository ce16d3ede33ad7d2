"""The shapes of all arrays of a model, with T for the open time axis of its inputs.

The specs compute shapes of numbers only. So they are asked for several lengths, and an axis that
grows evenly with all of them is a polynomial. One that does not, as after a stride, is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from xlstm.counting.operations.polynomial import B, Polynomial, Sizes, T, polynomial
from xlstm.errors import XlstmError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Shape

LENGTHS = (4096, 4097, 4099, 10007, 100003)
"""Lengths of time that shapes are computed for: neighbours and far ones, no multiples."""

Shapes = dict[Edge, Shape]


def symbolic_shapes(model: Model) -> dict[Edge, Sizes]:
    """Sizes of every edge of a model, the batch first; an edge of unknown shape is left out.

    The first axis of an input is time if its length is open. All inputs have one T.

    >>> from xlstm.ir.graph import chain
    >>> from xlstm.ir.source import Source
    >>> model = chain("m", [("a", L.LSTM(3, 4), True)], (None, 3), {}, Source("keras"))
    >>> symbolic_shapes(model)[Edge("input")]
    (batch, steps, 3)
    """
    found = [_shapes(model, length) for length in LENGTHS]
    return {
        edge: (B, *(_size(axes) for axes in zip(*(one[edge] for one in found), strict=True)))
        for edge in found[0]
        if all(len(one.get(edge, ())) == len(found[0][edge]) for one in found)
        and all(edge in one for one in found)
    }


def _shapes(model: Model, length: int) -> Shapes:
    """Shapes of the samples of every edge where time has a length."""
    found: Shapes = {}
    for node in model.nodes:
        shapes = _outputs(node.spec, [found.get(edge) for edge in node.inputs], length)
        found |= {Edge(node.name, number): shape for number, shape in enumerate(shapes)}
    return found


def _outputs(spec: L.LayerSpec, inputs: list[Shape | None], length: int) -> tuple[Shape, ...]:
    if isinstance(spec, L.Input):
        return ((length, *spec.shape[1:]) if spec.shape[:1] == (None,) else spec.shape,)
    shapes = [shape for shape in inputs if shape is not None]
    if len(shapes) != len(inputs):
        return ()
    try:
        return spec.output_shapes(*shapes)
    except XlstmError:  # a layer that is built for another open axis than time
        return ()


def _size(axes: tuple[int | None, ...]) -> Polynomial | None:
    """The polynomial that fits the sizes of one axis at all lengths, None if none does."""
    sizes = [size for size in axes if size is not None]
    if len(sizes) != len(axes):
        return None
    slope = (sizes[-1] - sizes[0]) // (LENGTHS[-1] - LENGTHS[0])
    rest = sizes[0] - slope * LENGTHS[0]
    fits = all(s == slope * t + rest for s, t in zip(sizes, LENGTHS, strict=True))
    return slope * T + polynomial(rest) if fits else None


def open_axes(model: Model) -> Mapping[str, tuple[int, ...]]:
    """Input -> its axes of unknown length that are not time, the batch being axis 0."""
    nodes = [model.node(name) for name in model.inputs]
    found = {
        n.name: tuple(k for k, s in enumerate(n.shape, 1) if s is None and k > 1) for n in nodes
    }
    return {name: axes for name, axes in found.items() if axes}


def timed_inputs(model: Model) -> tuple[str, ...]:
    """The inputs whose first axis is T."""
    return tuple(name for name in model.inputs if model.node(name).shape[:1] == (None,))
