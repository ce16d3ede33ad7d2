"""Operations of the layers that join inputs, and of attention."""

from __future__ import annotations

from xlstm.counting.operations.elementwise import unit
from xlstm.counting.operations.formula import (
    OPERATIONS,
    OperationCount,
    ShapedCall,
    called,
    elementwise,
    sum_over,
)
from xlstm.counting.operations.polynomial import Polynomial, Sizes, polynomial, product
from xlstm.ir import layers as L


@OPERATIONS.of(L.Merge)
def merge(spec: L.Merge, call: ShapedCall) -> OperationCount:
    """An operation for each input but the first; an average also divides."""
    whole = call.inputs[0]
    total = elementwise(call.y * int(spec.how == "average"))
    for sizes in call.inputs[1:]:
        whole = _broadcast(whole, sizes)
        total += elementwise(product(whole))
    return total


def _broadcast(first: Sizes, second: Sizes) -> Sizes:
    """The sizes of two arrays after broadcasting; missing axes are added after the batch."""
    rank, one = max(len(first), len(second)), polynomial(1)
    wide = [(sizes[0], *(one,) * (rank - len(sizes)), *sizes[1:]) for sizes in (first, second)]
    return tuple(b if a == one else a for a, b in zip(*wide, strict=True))


@OPERATIONS.of(L.Dot)
def dot(spec: L.Dot, call: ShapedCall) -> OperationCount:
    """A multiply-add for each output and place of the axis; with `normalize` the norms."""
    total = OperationCount(product((*call.outputs[0], call.inputs[0][spec.axes[0]])))
    if spec.normalize:
        for sizes, axis in zip(call.inputs, spec.axes, strict=True):
            total += unit(product(sizes), product((*sizes[:axis], *sizes[axis + 1 :])))
    return total


def _score_count(call: ShapedCall) -> tuple[Polynomial, Polynomial]:
    """Number of queries of the batch, and of pairs of a query and a value."""
    queries = product(call.inputs[0][:2])
    return queries, product((*call.inputs[0][:2], call.inputs[1][1]))


def _weights(spec: L.Attention | L.MultiHeadAttention, pairs: Polynomial) -> OperationCount:
    """The softmax, and what hides a score: a select, a difference where scores are lowered."""
    hides = any(name in spec.masks for name in "vk") or spec.causal
    blind = getattr(spec, "blind", "lowered")
    if isinstance(spec, L.MultiHeadAttention):
        hides = hides or bool(spec.masks)
    times = {"lowered": 2, "zeros": 2}.get(blind, 1) * int(hides)
    return called("softmax", pairs) + elementwise(times * pairs)


@OPERATIONS.of(L.Attention)
def attention(spec: L.Attention, call: ShapedCall) -> OperationCount:
    """The scores, their softmax, and the sums of the values."""
    _, pairs = _score_count(call)
    total = OperationCount(pairs * product(call.inputs[1][2:])) + _weights(spec, pairs)
    deep = pairs * spec.features
    if spec.score == "dot":
        total += OperationCount(deep, pairs * int(spec.scaled))
    else:
        scales = deep * int(spec.scaled) + pairs * int(spec.score == "concat")
        total += called("tanh", deep) + elementwise(deep + scales) + sum_over(deep, pairs)
    return total + elementwise(call.y * int("q" in spec.masks))


@OPERATIONS.of(L.MultiHeadAttention)
def multi_head(spec: L.MultiHeadAttention, call: ShapedCall) -> OperationCount:
    """The projections, the scores and the sums of all heads."""
    queries, pairs = _score_count(call)
    values = product(call.inputs[1][:2])
    keys = spec.heads * spec.key_dim
    wide = spec.heads * spec.value_dim
    products = queries * (spec.query_features * keys) + values * (spec.key_features * keys)
    products += values * (spec.value_features * wide) + queries * (wide * spec.units)
    products += pairs * (keys + wide)
    biases = queries * (keys + spec.units) + values * (keys + wide)
    scores = pairs * spec.heads
    return (
        OperationCount(products, biases * int(spec.use_bias))
        + elementwise(scores)
        + _weights(spec, scores)
    )
