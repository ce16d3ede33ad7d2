"""Derivatives of the reference by finite differences, independent of any backward pass.

In: a model and inputs. Out: slopes of a loss, the sum of all outputs times fixed random numbers.
Along a random direction v of one tensor, the slope is a central difference of six points in long
double; its error is about the sixth power of the step. Steps shrink until two of them agree. Their
remaining disagreement is part of the bound.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers.custom import kind_of
from xlstm.ir.types import Array
from xlstm.reference import run
from xlstm.verification.bounds import PERTURBATIONS, perturbed_inputs

WIDER = bool(np.finfo(np.longdouble).eps < np.finfo(np.float64).eps)
WIDE: Any = np.longdouble if WIDER else np.float64

STENCIL = ((1, 45), (2, -9), (3, 1))
"""Offset and weight of a central difference of six points, to divide by 60 steps."""

STEPS = tuple(2.0**-n for n in range(6, 25, 3))
"""Steps in the order of trial, in units of a typical number of the tensor."""

RATIO = 2.0**-3
"""Ratio of a step to the one before it."""

AGREED = 2.0**-46
"""Relative disagreement of two steps at which no smaller one is tried."""

CORNER = 1e-6
"""Jump of the slope, over the slope, from which a function has a corner."""

FLOOR = 1e-10
"""Slopes below this, over the terms of the loss, count as zero."""

ROUGH = 2.0**-4
"""Step of the differences that are compared with those of a run in less precision."""


@dataclass(frozen=True)
class DiffTarget:
    """A tensor to differentiate by.

    Attributes:
        name: its name in reports.
        owner: the node that owns it, or the input.
        tensor: canonical tensor, "" for an input.
        side: bias side, None for tensors without sides.
    """

    name: str
    owner: str
    tensor: str = ""
    side: int | None = None


@dataclass(frozen=True)
class Slope:
    """The derivative along one direction.

    Attributes:
        v: the direction, in the shape of the tensor (of one side of a bias).
        value: the derivative.
        noise: disagreement of two steps.
        step: the step of `value`.
        corner: True if the function has a corner at this point.
        size: of the terms of the loss.
    """

    v: Array
    value: float
    noise: float
    step: float
    corner: bool
    size: float


@dataclass(frozen=True)
class DiffPoint:
    """The point of the slopes: a model with biases of two sides, its inputs, factors of outputs."""

    model: Model
    inputs: tuple[Array, ...]
    factors: tuple[Array | None, ...]

    def loss(self, dtype: Any = WIDE) -> Any:
        """The sum of all outputs, computed in `dtype`, times their factors."""
        return sum((terms.sum() for terms in self.terms(dtype)), WIDE(0))

    def terms(self, dtype: Any = WIDE) -> list[Array]:
        """Every output times its factors."""
        outputs = run(self.model, self.inputs, dtype)
        pairs = zip(outputs, self.factors, strict=False)
        return [y.astype(WIDE) * c for y, c in pairs if c is not None]

    def size(self) -> float:
        """The sum of the terms' sizes: the size of a slope along a direction of 100 %."""
        return float(sum(np.abs(terms).sum() for terms in self.terms()))

    def moved(self, place: DiffTarget, delta: Array) -> DiffPoint:
        """The same with `delta` added to one tensor."""
        if not place.tensor:
            moved = list(self.inputs)
            number = self.model.inputs.index(place.owner)
            moved[number] = moved[number] + delta
            return replace(self, inputs=tuple(moved))
        layer = dict(self.model.weights[place.owner])
        if place.side is not None:
            delta = np.stack([delta * (side == place.side) for side in (0, 1)])
        layer[place.tensor] = layer[place.tensor] + delta
        weights = {**self.model.weights, place.owner: layer}
        return replace(self, model=replace(self.model, weights=weights))

    def shaken(self, eps: float, seed: int) -> DiffPoint:
        """The same with every weight and input multiplied by 1 + eps u."""
        model, inputs = perturbed_inputs(self.model, self.inputs, eps, seed, WIDE)
        return replace(self, model=model, inputs=tuple(inputs))

    def at(self, place: DiffTarget) -> Array:
        """The numbers of a tensor."""
        if not place.tensor:
            return self.inputs[self.model.inputs.index(place.owner)]
        array = self.model.weights[place.owner][place.tensor]
        return array if place.side is None else array[place.side]


def point(model: Model, inputs: Sequence[Array], seed: int) -> DiffPoint:
    """The point of a model's slopes, in numpy's widest float."""
    wide = [x if x.dtype == bool else x.astype(WIDE) for x in inputs]
    rng = np.random.default_rng(seed)
    factors: list[Array | None] = []
    for y in run(model, inputs)[: len(model.outputs)]:
        drawn = np.asarray(rng.standard_normal(y.shape), np.float32)
        factors.append(None if y.dtype == bool else drawn)
    return DiffPoint(two_sided(model.astype(WIDE)), tuple(wide), tuple(factors))


def two_sided(model: Model) -> Model:
    """The same function with two sides of every bias that has sides; a missing side is zero."""
    weights = {name: dict(layer) for name, layer in model.weights.items()}
    for node in model.layers:
        for before, part in node.spec.weighted_parts:
            axes = kind_of(part).tensors if part.weight_kind in (*KINDS, "Custom") else {}
            for tensor in (t for t, names in axes.items() if names.startswith("s")):
                array = weights.get(node.name, {}).get(before + tensor)
                if array is not None and len(array) == 1:
                    weights[node.name][before + tensor] = np.concatenate([array, array * 0])
    return replace(model, weights=weights)


def places(model: Model) -> tuple[list[DiffTarget], list[str]]:
    """Every tensor that has a gradient, and a line for each that has none."""
    found: list[DiffTarget] = []
    left: list[str] = []
    for node in model.layers:
        weights = model.weights.get(node.name, {})
        for before, part in node.spec.weighted_parts:
            kind = kind_of(part) if part.weight_kind in (*KINDS, "Custom") else None
            for tensor in (name for name in weights if name.startswith(before)):
                own, name = tensor.removeprefix(before), f"{node.name}.{tensor}"
                if kind is None or own not in kind.tensors:
                    continue
                if own in kind.statistics:
                    left.append(f"gradient of {name}: none, training does not move statistics")
                elif kind.tensors[own].startswith("s"):
                    sides = enumerate(("input", "recurrent"))
                    found += [DiffTarget(f"{name} ({w})", node.name, tensor, n) for n, w in sides]
                else:
                    found.append(DiffTarget(name, node.name, tensor))
    rows = row_numbers(model)
    for name in model.inputs:
        spec = model.node(name).spec
        if name in rows or (isinstance(spec, L.Input) and "float" not in spec.dtype):
            left.append(f"gradient of input {name}: none, it holds ids, counts or a mask")
        else:
            found.append(DiffTarget(f"input {name}", name))
    return found, left


def direction(at: DiffPoint, place: DiffTarget, seed: int, mask: Array | None = None) -> Array:
    """Random numbers of the size of a tensor's own; zero where `mask` is, or a step is masked."""
    x = at.at(place)
    size = np.sqrt((np.asarray(x, np.float64) ** 2).mean()) if x.size else 0.0
    drawn = np.random.default_rng(seed).standard_normal(x.shape)
    v: Array = np.asarray(drawn * (float(size) or 1.0), WIDE)
    v = v if mask is None else v * mask
    if not place.tensor:  # a number that means "masked" must not change
        specs = [
            n.spec.layer if isinstance(n.spec, L.TimeDistributed) else n.spec
            for n in at.model.nodes
        ]
        marks = [spec.value for spec in specs if isinstance(spec, (L.Masking, L.NotEqual))]
        v = np.where(np.isin(np.asarray(x, np.float64), marks), 0.0, v) if marks else v
    return v


def slope(at: DiffPoint, place: DiffTarget, v: Array) -> Slope:
    """The derivative of the loss along `v`."""

    @functools.cache
    def loss(times: float) -> Any:
        return at.moved(place, v * WIDE(times)).loss()

    with np.errstate(all="ignore"):
        found = _agreed(loss)
        values, steps = zip(*found, strict=True)
        gaps = [abs(b - a) for a, b in itertools.pairwise(values)]
        noise, best = min((gap, number) for number, gap in enumerate(gaps))
        # two may agree by chance: rounding of a smaller step is the check
        noise = max(noise, *(gap * RATIO for gap in gaps[best + 1 : best + 2]), WIDE(0))
        value, step = values[best + 1], steps[best + 1]
        jumps = [abs(loss(h) - 2 * loss(0.0) + loss(-h)) / h for h in steps[best : best + 2]]
        size = at.size()
        least = max(CORNER * abs(value), FLOOR * size, 100 * noise)
        corner = jumps[1] > jumps[0] / 2 and jumps[1] > least
    return Slope(v, float(value), float(noise), step, bool(corner), size)


def _agreed(loss: Callable[[float], Any]) -> list[tuple[Any, float]]:
    """Differences of smaller and smaller steps, until two of them agree."""
    found: list[tuple[Any, float]] = []
    for h in STEPS:
        pairs = sum(c * (loss(k * h) - loss(-k * h)) for k, c in STENCIL)
        found.append((pairs / (60 * WIDE(h)), h))
        if len(found) > 1:
            (a, _), (b, _) = found[-2:]
            if not abs(b - a) > AGREED * abs(b):
                break
    return found


def condition(at: DiffPoint, place: DiffTarget, along: Slope, eps: float) -> float:
    """Largest change of a slope if every weight and input is multiplied by 1 + eps u."""
    with np.errstate(all="ignore"):
        # the curvature cancels in the difference of two such slopes
        own = _simple(at, place, along.v, along.step)
        seeds = range(PERTURBATIONS)
        shaken = (at.shaken(eps, seed) for seed in seeds)
        return float(max(abs(_simple(p, place, along.v, along.step) - own) for p in shaken))


def inaccuracy(at: DiffPoint, place: DiffTarget, along: Slope, dtype: str) -> float:
    """The error of a slope over a wide step where the reference runs in `dtype`."""
    kind = np.dtype(dtype).type
    with np.errstate(all="ignore"):
        wide, own = (_simple(at, place, along.v, ROUGH, t) for t in (WIDE, kind))
        return float(abs(own - wide))


def _simple(at: DiffPoint, place: DiffTarget, v: Array, step: float, dtype: Any = WIDE) -> Any:
    ends = (at.moved(place, v * WIDE(h)).loss(dtype) for h in (step, -step))
    return functools.reduce(lambda a, b: a - b, ends) / (2 * WIDE(step))
