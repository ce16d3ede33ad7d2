"""Layers as prepared functions: weights are cast and ordered once.

In: a node of a model and its weights in the dtype of the computation. Out: a function.

    layer = prepare_layer(node, weights)
    outputs, last_states = layer([x], mask, states)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Node
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

from .calls import calls
from .recurrent import FastRecurrent, is_covered

Weights = Mapping[str, Array]

Layer = Callable[[Sequence[Array], Array | None, Sequence[Array]], tuple[list[Array], list[Array]]]
"""(inputs, mask or None, initial states or none) -> (outputs, last states)."""


def prepare_layer(node: Node, weights: Weights) -> Layer:
    """The function of one layer; that of the reference for a layer without a faster one."""
    spec = node.spec
    inner = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    if isinstance(inner, L.Dense):
        return _dense(inner, weights)
    if isinstance(spec, L.Bidirectional) and is_covered(spec):
        return _bidirectional(spec, weights)
    if is_covered(spec):
        return _recurrent(spec, weights)
    return _reference(node, weights)


def _reference(node: Node, weights: Weights) -> Layer:
    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        context = Context(node.name, weights, None, mask, states)
        return forward(node.spec, inputs, context), context.final

    return layer


IN_PLACE = ("linear", "tanh", "relu", "hard_sigmoid", "hard_sigmoid_keras2")
"""Activations of a Dense layer that `calls` computes with the reference's accuracy."""


def _dense(spec: L.Dense, weights: Weights) -> Layer:
    kernel, bias = weights["kernel"], weights.get("bias")

    def layer(
        inputs: Sequence[Array], _mask: Array | None, _states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        x = inputs[0]
        y = x.reshape(-1, x.shape[-1]) @ kernel
        if bias is not None:
            np.add(y, bias, y)
        if spec.activation in IN_PLACE:
            for call in calls(spec.activation, y, y):
                call()
        else:
            y = FUNCTIONS[spec.activation](y)
        return [y.reshape(*x.shape[:-1], kernel.shape[-1])], []

    return layer


def _recurrent(spec: Any, weights: Weights) -> Layer:
    fast = FastRecurrent(spec, weights)

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        y, last = sequence(fast, inputs[0], mask, states)
        return [y, *(last if spec.return_state else ())], last

    return layer


def _bidirectional(spec: L.Bidirectional, weights: Weights) -> Layer:
    halves = []
    for (before, _), half in zip(spec.weighted_parts, spec.halves, strict=True):
        own = {n.removeprefix(before): a for n, a in weights.items() if n.startswith(before)}
        halves.append(FastRecurrent(half, own))
    count = len(spec.forward.state_shapes())

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        a, first = sequence(halves[0], inputs[0], mask, states[:count])
        b, second = sequence(halves[1], inputs[0], mask, states[count:])
        b = b[:, ::-1] if spec.return_sequences else b
        last = [*first, *second]
        return [*_joined(spec.merge, a, b), *(last if spec.forward.return_state else ())], last

    return layer


def _joined(how: str, a: Array, b: Array) -> list[Array]:
    """The outputs of both halves; results of their own, no views."""
    if how == "none":
        return [a, np.ascontiguousarray(b)]
    if how == "concat":
        return [np.concatenate([a, b], axis=-1)]
    np.multiply(a, b, a) if how == "mul" else np.add(a, b, a)
    if how == "ave":
        np.divide(a, 2, a)
    return [a]


def sequence(
    fast: FastRecurrent, x_BTI: Array, mask: Array | None, start: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """Runs a recurrent layer over a sequence in its direction, and obeys a mask.

    Returns:
        The output, (batch, time, units) or (batch, units), and the last states (batch, units).
        They are arrays of their own.
    """
    spec = fast.spec
    if spec.go_backwards:
        x_BTI = x_BTI[:, ::-1]
        mask = None if mask is None else mask[:, ::-1]
    if not x_BTI.shape[1] or (mask is not None and not mask.all()):
        return _masked(fast, x_BTI, mask, start)
    kept, states = fast.run(x_BTI, start)
    last = states[-1].T.copy()
    y = states[1:].transpose(2, 0, 1).copy() if spec.return_sequences else last
    final = [last.copy(), *([kept.cell.reshape(spec.units, -1).T.copy()] if kept.cell.size else ())]
    return y, final


def _masked(
    fast: FastRecurrent, x_BTI: Array, mask: Array | None, start: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """As `sequence`, for a mask that is False somewhere, or a sequence without steps.

    A masked step keeps the states and repeats the output. So each sample runs its other steps, one
    after the other, and every step reads the output of the last one that was run.
    """
    spec, (batch, length) = fast.spec, x_BTI.shape[:2]
    keep = np.zeros((batch, length), bool) if mask is None else mask
    counts = keep.sum(axis=1)
    longest = int(counts.max(initial=0))
    order = np.argsort(~keep, axis=1, kind="stable")[:, :longest]
    cells: list[Array] | None = [] if spec.states == 2 and _gives_states(spec) else None
    _, states = fast.run(np.take_along_axis(x_BTI, order[..., None], 1), start, cells)
    y_BTH = states.transpose(2, 0, 1)  # the first is h before any step
    samples = np.arange(batch)
    final = [y_BTH[samples, counts]]
    if cells is not None:
        zeros = np.zeros_like(final[0])
        every = np.stack([start[1] if start else zeros, *cells], axis=1)
        final.append(every[samples, counts])
    ran = keep.cumsum(axis=1)
    if not spec.return_sequences:
        ran, keep = ran[:, -1:], keep[:, -1:]
    y = y_BTH[samples[:, None], ran]
    y[~keep if spec.zero_output_for_mask else ran == 0] = 0
    if not spec.return_sequences:
        y = y[:, 0] if length else np.zeros_like(final[0])
    return y, final


def _gives_states(spec: Any) -> bool:
    return bool(spec.return_state or spec.stateful)
