"""Forward pass of the recurrent layers in numpy, from the equations in `xlstm.ir.layers`.

Names carry their axes: T time, B batch, I input, H hidden, G gate (i f g o; r z n), S bias side.
Several sets of weights may run at once (`xlstm.reference.variants`): V before B in every array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context
from xlstm.reference.convolution import convolve
from xlstm.reference.summation import plain, times

Step = Callable[[Array, list[Array]], list[Array]]
"""(input product of one step, states) -> states after it; the first state is the output."""


def input_product(spec: L.Recurrent, x_BTI: Array, context: Context) -> Array:
    """The input's part of every step, x W + b: (G, B, T, H) or (B, T, H).

    b is the sum of both sides of the bias; of a GRU the first alone.
    """
    batch, steps, inputs = x_BTI.shape
    xw = x_BTI.reshape(batch * steps, inputs) @ context.weights["kernel"]
    if "bias" in context.weights:
        bias = context.weights["bias"]
        bias = bias[0] if isinstance(spec, L.GRU) else bias.sum(axis=0)
        xw = np.asanyarray(xw + (bias[:, None] if bias.ndim == 2 else bias))
    return xw.reshape(*xw.shape[:-2], batch, steps, xw.shape[-1])


IFO = np.array([0, 1, 3])
"""The gates of an LSTM that have the same activation."""


def _lstm(spec: L.LSTM, context: Context) -> Step:
    u_GHH = context.weights["recurrent"]

    def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
        h, c = states
        gates = xw_GBH + times(h, u_GHH)
        i, f, o = context.activate(spec.gate_activation, gates[IFO], "gates")
        c = f * c + i * context.activate(spec.activation, gates[2], "candidate")
        h = o * context.activate(spec.activation, c, "cell")
        return [times(h, context.weights["projection"]) if spec.projection else h, c]

    return _peeping(spec, context) if spec.peepholes else step


def _peeping(spec: L.LSTM, context: Context) -> Step:
    """A step whose gates see the cell: i and f the one before, o the new one."""
    u_GHH = context.weights["recurrent"]
    see_i, see_f, see_o = context.weights["peephole"]

    def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
        h, c = states
        i, f, g, o = xw_GBH + times(h, u_GHH)
        i = context.activate(spec.gate_activation, i + c * see_i, "gates")
        f = context.activate(spec.gate_activation, f + c * see_f, "gates")
        c = f * c + i * context.activate(spec.activation, g, "candidate")
        o = context.activate(spec.gate_activation, o + c * see_o, "gates")
        h = o * context.activate(spec.activation, c, "cell")
        return [times(h, context.weights["projection"]) if spec.projection else h, c]

    return step


def _gru(spec: L.GRU, context: Context) -> Step:
    u_GHH, bias = context.weights["recurrent"], context.weights.get("bias")
    c_G1H: Any = np.zeros((3, *(1,) * (u_GHH.ndim - 1)), u_GHH.dtype)
    if bias is not None and len(bias) == 2:
        c_G1H = bias[1] if bias.ndim > 3 else bias[1][:, None]

    def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
        (h,) = states
        hu_GBH = times(h, u_GHH if spec.reset_after else u_GHH[:2])
        gates = xw_GBH[:2] + hu_GBH[:2] + c_G1H[:2]
        r, z = context.activate(spec.gate_activation, gates, "gates")
        if spec.reset_after:
            n = xw_GBH[2] + r * (hu_GBH[2] + c_G1H[2])
        else:
            n = xw_GBH[2] + times(r * h, u_GHH[2]) + c_G1H[2]
        n = context.activate(spec.activation, n, "candidate")
        return [(1 - z) * n + z * h]

    return step


def _simple_rnn(spec: L.SimpleRNN, context: Context) -> Step:
    u_HH = context.weights["recurrent"]

    def step(xw_BH: Array, states: list[Array]) -> list[Array]:
        return [context.activate(spec.activation, xw_BH + times(states[0], u_HH))]

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
    keep = mask[..., t]
    keep = keep.reshape(*keep.shape, *(1,) * (y.ndim - keep.ndim))
    kept = [np.where(keep, new, was) for new, was in zip(after, states, strict=True)]
    if y is states[0] and not spec.zero_output_for_mask:
        return kept[0], kept
    old = np.zeros_like(y) if spec.zero_output_for_mask else y
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
        product = input_product(spec, x, context)
    return loop(spec, product, context, steps=steps, masked=masked)


def loop(
    spec: L.Recurrent,
    product: Array,
    context: Context,
    *,
    steps: Mapping[type[L.LayerSpec], Callable[..., Step]] = STEPS,
    masked: MaskedStep = masked_step,
) -> list[Array]:
    """The loop over time steps, from the input's part of every step; see `recurrent`.

    It computes with plain arrays, and only its products keep an order of sums; a softmax, whose
    sums have an order too, keeps it everywhere.

    Args:
        spec: the layer.
        product: (G, B, T, H) or (B, T, H), for ConvLSTM (G, B, T, *space, H).
        context: its weights, mask and initial states.
        steps: as in `recurrent`.
        masked: as in `recurrent`.
    """
    gates = int(not isinstance(spec, L.SimpleRNN))
    time = 1 if isinstance(spec, L.ConvLSTM) else product.ndim - gates - 2
    dtype, product = product.dtype, np.moveaxis(product, time + gates, 0)
    sizes = product.shape[1 + gates : -1]
    step = steps[type(spec)](spec, context)
    widths = (spec.width, product.shape[-1])[: spec.states]
    states = list(context.states) or [np.zeros((*sizes, n), dtype) for n in widths]
    if not {spec.activation, getattr(spec, "gate_activation", "")} & SUMMED:
        product, states = plain(product), [plain(state) for state in states]
    y = np.zeros((*sizes, spec.width), dtype)
    length = len(product)
    kept = np.zeros((length if spec.return_sequences else 0, *y.shape), dtype)
    order = range(length)[::-1] if spec.go_backwards else range(length)
    for position, t in enumerate(order):
        y, states = masked(spec, context.mask, t, (y, states), step(product[t], states))
        if spec.return_sequences:
            kept[position] = y
    context.final = states
    outputs = np.moveaxis(kept, 0, time) if spec.return_sequences else y
    return [outputs, *(states if spec.return_state else ())]


SUMMED = frozenset({"softmax", "log_softmax"})
"""Activations that add up numbers."""


@FORWARD.of(L.Bidirectional)
def bidirectional(spec: L.Bidirectional, x_BTI: Array, context: Context) -> list[Array]:
    """Both halves over the same input; the second one's sequence is reversed in time."""
    count = len(spec.forward.state_shapes())
    first = context.half("forward_", context.states[:count])
    second = context.half("backward_", context.states[count:])
    found = recurrent(spec.forward, x_BTI, first), recurrent(spec.backward, x_BTI, second)
    context.final = [*first.final, *second.final]
    return joined(spec, *found)


def joined(spec: L.Bidirectional, first: list[Array], second: list[Array]) -> list[Array]:
    """The outputs of both halves as those of the layer: merged, then the states of each."""
    (a, *states_a), (b, *states_b) = first, second
    if spec.return_sequences:
        b = b[:, ::-1]
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
