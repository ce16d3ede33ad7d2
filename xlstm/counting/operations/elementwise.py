"""Operations of elementwise layers, reductions and normalisations."""

from __future__ import annotations

from xlstm.counting.operations.formula import (
    OPERATIONS,
    OperationCount,
    ShapedCall,
    called,
    elementwise,
    sum_over,
)
from xlstm.counting.operations.polynomial import Polynomial, product
from xlstm.ir import layers as L


@OPERATIONS.of(L.Relu)
def relu(spec: L.Relu, call: ShapedCall) -> OperationCount:
    """A maximum; with a slope or a threshold a comparison, a select, and the slope's line."""
    pieces = 1 if not spec.slope and not spec.threshold else 2 + int(spec.slope != 0)
    pieces += int(spec.top is not None) + int(bool(spec.slope and spec.threshold))
    return elementwise(pieces * call.y)


@OPERATIONS.of(L.PRelu)
def prelu(_spec: L.PRelu, call: ShapedCall) -> OperationCount:
    """A comparison, a product and a select."""
    return elementwise(3 * call.y)


@OPERATIONS.of(L.Elu)
def elu(spec: L.Elu, call: ShapedCall) -> OperationCount:
    """A call, and a product where alpha is not 1."""
    return called("elu", call.y) + elementwise(int(spec.alpha != 1) * call.y)


@OPERATIONS.of(L.Softmax)
def softmax(_spec: L.Softmax, call: ShapedCall) -> OperationCount:
    """One call a number."""
    return called("softmax", call.y)


@OPERATIONS.of(L.Affine)
def affine(spec: L.Affine, call: ShapedCall) -> OperationCount:
    """A product and a sum, as far as they change a number."""
    return elementwise((int(spec.scale != 1) + int(spec.offset != 0)) * call.y)


FREE = ("zeros_like", "ones_like")
SIMPLE = ("reciprocal", "square", "abs", "negative", "sign", "floor", "ceil", "round", "trunc")


@OPERATIONS.of(L.Function)
def function(spec: L.Function, call: ShapedCall) -> OperationCount:
    """An elementwise operation, or a call by the function's name."""
    if spec.name in FREE:
        return OperationCount()
    return elementwise(call.y) if spec.name in SIMPLE else called(spec.name, call.y)


@OPERATIONS.of(L.Reduce)
def reduce(spec: L.Reduce, call: ShapedCall) -> OperationCount:
    """An operation for all numbers but the first of each result; a mean also divides."""
    return sum_over(call.x, call.y) + elementwise(int(spec.how == "mean") * call.y)


@OPERATIONS.of(L.Across)
def across(spec: L.Across, call: ShapedCall) -> OperationCount:
    """As `reduce`, over all samples too."""
    results = product(call.outputs[0][1:])
    return sum_over(call.x, results) + elementwise(int(spec.how == "mean") * results)


@OPERATIONS.of(L.NotEqual)
def not_equal(_spec: L.NotEqual, call: ShapedCall) -> OperationCount:
    """A comparison."""
    return elementwise(call.y)


@OPERATIONS.of(L.BatchNorm)
def batch_norm(spec: L.BatchNorm, call: ShapedCall) -> OperationCount:
    """A difference and a quotient, then gamma and beta."""
    return elementwise((2 + int(spec.scale) + int(spec.center)) * call.y)


@OPERATIONS.of(L.LayerNorm)
def layer_norm(spec: L.LayerNorm, call: ShapedCall) -> OperationCount:
    """Two means, a difference, a square and a quotient, then gamma and beta."""
    before = call.inputs[0][: 1 if spec.groups else -1]
    groups = product(before) * (spec.groups or 1)
    total = _means(call.x, groups, 2) + called("sqrt", groups)
    return total + elementwise((3 + int(spec.scale) + int(spec.center)) * call.y + groups)


def _means(x: Polynomial, groups: Polynomial, times: int = 1) -> OperationCount:
    return elementwise(times * (x - groups) + times * groups)


@OPERATIONS.of(L.RMSNorm)
def rms_norm(spec: L.RMSNorm, call: ShapedCall) -> OperationCount:
    """A mean of squares and a quotient, then gamma."""
    groups = product(call.inputs[0][:-1])
    total = _means(call.x, groups) + called("sqrt", groups)
    return total + elementwise((2 + int(spec.scale)) * call.y + groups)


def unit(x: Polynomial, vectors: Polynomial) -> OperationCount:
    """Vectors divided by their norms, or by a floor: a square, a sum, a root, a maximum."""
    return sum_over(x, vectors) + elementwise(2 * x + vectors) + called("sqrt", vectors)


@OPERATIONS.of(L.UnitNorm)
def unit_norm(_spec: L.UnitNorm, call: ShapedCall) -> OperationCount:
    """Vectors along the last axis divided by their norms."""
    return unit(call.x, product(call.inputs[0][:-1]))


@OPERATIONS.of(L.Normalization)
def normalization(_spec: L.Normalization, call: ShapedCall) -> OperationCount:
    """A difference and a quotient, or a product and a sum."""
    return elementwise(2 * call.y)


@OPERATIONS.of(L.Clip)
def clip(spec: L.Clip, call: ShapedCall) -> OperationCount:
    """One operation for each bound."""
    return elementwise((int(spec.low is not None) + int(spec.high is not None)) * call.y)


@OPERATIONS.of(L.Compare, L.Constant)
def compare(_spec: L.Compare | L.Constant, call: ShapedCall) -> OperationCount:
    """One operation."""
    return elementwise(call.y)


@OPERATIONS.of(L.Where)
def where(_spec: L.Where, call: ShapedCall) -> OperationCount:
    """A comparison of the condition, and a select."""
    return elementwise(call.x + call.y)


@OPERATIONS.of(L.Along)
def along(spec: L.Along, call: ShapedCall) -> OperationCount:
    """One operation for every number but the first along the axis."""
    sizes = call.inputs[0]
    rest = product((*sizes[: spec.axis + 1], *sizes[spec.axis + 2 :]))
    return sum_over(call.x, rest)


@OPERATIONS.of(L.Einsum)
def einsum(spec: L.Einsum, call: ShapedCall) -> OperationCount:
    """A multiply-add for every combination of the letters."""
    first, second, _out = spec.letters
    sizes = dict(zip(first + second, (*call.inputs[0][1:], *call.inputs[1][1:]), strict=True))
    return OperationCount(product((call.inputs[0][0], *sizes.values())))
