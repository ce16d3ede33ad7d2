"""Golden numbers of a port: inputs, outputs of the float64 reference, and bounds.

In: a model and a target. Out: a `Golden`, with the arrays of golden.safetensors. The inputs are
those of `verify`; the bounds are those of its verdicts (`xlstm.verification.bounds`).

    golden = golden_of(model, registry.adapter("torch"))
    golden.tensors["output.0"], golden.tensors["bound.float32.0"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.errors import UsageError, printable
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES, EPS
from xlstm.ir.types import Array
from xlstm.reference import run
from xlstm.verification.bounds import Bounds, bounds, steps_of
from xlstm.verification.inputs import (
    BATCH,
    MEMORY,
    Limits,
    Recipe,
    built_batch,
    check_memory,
    fitted,
    made_shapes,
    recipe_of,
    shorter,
    why_not,
)
from xlstm.verification.reconcile import decidable_inputs
from xlstm.verification.run import Allowed, output_names

WITHOUT = "port without with_tests="

MOST = 2**19
"""Bytes of all inputs, and of all outputs, that are written if the model allows it."""


@dataclass(frozen=True)
class Golden:
    """The numbers that tests of a port compare with.

    Attributes:
        tensors: name in the file -> array; `input.0`, `output.0`, `bound.float32.0` of each step,
            and `units.0`, the indices on the last axis of an output of which a part is there.
        outputs: name of each output.
        dtypes: precisions with bounds.
        alone: row that is also run in a batch of one, None for none.
        parts: a sentence about each output of which a part is there.
        recipe: options that generate the inputs again, and their hash.
    """

    tensors: Mapping[str, Array]
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]
    alone: int | None
    parts: tuple[str, ...]
    recipe: Mapping[str, Any]

    def bounds_to_json(self) -> list[dict[str, Any]]:
        """The bounds of each output and precision as plain data: how many steps, and the range."""
        found = []
        for number, name in enumerate(self.outputs):
            for dtype in self.dtypes:
                steps = self.tensors[f"bound.{dtype}.{number}"]
                compared = steps[np.isfinite(steps)]
                found.append(
                    {
                        "output": printable(name),
                        "dtype": dtype,
                        "steps": len(steps),
                        "compared": len(compared),
                        "smallest": float(compared.min()) if len(compared) else None,
                        "largest": float(compared.max()) if len(compared) else None,
                    }
                )
        return found


def golden_of(model: Model, adapter: Adapter, memory: float = MEMORY) -> Golden:
    """The golden numbers of a port.

    Args:
        model: with the weights of the port.
        adapter: its target, some of whose operations may be inexact.
        memory: limit in bytes, as in `reconcile`.

    Raises:
        UsageError: a model that is too large to run, or of which no time step can be decided.
    """
    limits = Limits(check_memory(memory))
    if reason := why_not(model, limits):
        do = f"allow more (memory=), or {WITHOUT}"
        raise UsageError(model.name, f"a comparison of at most {limits}", f"one that {reason}", do)
    start = _small(model, fitted(model, Recipe(), limits))
    (arrays, _, made), allowed = decidable_inputs(model, start, DTYPES, limits.room)
    if not any(bound.sharp.any() for bound in allowed["float64"]):
        want, got = "outputs that can be compared", "rounding alone may change every step"
        raise UsageError(model.name, want, got, WITHOUT)
    tensors = {f"input.{n}": np.ascontiguousarray(x) for n, x in enumerate(arrays)}
    names, parts = _labels(model), list[str]()
    for number, bound in enumerate(allowed["float64"]):
        kept = _kept(bound.y, MOST // len(names))
        if kept is not None:
            tensors[f"units.{number}"] = kept
            parts.append(_part(number, len(kept), bound.y.shape[-1]))
        y = bound.y if kept is None else bound.y[..., kept]
        tensors[f"output.{number}"] = np.ascontiguousarray(y, np.float64)
    units = adapter.precisions(model)
    for dtype, eps in units.items():
        own = allowed[dtype] if eps <= EPS[dtype] else bounds(model, arrays, dtype, eps)
        for number, bound in enumerate(own):
            tensors[f"bound.{dtype}.{number}"] = _steps(bound, allowed["float64"][number], dtype)
    recipe = recipe_of(model, [arrays], made)
    alone = _alone(model, arrays, allowed)
    return Golden(tensors, names, tuple(units), alone, tuple(parts), recipe)


def _small(model: Model, recipe: Recipe) -> Recipe:
    """The recipe, with fewer rows if its inputs are larger than `MOST`."""
    rows = recipe.batch or BATCH
    batches = [] if built_batch(model) else [*shorter(rows)]
    for tried in (recipe, *(recipe._replace(batch=rows) for rows in batches)):
        recipe = tried
        if 4 * sum(map(math.prod, made_shapes(model, tried))) <= MOST:
            break
    return recipe


def _labels(model: Model) -> tuple[str, ...]:
    """A name for each output and state: the key in a dict of outputs, else the layer's."""
    names = output_names(model)
    return (*model.keys, *names[len(model.keys) :])


def _kept(y: Array, most: int) -> Array | None:
    """Indices on the last axis, evenly spaced, of an output of more than `most` bytes."""
    if y.nbytes <= most or y.ndim < 2:
        return None
    count = max(1, most * y.shape[-1] // y.nbytes)
    kept = np.unique(np.linspace(0, y.shape[-1] - 1, count).astype(np.int64))
    return kept if len(kept) < y.shape[-1] else None


def _part(number: int, kept: int, units: int) -> str:
    """A sentence about an output of which a part is there."""
    return f"Output {number} is large: {kept} of its {units} units are compared, evenly spaced."


def _steps(own: Bounds, exact: Bounds, dtype: str) -> Array:
    """The bound of each time step; infinity for steps that are not decided, as in `judge`."""
    decided = own.finite if dtype == "float32" else own.finite & exact.sharp
    return np.where(decided, own.step, np.inf)


def _alone(model: Model, arrays: Sequence[Array], allowed: Allowed) -> int | None:
    """The row to run in a batch of one; None for a fixed batch, or rows that depend on others."""
    rows = len(arrays[0]) if arrays else 1
    if rows < 2 or built_batch(model):
        return None
    for bound, y in zip(allowed["float64"], run(model, [x[1:2] for x in arrays]), strict=True):
        gaps = np.abs(steps_of(np.asarray(y, np.float64)) - steps_of(bound.y[1:2]))
        if (gaps.max(axis=1, initial=0)[bound.sharp] > bound.step[bound.sharp]).any():
            return None
    return 1
