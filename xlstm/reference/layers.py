"""Forward pass of each layer in numpy, from the equations.

Names carry their axes: T time, B batch, I input, H hidden, G gate (i f g o), S bias side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from xlstm import model as specs
from xlstm.model import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.coverage import Coverage

Weights = Mapping[str, Array]


class Context:
    """What a layer's forward pass needs besides its input: its name, weights and the coverage."""

    def __init__(self, name: str, weights: Weights, coverage: Coverage | None) -> None:
        self.name, self.weights, self.coverage = name, weights, coverage

    def activate(self, activation: str, x: Array, use: str = "output") -> Array:
        """Applies an activation and records which of its pieces were reached."""
        if self.coverage is not None:
            self.coverage.see(self.name, use, activation, x)
        return FUNCTIONS[activation](x)


def lstm(spec: specs.LSTM, x_BTI: Array, context: Context) -> Array:
    """(B, T, I) -> (B, T, H), or (B, H) of the last step; equations in `xlstm.model.LSTM`."""
    w_GIH, u_GHH = context.weights["kernel"], context.weights["recurrent"]
    batch, steps, _ = x_BTI.shape
    h = c = np.zeros((batch, spec.units), x_BTI.dtype)
    xw_GBTH = x_BTI @ w_GIH[:, None]
    if spec.use_bias:
        xw_GBTH = xw_GBTH + context.weights["bias"].sum(axis=0)[:, None, None]
    outputs = np.zeros((batch, steps, spec.units), x_BTI.dtype)
    for t in range(steps):
        i, f, g, o = xw_GBTH[:, :, t] + h @ u_GHH
        i, f, o = (context.activate(spec.gate_activation, gate, "gates") for gate in (i, f, o))
        c = f * c + i * context.activate(spec.activation, g, "candidate")
        h = outputs[:, t] = o * context.activate(spec.activation, c, "cell")
    return outputs if spec.return_sequences else h


def simple_rnn(spec: specs.SimpleRNN, x_BTI: Array, context: Context) -> Array:
    """(B, T, I) -> (B, T, H), or (B, H) of the last step."""
    batch, steps, _ = x_BTI.shape
    h = np.zeros((batch, spec.units), x_BTI.dtype)
    xw_BTH = x_BTI @ context.weights["kernel"]
    if spec.use_bias:
        xw_BTH = xw_BTH + context.weights["bias"].sum(axis=0)
    outputs = np.zeros((batch, steps, spec.units), x_BTI.dtype)
    for t in range(steps):
        h = outputs[:, t] = context.activate(
            spec.activation, xw_BTH[:, t] + h @ context.weights["recurrent"]
        )
    return outputs if spec.return_sequences else h


def dense(spec: specs.Dense, x: Array, context: Context) -> Array:
    """(..., I) -> (..., O)."""
    y = x @ context.weights["kernel"]
    if spec.use_bias:
        y = y + context.weights["bias"]
    return context.activate(spec.activation, y)


def time_distributed(spec: specs.TimeDistributed, x: Array, context: Context) -> Array:
    """(B, T, ...) -> (B, T, ...): the layer sees each time step as a sample of its own."""
    batch, steps = x.shape[:2]
    y = forward(spec.layer, x.reshape(batch * steps, *x.shape[2:]), context)
    return y.reshape(batch, steps, *y.shape[1:])


def dropout(_spec: specs.Dropout, x: Array, _context: Context) -> Array:
    """Nothing: evaluation, not training."""
    return x


def activation(spec: specs.Activation, x: Array, context: Context) -> Array:
    """The activation of every element."""
    return context.activate(spec.activation, x)


LAYERS: dict[type[specs.Spec], Callable[..., Array]] = {
    specs.LSTM: lstm,
    specs.SimpleRNN: simple_rnn,
    specs.Dense: dense,
    specs.TimeDistributed: time_distributed,
    specs.Dropout: dropout,
    specs.Activation: activation,
}


def forward(spec: specs.Spec, x: Array, context: Context) -> Array:
    """Runs one layer."""
    return LAYERS[type(spec)](spec, x, context)
