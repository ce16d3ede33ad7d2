"""Runs many models of one architecture on numpy arrays.

In: models. Out: a callable that returns arrays with the axis of models first.

Recurrent and Dense layers of a chunk of models are batched products. Every other layer is run for
one model after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS

from .layers import Layer, Weights, prepare_layer
from .many_recurrent import StackedRecurrent, sequence
from .program import Program, program
from .recurrent import is_covered

FREE = (L.Masking, L.NotEqual, L.Dropout, L.Activation)
"""Layers without weights that compute every sample alone: one call serves many models."""

CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
"""File of Linux with the size of a processor's second cache, such as "2048K"."""

UNKNOWN_CACHE = 2**20
"""Bytes of it on systems that do not say."""


def chunk_for(size: int) -> int:
    """Models of `size` bytes that two thirds of a second cache hold, at least 1."""
    known = CACHE.exists()
    cache = int(CACHE.read_text().strip().removesuffix("K")) * 1024 if known else UNKNOWN_CACHE
    return max(1, 2 * cache // 3 // max(1, size))


@dataclass(frozen=True)
class NumpyStack:
    """Computes many models at once: `outputs = stack(*inputs)`.

    Attributes:
        models: of one graph, in the order of the first axis.
        dtype: precision of the computation.
        chunk: the number of models that are run together.
    """

    models: tuple[Model, ...]
    dtype: np.dtype[Any]
    chunk: int
    _programs: list[Program] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = range(0, len(self.models), self.chunk)
        found = [_program(self.models[at : at + self.chunk], self.dtype) for at in starts]
        object.__setattr__(self, "_programs", found)

    @property
    def count(self) -> int:
        """The number of models."""
        return len(self.models)

    def __call__(self, *inputs: Array) -> Any:
        """Returns the outputs of all models, (models, batch, ...).

        An input is (batch, ...) for all models, or (models, batch, ...), one for each.

        Raises:
            UsageError: inputs that do not fit.
        """
        graph = self.models[0]
        if len(inputs) != len(graph.inputs):
            want, got = f"{len(graph.inputs)} inputs", f"{len(inputs)}"
            raise UsageError("stack", want, got, "pass one array for each input")
        pairs = zip(graph.inputs, map(np.asanyarray, inputs), strict=True)
        every = [self._for_each(x, graph.node(name), name) for name, x in pairs]
        parts = []
        for number, one in enumerate(self._programs):
            part = slice(number * self.chunk, (number + 1) * self.chunk)
            parts.append(_run(one, [x[part] for x in every], self.dtype))
        found = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        if graph.keys:
            return dict(zip(graph.keys, found, strict=True))
        return found[0] if len(found) == 1 else tuple(found)

    def _for_each(self, x: Array, node: Node, name: str) -> Array:
        """An input with an axis of models; one input of all is not copied."""
        rank = len(node.shape) + 1
        if x.ndim == rank:
            return np.broadcast_to(x, (self.count, *x.shape))
        if x.ndim != rank + 1 or len(x) != self.count:
            want = f"{rank} axes, or {rank + 1} with {self.count} models first"
            raise UsageError(f"stack, input {name}", want, f"shape {x.shape}", "reshape it")
        return x


def _program(models: Sequence[Model], dtype: np.dtype[Any]) -> Program:
    """A program whose layers are those of many models."""
    first = program(models[0], dtype)
    cast = [
        {
            owner: {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
            for owner, arrays in model.weights.items()
        }
        for model in models
    ]
    steps = [
        step._replace(layer=_layer(step.node, [w.get(step.node.owner, {}) for w in cast]))
        for step in first.steps
    ]
    return first._replace(steps=tuple(steps))


def _run(one: Program, inputs: Sequence[Array], dtype: np.dtype[Any]) -> list[Array]:
    """The outputs of a chunk of models."""
    values: dict[int, Array] = {}
    for (number, is_mask), x in zip(one.starts, inputs, strict=True):
        values[number] = x != 0 if is_mask else x.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for _, layer, reads, mask, states, first in one.steps:
            seen = None if mask is None else values[mask]
            start = [values[number] for number in states]
            outputs, _ = layer([values[number] for number in reads], seen, start)
            values.update(enumerate(outputs, first))
    return [values[number] for number in one.outputs]


def _layer(node: Node, weights: Sequence[Weights]) -> Layer:
    """The function of one layer of many models, on arrays (models, batch, ...)."""
    spec = node.spec
    inner = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    if isinstance(inner, L.Dense):
        return _dense(inner, weights)
    if isinstance(spec, L.Bidirectional) and is_covered(spec):
        return _bidirectional(spec, weights)
    if is_covered(spec):
        return _recurrent(spec, weights)
    if isinstance(spec, FREE):
        return _folded(node, len(weights))
    return _one_by_one(node, weights)


def _recurrent(spec: Any, weights: Sequence[Weights]) -> Layer:
    stacked = StackedRecurrent(spec, weights)

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        y, last = sequence(stacked, inputs[0], mask, states)
        return [y, *(last if spec.return_state else ())], last

    return layer


def _bidirectional(spec: L.Bidirectional, weights: Sequence[Weights]) -> Layer:
    halves = []
    for (before, _), half in zip(spec.weighted_parts, spec.halves, strict=True):
        own = [_below(before, layer) for layer in weights]
        halves.append(StackedRecurrent(half, own))
    count = len(spec.forward.state_shapes())

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        a, first = sequence(halves[0], inputs[0], mask, states[:count])
        b, second = sequence(halves[1], inputs[0], mask, states[count:])
        b = b[:, :, ::-1] if spec.return_sequences else b
        last = [*first, *second]
        return [*_merged(spec.merge, a, b), *(last if spec.forward.return_state else ())], last

    return layer


def _below(before: str, weights: Weights) -> Mapping[str, Array]:
    return {n.removeprefix(before): a for n, a in weights.items() if n.startswith(before)}


def _merged(how: str, a: Array, b: Array) -> list[Array]:
    """The outputs of both halves of a bidirectional layer."""
    if how == "none":
        return [a, b]
    if how == "concat":
        return [np.concatenate([a, b], axis=-1)]
    y = a * b if how == "mul" else a + b
    return [y / 2 if how == "ave" else y]


def _dense(spec: L.Dense, weights: Sequence[Weights]) -> Layer:
    kernel_MIO = np.stack([layer["kernel"] for layer in weights])
    bias_M1O = np.stack([layer["bias"] for layer in weights])[:, None] if spec.use_bias else None

    def layer(
        inputs: Sequence[Array], _mask: Array | None, _states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        x = inputs[0]
        y = np.matmul(x.reshape(len(x), -1, x.shape[-1]), kernel_MIO)
        if bias_M1O is not None:
            y += bias_M1O
        return [FUNCTIONS[spec.activation](y).reshape(*x.shape[:-1], y.shape[-1])], []

    return layer


def _folded(node: Node, count: int) -> Layer:
    """A layer without weights, with models and batch as one axis."""
    one = prepare_layer(node, {})

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        flat = [x.reshape(-1, *x.shape[2:]) for x in inputs]
        seen = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        outputs, _ = one(flat, seen, [])
        return [np.reshape(y, (count, -1, *np.shape(y)[1:])) for y in outputs], []

    return layer


def _one_by_one(node: Node, weights: Sequence[Weights]) -> Layer:
    """A layer that is run for one model after the other."""
    every = [prepare_layer(node, own) for own in weights]

    def layer(
        inputs: Sequence[Array], mask: Array | None, states: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        found = [
            one([x[m] for x in inputs], None if mask is None else mask[m], [s[m] for s in states])
            for m, one in enumerate(every)
        ]
        outputs, last = zip(*found, strict=True)
        return _stacked(outputs), _stacked(last)

    return layer


def _stacked(parts: Sequence[Sequence[Array]]) -> list[Array]:
    return [np.stack(arrays) for arrays in zip(*parts, strict=True)]


def build_stack(models: Sequence[Model], dtype: str, chunk: int | None) -> NumpyStack:
    """Returns the callable for many models."""
    size = sum(a.size for layer in models[0].weights.values() for a in layer.values())
    fits = chunk_for(size * np.dtype(dtype).itemsize)
    return NumpyStack(tuple(models), np.dtype(dtype), chunk or fits)
