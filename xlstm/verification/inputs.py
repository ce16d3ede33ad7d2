"""Generates inputs for a comparison from the model: random rows of several scales.

In: a model and a recipe. Out: one array per input, and lines about pieces of activations that they
do not reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.layers import Input, Masking
from xlstm.ir.types import Array
from xlstm.reference import Coverage, run

BATCH = 6
STEPS = 16
SEED = 20
SCALES = (1.0, 4.0, 16.0, 64.0)
"""Scales in the order of trial, until every piece of every activation is reached."""


def _sample_shape(shape: tuple[int | None, ...], steps: int) -> tuple[int, ...]:
    return tuple(steps if size is None else size for size in shape)


MASKS = ("none", "right", "left", "middle", "all", "none")
"""Masked steps of each row of a batch, where the model has masks."""

SEEN = ("none", "right", "left", "middle", "none", "right")
"""The same without a row whose steps are all masked: some layers return NaN for it."""


class Recipe(NamedTuple):
    """The options of generated inputs.

    Attributes:
        steps: length of axes that may have any.
        scale: scales of the rows grow from a quarter to twice this.
        seed: of the numbers.
        batch: number of rows, None for the model's own or BATCH.
        masks: the masked steps of each row.
        first: index in `masks` of the first row.
        positive: True if all numbers are above zero, as some functions need.
    """

    steps: int = STEPS
    scale: float = 1.0
    seed: int = SEED
    batch: int | None = None
    masks: tuple[str, ...] = MASKS
    first: int = 0
    positive: bool = False


def built_batch(model: Model) -> int | None:
    """The batch size that a model was built for, None for any."""
    specs = [node.spec for node in model.nodes if isinstance(node.spec, Input)]
    return next((spec.batch for spec in specs if spec.batch), None)


def batch_of(model: Model) -> int:
    """The batch size that a model was built for, or BATCH."""
    return built_batch(model) or BATCH


def _counts(recipe: Recipe, batch: int, *axes: int) -> Array:
    """Masks (batch, ..., steps), True where a step is not masked, by the recipe's kinds."""
    steps = axes[-1]
    t = np.arange(steps)
    third = -(-steps // 3)
    masked = {
        "none": t < 0,
        "right": t >= steps - third,
        "left": t < third,
        "middle": (t >= third) & (t < 2 * third),
        "all": t >= 0,
    }
    kinds = [recipe.masks[(row + recipe.first) % len(recipe.masks)] for row in range(batch)]
    counts = ~np.array([masked[kind] for kind in kinds])
    counts = np.expand_dims(counts, tuple(range(1, len(axes))))
    return np.broadcast_to(counts, (batch, *axes)).copy()


def _marks(model: Model) -> dict[str, float]:
    """Inputs whose steps a Masking layer masks -> the value of masked steps."""
    found = {}
    for node in model.nodes:
        before = node.inputs[0].node if node.inputs else ""
        if isinstance(node.spec, Masking) and before in model.inputs:
            found[before] = node.spec.value
    return found


def make(model: Model, steps: int = STEPS, scale: float = 1.0, seed: int = SEED) -> list[Array]:
    """One array per model input, (batch, ...); rows grow from a quarter to twice the scale.

    Axes of any length get `steps`. The values are float32 so that every framework gets the same.
    Inputs of integers are whole numbers, and those of embeddings row numbers. If the model has
    masks, rows are masked in turn nowhere, at the end, at the start, in the middle, everywhere.
    """
    return make_inputs(model, Recipe(steps, scale, seed))


def make_inputs(model: Model, recipe: Recipe) -> list[Array]:
    """As `make`, with all options of a recipe."""
    rng = np.random.default_rng(recipe.seed)
    marks, tables = _marks(model), row_numbers(model)
    made = []
    for name in model.inputs:
        shape = _sample_shape(model.node(name).shape, recipe.steps)
        size = (recipe.batch or batch_of(model), *shape)
        spec = model.node(name).spec
        dtype = spec.dtype if isinstance(spec, Input) else "float32"
        if dtype == "bool":
            made.append(_counts(recipe, *size))
        elif name in tables:
            made.append(_ids(rng, recipe, size, tables[name]))
        else:
            made.append(_numbers(rng, recipe, size, dtype, marks.get(name)))
    return made


def _ids(rng: np.random.Generator, recipe: Recipe, size: tuple[int, ...], rows: int) -> Array:
    """Row numbers from 1 on, and 0 at masked steps."""
    ids = rng.integers(min(1, rows - 1), rows, size)
    if len(size) > 1:
        ids = np.where(_counts(recipe, *size), ids, 0)
    return ids.astype(np.float32)


def _numbers(
    rng: np.random.Generator,
    recipe: Recipe,
    size: tuple[int, ...],
    dtype: str,
    mark: float | None,
) -> Array:
    """Normal numbers whose scale grows from row to row; `mark` fills the masked steps."""
    batch = size[0]
    # activations are curved at numbers of the first rows, and flat at those of the last ones
    grown = np.geomspace(0.25, 2.0 * recipe.scale, batch)
    rows = grown if batch > 1 else np.full(1, recipe.scale)
    x = rng.standard_normal(size) * rows.reshape(-1, *(1,) * (len(size) - 1))
    x = np.abs(x) + 0.5**10 if recipe.positive else x
    if mark is not None:
        x = np.where(_counts(recipe, batch, size[1])[..., None], x, mark)
    return (x if "float" in dtype else np.rint(x)).astype(np.float32)


def chosen(model: Model, steps: int = STEPS) -> tuple[list[Array], list[str]]:
    """Inputs that reach the most pieces of the model's activations, and the pieces left out.

    Inputs for which the model returns NaN or infinity are used only if no others are found. Causes
    are a mean over masked steps alone, or the logarithm of a negative number.
    """
    arrays, left, _ = best_of(model, Recipe(steps))
    return arrays, left


def best_of(
    model: Model, recipe: Recipe, scales: Sequence[float] = SCALES
) -> tuple[list[Array], list[str], Recipe]:
    """As `chosen`, for variations of a recipe; the third item is the recipe of the inputs.

    Args:
        model: the model to run.
        recipe: the first recipe.
        scales: factors of its scale, in the order of trial.
    """
    best: tuple[tuple[bool, int], list[Array], list[str], Recipe] | None = None
    for positive, masks in product((False, True), (recipe.masks, SEEN)):
        for scale in scales:
            tried = recipe._replace(scale=scale * recipe.scale, masks=masks, positive=positive)
            inputs, coverage = make_inputs(model, tried), Coverage()
            run(model, inputs, coverage=coverage)
            left = coverage.unexercised() + _given_up(recipe, tried)
            # numbers that are finite in float32 are finite in float64
            outputs = run(model, inputs, np.float32)
            rank = (not all(np.isfinite(y).all() for y in outputs), len(left))
            if best is None or rank < best[0]:
                best = rank, inputs, left, tried
            if rank == (False, 0):
                break
        if best and not best[0][0]:
            break
    assert best is not None
    return best[1:]


def _given_up(recipe: Recipe, tried: Recipe) -> list[str]:
    """Lines about kinds of inputs that are left out so that the model's outputs are finite."""
    lines = []
    if tried.masks != recipe.masks:
        lines.append("every step masked: not exercised, the model gives NaN or infinity for it")
    if tried.positive:
        lines.append("inputs below zero: not exercised, the model gives NaN or infinity for them")
    return lines


def shorter(steps: int) -> Iterator[int]:
    """Fewer and fewer time steps, down to one."""
    while steps > 1:
        steps //= 2
        yield steps


def has_free_axis(model: Model) -> bool:
    """True if an input axis may have any length."""
    return any(None in model.node(name).shape for name in model.inputs)
