"""Runs one graph with several sets of numbers at once: weights, and inputs of each.

In: models that differ in their weights alone, with inputs of equal shapes. Out: the outputs of
each, as `run` computes them one by one.

A loop over time steps takes the time of numpy's calls more than of its numbers. So the loops of all
sets are one loop, in which every array has an axis V (sets) before its batch, and every kernel one
before its last two. All other layers run set by set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.run import cast, check_inputs, context_of, last_reads

TOGETHER = 2**21
"""Numbers of a stacked input product: with more of them, calls take no time beside numbers."""

LOOPS = (L.LSTM, L.GRU, L.SimpleRNN)
"""Layers whose loops can be one."""


def run_together(
    models: Sequence[Model], inputs: Sequence[Sequence[Array]], dtype: Any = np.float64
) -> list[list[Array]]:
    """The outputs of every model for its inputs, as `run` gives them.

    Args:
        models: one graph, with different weights of equal shapes.
        inputs: for each model one array per input, (batch, ...).
        dtype: numpy float to compute in.

    Raises:
        UsageError: inputs that do not fit the models.
    """
    graph = models[0]
    values: list[dict[Edge, Array]] = []
    for arrays in inputs:
        check_inputs(graph, arrays)
        pairs = zip(graph.inputs, arrays, strict=True)
        values.append({Edge(n): cast(graph.node(n), np.asanyarray(x), dtype) for n, x in pairs})
    final: list[list[Array]] = [[] for _ in models]
    unused = last_reads(graph)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for node in graph.layers:
            sets = list(zip(models, values, strict=True))
            contexts = [context_of(model, node, own, dtype) for model, own in sets]
            read = [[own[edge] for edge in node.inputs] for own in values]
            for number, outputs in enumerate(_forward(node.spec, read, contexts)):
                own = values[number]
                own |= {Edge(node.name, place): y for place, y in enumerate(outputs)}
                for edge in unused.get(node.name, ()):
                    own.pop(edge, None)
                final[number] += contexts[number].final if node.stateful else []
    ends = ([own[edge] for edge in graph.outputs] for own in values)
    return [[*outputs, *last] for outputs, last in zip(ends, final, strict=True)]


def _forward(
    spec: L.LayerSpec, read: Sequence[list[Array]], contexts: Sequence[Context]
) -> list[list[Array]]:
    """The outputs of one layer for each set."""
    count = _count(spec, read[0])
    if count < 2:
        return [forward(spec, x, context) for x, context in zip(read, contexts, strict=True)]
    found = []
    for start in range(0, len(read), count):
        part = slice(start, start + count)
        found += _looped(spec, read[part], contexts[part])
    return found


def _count(spec: L.LayerSpec, arrays: Sequence[Array]) -> int:
    """The number of sets that share a loop; 1 for no sharing."""
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    widths = [4 * half.units for half in halves if isinstance(half, LOOPS)]
    if len(widths) < len(halves):
        return 1
    return int(TOGETHER // max(math.prod(arrays[0].shape[:2]) * max(widths), 1))


def _looped(
    spec: L.LayerSpec, read: Sequence[list[Array]], contexts: Sequence[Context]
) -> list[list[Array]]:
    """The outputs of a recurrent layer for each set, with one loop for all of them."""
    names = contexts[0].weights
    weights = {n: _stacked(n, [context.weights[n] for context in contexts]) for n in names}
    masks = [context.mask for context in contexts if context.mask is not None]
    states = [np.stack(own) for own in zip(*(context.states for context in contexts), strict=True)]
    mask = np.stack(masks) if masks else None
    together = Context(contexts[0].name, weights, None, mask, states)
    outputs = forward(spec, [np.stack([x for (x,) in read])], together)
    for number, context in enumerate(contexts):
        context.final = [state[number] for state in together.final]
    return [[y[number] for y in outputs] for number in range(len(read))]


def _stacked(name: str, arrays: Sequence[Array]) -> Array:
    """The tensors of all sets: V before the axes of a matrix, or before an axis for the batch."""
    if name.endswith(("bias", "peephole")):
        return np.stack(arrays, axis=-2)[..., None, :]
    return np.stack(arrays, axis=-3)
