"""Forward pass of the layers around the recurrent ones, and of any layer by its spec.

In: a spec, inputs and a `Context`. Out: a list of outputs.

>>> forward(L.Activation("relu"), [np.array([-1.0, 2.0])], Context("a", {}))[0].tolist()
[0.0, 2.0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference import (  # noqa: F401  they register their layers
    convolution,
    custom,
    elementwise,
    merge,
    operations,
    pooling,
    recurrent,
)
from xlstm.reference.context import FORWARD, Context
from xlstm.reference.summation import ordered_like


@FORWARD.of(L.Dense)
def dense(spec: L.Dense, x: Array, context: Context) -> list[Array]:
    """(..., I) -> (..., O)."""
    y = x @ context.weights["kernel"]
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


@FORWARD.of(L.TimeDistributed)
def time_distributed(spec: L.TimeDistributed, x: Array, context: Context) -> list[Array]:
    """(B, T, ...) -> (B, T, ...): each time step is one sample of the layer."""
    batch, steps = x.shape[:2]

    def flat(x: Array) -> Array:
        return x.reshape(batch * steps, *x.shape[2:])

    mask = None if context.mask is None else flat(context.mask)
    found = forward(spec.layer, [flat(x)], replace(context, mask=mask))
    return [y.reshape(batch, steps, *y.shape[1:]) for y in found]


@FORWARD.of(L.Dropout)
def dropout(_spec: L.Dropout, x: Array, _context: Context) -> list[Array]:
    """Returns the input: evaluation, not training."""
    return [x]


@FORWARD.of(L.Activation)
def activation(spec: L.Activation, x: Array, context: Context) -> list[Array]:
    """The activation of every element."""
    return [context.activate(spec.activation, x)]


@FORWARD.of(L.Masking)
def masking(spec: L.Masking, x: Array, _context: Context) -> list[Array]:
    """Zeros where all features equal the value, and the mask (B, T)."""
    mask = (x != spec.value).any(axis=-1)
    return [np.where(mask[..., None], x, 0), mask]


@FORWARD.of(L.Reverse)
def reverse(_spec: L.Reverse, x: Array, _context: Context) -> list[Array]:
    """The time axis reversed."""
    return [x[:, ::-1]]


def forward(spec: L.LayerSpec, inputs: Sequence[Array], context: Context) -> list[Array]:
    """Runs one layer: every output, in order."""
    outputs = FORWARD[type(spec)](spec, *inputs, context)
    return ordered_like(outputs, [*inputs, *context.weights.values()])
