"""More shapes of inputs for a thorough comparison: lengths, batch sizes, masks, scales, seeds.

In: a model and precisions. Out: trials, and lines about shapes that the model does not take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from xlstm.errors import XlstmError
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.types import Array
from xlstm.verification import inputs
from xlstm.verification.bounds import bounds
from xlstm.verification.inputs import Limits, cost_of, made_shapes
from xlstm.verification.run import Trial, trial


class Shape(NamedTuple):
    """Sizes and scale of one set of inputs."""

    steps: int
    batch: int
    scale: float


SHAPES = (
    Shape(1, 1, 1.0),
    Shape(1, 5, 64.0),
    Shape(2, 3, 0.25),
    Shape(3, 1, 16.0),
    Shape(7, 5, 4.0),
    Shape(17, 10, 256.0),
    Shape(33, 1, 1.0),
    Shape(96, 5, 1.0),
)
"""One, two and three steps, odd and long ones."""

KINDS = ("none", "right", "left", "middle", "all")
"""Masked steps of each row: any five rows in sequence have every kind."""


def shapes_of(
    model: Model,
    dtypes: Sequence[str] = DTYPES,
    limits: Limits = Limits(),  # noqa: B008  a tuple of numbers
) -> tuple[list[Trial], list[str]]:
    """Trials of every shape that a model takes, and a line for each that it does not take."""
    free, batch = inputs.has_free_axis(model), inputs.built_batch(model)
    room = limits.room
    seen, found, refused = set[tuple[tuple[int, ...], ...]](), list[Trial](), list[str]()
    for number, shape in enumerate(SHAPES):
        recipe = inputs.Recipe(
            shape.steps if free else inputs.STEPS,
            shape.scale,
            inputs.SEED + 1 + number,
            batch or shape.batch,
            KINDS,
            number,
        )
        if reason := cost_of(model, made_shapes(model, recipe)).over(limits):
            refused.append(f"{shape.steps} steps: not compared, they would need {reason}")
            continue
        try:
            made = _decidable(model, recipe, [d for d in dtypes if d not in HALF], room)
            halves = _halves(model, recipe, made, [d for d in dtypes if d in HALF], room)
        except (ValueError, IndexError, XlstmError):
            refused.append(f"{shape.steps} steps: not compared, the model does not take them")
            continue
        sizes = tuple(array.shape for array in made.arrays)
        if not free or sizes not in seen:
            found += halves
            refused += [
                f"{made.label}: rounding decides nothing in {' and '.join(one.allowed)}, "
                f"compared with {one.label} instead"
                for one in halves[1:]
            ]
        seen.add(sizes)
    return found, list(dict.fromkeys(refused))


def _decidable(model: Model, recipe: inputs.Recipe, dtypes: Sequence[str], room: int) -> Trial:
    """A trial of a recipe, or of a milder one if rounding leaves it undecided."""
    for found in _milder(model, recipe, dtypes, room):
        single = all(bound.finite.all() for bound in found.allowed["float32"])
        if single and all(bound.sharp.any() for bound in found.allowed["float64"]):
            break
    return found


def _milder(
    model: Model, recipe: inputs.Recipe, dtypes: Sequence[str], room: int
) -> Iterator[Trial]:
    """Trials of a recipe and of milder and milder ones."""
    milder = [recipe, recipe._replace(scale=min(recipe.scale, 1.0))]
    if inputs.has_free_axis(model):
        milder += [milder[1]._replace(steps=n) for n in inputs.shorter(recipe.steps)]
    for tried in milder:
        arrays, _, made = inputs.best_of(model, tried, (1.0,))
        label = f"{sizes_of(arrays)} scale {made.scale:g} seed {made.seed}"
        yield trial(model, arrays, label, dtypes=dtypes, room=room)


def _halves(
    model: Model, recipe: inputs.Recipe, made: Trial, dtypes: Sequence[str], room: int
) -> list[Trial]:
    """A trial in half precision too, with milder ones for precisions that it leaves undecided.

    If the milder ones are undecided too, the verdict on the first is undecided.
    """
    allowed, others = dict(made.allowed), dict[str, Trial]()
    for dtype in dtypes:
        own = bounds(model, made.arrays, dtype)
        if all(bound.sharp.any() for bound in own):
            allowed[dtype] = own
            continue
        for one in _milder(model, recipe, [dtype], room):
            if all(bound.sharp.any() for bound in one.allowed[dtype]):
                before = others.get(one.label, one)
                others[one.label] = replace(one, allowed={**before.allowed, **one.allowed})
                break
        else:
            allowed[dtype] = own
    return [replace(made, allowed=allowed), *others.values()]


def sizes_of(arrays: Sequence[Array]) -> str:
    """Shapes of the inputs, as "(6,16,3)"."""
    return " ".join(f"({','.join(map(str, array.shape))})" for array in arrays)
