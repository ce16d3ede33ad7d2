"""True if what a suspect gives is what an altered model gives, up to rounding: parity's rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import Layers, Values, run
from xlstm.ir.graph import Edge, Model, row_numbers
from xlstm.ir.layers import Bidirectional, Masking, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.summation import has_long_sums, ordered
from xlstm.verification.bounds import (
    EPS,
    MOST,
    PERTURBATIONS,
    UNDECIDED,
    Bounds,
    bounds_from,
    judge,
    steps_of,
)
from xlstm.verification.bounds import ROUNDING as SAME

Runs = Callable[[Layers, Values, Any], Values]


@dataclass(frozen=True)
class Gap:
    """The distance of two arrays.

    Attributes:
        same: whether they are equal up to rounding.
        most: the largest difference; infinite where shapes differ or one has no number.
        ulp: the largest difference of a step over the largest |y| of that step, in units of eps.
        step: the first time step that is more than rounding apart, None without a time axis.
        ratio: the largest difference over its bound.
        blurred: whether rounding alone moves every step too far for anything to be decided.
    """

    same: bool
    most: float
    ulp: float
    step: int | None
    ratio: float
    blurred: bool = False


def apart(y: Array, other: Array) -> float:
    """The largest difference relative to the largest |y|; infinite where shapes differ."""
    if y.shape != other.shape:
        return float("inf")
    if not y.size:
        return 0.0
    y, other = y.astype(np.float64), other.astype(np.float64)  # a mask is one of bools
    with np.errstate(all="ignore"):
        fine = np.isfinite(y)
        if not np.array_equal(fine, np.isfinite(other)):
            return float("inf")
        top = np.abs(y, where=fine, out=np.zeros_like(y)).max()
        gap = np.abs(np.subtract(y, other, where=fine, out=np.zeros_like(y))).max()
    return float(gap / top) if top else float(gap)


def allowed(
    model: Model,
    layers: Layers,
    values: Values,
    edges: Sequence[Edge],
    dtype: str,
    wanted: frozenset[str],
) -> list[tuple[Bounds, Bounds]]:
    """For each edge its bounds in `dtype` and in float64, from the run of an altered model."""
    exact = run(model, layers, values, np.float64, wanted)
    found: dict[str, list[Bounds]] = {}
    for name in dict.fromkeys((dtype, "float64")):
        runs = [
            _shaken(model, layers, values, EPS[name], seed, wanted) for seed in range(PERTURBATIONS)
        ]
        # the precision that a float64 run is compared with; numpy has no BLAS for long double
        kind: Any = np.float32 if name == "float32" else np.longdouble
        if name == "float32" or _products(model, layers, exact, wanted) < MOST:
            runs.append(run(model, layers, _cast(values, kind), kind, wanted))
        runs += _other_orders(model, layers, values, np.dtype(name), wanted)
        found[name] = [
            bounds_from(np.asarray(exact[e], np.float64), [r[e] for r in runs], name) for e in edges
        ]
    return [*zip(found[dtype], found["float64"], strict=True)]


def _products(model: Model, layers: Layers, values: Values, wanted: Container[str]) -> int:
    """Approximate number of products of a run: each weight once for every place it is used at."""
    total = 0
    for node in model.layers:
        if node.name in wanted:
            recurrent = isinstance(node.spec, (Recurrent, Bidirectional))
            places = values[node.inputs[0] if recurrent else Edge(node.name)].shape[:-1]
            weights = sum(array.size for array in layers[node.owner].weights.values())
            total += weights * math.prod(places)
    return total


def _cast(values: Values, kind: Any) -> Values:
    """Values in another precision; masks stay."""
    return {edge: x if x.dtype == bool else x.astype(kind) for edge, x in values.items()}


def _weighed(layers: Layers, change: Callable[[Array], Array]) -> Layers:
    """Layers whose tensors are all changed."""
    return {
        name: replace(layer, weights={n: change(a) for n, a in layer.weights.items()})
        for name, layer in layers.items()
    }


def _other_orders(
    model: Model, layers: Layers, values: Values, kind: Any, wanted: frozenset[str]
) -> list[Values]:
    """The run in that precision with long sums added up in two other orders."""
    arrays = [array for layer in layers.values() for array in layer.weights.values()]
    if not has_long_sums(*arrays, *values.values()):
        return []
    found = []
    for backward in (False, True):
        order = partial(ordered, backward=backward)
        cast: Values = {edge: order(x) for edge, x in _cast(values, kind).items()}
        found.append(run(model, _weighed(layers, order), cast, kind, wanted))
    return found


def _shaken(
    model: Model, layers: Layers, values: Values, eps: float, seed: int, wanted: frozenset[str]
) -> Values:
    """The run with every weight and known value multiplied by 1 + eps u, |u| <= 1."""
    rng = np.random.default_rng(seed)
    marks = [node.spec.value for node in model.nodes if isinstance(node.spec, Masking)]
    numbers = row_numbers(model)

    def shake(x: Array) -> Array:
        if x.dtype == bool:
            return x
        shaken = x * (1 + eps * rng.uniform(-1, 1, x.shape))
        return np.where(np.isin(x, marks), x, shaken) if marks else shaken

    moved = {edge: x if edge.node in numbers else shake(x) for edge, x in values.items()}
    return run(model, _weighed(layers, shake), moved, np.float64, wanted)


def gap_of(other: Array, bounds: tuple[Bounds, Bounds], dtype: str) -> Gap:
    """The distance of an array from the values that the bounds belong to."""
    mine, exact = bounds
    y = mine.y
    if other.shape != y.shape:
        return Gap(False, float("inf"), float("inf"), None, float("inf"))
    verdict = judge(other, mine, exact, dtype)
    with np.errstate(all="ignore"):
        gaps = np.abs(steps_of(np.asarray(other, np.float64) - y)).max(axis=1, initial=0)
    finite = np.isfinite(gaps) | ~mine.finite
    most = float(np.nanmax(gaps, initial=0)) if finite.all() else float("inf")
    wrong = np.flatnonzero(~(gaps <= mine.step) & mine.finite)
    step = int(wrong[0]) if wrong.size and y.ndim >= 3 else None
    ratio = verdict.ratio if finite.all() else float("inf")
    blurred = verdict.verdict == UNDECIDED and bool(mine.finite.any())
    same = verdict.verdict == SAME or blurred
    return Gap(same, most, verdict.max_ulp, step, ratio, blurred)


def by_edge(edges: Sequence[Edge], values: Mapping[Edge, Array]) -> list[Array]:
    """Values of edges, in order."""
    return [values[edge] for edge in edges]
