"""Forward pass of elementwise layers, of normalisations, and of layers that change shapes."""

from __future__ import annotations

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.activations import softmax as softmax_last
from xlstm.reference.context import FORWARD, Context


@FORWARD.of(L.Relu)
def relu(spec: L.Relu, x: Array, context: Context) -> list[Array]:
    """A slope up to `threshold`, x above it, and `top` at most."""
    number = x.dtype.type
    threshold, top = spec.threshold, np.inf if spec.top is None else spec.top
    if context.coverage is not None:
        edges = (threshold, top) if threshold < top < np.inf else (threshold,)
        context.coverage.see_pieces(context.name, "output", spec.kind, edges, x)
    # 0 times minus infinity is NaN
    low = number(spec.slope) * (x - number(threshold)) if spec.slope else number(0)
    return [np.where(x > number(threshold), np.minimum(x, number(top)), low)]


@FORWARD.of(L.PRelu)
def prelu(_spec: L.PRelu, x: Array, context: Context) -> list[Array]:
    """A trained slope below zero."""
    if context.coverage is not None:
        context.coverage.see_pieces(context.name, "output", "PRelu", (0.0,), x)
    return [np.where(x >= 0, x, context.weights["slopes"] * x)]


@FORWARD.of(L.Elu)
def elu(spec: L.Elu, x: Array, context: Context) -> list[Array]:
    """An exponential below zero."""
    if context.coverage is not None:
        context.coverage.see_pieces(context.name, "output", "Elu", (0.0,), x)
    low = x.dtype.type(spec.alpha) * np.expm1(np.minimum(x, 0))
    return [np.where(x > 0, x, low)]


@FORWARD.of(L.Softmax)
def softmax(spec: L.Softmax, x: Array, _context: Context) -> list[Array]:
    """Over one axis."""
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return [np.moveaxis(softmax_last(np.moveaxis(x, axis, -1)), -1, axis)]


@FORWARD.of(L.Affine)
def affine(spec: L.Affine, x: Array, _context: Context) -> list[Array]:
    """A fixed line."""
    return [x * x.dtype.type(spec.scale) + x.dtype.type(spec.offset)]


@FORWARD.of(L.Function)
def function(spec: L.Function, x: Array, _context: Context) -> list[Array]:
    """A function of every number, by numpy's name."""
    with np.errstate(all="ignore"):
        return [np.asanyarray(getattr(np, spec.name)(x))]


@FORWARD.of(L.Reduce)
def reduce(spec: L.Reduce, x: Array, _context: Context) -> list[Array]:
    """Over axes of a sample, by numpy's name."""
    axes = tuple(axis + 1 for axis in spec.axes)
    return [np.asanyarray(getattr(np, spec.how)(x, axis=axes, keepdims=spec.keep))]


@FORWARD.of(L.NotEqual)
def not_equal(spec: L.NotEqual, x: Array, _context: Context) -> list[Array]:
    """A mask."""
    return [x != spec.value]


@FORWARD.of(L.TrainingOnly, L.Augmentation)
def nothing(_spec: L.TrainingOnly | L.Augmentation, x: Array, _context: Context) -> list[Array]:
    """The input: evaluation, not training."""
    return [x]


@FORWARD.of(L.BatchNorm)
def batch_norm(spec: L.BatchNorm, x: Array, context: Context) -> list[Array]:
    """With the statistics of training."""
    weights = context.weights
    spread = np.sqrt(weights["variance"] + x.dtype.type(spec.epsilon))
    return [_scaled((x - weights["mean"]) / spread, context)]


def _scaled(y: Array, context: Context) -> Array:
    y = y * context.weights["gamma"] if "gamma" in context.weights else y
    return y + context.weights["beta"] if "beta" in context.weights else y


@FORWARD.of(L.LayerNorm)
def layer_norm(spec: L.LayerNorm, x: Array, context: Context) -> list[Array]:
    """With the mean and variance of the sample."""
    groups = spec.groups
    parts = x.reshape(*x.shape[:-1], groups, -1) if groups else x
    axes = (*range(1, parts.ndim - 2), parts.ndim - 1) if groups else (-1,)
    mean = parts.mean(axis=axes, keepdims=True)
    variance = ((parts - mean) ** 2).mean(axis=axes, keepdims=True)
    y = (parts - mean) / np.sqrt(variance + x.dtype.type(spec.epsilon))
    return [_scaled(y.reshape(x.shape), context)]


@FORWARD.of(L.RMSNorm)
def rms_norm(spec: L.RMSNorm, x: Array, context: Context) -> list[Array]:
    """With the mean square of the last axis."""
    square = (x * x).mean(axis=-1, keepdims=True)
    return [_scaled(x / np.sqrt(square + x.dtype.type(spec.epsilon)), context)]


def unit(x: Array, axis: int, floor: float) -> Array:
    """Divided by its norm along an axis, or by `floor` where that is larger.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]), 1, 1e-12).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.sqrt((x * x).sum(axis=axis, keepdims=True))
    return np.asanyarray(x / np.maximum(length, x.dtype.type(floor)))


@FORWARD.of(L.UnitNorm)
def unit_norm(spec: L.UnitNorm, x: Array, _context: Context) -> list[Array]:
    """Divided by its norm along the last axis."""
    return [unit(x, -1, spec.floor)]


@FORWARD.of(L.Normalization)
def normalization(spec: L.Normalization, x: Array, context: Context) -> list[Array]:
    """With the mean and variance of data."""
    spread = np.maximum(np.sqrt(context.weights["variance"]), x.dtype.type(1e-7))
    mean = context.weights["mean"]
    return [mean + x * spread if spec.invert else (x - mean) / spread]


@FORWARD.of(L.Embedding)
def embedding(spec: L.Embedding, x: Array, context: Context) -> list[Array]:
    """Rows of the table, and the mask. A number without a row gives NaN, as no result is right."""
    ids = np.trunc(np.asanyarray(x, np.float64))
    known = (ids >= 0) & (ids < spec.rows)
    found = context.weights["table"][np.where(known, ids, 0).astype(np.int64)]
    found[~known] = np.nan
    return [found, x != 0] if spec.mask_zero else [found]


@FORWARD.of(L.Flatten)
def flatten(_spec: L.Flatten, x: Array, _context: Context) -> list[Array]:
    """In C order."""
    return [x.reshape(len(x), -1)]


@FORWARD.of(L.Reshape)
def reshape(spec: L.Reshape, x: Array, _context: Context) -> list[Array]:
    """In C order."""
    return [x.reshape(len(x), *(-1 if size is None else size for size in spec.shape))]


@FORWARD.of(L.Permute)
def permute(spec: L.Permute, x: Array, _context: Context) -> list[Array]:
    """Axes in another order."""
    return [x.transpose(0, *spec.order)]


@FORWARD.of(L.RepeatVector)
def repeat_vector(spec: L.RepeatVector, x: Array, _context: Context) -> list[Array]:
    """Equal steps."""
    return [np.repeat(x[:, None], spec.times, axis=1)]


@FORWARD.of(L.Slice)
def take(spec: L.Slice, x: Array, _context: Context) -> list[Array]:
    """A part along one axis."""
    before = (slice(None),) * (spec.axis + 1)
    if spec.drop:
        return [x[(*before, spec.start)]]
    return [x[(*before, slice(spec.start, spec.stop, spec.step))]]


@FORWARD.of(L.ExpandDims)
def expand_dims(spec: L.ExpandDims, x: Array, _context: Context) -> list[Array]:
    """A new axis."""
    return [np.expand_dims(x, spec.axis + 1)]


@FORWARD.of(L.Squeeze)
def squeeze(spec: L.Squeeze, x: Array, _context: Context) -> list[Array]:
    """Without an axis of size 1."""
    return [x.squeeze(spec.axis + 1)]
