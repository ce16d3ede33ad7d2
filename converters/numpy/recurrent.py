"""LSTM, GRU and SimpleRNN in numpy, with few numpy calls a step.

In: a spec and its canonical weights. Out: a callable on (batch, time, features).

- A step has one product, of h and its input below each other; see `is_joined`. Other layers
  project the whole sequence at once, (time, gates x units, batch), and then have one product of h
  a step, or two for a GRU whose reset gate acts before it.
- Gates lie one below the other and the batch is the last axis, so that each gate is one block of
  memory. A batch of 1 has no axis of its own.
- sigmoid(x) is tanh(x / 2) / 2 + 1 / 2. The weights have that half, and the slope and offset of a
  hard_sigmoid. So the sigmoids of an LSTM and its tanh are one call.
- An LSTM of sigmoid and tanh has doubled gates and a doubled h in its steps; see `is_doubled`.
- States have a row of ones, and the recurrent weights a row of biases.
- Buffers of the last batch and length are kept for the next call, for every thread apart.
- A masked step changes no state. So the steps that are not masked are moved to the front.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array

from .calls import ACROSS_UNITS, LINES, Call, calls, number

Loop = Callable[[Sequence[Array], Sequence[Array], Sequence[Array]], None]
"""Runs all steps: (input products, states h from the first on, places of h after each step)."""


class Prepared(NamedTuple):
    """The weights of one layer, ready for the steps: rows are gates x units.

    Attributes:
        kernel: (rows, features).
        recurrent: (rows, units + 1), the last column being a bias, and the kernel's columns after
            it in a joined layer; column by column in memory.
        outer: (rows), added to the input's product: the part of a GRU's bias that its reset gate
            must not multiply, and zeros for other layers.
    """

    kernel: Array
    recurrent: Array
    outer: Array


class Buffers(NamedTuple):
    """Memory for one batch and length, and the loop that works in it.

    Attributes:
        product: the input's part of every step, (time, rows, *batch); no rows in a joined layer.
        rows: its steps.
        states: h before the first step and after each, (time + 1, units + 1, *batch), and in a
            joined layer the inputs below.
        reads: h before each step, with all below it.
        writes: h after each step alone.
        cell: an LSTM's c, (units, *batch); empty for other layers.
        loop: runs the steps.
    """

    product: Array
    rows: list[Array]
    states: Array
    reads: list[Array]
    writes: list[Array]
    cell: Array
    loop: Loop


def is_covered(spec: L.LayerSpec) -> bool:
    """True for a layer that this module computes."""
    if isinstance(spec, L.Bidirectional):
        return all(map(is_covered, spec.halves))
    if not isinstance(spec, (L.LSTM, L.GRU, L.SimpleRNN)):
        return False
    if isinstance(spec, L.LSTM) and (spec.projection or spec.peepholes):
        return False
    return not {spec.activation, getattr(spec, "gate_activation", "")} & {*ACROSS_UNITS}


def is_joined(spec: Any) -> bool:
    """True for a layer whose step has one product of h and its input.

    It saves a call a step. The reset gate of a GRU acts on one side only. The kernel of a wide
    input would be read at every step; one product of all steps reads it once.
    """
    return not isinstance(spec, L.GRU) and spec.features <= spec.units


def is_doubled(spec: Any) -> bool:
    """True for an LSTM that computes with 2 h: sigmoid(x) is half of tanh(x / 2) + 1.

    The half of c lies in the sum of its terms, that of h in the recurrent weights.
    """
    return isinstance(spec, L.LSTM) and _gates(spec)[1:3] == ("sigmoid", "tanh")


def _scaled(gates: Sequence[str], part: Array) -> Array:
    """Weights (gate, ..., units) times the factor that each gate's activation begins with."""
    factors = [LINES.get(name, (1.0, 0.0))[0] for name in gates]
    scale = np.array(factors, part.dtype)
    return np.asarray(part * scale.reshape(-1, *(1,) * (part.ndim - 1)))


def _gates(spec: Any) -> tuple[str, ...]:
    """The activation of every gate, in the canonical order."""
    if isinstance(spec, L.LSTM):
        gate = spec.gate_activation
        return gate, gate, spec.activation, gate
    if isinstance(spec, L.GRU):
        return spec.gate_activation, spec.gate_activation, spec.activation
    return (spec.activation,)


ORDER = {"LSTM": [0, 1, 3, 2], "GRU": [0, 1, 2], "SimpleRNN": [0]}
"""Gates as they lie here: the candidate is the last one."""


def prepare(spec: Any, weights: Mapping[str, Array]) -> Prepared:
    """Scales and orders the weights of a layer."""
    gates, order = _gates(spec), ORDER[spec.kind]
    count, units = len(gates), spec.units
    kernel, recurrent = (
        _scaled(gates, weights[name].reshape(count, -1, units)) for name in ("kernel", "recurrent")
    )
    bias = weights.get("bias", np.zeros((1, count, units), kernel.dtype)).reshape(-1, count, units)
    inner, outer = bias.sum(axis=0), np.zeros_like(bias[0])
    if isinstance(spec, L.GRU) and spec.reset_after:  # the reset gate multiplies one side only
        outer[2], inner[2] = bias[0, 2], bias[1:, 2].sum(axis=0)
    offsets = np.array([[LINES.get(name, (1.0, 0.0))[1]] for name in gates], kernel.dtype)
    inner, outer = _scaled(gates, inner), _scaled(gates, outer)
    inner[:2] += offsets[:2]
    outer[2:] += offsets[2:] if isinstance(spec, L.GRU) else 0
    inner[2:] += offsets[2:] if not isinstance(spec, L.GRU) else 0
    recurrent = recurrent / 2 if is_doubled(spec) else recurrent
    below = [inner[:, None], *([kernel] if is_joined(spec) else [])]
    rows = (kernel, np.concatenate([recurrent, *below], axis=1))
    flat = [part[order].swapaxes(0, 1).reshape(-1, count * units) for part in rows]
    kernel, recurrent = (np.ascontiguousarray(part).T for part in flat)
    return Prepared(kernel, recurrent, outer[order].reshape(-1))


MOST_KEPT = 2**26
"""Bytes of states and input products up to which a layer keeps its memory between calls."""


class FastRecurrent:
    """One recurrent layer, without its mask, states first and direction.

    Args:
        spec: an LSTM, GRU or SimpleRNN of which `is_covered` is true.
        weights: canonical tensors, in the dtype of the computation; they are copied.
    """

    def __init__(self, spec: Any, weights: Mapping[str, Array]) -> None:
        self.spec = spec
        self.weights = prepare(spec, weights)
        self._local = threading.local()

    def buffers(self, batch: int, length: int) -> Buffers:
        """Memory of this thread; that of the last call, if it had this batch and length."""
        key, found = getattr(self._local, "kept", (None, None))
        if found is None or key != (batch, length):
            found = self._allocate(batch, length)
            if found.product.nbytes + found.states.nbytes <= MOST_KEPT:
                self._local.kept = (batch, length), found
        return found

    def _allocate(self, batch: int, length: int) -> Buffers:
        units, dtype = self.spec.units, self.weights.kernel.dtype
        tail = () if batch == 1 else (batch,)
        rows, columns = self.weights.recurrent.shape
        product = np.empty((length, 0 if is_joined(self.spec) else rows, *tail), dtype)
        states = np.ones((length + 1, columns, *tail), dtype)
        cell, loop = LOOPS[self.spec.kind](self.spec, self.weights.recurrent, tail)
        writes = [state[:units] for state in states[1:]]
        return Buffers(product, list(product), states, list(states[:-1]), writes, cell, loop)

    def run(
        self, x_BTI: Array, start: Sequence[Array], cells: list[Array] | None = None
    ) -> tuple[Buffers, Array]:
        """Runs all steps; returns the buffers, and h before and after each step (T + 1, H, B).

        Args:
            x_BTI: the input, in the dtype of the weights.
            start: initial states (batch, units); empty for zeros.
            cells: gets a copy of an LSTM's c after each step; None to keep the last one only.
        """
        batch, length, _ = x_BTI.shape
        kept = self.buffers(batch, length)
        self._take(x_BTI, kept)
        units, doubled = self.spec.units, is_doubled(self.spec)
        first, tail = kept.states[0, :units], kept.cell.shape[1:]
        first[...] = start[0].T.reshape(first.shape) * (1 + doubled) if start else 0
        if kept.cell.size:
            kept.cell[...] = start[1].T.reshape(units, *tail) if start else 0
        if cells is None:
            kept.loop(kept.rows, kept.reads, kept.writes)
        else:
            for row, before, after in zip(kept.rows, kept.reads, kept.writes, strict=True):
                kept.loop([row], [before], [after])
                cells.append(kept.cell.reshape(units, batch).T.copy())
        states = kept.states[:, :units]
        if doubled:
            np.multiply(states, number(0.5, states), states)
        return kept, states.reshape(length + 1, units, batch)

    def _take(self, x_BTI: Array, kept: Buffers) -> None:
        """Stores the input below the states, or its product with the kernel."""
        one = len(x_BTI) == 1
        if is_joined(self.spec):
            kept.states[:-1, self.spec.units + 1 :] = x_BTI[0] if one else x_BTI.transpose(1, 2, 0)
            return
        kernel, outer = self.weights.kernel, self.weights.outer
        if one:
            np.dot(x_BTI[0], kernel.T, kept.product)
        else:
            np.matmul(kernel, x_BTI.transpose(1, 2, 0), out=kept.product)
        if outer.any():
            np.add(kept.product, outer if one else outer[:, None], kept.product)


def _lstm(spec: L.LSTM, weights: Array, tail: tuple[int, ...]) -> tuple[Array, Loop]:
    units, dtype = spec.units, weights.dtype
    memory = np.zeros((5 * units, *tail), dtype)  # i f o g c
    z, gates, output = memory[: 4 * units], memory[: 3 * units], memory[2 * units : 3 * units]
    g, c = memory[3 * units : 4 * units], memory[4 * units :]
    factors, terms = memory[: 2 * units], memory[3 * units :]
    product, shown = np.empty((2 * units, *tail), dtype), np.empty((units, *tail), dtype)
    total: Call = partial(np.add, product[:units], product[units:], c)
    if is_doubled(spec):
        activate: list[Call] = [partial(np.tanh, z, z), partial(np.add, gates, number(1, z), gates)]
        halves = np.full(2, 0.5, dtype)
        total = partial(halves.dot, product.reshape(2, -1), c.reshape(-1))  # their half, added
    else:
        activate = calls(spec.gate_activation, gates, gates, line=False)
        activate += calls(spec.activation, g, g, line=False)
    steps: list[Call] = [
        *activate,
        partial(np.multiply, factors, terms, product),
        total,
        *calls(spec.activation, c, shown),
    ]
    return c, _looped(spec, weights, z, steps, np.multiply, output, shown)


def _looped(
    spec: Any, weights: Array, z: Array, steps: list[Call], last: np.ufunc, a: Array, b: Array
) -> Loop:
    """The loop: z = weights h + the input's product, the calls, and h = last(a, b)."""
    dot, add = weights.dot, np.add

    def joined(_: Sequence[Array], reads: Sequence[Array], writes: Sequence[Array]) -> None:
        for before, after in zip(reads, writes, strict=True):
            dot(before, z)
            for call in steps:
                call()
            last(a, b, after)

    def loop(rows: Sequence[Array], reads: Sequence[Array], writes: Sequence[Array]) -> None:
        for row, before, after in zip(rows, reads, writes, strict=True):
            dot(before, z)
            add(z, row, z)
            for call in steps:
                call()
            last(a, b, after)

    return joined if is_joined(spec) else loop


def _simple_rnn(spec: L.SimpleRNN, weights: Array, tail: tuple[int, ...]) -> tuple[Array, Loop]:
    z = np.empty((spec.units, *tail), weights.dtype)
    steps = calls(spec.activation, z, z, line=False)
    return np.empty((0, *tail), weights.dtype), _looped(
        spec, weights, z, steps, np.multiply, z, number(1, z)
    )


def _gru(spec: L.GRU, weights: Array, tail: tuple[int, ...]) -> tuple[Array, Loop]:
    units, dtype = spec.units, weights.dtype
    z = np.empty((3 * units, *tail), dtype)
    gates, reset, update = z[: 2 * units], z[:units], z[units : 2 * units]
    n = z[2 * units :]
    activate = calls(spec.gate_activation, gates, gates, line=False)
    candidate = calls(spec.activation, n, n, line=False)
    loop = _reset_after if spec.reset_after else _reset_before
    memory = (z, gates, reset, update, n)
    return np.empty((0, *tail), dtype), loop(weights, units, memory, activate, candidate)


def _reset_after(
    weights: Array, units: int, memory: Any, activate: list[Call], candidate: list[Call]
) -> Loop:
    z, gates, reset, update, n = memory
    dot, add, multiply, subtract = weights.dot, np.add, np.multiply, np.subtract
    part, one, middle = np.empty_like(n), number(1, n), 2 * units

    def loop(rows: Sequence[Array], reads: Sequence[Array], writes: Sequence[Array]) -> None:
        for row, before, after in zip(rows, reads, writes, strict=True):
            dot(before, z)
            add(gates, row[:middle], gates)
            for call in activate:
                call()
            multiply(n, reset, n)
            add(n, row[middle:], n)
            for call in candidate:
                call()
            subtract(one, update, part)
            multiply(part, n, part)
            multiply(update, before[:units], n)
            add(n, part, after)

    return loop


def _reset_before(
    weights: Array, units: int, memory: Any, activate: list[Call], candidate: list[Call]
) -> Loop:
    _, gates, reset, update, n = memory
    middle = 2 * units
    of_gates, of_n = (np.asfortranarray(part).dot for part in np.split(weights, [middle]))
    add, multiply, subtract = np.add, np.multiply, np.subtract
    part, one, scaled = np.empty_like(n), number(1, n), np.ones((units + 1, *n.shape[1:]), n.dtype)
    own = scaled[:units]

    def loop(rows: Sequence[Array], reads: Sequence[Array], writes: Sequence[Array]) -> None:
        for row, before, after in zip(rows, reads, writes, strict=True):
            of_gates(before, gates)
            add(gates, row[:middle], gates)
            for call in activate:
                call()
            h = before[:units]
            multiply(h, reset, own)
            of_n(scaled, n)
            add(n, row[middle:], n)
            for call in candidate:
                call()
            subtract(one, update, part)
            multiply(part, n, part)
            multiply(update, h, n)
            add(n, part, after)

    return loop


LOOPS: dict[str, Callable[..., tuple[Array, Loop]]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "SimpleRNN": _simple_rnn,
}
"""Layer -> function that gives the place of its c, and its loop."""
