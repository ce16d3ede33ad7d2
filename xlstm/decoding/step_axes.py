"""The layers that compute each step alone, and the axes of their inputs that are the steps.

A step decoder is called with a few steps at a time. A layer in it computes the same as on the whole
sequence if each step of its output needs that step of its inputs alone. The table has one function
for each such layer; a layer that is not in the table mixes steps, or may.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.layers import LayerSpec
from xlstm.ir.layers.operations import SO_FAR
from xlstm.ir.types import Shape

RULES = L.LayerFunctions()
"""Layer -> its rule. Other layers mix steps (GlobalPool, Bidirectional) or samples (Across),
have a state (Recurrent), or are unknown (Custom)."""

Axes = tuple[int | None, ...]
"""For each input the axis of a sample that is the steps; None: the same for every step."""

Shapes = Sequence[Shape]

OVER_LAST_AXIS = ("softmax", "log_softmax")


def axes_before(spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    """The axis of the steps in each input of a layer, if it is `axis` in its first output.

    None if a step of the output depends on other steps of the inputs.

    Args:
        spec: the layer.
        shapes: of one sample of each input, at training's length.
        axis: of a sample, from 0 on.

    >>> axes_before(L.Dense(3, 4), [(None, 3)], 0), axes_before(L.Dense(3, 4), [(9, 3)], 1)
    ((0,), None)
    >>> axes_before(L.Merge("add"), [(9, 3), (3,)], 0), axes_before(L.Reverse(), [(9,)], 0)
    ((0, None), None)
    """
    rule = next((RULES[cls] for cls in type(spec).__mro__ if cls in RULES), None)
    return None if rule is None else rule(spec, shapes, axis)


def axis_of(spec: LayerSpec, output: int, axis: int) -> int:
    """The axis of the steps in an output, if it is `axis` in the first one."""
    # the weights of several heads have the heads first
    return axis + (isinstance(spec, L.MultiHeadAttention) and output == 1)


@RULES.of(
    L.Activation,
    L.Affine,
    L.Augmentation,
    L.Clip,
    L.Dropout,
    L.Elu,
    L.Function,
    L.NotEqual,
    L.Relu,
    L.TrainingOnly,
)
def _same(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    over_last = getattr(spec, "activation", "") in OVER_LAST_AXIS
    return None if over_last and axis == len(shapes[0]) - 1 else (axis,)


@RULES.of(L.Dense, L.Masking, L.Norm, L.UnitNorm)
def _but_last(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of layers that work along the last axis."""
    return (axis,) if axis < len(shapes[0]) - 1 and not getattr(spec, "groups", 0) else None


@RULES.of(L.PRelu)
def _slopes(spec: L.PRelu, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if spec.shape[axis] == 1 else None


@RULES.of(L.Softmax)
def _softmax(spec: L.Softmax, shapes: Shapes, axis: int) -> Axes | None:
    return None if spec.axis % len(shapes[0]) == axis else (axis,)


@RULES.of(L.Reduce)
def _reduce(spec: L.Reduce, shapes: Shapes, axis: int) -> Axes | None:
    if spec.keep:
        return None if axis in spec.axes else (axis,)
    return ([n for n in range(len(shapes[0])) if n not in spec.axes][axis],)


@RULES.of(L.Embedding)
def _embedding(_spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis < len(shapes[0]) else None


@RULES.of(L.Reverse)
def _reverse(_spec: LayerSpec, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis else None


@RULES.of(L.TimeDistributed)
def _distributed(spec: L.TimeDistributed, shapes: Shapes, axis: int) -> Axes | None:
    if axis == 0:
        return (0,) * len(shapes)
    inner = axes_before(spec.layer, [shape[1:] for shape in shapes], axis - 1)
    return inner and tuple(None if n is None else n + 1 for n in inner)


@RULES.of(L.Concatenate)
def _concatenate(spec: L.Concatenate, shapes: Shapes, axis: int) -> Axes | None:
    return None if spec.axis % len(shapes[0]) == axis else (axis,) * len(shapes)


@RULES.of(L.Compare, L.Merge, L.Where)
def _stretched(spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of inputs that are broadcast: from the last axis on, and where their size is 1."""
    whole = spec.output_shapes(*shapes)[0]
    places = [axis - len(whole) + len(shape) for shape in shapes]
    stretch = (
        n < 0 or (shape[n] == 1 and whole[axis] != 1)
        for n, shape in zip(places, shapes, strict=True)
    )
    return tuple(None if same else n for n, same in zip(places, stretch, strict=True))


@RULES.of(L.Constant)
def _constant(spec: L.Constant, shapes: Shapes, axis: int) -> Axes | None:
    place = axis - len(shapes[0]) + len(spec.shape)
    return (axis,) if place < 0 or spec.shape[place] == 1 else None


@RULES.of(L.Dot)
def _dot(spec: L.Dot, shapes: Shapes, axis: int) -> Axes | None:
    a, b = (n - 1 for n in spec.axes)
    left = [(n, None) for n in range(len(shapes[0])) if n != a]
    right = [(None, n) for n in range(len(shapes[1])) if n != b]
    found: list[Axes] = [*left, *right]
    return found[axis] if found else None


@RULES.of(L.Einsum)
def _einsum(spec: L.Einsum, _shapes: Shapes, axis: int) -> Axes | None:
    *terms, out = spec.letters
    places = (term.find(out[axis]) for term in terms)
    return tuple(None if place < 0 else place for place in places)


@RULES.of(L.Attention, L.MultiHeadAttention)
def _attention(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of attention to values that are the same for every step."""
    if axis or spec.causal:
        return None
    inputs = len(shapes) - len(spec.masks)
    return (0, *(None,) * (inputs - 1), *(0 if name == "q" else None for name in spec.masks))


def _size(shape: Shape) -> int | None:
    return None if None in shape else math.prod(size or 1 for size in shape)


@RULES.of(L.Flatten, L.Reshape)
def _regrouped(spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    """The axis of the same numbers in another shape: the sizes before and after it are equal."""
    before, (after,) = shapes[0], spec.output_shapes(*shapes)
    wanted = _size(after[:axis]), _size(after[axis + 1 :])
    for n in range(len(before)):
        if None not in wanted and (_size(before[:n]), _size(before[n + 1 :])) == wanted:
            return (n,)
    return None


@RULES.of(L.Permute)
def _permute(spec: L.Permute, _shapes: Shapes, axis: int) -> Axes | None:
    return (spec.order[axis] - 1,)


@RULES.of(L.RepeatVector)
def _repeat(_spec: LayerSpec, _shapes: Shapes, axis: int) -> Axes | None:
    return (0,) if axis else None


@RULES.of(L.Slice)
def _slice(spec: L.Slice, _shapes: Shapes, axis: int) -> Axes | None:
    if spec.drop:
        return (axis + (spec.axis <= axis),)
    all_of_it = spec.start in (None, 0) and spec.stop is None and spec.step == 1
    return (axis,) if axis != spec.axis or all_of_it else None


@RULES.of(L.ExpandDims)
def _expand(spec: L.ExpandDims, _shapes: Shapes, axis: int) -> Axes | None:
    return None if axis == spec.axis else (axis - (spec.axis < axis),)


@RULES.of(L.Squeeze)
def _squeeze(spec: L.Squeeze, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis + (spec.axis <= axis),)


@RULES.of(L.Along)
def _along(spec: L.Along, _shapes: Shapes, axis: int) -> Axes | None:
    if spec.how in SO_FAR:
        return None if axis == spec.axis else (axis,)
    return (axis + (spec.axis <= axis),)


@RULES.of(L.Conv, L.ConvTranspose, L.DepthwiseConv, L.Pool)
def _window(spec: Any, _shapes: Shapes, axis: int) -> Axes | None:
    """The axes of windows of size 1 along the axis."""
    one = axis < len(spec.window) and spec.window[axis] == spec.strides[axis] == 1
    cut = getattr(spec, "crops", None)
    return (axis,) if one and (cut is None or cut[axis] == (0, 0)) else None


@RULES.of(L.Crop, L.Pad)
def _ends(spec: L.Pad | L.Crop, _shapes: Shapes, axis: int) -> Axes | None:
    kept = axis < len(spec.before) and spec.before[axis] == spec.after[axis] == 0
    return (axis,) if kept else None


@RULES.of(L.UpSample)
def _up(spec: L.UpSample, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis < len(spec.times) and spec.times[axis] == 1 else None
