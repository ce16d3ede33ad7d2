"""Runs a whole model through the numpy reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xlstm.errors import UsageError
from xlstm.model import Array, Model
from xlstm.reference.coverage import Coverage
from xlstm.reference.layers import Context, forward


def run(
    model: Model,
    inputs: Sequence[Array],
    dtype: Any = np.float64,
    coverage: Coverage | None = None,
) -> list[Array]:
    """The model's outputs, batch first, computed in `dtype` from weights cast to it.

    Args:
        model: any model; its weights are not changed.
        inputs: one array per model input, (batch, ...).
        dtype: numpy float to compute in.
        coverage: records which pieces of piecewise activations were reached.

    Raises:
        UsageError: the number or the shapes of the inputs do not fit the model.
    """
    check_inputs(model, inputs)
    values = {
        name: np.asarray(x).astype(dtype) for name, x in zip(model.inputs, inputs, strict=True)
    }
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for node in model.layers:
            stored = model.weights.get(node.name, {})
            weights = {name: array.astype(dtype, copy=False) for name, array in stored.items()}
            values[node.name] = forward(
                node.spec, values[node.inputs[0]], Context(node.name, weights, coverage)
            )
    return [values[name] for name in model.outputs]


def check_inputs(model: Model, inputs: Sequence[Array]) -> None:
    """Raises UsageError where `inputs` do not fit the model's inputs."""
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
