"""The verdict on one output: equal up to rounding, or not.

Bound of a time step t (one step if an output has no time axis), maxima over batch and units:

    8 x max over steps <= t of max(E, P, eps x max|y|, the smallest normal number)

E is the error of the reference run in that precision, in numpy's order of summation and, for long
sums, in two running sums. P is the largest change of the float64 reference over four runs with
every weight and input multiplied by 1 + eps u, with new random |u| <= 1; eps is 2^-23 or 2^-52. The
rule follows the condition of the function: an ill-conditioned model raises no false alarm, and a
well-conditioned one hides no error.

Half precision (bfloat16, float16) has its own bound by the same rule. eps is 2^-7 or 2^-10. E is
the error of a run of the reference in which weights, inputs and every result are rounded to that
precision (products of matrices are added up in float32, as in frameworks). The factor is 4: correct
ports of a few hundred models used at most 0.2 of 8 times the largest, and half precision has no
float64 run beside it to find the small errors. A step is decided if its bound is at most half of
its largest |y|; if rounding may change more, outputs prove nothing. After a number near 65504 or
beyond, the reference's float16 run is infinite. A step without finite numbers is undecided.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from xlstm.ir.graph import Edge, Model, row_numbers
from xlstm.ir.layers import Bidirectional, Masking, Recurrent
from xlstm.ir.precision import EPS as EPS
from xlstm.ir.precision import HALF, LARGEST, TINY, emulated
from xlstm.ir.types import Array, Shape
from xlstm.reference import Coverage, run, run_together
from xlstm.reference.summation import adds_many, has_long_sums, ordered
from xlstm.verification.error_profile import ErrorProfile, element_of, profile_of

FACTOR = 8.0
PERTURBATIONS = 4
DECIDABLE = 1e-6
HALF_FACTOR = 4.0
HALF_DECIDABLE = 0.5
MOST = 2 * 10**8
"""Products up to which the reference also runs in long double, for which numpy has no BLAS."""

ROUNDING, DIFFERENT, UNDECIDED, FAILED = "rounding", "different", "undecided", "failed"
WORST = (FAILED, DIFFERENT, UNDECIDED, ROUNDING)
"""Verdicts, the worst first."""

OUTCOMES = {word: "equal" if word == ROUNDING else word for word in WORST}
"""Verdict -> the word for it on screens."""


@dataclass(frozen=True)
class Verdict:
    """The comparison of one framework's outputs in one precision with the reference.

    Attributes:
        verdict: "rounding", "different", "undecided" or "failed".
        max_abs: largest difference of the step that decides: the one closest to its bound, or the
            furthest above it. All figures are of that step.
        max_rel: the same over the largest |y| of the step.
        max_ulp: the same in units of eps.
        bound: largest difference that is allowed there.
        ratio: `max_abs` over `bound`; above 1 is different. 0 if no step can be decided.
        undecidable_from: first time step that is not decided: its float64 bound is too wide, or
            the reference is not finite there in this precision; None if all are decided.
        detail: the failure, or the reason why nothing can be decided; "" otherwise.
        output: the output, layer or tensor of these figures: the worst of several.
        step: time step of `bound`, None without a time axis.
        undecidable: the time steps that are not decided while others are ("rnn time steps 65 to
            199"), "" for none; an error there cannot be seen.
        ran: False for figures that are copied from another precision, as this one was not run.
        profile: the errors by time step and element, None if nothing was compared. It is not part
            of the plain data.
    """

    verdict: str
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ulp: float = 0.0
    bound: float = 0.0
    ratio: float = 0.0
    undecidable_from: int | None = None
    detail: str = ""
    output: str = ""
    step: int | None = None
    undecidable: str = ""
    ran: bool = True
    profile: ErrorProfile | None = field(default=None, compare=False, repr=False)

    def named(self, output: str) -> Verdict:
        """The same verdict with the name of its output."""
        steps = f"{output} {self.undecidable}".strip() if self.undecidable else ""
        return replace(self, output=output, undecidable=steps)

    @property
    def outcome(self) -> str:
        """The verdict in the words of people: "equal", "different", "undecided" or "failed"."""
        return OUTCOMES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data, with null for NaN and infinity."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "profile"}
        found = {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in plain.items()
        }
        # 0.3 will write "equal" as the verdict too
        return {"verdict": found.pop("verdict"), "outcome": self.outcome, **found}


@dataclass(frozen=True)
class Bounds:
    """The reference's output and the largest allowed differences, for one output and precision.

    Attributes:
        y: float64 reference.
        step: largest allowed difference of each step.
        top: largest |y| of each step.
        finite: True for each step up to which the reference is finite in this precision.
        sharp: True for each step whose bound is narrow enough to decide.
        lost: mask (T, everything else) of numbers that are finite in no run of the reference.
    """

    y: Array
    step: Array
    top: Array
    finite: Array
    sharp: Array
    lost: Array


def steps_of(y: Array) -> Array:
    """An output (B, T, ...) as (T, everything else); (B, ...) without a time axis has one step."""
    if y.ndim < 3:
        return y.reshape(1, -1)
    return np.moveaxis(y, 1, 0).reshape(y.shape[1], -1)


def _top(y: Array) -> Array:
    steps = np.abs(steps_of(y))
    return steps.max(axis=1) if steps.size else np.zeros(len(steps))


def perturbed(model: Model, inputs: Sequence[Array], eps: float, seed: int) -> list[Array]:
    """The float64 reference with every weight and input multiplied by 1 + eps u."""
    return run(*perturbed_inputs(model, inputs, eps, seed))


Draw = Callable[[tuple[int, ...]], Any]
"""Random numbers u of a shape."""


def perturbed_inputs(
    model: Model,
    inputs: Sequence[Array],
    eps: float,
    seed: int,
    dtype: Any = np.float64,
    draw: Draw | None = None,
) -> tuple[Model, list[Array]]:
    """The model and its inputs, every weight and number multiplied by 1 + eps u in `dtype`."""
    drawn: Draw = draw or functools.partial(np.random.default_rng(seed).uniform, -1, 1)

    def shake(x: Array) -> Array:
        wide = np.asarray(x, dtype)
        return np.asarray(wide * (1 + dtype(eps) * drawn(wide.shape)))

    return _changed(model, inputs, shake)


def _changed(
    model: Model, inputs: Sequence[Array], change: Callable[[Array], Array]
) -> tuple[Model, list[Array]]:
    """The model and its inputs with `change` on every array but masks and row numbers."""
    marks = [node.spec.value for node in model.nodes if isinstance(node.spec, Masking)]
    rows = row_numbers(model)

    def changed(x: Array) -> Array:
        if x.dtype == bool:
            return x
        y = change(x)
        # a value that means "masked" must not change
        return np.where(np.isin(x, marks), np.asarray(x, y.dtype), y) if marks else y

    weights = {
        name: {tensor: changed(array) for tensor, array in layer.items()}
        for name, layer in model.weights.items()
    }
    pairs = zip(model.inputs, inputs, strict=True)
    moved = [x if name in rows else changed(x) for name, x in pairs]
    return replace(model, weights=weights), moved


def _other_precisions(
    pairs: Sequence[Set], dtype: str, room: int
) -> Iterator[tuple[int, list[Array]]]:
    """Runs of the reference in other precisions than float64, and in other orders of sums.

    Each comes with the number of its model.
    """
    if dtype in HALF:

        def rounded(x: Array) -> Array:
            return emulated(np.asarray(x, np.float32), dtype)

        # weights, inputs and every result are rounded
        for number, pair in enumerate(pairs):
            yield number, run(*_changed(*pair, rounded), np.float32)
    elif dtype == "float32":
        orders = ((n, o) for n, pair in enumerate(pairs) for o in (pair, *_other_orders(*pair)))
        yield from runs_of_each(orders, np.float32, room)
    elif np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        few = ((n, pair) for n, pair in enumerate(pairs) if products(*pair) < MOST)
        yield from runs_of_each(few, np.longdouble, room // 2)


def _other_orders(model: Model, inputs: Sequence[Array]) -> Iterator[tuple[Model, Sequence[Array]]]:
    """The same numbers, whose long sums are added up in two other orders."""
    arrays = [array for layer in model.weights.values() for array in layer.values()]
    if not (has_long_sums(*arrays, *map(np.asarray, inputs)) and adds_many(model)):
        return
    for backward in (False, True):
        weights = {
            name: {tensor: ordered(array, backward) for tensor, array in layer.items()}
            for name, layer in model.weights.items()
        }
        yield replace(model, weights=weights), [ordered(np.asarray(x), backward) for x in inputs]


def _free(model: Model, inputs: Sequence[Array]) -> int:
    """The longest input axis that may have any length."""
    given = zip(model.inputs, inputs, strict=True)
    pairs = ((model.shape(Edge(name)), x.shape[1:]) for name, x in given)
    axes = (zip(shape, own, strict=False) for shape, own in pairs)
    return max((n for axis in axes for size, n in axis if size is None), default=1)


def products(model: Model, inputs: Sequence[Array]) -> int:
    """Approximate number of products of a run: each weight once for every output position."""
    free = _free(model, inputs)
    batch = len(inputs[0]) if inputs else 1
    total = 0
    for node in model.layers:
        weights = sum(array.size for array in model.weights.get(node.owner, {}).values())
        recurrent = isinstance(node.spec, (Recurrent, Bidirectional))
        places = model.shape(node.inputs[0])[:-1] if recurrent else node.shape[:-1]
        total += weights * batch * math.prod(free if size is None else size for size in places)
    return total


def bounds(
    model: Model, inputs: Sequence[Array], dtype: str, eps: float | None = None
) -> list[Bounds]:
    """Bounds of every output of a model for these inputs in one precision.

    Args:
        model: the model to compare.
        inputs: its inputs.
        dtype: the precision.
        eps: the unit of rounding, for an operation of a framework that rounds more coarsely than
            its precision.
    """
    return bounds_in(model, inputs, {dtype: eps or EPS[dtype]})[dtype]


def bounds_in(
    model: Model, inputs: Sequence[Array], units: Mapping[str, float], room: int | None = None
) -> dict[str, list[Bounds]]:
    """Bounds of every output in several precisions, which share runs of the reference.

    Args:
        model: the model to compare.
        inputs: its inputs.
        units: precision -> its unit of rounding.
        room: numbers of several runs that may be in memory at once, `ROOM` if None.
    """
    return bounds_of_each([model], [inputs], units, room)[0]


def bounds_of_each(
    models: Sequence[Model],
    inputs: Sequence[Sequence[Array]],
    units: Mapping[str, float],
    room: int | None = None,
) -> list[dict[str, list[Bounds]]]:
    """As `bounds_in` for each of several models of one graph, whose runs are stacked.

    Args:
        models: one graph with different weights of equal shapes; its names may differ.
        inputs: of each model, with equal shapes.
        units: as in `bounds_in`.
        room: as in `bounds_in`.
    """
    room = ROOM if room is None else room
    pairs = [*zip(models, inputs, strict=True)]
    found: list[dict[str, list[_Changes]]] = [{} for _ in pairs]
    draws = _Draws(room // 8 if len(pairs) > 1 else 0)
    sets = chain.from_iterable(
        _wide_sets(number, *pair, units, draws) for number, pair in enumerate(pairs)
    )
    for (number, dtype), outputs in runs_of_each(sets, np.float64, room):
        if not dtype:
            reference = [np.asarray(y, np.float64) for y in outputs]  # masks are bools
            found[number] = {d: [_Changes(y) for y in reference] for d in units}
        else:
            _add(found[number][dtype], outputs)
    for dtype in units:
        for number, outputs in _other_precisions(pairs, dtype, room):
            _add(found[number][dtype], outputs)
    return [
        {dtype: [one.bounds(eps, dtype) for one in own[dtype]] for dtype, eps in units.items()}
        for own in found
    ]


Set = tuple[Model, Sequence[Array]]
"""A model and its inputs."""

Key = TypeVar("Key")


def _wide_sets(
    number: int,
    model: Model,
    inputs: Sequence[Array],
    units: Mapping[str, float],
    draws: _Draws,
) -> Iterator[tuple[tuple[int, str], Set]]:
    """The float64 runs of a model, each with its number and the precision that it is for.

    The first one is the reference itself, for all precisions: "".
    """
    yield (number, ""), (model, inputs)
    for other in _other_orders(model, inputs) if "float64" in units else ():
        yield (number, "float64"), other
    for dtype, eps in units.items():
        for seed in range(PERTURBATIONS):
            draw = draws.of(seed)
            moved = perturbed_inputs(model, inputs, eps, seed, draw=draw)
            yield (number, dtype), moved


class _Draws:
    """The random numbers of each seed, which are the same for all models of one graph."""

    def __init__(self, room: int) -> None:
        self.room, self.kept = room, dict[int, list[Array]]()

    def of(self, seed: int) -> Draw:
        """A function that draws from the start of a seed."""
        fresh, place, drawn = np.random.default_rng(seed), 0, 0
        known = self.kept.setdefault(seed, [])

        def draw(shape: tuple[int, ...]) -> Array:
            nonlocal place, drawn
            place += 1
            if place <= len(known):
                return known[place - 1]
            for old in known[drawn:]:  # numbers of this seed that come before
                fresh.uniform(-1, 1, old.shape)
            array: Array = fresh.uniform(-1, 1, shape)
            drawn = place
            if place == len(known) + 1 and self.room >= array.size:
                known.append(array)
                self.room -= array.size
            return array

        return draw


def _add(found: Sequence[_Changes], outputs: Sequence[Array]) -> None:
    for changes, y in zip(found, outputs, strict=True):
        changes.add(y)


def runs_of_each(
    sets: Iterable[tuple[Key, Set]], dtype: Any, room: int, coverages: Iterable[Coverage] = ()
) -> Iterator[tuple[Key, list[Array]]]:
    """The reference's outputs for each set of numbers, as many at once as have room.

    Args:
        sets: models and inputs, each with a key that comes back with its outputs.
        dtype: as in `run_together`.
        room: numbers that may be in memory at once.
        coverages: as in `run_together`.
    """
    left, records = iter(sets), iter(coverages)
    for first in left:
        count = max(room // numbers_of(*first[1]), 1)
        part = [first, *islice(left, count - 1)]
        models, inputs = [one[0] for _, one in part], [one[1] for _, one in part]
        runs = run_together(models, inputs, dtype, [*islice(records, len(part))])
        for (key, _), outputs in zip(part, runs, strict=True):
            yield key, outputs


ROOM = 2**25
"""Numbers of several runs that are in memory at once: 256 MB in float64."""


def numbers_of(model: Model, inputs: Sequence[Array]) -> int:
    """Approximate numbers of a run that wait for others: weights, inputs, those of a loop."""
    free, batch = _free(model, inputs), len(inputs[0]) if inputs else 1

    def size(shapes: Iterable[Shape]) -> int:
        return sum(math.prod(free if n is None else n for n in shape) for shape in shapes)

    loops = (node for node in model.layers if isinstance(node.spec, (Recurrent, Bidirectional)))
    most = max((size((model.shape(n.inputs[0]), *n.shapes)) for n in loops), default=0)
    weights = sum(array.size for layer in model.weights.values() for array in layer.values())
    return batch * (most + size(model.node(name).shape for name in model.inputs)) + weights + 1


class _Changes:
    """The largest changes of an output over runs of the reference, which are not kept."""

    def __init__(self, y: Array) -> None:
        self.y, self.most = y, np.zeros(len(steps_of(y)))
        self.lost = ~np.isfinite(steps_of(y))

    def add(self, y: Array) -> None:
        """Adds another run's output."""
        with np.errstate(invalid="ignore", over="ignore"):
            change = _top(np.asarray(y - self.y, np.float64))
        self.most = np.maximum(self.most, change)
        self.lost &= ~np.isfinite(steps_of(y))

    def bounds(self, eps: float, dtype: str) -> Bounds:
        """The bounds of the output in a precision."""
        top = _top(self.y)
        factor, most = (HALF_FACTOR, HALF_DECIDABLE) if dtype in HALF else (FACTOR, DECIDABLE)
        finite = np.logical_and.accumulate(np.isfinite(top) & np.isfinite(self.most))
        # frameworks may flush numbers below the smallest normal one to zero
        changes = np.fmax(self.most, TINY[dtype])
        own = np.where(finite, np.fmax(changes, eps * top), np.inf)
        step = factor * np.maximum.accumulate(own)
        # a step of zeros must be zeros, unless rounding changes it
        step = np.where(top == 0, factor * np.where(finite, changes, np.inf), step)
        sharp = finite & (step <= np.where(top == 0, np.inf, most * top))
        return Bounds(self.y, step, top, finite, sharp, self.lost)


def bounds_from(y: Array, runs: Sequence[Array], dtype: str) -> Bounds:
    """Bounds of one output, from the float64 reference `y` and the other runs of the reference."""
    changes = _Changes(y)
    for other in runs:
        changes.add(other)
    return changes.bounds(EPS[dtype], dtype)


def judge(output: Array, allowed: Bounds, exact: Bounds, dtype: str) -> Verdict:
    """The verdict on one output of a framework.

    Args:
        output: the framework's output.
        allowed: bounds in the precision that it ran in.
        exact: bounds that show which steps can be decided: those in float64, or in half precision.
        dtype: the precision that it ran in.
    """
    if output.shape != allowed.y.shape:
        return Verdict(FAILED, detail=f"shape {output.shape}, the reference has {allowed.y.shape}")
    if np.iscomplexobj(output):
        return Verdict(
            DIFFERENT, math.inf, math.inf, math.inf, ratio=math.inf, detail=unreal(output)
        )
    if broken := _broken(output, allowed):
        return Verdict(FAILED, detail=broken)
    keep = allowed.finite
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gaps = _top(np.asarray(output, np.float64) - allowed.y)[keep]
        rel = np.where(gaps == 0, 0, gaps / allowed.top[keep])
        ratios = np.where(gaps == 0, 0, gaps / allowed.step[keep])
    # chaos makes late float64 steps undecidable; float32 bounds hold at every step
    judged = ratios if dtype == "float32" else np.where(exact.sharp[keep], ratios, 0)
    decided = judged.size and exact.sharp.any()
    word = DIFFERENT if (judged > 1).any() else ROUNDING if decided else UNDECIDED
    blurred = np.flatnonzero(~(exact.sharp & allowed.finite))
    # a step that cannot be decided is not shown: its difference may be as large as its numbers
    shown = exact.sharp[keep] | (judged > 1)
    worst = (
        int(np.argmax(np.where(shown, judged, -1) if shown.any() else ratios)) if judged.size else 0
    )
    gap, far, bound = (
        (float(row[worst]) for row in (gaps, rel, allowed.step[keep]))
        if judged.size
        else (0.0,) * 3
    )
    return Verdict(
        verdict=word,
        max_abs=gap,
        max_rel=far,
        max_ulp=far / EPS[dtype],
        bound=bound,
        ratio=float(judged.max(initial=0)),
        undecidable_from=int(blurred[0]) if blurred.size else None,
        detail=_why_undecided(judged, allowed, dtype) if word == UNDECIDED else "",
        step=worst if output.ndim > 2 and judged.size else None,
        undecidable="" if word == UNDECIDED else blurred_steps(allowed, exact),
        profile=_profile(output, allowed, shown, dtype, worst),
    )


def _profile(
    output: Array, allowed: Bounds, shown: Array, dtype: str, step: int
) -> ErrorProfile | None:
    """The errors of an output, with the index of its worst element in the output's own axes."""
    pair = steps_of(np.asarray(output, np.float64)), steps_of(allowed.y)
    limits, units = (row[allowed.finite] for row in (allowed.step, EPS[dtype] * allowed.top))
    found = profile_of(pair, limits, shown, units, step)
    return found and replace(found, place=element_of(found.place, output.shape))


def unreal(output: Array) -> str:
    """The error text for complex numbers: no layer of ours returns any."""
    return f"dtype {output.dtype}, the reference has real numbers"


def _broken(output: Array, allowed: Bounds) -> str:
    """A description of numbers that are not finite on one side only, "" where there are none.

    After the first step of the reference that is not finite, nothing is compared: frameworks do not
    agree on the results of NaN and infinity.
    """
    if not (np.isfinite(_top(output)) | ~allowed.finite).all():
        return "NaN or infinity where the reference has none"
    first = int(allowed.finite.sum())
    if first == len(allowed.finite):
        return ""
    found = np.isfinite(steps_of(output)[first]) & allowed.lost[first]
    return "numbers where the reference has NaN or infinity" if found.any() else ""


def _why_undecided(judged: Array, allowed: Bounds, dtype: str) -> str:
    if not judged.size and dtype in HALF and np.isfinite(allowed.top).all():
        near = f"come near {LARGEST[dtype]:g}, the largest of {dtype}, or beyond"
        return f"numbers of the model itself {near}: there is nothing to compare"
    if not judged.size:
        return "NaN or infinity in the reference itself: there is nothing to compare"
    most = HALF_DECIDABLE if dtype in HALF else DECIDABLE
    return f"rounding alone may move every step by more than {most:g} of its largest number"


def blurred_steps(allowed: Bounds, exact: Bounds) -> str:
    """The steps that are not decided, as "time steps 65 to 199"; "" where all or none are."""
    blurred = np.flatnonzero(~(exact.sharp & allowed.finite))
    if not 0 < len(blurred) < len(exact.sharp):
        return ""
    groups = np.split(blurred, np.flatnonzero(np.diff(blurred) > 1) + 1)
    ranges = [f"{g[0]}" if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups]
    more = [f"{len(ranges) - RANGES} more ranges"] if len(ranges) > RANGES else []
    word = "time step" if len(blurred) == 1 else "time steps"
    return f"{word} {', '.join([*ranges[:RANGES], *more])}"


RANGES = 4
"""Ranges of steps that a line names."""


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of several outputs' verdicts; of equal ones the closest to its bound.

    The undecided steps of all outputs are joined.
    """
    worst = min(verdicts, key=lambda v: (WORST.index(v.verdict), -v.ratio))
    steps = [v.undecidable_from for v in verdicts if v.undecidable_from is not None]
    parts = dict.fromkeys(v.undecidable for v in verdicts if v.undecidable)
    return replace(worst, undecidable_from=min(steps, default=None), undecidable="; ".join(parts))
