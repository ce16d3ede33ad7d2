"""Forward pass of the layers that join inputs, and of attention.

Masks change no number of a Merge here. Keras's masked Multiply, Maximum and Minimum are read as
a graph of small layers (`masked_merge` of converters/keras/read/masks.py), which run one by one.

Names carry their axes: B batch, Q queries, V values, D features, N heads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.activations import softmax
from xlstm.reference.context import FORWARD, Context
from xlstm.reference.elementwise import unit

Masks = dict[str, Array]
"""Masks of queries "q", values "v", keys "k": (B, T) each, True where one counts."""


def _same_rank(arrays: tuple[Array, ...]) -> list[Array]:
    """Samples of lower rank get their missing axes in front, after the batch."""
    rank = max(x.ndim for x in arrays)
    return [x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in arrays]


@FORWARD.of(L.Merge)
def merge(spec: L.Merge, *rest: Array | Context) -> list[Array]:
    """Element by element, by numpy's name."""
    arrays = _same_rank(tuple(x for x in rest if isinstance(x, np.ndarray)))
    if spec.how == "average":
        return [functools.reduce(np.add, arrays) / len(arrays)]
    return [functools.reduce(getattr(np, spec.how), arrays)]


@FORWARD.of(L.Concatenate)
def concatenate(spec: L.Concatenate, *rest: Array | Context) -> list[Array]:
    """End to end."""
    arrays = [x for x in rest if isinstance(x, np.ndarray)]
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return [np.concatenate(arrays, axis=axis)]


@FORWARD.of(L.Dot)
def dot(spec: L.Dot, a: Array, b: Array, _context: Context) -> list[Array]:
    """Products summed over one axis of each, sample by sample."""
    first, second = spec.axes
    if spec.normalize:
        a, b = unit(a, first, spec.floor), unit(b, second, spec.floor)
    pairs = zip(a, b, strict=True)
    y = np.stack([np.tensordot(x, y, (first - 1, second - 1)) for x, y in pairs])
    return [y[:, None] if y.ndim == 1 else y]


def _scores(spec: L.Attention, q_BQD: Array, k_BVD: Array, context: Context) -> Array:
    """The scores of every query and value, before the softmax: (B, Q, V)."""
    scale = context.weights.get("scale", q_BQD.dtype.type(1))
    if spec.score == "dot":
        return np.asanyarray(q_BQD @ k_BVD.swapaxes(1, 2) * scale)

    def of(q_B1D: Array) -> Array:
        if spec.score == "additive":
            return np.asanyarray((scale * np.tanh(q_B1D + k_BVD)).sum(axis=-1))
        total = np.tanh(scale * (q_B1D + k_BVD)).sum(axis=-1)
        return np.asanyarray(context.weights["attention_scale"] * total)

    # query by query: all sums at once would need Q times the memory of the key
    return np.stack([of(q_BQD[:, t, None]) for t in range(q_BQD.shape[1])], axis=1)


def _parted(spec: Any, rest: tuple[Array | Context, ...]) -> tuple[Context, list[Array], Masks]:
    """The context; query, value and key; and the masks by name."""
    *arrays, context = rest
    assert isinstance(context, Context)
    inputs: list[Array] = [x for x in arrays if isinstance(x, np.ndarray)]
    count = len(inputs) - len(spec.masks)
    query, value, key = (*inputs[:count], inputs[1])[:3]
    return context, [query, value, key], dict(zip(spec.masks, inputs[count:], strict=True))


def _seen(query: Array, value: Array, causal: bool, masks: Masks) -> Array:
    """The mask of the values that each query sees: (B, Q, V)."""
    shape = (len(query), query.shape[1], value.shape[1])
    seen = np.broadcast_to(np.tri(*shape[1:], dtype=bool) if causal else np.True_, shape)
    for name, mask in masks.items():
        seen = seen & (mask[:, :, None] if name == "q" else mask[:, None])
    return seen


def _weighed(scores: Array, seen: Array, blind: str) -> Array:
    """Softmax over the values that are seen; `blind` is the rule for a query that sees none."""
    number = scores.dtype.type
    if blind == "lowered":
        return softmax(np.where(seen, scores, scores - number(1e9)))
    lowest = np.finfo(scores.dtype).min / number(2)
    weights = softmax(np.where(seen, scores, lowest))
    return np.where(seen, weights, 0) if blind == "zeros" else weights


@FORWARD.of(L.Attention)
def attention(spec: L.Attention, *rest: Array | Context) -> list[Array]:
    """(B, Q, D), (B, V, D) -> (B, Q, D)."""
    context, (query, value, key), masks = _parted(spec, rest)
    counts = masks.pop("q", None)
    seen = _seen(query, value, spec.causal, masks)
    weights = _weighed(_scores(spec, query, key, context), seen, "lowered")
    y = weights @ value
    found = y if counts is None else np.where(counts[..., None], y, 0)
    return [found, weights] if spec.scores else [found]


@FORWARD.of(L.MultiHeadAttention)
def multi_head(spec: L.MultiHeadAttention, *rest: Array | Context) -> list[Array]:
    """Attention of several heads: (B, Q, features), (B, V, features) -> (B, Q, units)."""
    context, (query, value, key), masks = _parted(spec, rest)

    def heads(x: Array, name: str) -> Array:
        y = np.tensordot(x, context.weights[f"{name}_kernel"], 1)
        y = y + context.weights[f"{name}_bias"] if spec.use_bias else y
        return y.swapaxes(1, 2)

    q_BNQD, k_BNVD = heads(query, "query"), heads(key, "key")
    scores = q_BNQD @ k_BNVD.swapaxes(2, 3) / np.sqrt(q_BNQD.dtype.type(spec.key_dim))
    seen = _seen(query, value, spec.causal, masks)[:, None]
    weights = _weighed(scores, seen, spec.blind)
    y = weights @ heads(value, "value")
    y = np.tensordot(y.swapaxes(1, 2), context.weights["output_kernel"], 2)
    y = y + context.weights["output_bias"] if spec.use_bias else y
    return [y, weights] if spec.scores else [y]
