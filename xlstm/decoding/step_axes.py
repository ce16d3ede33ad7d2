"""The layers that compute each step alone, and the axes of their inputs that are the steps.

A step decoder is called with a few steps at a time. A layer in it computes the same as on the whole
sequence if each step of its output needs that step of its inputs alone. The table has one function
for each such layer; a layer that is not in the table mixes steps, or may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.layers import LayerSpec
from xlstm.ir.layers.operations import SO_FAR
from xlstm.ir.types import Shape

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
    rule = RULES.get(type(spec))
    return None if rule is None else rule(spec, shapes, axis)


def axis_of(spec: LayerSpec, output: int, axis: int) -> int:
    """The axis of the steps in an output, if it is `axis` in the first one."""
    # the weights of several heads have the heads first
    return axis + (isinstance(spec, L.MultiHeadAttention) and output == 1)


def _same(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    over_last = getattr(spec, "activation", "") in OVER_LAST_AXIS
    return None if over_last and axis == len(shapes[0]) - 1 else (axis,)


def _but_last(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of layers that work along the last axis."""
    return (axis,) if axis < len(shapes[0]) - 1 and not getattr(spec, "groups", 0) else None


def _slopes(spec: L.PRelu, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if spec.shape[axis] == 1 else None


def _softmax(spec: L.Softmax, shapes: Shapes, axis: int) -> Axes | None:
    return None if spec.axis % len(shapes[0]) == axis else (axis,)


def _reduce(spec: L.Reduce, shapes: Shapes, axis: int) -> Axes | None:
    if spec.keep:
        return None if axis in spec.axes else (axis,)
    return ([n for n in range(len(shapes[0])) if n not in spec.axes][axis],)


def _embedding(_spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis < len(shapes[0]) else None


def _reverse(_spec: LayerSpec, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis else None


def _distributed(spec: L.TimeDistributed, shapes: Shapes, axis: int) -> Axes | None:
    if axis == 0:
        return (0,) * len(shapes)
    inner = axes_before(spec.layer, [shape[1:] for shape in shapes], axis - 1)
    return inner and tuple(None if n is None else n + 1 for n in inner)


def _concatenate(spec: L.Concatenate, shapes: Shapes, axis: int) -> Axes | None:
    return None if spec.axis % len(shapes[0]) == axis else (axis,) * len(shapes)


def _stretched(spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of inputs that are broadcast: from the last axis on, and where their size is 1."""
    whole = spec.output_shapes(*shapes)[0]
    places = [axis - len(whole) + len(shape) for shape in shapes]
    stretch = (
        n < 0 or (shape[n] == 1 and whole[axis] != 1)
        for n, shape in zip(places, shapes, strict=True)
    )
    return tuple(None if same else n for n, same in zip(places, stretch, strict=True))


def _constant(spec: L.Constant, shapes: Shapes, axis: int) -> Axes | None:
    place = axis - len(shapes[0]) + len(spec.shape)
    return (axis,) if place < 0 or spec.shape[place] == 1 else None


def _dot(spec: L.Dot, shapes: Shapes, axis: int) -> Axes | None:
    a, b = (n - 1 for n in spec.axes)
    left = [(n, None) for n in range(len(shapes[0])) if n != a]
    right = [(None, n) for n in range(len(shapes[1])) if n != b]
    found: list[Axes] = [*left, *right]
    return found[axis] if found else None


def _einsum(spec: L.Einsum, _shapes: Shapes, axis: int) -> Axes | None:
    *terms, out = spec.letters
    places = (term.find(out[axis]) for term in terms)
    return tuple(None if place < 0 else place for place in places)


def _attention(spec: Any, shapes: Shapes, axis: int) -> Axes | None:
    """The axes of attention to values that are the same for every step."""
    if axis or spec.causal:
        return None
    held = len(shapes) - len(spec.masks)
    return (0, *(None,) * (held - 1), *(0 if name == "q" else None for name in spec.masks))


def _size(shape: Shape) -> int | None:
    return None if None in shape else math.prod(size or 1 for size in shape)


def _regrouped(spec: LayerSpec, shapes: Shapes, axis: int) -> Axes | None:
    """The axis of the same numbers in another shape: the sizes before and after it are equal."""
    before, (after,) = shapes[0], spec.output_shapes(*shapes)
    wanted = _size(after[:axis]), _size(after[axis + 1 :])
    for n in range(len(before)):
        if None not in wanted and (_size(before[:n]), _size(before[n + 1 :])) == wanted:
            return (n,)
    return None


def _permute(spec: L.Permute, _shapes: Shapes, axis: int) -> Axes | None:
    return (spec.order[axis] - 1,)


def _repeat(_spec: LayerSpec, _shapes: Shapes, axis: int) -> Axes | None:
    return (0,) if axis else None


def _slice(spec: L.Slice, _shapes: Shapes, axis: int) -> Axes | None:
    if spec.drop:
        return (axis + (spec.axis <= axis),)
    all_of_it = spec.start in (None, 0) and spec.stop is None and spec.step == 1
    return (axis,) if axis != spec.axis or all_of_it else None


def _expand(spec: L.ExpandDims, _shapes: Shapes, axis: int) -> Axes | None:
    return None if axis == spec.axis else (axis - (spec.axis < axis),)


def _squeeze(spec: L.Squeeze, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis + (spec.axis <= axis),)


def _along(spec: L.Along, _shapes: Shapes, axis: int) -> Axes | None:
    if spec.how in SO_FAR:
        return None if axis == spec.axis else (axis,)
    return (axis + (spec.axis <= axis),)


def _window(spec: Any, _shapes: Shapes, axis: int) -> Axes | None:
    """The axes of windows of size 1 along the axis."""
    one = axis < len(spec.window) and spec.window[axis] == spec.strides[axis] == 1
    cut = getattr(spec, "crops", None)
    return (axis,) if one and (cut is None or cut[axis] == (0, 0)) else None


def _ends(spec: L.Pad | L.Crop, _shapes: Shapes, axis: int) -> Axes | None:
    kept = axis < len(spec.before) and spec.before[axis] == spec.after[axis] == 0
    return (axis,) if kept else None


def _up(spec: L.UpSample, _shapes: Shapes, axis: int) -> Axes | None:
    return (axis,) if axis < len(spec.times) and spec.times[axis] == 1 else None


RULES: dict[type[LayerSpec], Callable[..., Axes | None]] = {
    L.Activation: _same,
    L.Affine: _same,
    L.Along: _along,
    L.Attention: _attention,
    L.Augmentation: _same,
    L.BatchNorm: _but_last,
    L.Clip: _same,
    L.Compare: _stretched,
    L.Concatenate: _concatenate,
    L.Constant: _constant,
    L.Conv: _window,
    L.ConvTranspose: _window,
    L.Crop: _ends,
    L.Dense: _but_last,
    L.DepthwiseConv: _window,
    L.Dot: _dot,
    L.Dropout: _same,
    L.Einsum: _einsum,
    L.Elu: _same,
    L.Embedding: _embedding,
    L.ExpandDims: _expand,
    L.Flatten: _regrouped,
    L.Function: _same,
    L.LayerNorm: _but_last,
    L.Masking: _but_last,
    L.Merge: _stretched,
    L.MultiHeadAttention: _attention,
    L.Normalization: _but_last,
    L.NotEqual: _same,
    L.Pad: _ends,
    L.Permute: _permute,
    L.Pool: _window,
    L.PRelu: _slopes,
    L.Reduce: _reduce,
    L.Relu: _same,
    L.RepeatVector: _repeat,
    L.Reshape: _regrouped,
    L.Reverse: _reverse,
    L.Slice: _slice,
    L.Softmax: _softmax,
    L.Squeeze: _squeeze,
    L.TimeDistributed: _distributed,
    L.TrainingOnly: _same,
    L.UnitNorm: _but_last,
    L.UpSample: _up,
    L.Where: _stretched,
}
"""The rule of each layer. Other layers mix steps (GlobalPool, Bidirectional) or samples (Across),
have a state (Recurrent), or are unknown (Custom)."""
