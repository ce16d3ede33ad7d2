"""Runs one graph with several sets of numbers at once: weights, and inputs of each.

In: models that differ in their weights and names alone, with inputs of equal shapes. Out: the
outputs of each, as `run` computes them one by one.

A loop over time steps takes the time of numpy's calls more than of its numbers. So the loops of all
sets are one loop, in which every array has an axis V (sets) before its batch. All other layers run
set by set, and so do the input products of a recurrent layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.coverage import Coverage
from xlstm.reference.recurrent import input_product, joined, loop
from xlstm.reference.run import cast, check_inputs, context_of, has_signs, last_reads
from xlstm.reference.summation import LONG, OrderedArray, ordered_like

TOGETHER = 2**14
"""Numbers of one step of a loop: with more of them, calls take no time beside numbers."""

LOOPS = (L.LSTM, L.GRU, L.SimpleRNN)
"""Layers whose loops can be one."""


def run_together(
    models: Sequence[Model],
    inputs: Sequence[Sequence[Array]],
    dtype: Any = np.float64,
    coverages: Sequence[Coverage] = (),
) -> Iterator[list[Array]]:
    """Yields the outputs of every model for its inputs, as `run` gives them.

    Args:
        models: one graph, with different weights of equal shapes; its names may differ.
        inputs: for each model one array per input, (batch, ...).
        dtype: numpy float to compute in.
        coverages: for each model the record of the pieces of activations that it reaches; empty to
            record nothing.

    Raises:
        UsageError: inputs that do not fit the models.
    """
    sets, records = [], coverages or itertools.repeat(None, len(models))
    for model, arrays, coverage in zip(models, inputs, records, strict=True):
        check_inputs(model, arrays)
        sets.append(_Set(model, arrays, dtype, coverage))
    nodes = models[0].layers
    shared = [number for number, node in enumerate(nodes) if len(sets) > 1 and _loops(node.spec)]
    start = 0
    for number in shared:
        for one in sets:
            one.run(start, number)
        with np.errstate(**QUIET):
            _run_shared(number, sets)
        start = number + 1
    while sets:
        one = sets.pop(0)
        one.run(start, len(nodes))
        yield [*(one.values[edge] for edge in one.model.outputs), *one.final]


QUIET: dict[str, Any] = dict.fromkeys(("over", "invalid", "under"), "ignore")
"""Events of numpy that are no errors here: results show them."""


class _Set:
    """One model on its way through the graph, with the values that later layers read."""

    def __init__(
        self, model: Model, inputs: Sequence[Array], dtype: Any, coverage: Coverage | None = None
    ) -> None:
        self.model, self.dtype, self.final = model, dtype, list[Array]()
        self.coverage = coverage
        self.unused = last_reads(model)
        pairs = zip(model.inputs, inputs, strict=True)
        self.values = {
            Edge(name): cast(model.node(name), np.asanyarray(x), dtype) for name, x in pairs
        }

    def run(self, start: int, end: int) -> None:
        """Runs the layers of these numbers."""
        with np.errstate(**QUIET):
            for node in self.model.layers[start:end]:
                context = self.context(node)
                outputs = forward(node.spec, [self.values[edge] for edge in node.inputs], context)
                self.put(node, outputs, context.final)

    def context(self, node: Node) -> Context:
        """The data of a layer."""
        return context_of(self.model, node, self.values, self.dtype, self.coverage)

    def put(self, node: Node, outputs: Sequence[Array], final: Sequence[Array]) -> None:
        """Keeps the outputs of a layer, and forgets what no later layer reads."""
        self.values |= {Edge(node.name, place): y for place, y in enumerate(outputs)}
        if self.coverage is not None and has_signs(node.spec):
            self.coverage.see_sign(node.name, outputs[0])
        for edge in self.unused.get(node.name, ()):
            self.values.pop(edge, None)
        self.final += final if node.stateful else []


def _loops(spec: L.LayerSpec) -> bool:
    return all(isinstance(half, LOOPS) for half in _halves(spec))


def _halves(spec: Any) -> tuple[Any, ...]:
    return spec.halves if isinstance(spec, L.Bidirectional) else (spec,)


def _run_shared(number: int, sets: Sequence[_Set]) -> None:
    """Runs a recurrent layer for all sets, as many in one loop as make it faster."""
    node = sets[0].model.layers[number]
    batch = len(sets[0].values[node.inputs[0]])
    count = TOGETHER // max(batch * max(4 * half.units for half in _halves(node.spec)), 1)
    rest = []
    for one in sets:
        if count < 2 or _sums_in_order(one.model.layers[number], one.model):
            one.run(number, number + 1)
        else:
            rest.append(one)
    for start in range(0, len(rest), max(count, 1)):
        _run_loop(number, rest[start : start + count])


def _sums_in_order(node: Node, model: Model) -> bool:
    """True if the loop has sums whose order is that of one set alone."""
    weights = model.weights[node.owner].values()
    longest = max(max(half.units, half.width) for half in _halves(node.spec))
    return longest > LONG and any(isinstance(array, OrderedArray) for array in weights)


def _run_loop(number: int, sets: Sequence[_Set]) -> None:
    """Runs a recurrent layer for some sets in one loop."""
    nodes = [one.model.layers[number] for one in sets]
    inputs = [one.values[node.inputs[0]] for node, one in zip(nodes, sets, strict=True)]
    contexts = [one.context(node) for node, one in zip(nodes, sets, strict=True)]
    spec: Any = nodes[0].spec
    if not isinstance(spec, L.Bidirectional):
        found = _looped(spec, inputs, contexts)
    else:
        count = len(spec.forward.state_shapes())
        first = [one.half("forward_", one.states[:count]) for one in contexts]
        second = [one.half("backward_", one.states[count:]) for one in contexts]
        pairs = zip(
            _looped(spec.forward, inputs, first),
            _looped(spec.backward, inputs, second),
            strict=True,
        )
        found = [joined(spec, a, b) for a, b in pairs]
        for whole, *halves in zip(contexts, first, second, strict=True):
            whole.final = [state for half in halves for state in half.final]
    for one, node, x, context, outputs in zip(sets, nodes, inputs, contexts, found, strict=True):
        one.put(node, ordered_like(outputs, [x, *context.weights.values()]), context.final)


@dataclass
class _Coverages:
    """The records of several sets, as the record of one loop."""

    contexts: Sequence[Context]

    def see(self, _layer: str, use: str, activation: str, x: Array) -> None:
        """Records arguments (..., V, B, H) for the set of each V."""
        for own, part in zip(self.contexts, np.moveaxis(x, -3, 0), strict=True):
            if own.coverage is not None:
                own.coverage.see(own.name, use, activation, part)


def _looped(
    spec: L.Recurrent, inputs: Sequence[Array], contexts: Sequence[Context]
) -> list[list[Array]]:
    """The outputs of a recurrent layer for each set, with one loop for all of them."""
    parts = zip(inputs, contexts, strict=True)
    product = np.stack([np.asarray(input_product(spec, *part)) for part in parts], axis=-4)
    names = [name for name in contexts[0].weights if name != "kernel"]
    weights = {name: _stacked(name, [own.weights[name] for own in contexts]) for name in names}
    masks = [own.mask for own in contexts if own.mask is not None]
    states = [np.stack(own) for own in zip(*(own.states for own in contexts), strict=True)]
    mask = np.stack(masks) if masks else None
    seen: Any = None if contexts[0].coverage is None else _Coverages(contexts)
    together = Context(contexts[0].name, weights, seen, mask, states)
    outputs = loop(spec, product, together)
    for number, own in enumerate(contexts):
        own.final = [state[number] for state in together.final]
    return [[y[number] for y in outputs] for number in range(len(inputs))]


def _stacked(name: str, arrays: Sequence[Array]) -> Array:
    """The tensors of all sets: V before the axes of a matrix, or before an axis for the batch."""
    plain = [np.asarray(array) for array in arrays]
    if name in ("bias", "peephole"):
        return np.stack(plain, axis=-2)[..., None, :]
    return np.stack(plain, axis=-3)
