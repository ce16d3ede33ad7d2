"""Operations of convolutions and pools."""

from __future__ import annotations

import math

from xlstm.counting.operations.activations import activation
from xlstm.counting.operations.formula import (
    OPERATIONS,
    OperationCount,
    ShapedCall,
    elementwise,
    sum_over,
)
from xlstm.counting.operations.polynomial import Polynomial
from xlstm.ir import layers as L


def _around(
    spec: L.Conv | L.DepthwiseConv | L.ConvTranspose, products: Polynomial, y: Polynomial
) -> OperationCount:
    """The products, the bias and the activation."""
    found = OperationCount(products, y * int(spec.use_bias))
    return found + activation(spec.activation, y)


@OPERATIONS.of(L.Conv)
def conv(spec: L.Conv, call: ShapedCall) -> OperationCount:
    """A multiply-add for each place of the window and channel of the group, for every output."""
    terms = math.prod(spec.window) * (spec.features // spec.groups)
    return _around(spec, call.y * terms, call.y)


@OPERATIONS.of(L.DepthwiseConv)
def depthwise(spec: L.DepthwiseConv, call: ShapedCall) -> OperationCount:
    """A multiply-add for each place of the window, for every output."""
    return _around(spec, call.y * math.prod(spec.window), call.y)


@OPERATIONS.of(L.ConvTranspose)
def conv_transpose(spec: L.ConvTranspose, call: ShapedCall) -> OperationCount:
    """A multiply-add for each place of the window and output channel, for every input."""
    return _around(spec, call.x * (math.prod(spec.window) * spec.units), call.y)


@OPERATIONS.of(L.Pool)
def pool(spec: L.Pool, call: ShapedCall) -> OperationCount:
    """An operation for all places of a window but the first; a mean also divides."""
    return elementwise((math.prod(spec.window) - 1 + int(spec.how == "average")) * call.y)


@OPERATIONS.of(L.GlobalPool)
def global_pool(spec: L.GlobalPool, call: ShapedCall) -> OperationCount:
    """An operation for all numbers but one of each channel; a mean also divides, a mask selects."""
    more = call.y * int(spec.how == "average") + call.x * int(call.mask)
    return sum_over(call.x, call.y) + elementwise(more)
