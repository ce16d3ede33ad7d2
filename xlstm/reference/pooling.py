"""Forward pass of pools, and of the layers that pad, crop and repeat, channels last."""

from __future__ import annotations

import functools

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context
from xlstm.reference.convolution import padded, slide


@FORWARD.of(L.Pool)
def pool(spec: L.Pool, x: Array, _context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', C); padding is left out of the mean."""
    sliding = (spec.window, spec.strides, (1,) * len(spec.window))

    def over(function: np.ufunc, x: Array, filling: float) -> Array:
        x = padded(x, spec.padding, *sliding, filling)
        return functools.reduce(function, (part for _, part in slide(x, *sliding)))

    if spec.how == "max":
        return [over(np.maximum, x, -np.inf)]
    ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
    return [over(np.add, x, 0.0) / over(np.add, ones, 0.0)]


@FORWARD.of(L.GlobalPool)
def global_pool(spec: L.GlobalPool, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, C), or (B, 1, ..., C) if `keep` is set."""
    axes = tuple(range(1, x.ndim - 1))
    if spec.how == "max":
        return [x.max(axis=axes, keepdims=spec.keep)]
    if context.mask is None:
        return [x.mean(axis=axes, keepdims=spec.keep)]
    counts = context.mask[..., None]
    total = np.where(counts, x, 0).sum(axis=axes, keepdims=spec.keep)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all steps are masked
        return [total / counts.sum(axis=axes, keepdims=spec.keep, dtype=x.dtype)]


@FORWARD.of(L.Pad)
def pad(spec: L.Pad, x: Array, _context: Context) -> list[Array]:
    """Zeros around."""
    pairs = zip(spec.before, spec.after, strict=True)
    return [np.pad(x, [(0, 0), *pairs, (0, 0)])]


@FORWARD.of(L.Crop)
def crop(spec: L.Crop, x: Array, _context: Context) -> list[Array]:
    """The middle."""
    sizes = zip(x.shape[1:], spec.before, spec.after, strict=False)
    return [x[:, *(slice(a, n - b) for n, a, b in sizes)]]


@FORWARD.of(L.UpSample)
def up_sample(spec: L.UpSample, x: Array, _context: Context) -> list[Array]:
    """Every position repeated."""
    for axis, times in enumerate(spec.times):
        x = x.repeat(times, axis=axis + 1)
    return [x]
