"""Operations of the recurrent layers, from the equations in `xlstm.ir.layers.recurrent`."""

from __future__ import annotations

import math
from dataclasses import replace

from xlstm.counting.operations.activations import activation
from xlstm.counting.operations.formula import (
    OPERATIONS,
    OperationCount,
    ShapedCall,
    elementwise,
)
from xlstm.counting.operations.polynomial import Polynomial, polynomial, product
from xlstm.ir import layers as L
from xlstm.ir.kinds import KINDS, Kind


def kind_of_equations(spec: L.Recurrent) -> Kind:
    """The canonical weights of a layer, projections and peepholes left out."""
    return KINDS.get(spec.weight_kind) or KINDS[spec.kind]


def _matrices(spec: L.Recurrent) -> int:
    """The number of matrices W: one a gate, and one where there are no gates."""
    return len(kind_of_equations(spec).gates) or 1


def _places(spec: L.Recurrent, call: ShapedCall) -> Polynomial:
    """Number of times that each unit is computed: at every step and place of every sequence."""
    space = spec.state_space if isinstance(spec, L.ConvLSTM) else ()
    sizes = (None if size is None else polynomial(size) for size in space)
    return product((*call.inputs[0][:2], *sizes))


def _products(spec: L.Recurrent) -> int:
    """Multiply-adds of x W, h U, and of the projection, at one place."""
    window = math.prod(spec.sizes()[axis] for axis in spec.sizes() if axis in "abc")
    matrices = window * _matrices(spec) * spec.units
    return matrices * (spec.features + spec.width) + spec.units * getattr(spec, "projection", 0)


def _lstm(spec: L.LSTM | L.ConvLSTM, cells: Polynomial) -> OperationCount:
    """C = f * c + i * g and h = o * activation(c); a peephole is a product and a sum a gate."""
    peepholes = isinstance(spec, L.LSTM) and spec.peepholes
    offset = isinstance(spec, L.ConvLSTM) and spec.forget_offset != 0
    total = activation(spec.gate_activation, 3 * cells) + activation(spec.activation, 2 * cells)
    return total + elementwise((4 + 6 * int(peepholes) + int(offset)) * cells)


def _step(spec: L.Recurrent, cells: Polynomial) -> OperationCount:
    """All but the products, their sums and the biases."""
    if isinstance(spec, (L.LSTM, L.ConvLSTM)):
        return _lstm(spec, cells)
    if isinstance(spec, L.GRU):  # r * ..., and (1 - z) * n + z * h
        gates = activation(spec.gate_activation, 2 * cells)
        return gates + activation(spec.activation, cells) + elementwise(5 * cells)
    return activation(spec.activation, cells)


@OPERATIONS.of(L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM)
def recurrent(spec: L.Recurrent, call: ShapedCall) -> OperationCount:
    """All steps; a mask selects every number of the output and of the states."""
    places = _places(spec, call)
    cells = places * spec.units
    total = OperationCount(places * _products(spec), bias={"": places})
    total += _step(spec, cells) + elementwise(_matrices(spec) * cells)
    if call.mask:
        states = (spec.width, spec.units)[: spec.states]
        total += elementwise((spec.width + sum(states)) * places)
    return total


MERGED = {"sum": 1, "mul": 1, "ave": 2, "concat": 0, "none": 0}
"""Operations a number of joining two halves."""


@OPERATIONS.of(L.Bidirectional)
def bidirectional(spec: L.Bidirectional, call: ShapedCall) -> OperationCount:
    """Both halves, and the merge."""
    total = elementwise(MERGED[spec.merge] * call.y)
    for prefix, half in (("forward_", spec.forward), ("backward_", spec.backward)):
        found = recurrent(half, call)
        total += replace(found, bias={prefix: found.bias[""]})
    return total
