"""LSTM, GRU and SimpleRNN of many models in numpy: one batched product a step.

In: a spec and the canonical weights of each model. Out: a callable on (models, batch, time, ...).
Letters of axes: M models, T time, B batch, I input, H hidden, G gates x hidden.

As in `recurrent.py`, the line that a gate's activation begins with lies in the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array

from .calls import LINES, calls
from .recurrent import ORDER

Step = Callable[[Array, list[Array]], None]
"""(the input's part of a step, states) -> None; changes the states in place."""


def _gates(spec: Any) -> tuple[str, ...]:
    """The activation of every gate, in the order of `ORDER`."""
    if isinstance(spec, L.SimpleRNN):
        return (spec.activation,)
    count = 3 if isinstance(spec, L.LSTM) else 2
    return (*(spec.gate_activation,) * count, spec.activation)


class StackedRecurrent:
    """One recurrent layer of many models.

    Args:
        spec: an LSTM, GRU or SimpleRNN of which `recurrent.is_covered` is true.
        weights: canonical tensors of each model, in the dtype of the computation.
    """

    def __init__(self, spec: Any, weights: Sequence[Mapping[str, Array]]) -> None:
        self.spec = spec
        lines = [LINES.get(name, (1.0, 0.0)) for name in _gates(spec)]
        order, units = ORDER[spec.kind], spec.units
        dtype = weights[0]["kernel"].dtype
        factor = np.array([line[0] for line in lines], dtype)[:, None, None]
        offset = np.array([line[1] for line in lines], dtype)[:, None]

        def matrix(name: str) -> Array:
            every = [w[name].reshape(len(order), -1, units)[order] * factor for w in weights]
            return np.ascontiguousarray(_side_by_side(np.stack(every)))

        self.kernel_MIG, self.recurrent_MHG = matrix("kernel"), matrix("recurrent")
        none = np.zeros((1, len(order), units), dtype)
        biases = [w.get("bias", none).reshape(-1, len(order), units)[:, order] for w in weights]
        inner = np.zeros((len(weights), 1, units), dtype)
        if isinstance(spec, L.GRU) and spec.reset_after:  # the reset gate multiplies this part
            inner[:, 0] = [b[1:, 2].sum(axis=0) for b in biases]
            biases = [_without_inner(b) for b in biases]
        rows = np.stack([b.sum(axis=0) * factor[:, 0] + offset for b in biases])
        self.bias_M1G = rows.reshape(len(weights), 1, -1)
        self.inner_M1H = inner * factor[-1]

    def run(
        self, x_MBTI: Array, keep_MBT: Array | None, start: Sequence[Array]
    ) -> tuple[Array, list[Array]]:
        """The states h after each step, (M, T, B, H), and the last states (M, B, H).

        Args:
            x_MBTI: the inputs, in the layer's direction.
            keep_MBT: False for steps that change no state, None for none of these.
            start: the first states; zeros if there are none.
        """
        count, batch, length, width = x_MBTI.shape
        units, dtype = self.spec.units, self.kernel_MIG.dtype
        rows = np.ascontiguousarray(x_MBTI.swapaxes(1, 2)).reshape(count, length * batch, width)
        sums = np.matmul(rows, self.kernel_MIG)
        sums += self.bias_M1G
        steps = sums.reshape(count, length, batch, -1)
        states = [np.array(s, dtype) for s in start]
        states = states or [np.zeros((count, batch, units), dtype) for _ in range(self.spec.states)]
        y = np.empty((count, length, batch, units), dtype)
        step = STEPS[self.spec.kind](self, batch)
        for t in range(length):
            before = [s.copy() for s in states] if keep_MBT is not None else []
            step(steps[:, t], states)
            if keep_MBT is not None:
                for state, old in zip(states, before, strict=True):
                    np.copyto(state, old, where=~keep_MBT[:, :, t, None])
            y[:, t] = states[0]
        return y, states


def _side_by_side(matrices_MGIH: Array) -> Array:
    """(M, gates, I, H) -> (M, I, gates x H)."""
    count, gates, width, units = matrices_MGIH.shape
    return matrices_MGIH.transpose(0, 2, 1, 3).reshape(count, width, gates * units)


def _without_inner(bias: Array) -> Array:
    """A GRU's bias [side, gate, hidden] without what its reset gate multiplies."""
    found = bias.copy()
    found[1:, 2] = 0
    return found


def _lstm(layer: StackedRecurrent, batch: int) -> Step:
    spec, weights = layer.spec, layer.recurrent_MHG
    count, units, columns = weights.shape
    sums = np.empty((count, batch, columns), weights.dtype)
    gates, g = np.empty((count, batch, 3 * units), weights.dtype), sums[..., 3 * units :]
    i, f, o = np.split(gates, 3, axis=-1)
    c, shown = np.empty_like(i, order="C"), np.empty_like(i, order="C")
    activate = calls(spec.gate_activation, sums[..., : 3 * units], gates, line=False)
    activate += calls(spec.activation, g, g, line=False)
    show = calls(spec.activation, c, shown)

    def step(x: Array, states: list[Array]) -> None:
        h, cell = states
        np.matmul(h, weights, out=sums)
        np.add(sums, x, out=sums)
        for call in activate:
            call()
        np.multiply(cell, f, out=c)
        np.multiply(g, i, out=g)
        np.add(c, g, out=c)
        cell[...] = c
        for call in show:
            call()
        np.multiply(shown, o, out=h)

    return step


def _gru(layer: StackedRecurrent, batch: int) -> Step:
    spec, weights, inner = layer.spec, layer.recurrent_MHG, layer.inner_M1H
    count, units, _ = weights.shape
    of_gates, of_n = weights, weights[..., 2 * units :]
    if not spec.reset_after:
        of_gates, of_n = (np.ascontiguousarray(p) for p in np.split(weights, [2 * units], axis=-1))
    width = of_gates.shape[-1]
    sums = np.empty((count, batch, width), weights.dtype)
    gates, both = sums[..., : 2 * units], np.empty((count, batch, 2 * units), weights.dtype)
    r, z = np.split(both, 2, axis=-1)
    n = np.empty((count, batch, units), weights.dtype)
    activate = calls(spec.gate_activation, gates, both, line=False)
    candidate = calls(spec.activation, n, n, line=False)

    def step(x: Array, states: list[Array]) -> None:
        (h,) = states
        np.matmul(h, of_gates, out=sums)
        np.add(gates, x[..., : 2 * units], out=gates)
        for call in activate:
            call()
        if spec.reset_after:
            np.add(sums[..., 2 * units :], inner, out=n)
            np.multiply(n, r, out=n)
        else:
            np.matmul(r * h, of_n, out=n)
        np.add(n, x[..., 2 * units :], out=n)
        for call in candidate:
            call()
        h -= n  # (1 - z) n + z h
        h *= z
        h += n

    return step


def _simple_rnn(layer: StackedRecurrent, batch: int) -> Step:
    weights = layer.recurrent_MHG
    count, _, columns = weights.shape
    sums = np.empty((count, batch, columns), weights.dtype)
    activate = calls(layer.spec.activation, sums, sums, line=False)

    def step(x: Array, states: list[Array]) -> None:
        np.matmul(states[0], weights, out=sums)
        np.add(sums, x, out=sums)
        for call in activate:
            call()
        states[0][...] = sums

    return step


STEPS: dict[str, Callable[[StackedRecurrent, int], Step]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "SimpleRNN": _simple_rnn,
}
"""Layer -> function that prepares its step for a batch."""


def sequence(
    layer: StackedRecurrent, x_MBTI: Array, mask_MBT: Array | None, start: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """Runs a recurrent layer of many models in its direction, and obeys a mask.

    Returns:
        The output, (M, B, T, H) or (M, B, H), and the last states (M, B, H).
    """
    spec = layer.spec
    if spec.go_backwards:
        x_MBTI = x_MBTI[:, :, ::-1]
        mask_MBT = None if mask_MBT is None else mask_MBT[:, :, ::-1]
    y_MTBH, states = layer.run(x_MBTI, mask_MBT, start)
    y_MBTH = y_MTBH.swapaxes(1, 2)
    if mask_MBT is not None:
        ran = mask_MBT if spec.zero_output_for_mask else mask_MBT.cumsum(axis=2) > 0
        y_MBTH = np.where(ran[..., None], y_MBTH, np.zeros((), y_MBTH.dtype))
    if not spec.return_sequences:
        steps = y_MBTH.shape[2]
        return (y_MBTH[:, :, -1].copy() if steps else np.zeros_like(states[0])), states
    return np.ascontiguousarray(y_MBTH), states
