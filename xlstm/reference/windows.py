"""Forward pass of the layers that slide a window, channels last."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xlstm.ir import layers as specs
from xlstm.ir.types import Array
from xlstm.reference.context import Context
from xlstm.reference.convolution import convolve, padded, scatter, slide


def conv(spec: specs.Conv, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', F): each group of channels by itself."""
    options: Any = (spec.padding, spec.strides, spec.dilation)
    inputs = np.split(x, spec.groups, axis=-1)
    kernels = np.split(context.weights["kernel"], spec.groups, axis=-1)
    pairs = zip(inputs, kernels, strict=True)
    y = np.concatenate([convolve(part, kernel, *options) for part, kernel in pairs], axis=-1)
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


def conv_transpose(spec: specs.ConvTranspose, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', F): the gradient of the convolution that makes x of y."""
    y = scatter(x, context.weights["kernel"], spec.strides, spec.dilation)
    rank, more = len(spec.window), spec.output_padding
    for axis in range(rank):
        n, stride = x.shape[axis + 1], spec.strides[axis]
        span = (spec.window[axis] - 1) * spec.dilation[axis] + 1
        whole = (n - 1) * stride + span
        if spec.padding == "same":
            size = n * stride if more is None else (n - 1) * stride + span % 2 + more[axis]
        else:
            size = n * stride + max(span - stride, 0) if more is None else whole + more[axis]
        # zeros that convolution pads with are no part of y: half of them, or one less, come first
        start = max(whole - size, 0) // 2
        y = np.moveaxis(y, axis + 1, 0)[start : start + size]
        y = np.pad(y, [(0, size - len(y)), *[(0, 0)] * (rank + 1)])
        y = np.moveaxis(y, 0, axis + 1)
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


def depthwise(spec: specs.DepthwiseConv, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', C M): each channel by itself."""
    sliding = (spec.window, spec.strides, spec.dilation)
    x = padded(x, spec.padding, *sliding)
    kernel = context.weights["kernel"]
    parts = [
        functools.reduce(np.add, (part * kernel[q][:, m] for q, part in slide(x, *sliding)))
        for m in range(spec.multiplier)
    ]
    y = np.stack(parts, axis=-1)
    y = y.reshape(*y.shape[:-2], -1)
    if spec.use_bias:
        y = y + context.weights["bias"].ravel()
    return [context.activate(spec.activation, y)]


def pool(spec: specs.Pool, x: Array, _context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', C); padding is left out of the mean."""
    sliding = (spec.window, spec.strides, (1,) * len(spec.window))

    def over(function: np.ufunc, x: Array, filling: float) -> Array:
        x = padded(x, spec.padding, *sliding, filling)
        return functools.reduce(function, (part for _, part in slide(x, *sliding)))

    if spec.how == "max":
        return [over(np.maximum, x, -np.inf)]
    ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
    return [over(np.add, x, 0.0) / over(np.add, ones, 0.0)]


def global_pool(spec: specs.GlobalPool, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, C), or (B, 1, ..., C) where the axes are kept."""
    axes = tuple(range(1, x.ndim - 1))
    if spec.how == "max":
        return [x.max(axis=axes, keepdims=spec.keep)]
    if context.mask is None:
        return [x.mean(axis=axes, keepdims=spec.keep)]
    counts = context.mask[..., None]
    total = np.where(counts, x, 0).sum(axis=axes, keepdims=spec.keep)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no step counts
        return [total / counts.sum(axis=axes, keepdims=spec.keep, dtype=x.dtype)]


def pad(spec: specs.Pad, x: Array, _context: Context) -> list[Array]:
    """Zeros around."""
    pairs = zip(spec.before, spec.after, strict=True)
    return [np.pad(x, [(0, 0), *pairs, (0, 0)])]


def crop(spec: specs.Crop, x: Array, _context: Context) -> list[Array]:
    """The middle."""
    sizes = zip(x.shape[1:], spec.before, spec.after, strict=False)
    return [x[:, *(slice(a, n - b) for n, a, b in sizes)]]


def up_sample(spec: specs.UpSample, x: Array, _context: Context) -> list[Array]:
    """Every place repeated."""
    for axis, times in enumerate(spec.times):
        x = x.repeat(times, axis=axis + 1)
    return [x]
