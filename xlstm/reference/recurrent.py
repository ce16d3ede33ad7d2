"""Forward pass of the recurrent layers in numpy, from the equations in `xlstm.ir.layers`.

Names carry their axes: T time, B batch, I input, H hidden, G gate (i f g o; r z n), S bias side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context
from xlstm.reference.convolution import convolve

Step = Callable[[Array, list[Array]], list[Array]]
"""(input product of one step, states) -> states after it; the first state is the output."""


def _input_product(x_BTI: Array, context: Context, both: bool) -> Array:
    """The input's part of every step, x W + b: (G, B, T, H) or (B, T, H).

    b is the sum of both sides of the bias, or the first alone.
    """
    kernel = context.weights["kernel"]
    xw = x_BTI @ (kernel[:, None] if kernel.ndim == 3 else kernel)
    if "bias" not in context.weights:
        return xw
    bias = context.weights["bias"]
    bias = bias.sum(axis=0) if both else bias[0]
    return np.asanyarray(xw + (bias[:, None, None] if bias.ndim == 2 else bias))


def _lstm(spec: L.LSTM, context: Context) -> Step:
    u_GHH = context.weights["recurrent"]

    def see(gate: Array, c: Array, number: int) -> Array:
        return gate + c * context.weights["peephole"][number] if spec.peepholes else gate

    def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
        h, c = states
        i, f, g, o = xw_GBH + h @ u_GHH
        i = context.activate(spec.gate_activation, see(i, c, 0), "gates")
        f = context.activate(spec.gate_activation, see(f, c, 1), "gates")
        c = f * c + i * context.activate(spec.activation, g, "candidate")
        o = context.activate(spec.gate_activation, see(o, c, 2), "gates")
        h = o * context.activate(spec.activation, c, "cell")
        return [h @ context.weights["projection"] if spec.projection else h, c]

    return step


def _gru(spec: L.GRU, context: Context) -> Step:
    u_r, u_z, u_n = context.weights["recurrent"]
    bias_SGH = context.weights.get("bias")
    c_r, c_z, c_n = bias_SGH[1] if bias_SGH is not None and len(bias_SGH) == 2 else (0, 0, 0)

    def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
        (h,) = states
        r, z, n = xw_GBH
        r = context.activate(spec.gate_activation, r + h @ u_r + c_r, "gates")
        z = context.activate(spec.gate_activation, z + h @ u_z + c_z, "gates")
        n = n + r * (h @ u_n + c_n) if spec.reset_after else n + (r * h) @ u_n + c_n
        n = context.activate(spec.activation, n, "candidate")
        return [(1 - z) * n + z * h]

    return step


def _simple_rnn(spec: L.SimpleRNN, context: Context) -> Step:
    def step(xw_BH: Array, states: list[Array]) -> list[Array]:
        return [context.activate(spec.activation, xw_BH + states[0] @ context.weights["recurrent"])]

    return step


def _conv_lstm(spec: L.ConvLSTM, context: Context) -> Step:
    def step(xw: Array, states: list[Array]) -> list[Array]:
        h, c = states
        products = [convolve(h, kernel, "same") for kernel in context.weights["recurrent"]]
        i, f, g, o = (x + hu for x, hu in zip(xw, products, strict=True))
        gates = (i, f + spec.forget_offset, o)
        i, f, o = (context.activate(spec.gate_activation, gate, "gates") for gate in gates)
        c = f * c + i * context.activate(spec.activation, g, "candidate")
        return [o * context.activate(spec.activation, c, "cell"), c]

    return step


def _convolved(spec: L.ConvLSTM, x: Array, context: Context) -> Array:
    """The input's part of every step: (G, B, T, *space, H)."""
    flat = x.reshape(-1, *x.shape[2:])
    options: Any = (spec.padding, spec.strides, spec.dilation)
    parts = [convolve(flat, kernel, *options) for kernel in context.weights["kernel"]]
    xw = np.stack([y.reshape(*x.shape[:2], *y.shape[1:]) for y in parts])
    if "bias" not in context.weights:
        return xw
    bias_GH = context.weights["bias"].sum(axis=0)
    return np.asanyarray(xw + bias_GH.reshape(len(bias_GH), *(1,) * (xw.ndim - 2), -1))


STEPS: dict[type[L.LayerSpec], Callable[..., Step]] = {
    L.LSTM: _lstm,
    L.GRU: _gru,
    L.SimpleRNN: _simple_rnn,
    L.ConvLSTM: _conv_lstm,
}


def masked_step(
    spec: L.Recurrent,
    mask: Array | None,
    t: int,
    before: tuple[Array, list[Array]],
    after: list[Array],
) -> tuple[Array, list[Array]]:
    """Output and states of one step; at masked samples those before it, or zeros."""
    if mask is None:
        return after[0], after
    y, states = before
    keep = mask[:, t].reshape(-1, *(1,) * (y.ndim - 1))
    old = np.zeros_like(y) if spec.zero_output_for_mask else y
    kept = [np.where(keep, new, was) for new, was in zip(after, states, strict=True)]
    return np.where(keep, after[0], old), kept


MaskedStep = Callable[..., tuple[Array, list[Array]]]
"""Type of the rule for masked steps, such as `masked_step`."""


@FORWARD.of(L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM)
def recurrent(
    spec: L.Recurrent,
    x: Array,
    context: Context,
    *,
    steps: Mapping[type[L.LayerSpec], Callable[..., Step]] = STEPS,
    masked: MaskedStep = masked_step,
) -> list[Array]:
    """(B, T, ...) -> (B, T, H) or (B, H), then the last states if the layer returns them.

    Args:
        spec: the layer.
        x: its input.
        context: its weights, mask and initial states.
        steps: functions that build a step of each kind of layer; the diagnosis passes wrong ones.
        masked: the rule for masked steps.
    """
    if isinstance(spec, L.ConvLSTM):
        product = _convolved(spec, x, context)
    else:
        product = _input_product(x, context, both=not isinstance(spec, L.GRU))
    gated = product.ndim > x.ndim
    step = steps[type(spec)](spec, context)
    batch, length, *space, units = product.shape[gated:]
    widths = (spec.width, units)[: spec.states]
    states = list(context.states) or [np.zeros((batch, *space, n), x.dtype) for n in widths]
    y = np.zeros((batch, *space, spec.width), x.dtype)
    outputs = np.zeros((batch, length, *space, spec.width), x.dtype)
    order = range(length)[::-1] if spec.go_backwards else range(length)
    for position, t in enumerate(order):
        after = step(product[:, :, t] if gated else product[:, t], states)
        y, states = masked(spec, context.mask, t, (y, states), after)
        outputs[:, position] = y
    context.final = states
    return [outputs if spec.return_sequences else y, *(states if spec.return_state else ())]


@FORWARD.of(L.Bidirectional)
def bidirectional(spec: L.Bidirectional, x_BTI: Array, context: Context) -> list[Array]:
    """Both halves over the same input; the second one's sequence is reversed in time."""
    count = len(spec.forward.state_shapes())
    first = context.half("forward_", context.states[:count])
    second = context.half("backward_", context.states[count:])
    a, *states_a = recurrent(spec.forward, x_BTI, first)
    b, *states_b = recurrent(spec.backward, x_BTI, second)
    if spec.return_sequences:
        b = b[:, ::-1]
    context.final = [*first.final, *second.final]
    return [*merge(spec.merge, a, b), *states_a, *states_b]


def merge(how: str, a: Array, b: Array) -> list[Array]:
    """Joins the outputs of two halves."""
    if how == "none":
        return [a, b]
    if how == "concat":
        return [np.concatenate([a, b], axis=-1)]
    if how == "mul":
        return [a * b]
    return [(a + b) / 2 if how == "ave" else a + b]
