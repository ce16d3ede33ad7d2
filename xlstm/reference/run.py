"""Runs a whole model through the numpy reference.

In: a Model and its inputs. Out: its outputs.

>>> from xlstm.model import Flatten, Source, chain
>>> model = chain("m", [("flat", Flatten(), True)], (2, 2), {}, Source("keras"))
>>> run(model, [np.ones((1, 2, 2))])[0].tolist()
[[1.0, 1.0, 1.0, 1.0]]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.coverage import Coverage

State = Mapping[str, Sequence[Array]]
"""Layer name -> its states, (batch, n) each."""


def run(
    model: Model,
    inputs: Sequence[Array],
    dtype: Any = np.float64,
    coverage: Coverage | None = None,
    state: State | None = None,
) -> list[Array]:
    """The model's outputs, batch first, computed in `dtype` from weights cast to it.

    The last states of stateful layers follow, layer by layer.

    Args:
        model: any model; its weights are not changed.
        inputs: one array per model input, (batch, ...).
        dtype: numpy float to compute in.
        coverage: records the pieces of piecewise activations that are reached.
        state: initial states of the stateful layers; None for zeros.

    Raises:
        UsageError: the number or the shapes of the inputs, or the states, do not fit the model.
    """
    check_inputs(model, inputs)
    check_state(model, inputs, state)
    values: dict[Edge, Array] = {}
    for name, x in zip(model.inputs, inputs, strict=True):
        values[Edge(name)] = cast(model.node(name), np.asanyarray(x), dtype)
    final: list[Array] = []
    unused = last_reads(model)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for node in model.layers:
            context = context_of(model, node, values, dtype, coverage, state or {})
            outputs = forward(node.spec, [values[edge] for edge in node.inputs], context)
            values |= {Edge(node.name, number): y for number, y in enumerate(outputs)}
            if coverage is not None and has_signs(node.spec):
                coverage.see_sign(node.name, outputs[0])
            for edge in unused.get(node.name, ()):
                values.pop(edge, None)
            final += context.final if node.stateful else []
    return [*(values[edge] for edge in model.outputs), *final]


def last_reads(model: Model) -> dict[str, list[Edge]]:
    """Name of a layer -> the edges that no later layer reads, and that are no outputs."""
    last = {edge: node.name for node in model.layers for edge in node.reads}
    found: dict[str, list[Edge]] = {}
    for edge, name in last.items():
        if edge not in model.outputs:
            found.setdefault(name, []).append(edge)
    return found


def has_signs(spec: L.LayerSpec) -> bool:
    """True if a layer's outputs may have either sign, and a layer after it could hide that."""
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    return all(isinstance(half, L.Recurrent) and half.activation == "tanh" for half in halves)


def cast(node: Node, x: Array, dtype: Any) -> Array:
    """An input of a model in the dtype of a run; masks stay bool."""
    return (
        x != 0 if isinstance(node.spec, L.Input) and node.spec.dtype == "bool" else x.astype(dtype)
    )


def context_of(
    model: Model,
    node: Node,
    values: Mapping[Edge, Array],
    dtype: Any,
    coverage: Coverage | None = None,
    state: State = MappingProxyType({}),
) -> Context:
    """The data of one layer, from a model and the values that earlier layers gave."""
    stored = model.weights.get(node.owner, {})
    weights = {name: array.astype(dtype, copy=False) for name, array in stored.items()}
    states = [values[edge] for edge in node.states]
    states = [np.asarray(s).astype(dtype) for s in state.get(node.name, ())] or states
    mask = None if node.mask is None else values[node.mask]
    return Context(node.name, weights, coverage, mask, states)


def check_state(model: Model, inputs: Sequence[Array], state: State | None) -> None:
    """Raises UsageError if `state` does not fit the model's stateful layers and the batch."""
    if state is None:
        return
    wanted: dict[str, Any] = {node.name: node.spec for node in model.stateful}
    if set(state) != set(wanted):
        want, got = f"states of {', '.join(wanted) or 'no layer'}", ", ".join(state) or "none"
        raise UsageError(f"{model.name}, state", want, got, "pass what the last call returned")
    batch = len(inputs[0])
    for name, spec in wanted.items():
        shapes = [(batch, *shape) for shape in spec.state_shapes()]
        found = [np.shape(array) for array in state[name]]
        if found != shapes:
            want, got = ", ".join(map(str, shapes)), ", ".join(map(str, found))
            raise UsageError(f"{model.name}, state of {name}", want, got, "pass such states")


def check_inputs(model: Model, inputs: Sequence[Array]) -> None:
    """Raises UsageError if `inputs` do not fit the model's inputs."""
    if len(inputs) != len(model.inputs):
        want = f"{len(model.inputs)} inputs"
        raise UsageError(model.name, want, f"{len(inputs)}", "pass one array per model input")
    for name, x in zip(model.inputs, inputs, strict=True):
        want_shape = model.node(name).shape
        if np.asarray(x).dtype.kind not in "fiub":
            got = f"dtype {np.asarray(x).dtype}"
            raise UsageError(f"input {name}", "an array of numbers", got, "pass numbers")
        sample = np.shape(x)[1:]
        fits = len(sample) == len(want_shape) and all(
            want in (None, got) for want, got in zip(want_shape, sample, strict=True)
        )
        if not fits:
            got = f"{np.shape(x)}"
            want = f"an array of shape ({', '.join(['batch', *map(_axis, want_shape)])})"
            raise UsageError(f"input {name}", want, got, "reshape the input")


def _axis(size: int | None) -> str:
    return "any" if size is None else str(size)
