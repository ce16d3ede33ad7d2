"""Convolutions in numpy, channels last, in any number of dimensions; and sliding windows."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context

CHUNK = 2**19
"""Numbers of windows in memory at once: they repeat every input once for each of its windows."""


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after an axis so that ceil(size / stride) windows fit: TensorFlow's rule.

    >>> same_padding(5, 3, 1, 1), same_padding(5, 2, 1, 1), same_padding(6, 3, 2, 1)
    ((1, 1), (0, 1), (0, 1))
    """
    windows = -(-size // stride)
    total = max((windows - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def padding_of(
    how: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    """Zeros before and after every axis for "valid", "same" or "causal" padding."""
    if how == "same":
        axes = zip(sizes, kernel, strides, dilation, strict=True)
        return [same_padding(*axis) for axis in axes]
    if how == "causal":
        return [((k - 1) * d, 0) for k, d in zip(kernel, dilation, strict=True)]
    return [(0, 0)] * len(sizes)


def padded(
    x: Array,
    how: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    filling: float = 0.0,
) -> Array:
    """(B, *sizes, C) with `filling` around its sizes."""
    pads = padding_of(how, x.shape[1:-1], kernel, strides, dilation)
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=filling)


def slide(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Every position in a window, with the numbers of all windows there: (B, *sizes', C).

    >>> x = np.arange(5.0).reshape(1, 5, 1)
    >>> [(q, part.ravel().tolist()) for q, part in slide(x, (2,), (2,), (1,))]
    [((0,), [0.0, 2.0]), ((1,), [1.0, 3.0])]
    """
    axes = zip(x.shape[1:-1], kernel, strides, dilation, strict=True)
    counts = [(size - (k - 1) * d - 1) // s + 1 for size, k, s, d in axes]
    for position in np.ndindex(*kernel):
        starts = [q * d for q, d in zip(position, dilation, strict=True)]
        places = zip(starts, counts, strides, strict=True)
        yield position, x[:, *(slice(a, a + (n - 1) * s + 1, s) for a, n, s in places)]


def convolve(
    x: Array,
    kernel: Array,
    padding: str = "valid",
    strides: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> Array:
    """(B, *sizes, C) with a kernel (*window, C, F) -> (B, *sizes', F); the kernel is not flipped.

    y[b, p, f] is the sum over window positions q and channels c of x[b, s p + d q, c] k[q, c, f],
    with s the stride, d the dilation, and x zero outside: the convolution of all frameworks.
    """
    rank = kernel.ndim - 2
    window = kernel.shape[:rank]
    strides, dilation = strides or (1,) * rank, dilation or (1,) * rank
    x = padded(x, padding, window, strides, dilation)
    spread = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(x, spread, axis=tuple(range(1, rank + 1)))
    places = [slice(None, None, s) for s in strides]
    inside = [slice(None, None, d) for d in dilation]
    views = np.moveaxis(views[:, *places, :, *inside], rank + 1, -1)  # B, *sizes', *window, C
    flat_KF = kernel.reshape(-1, kernel.shape[-1])
    y = np.empty((*views.shape[: rank + 1], kernel.shape[-1]), np.result_type(x, kernel))
    width = max(CHUNK // math.prod((*views.shape[:1], *views.shape[2:])), 1)
    for start in range(0, views.shape[1], width):
        part = views[:, start : start + width]
        rows = np.dot(part.reshape(-1, len(flat_KF)), flat_KF)
        y[:, start : start + width] = rows.reshape(*part.shape[: rank + 1], -1)
    return y


def scatter(x: Array, kernel: Array, strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """(B, *sizes, C) with a kernel (*window, F, C) -> (B, *sizes', F): a transposed convolution.

    Every position adds x[b, p, c] k[q, f, c] to y[b, s p + d q, f].

    >>> x, kernel = np.array([1.0, 10.0]).reshape(1, 2, 1), np.arange(1, 4.0).reshape(3, 1, 1)
    >>> scatter(x, kernel, (2,), (1,)).ravel().tolist()
    [1.0, 2.0, 13.0, 20.0, 30.0]
    """
    window = kernel.shape[:-2]
    axes = list(zip(x.shape[1:-1], window, strides, dilation, strict=True))
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in axes]
    y = np.zeros((len(x), *whole, kernel.shape[-2]), np.result_type(x, kernel))
    for position in np.ndindex(*window):
        starts = [q * d for q, d in zip(position, dilation, strict=True)]
        places = [
            slice(a, a + (n - 1) * s + 1, s) for a, (n, _, s, _) in zip(starts, axes, strict=True)
        ]
        y[:, *places] += np.dot(x, kernel[position].T)
    return y


@FORWARD.of(L.Conv)
def conv(spec: L.Conv, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', F): each group of channels separately."""
    options: Any = (spec.padding, spec.strides, spec.dilation)
    inputs = np.split(x, spec.groups, axis=-1)
    kernels = np.split(context.weights["kernel"], spec.groups, axis=-1)
    pairs = zip(inputs, kernels, strict=True)
    y = np.concatenate([convolve(part, kernel, *options) for part, kernel in pairs], axis=-1)
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


@FORWARD.of(L.ConvTranspose)
def conv_transpose(spec: L.ConvTranspose, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', F): the gradient of the convolution from y to x."""
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
        # the padding of the convolution is cut from y: half of it, or one less, at the start
        start = max(whole - size, 0) // 2
        y = np.moveaxis(y, axis + 1, 0)[start : start + size]
        y = np.pad(y, [(0, size - len(y)), *[(0, 0)] * (rank + 1)])
        y = np.moveaxis(y, 0, axis + 1)
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


@FORWARD.of(L.DepthwiseConv)
def depthwise(spec: L.DepthwiseConv, x: Array, context: Context) -> list[Array]:
    """(B, *space, C) -> (B, *space', C M): each channel separately."""
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
