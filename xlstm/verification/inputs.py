"""Generates inputs for a comparison from the model, and computes the cost of a run beforehand.

In: a model and a recipe. Out: one array per input with random rows of several scales, and lines
about pieces of activations that they do not reach. The cost in bytes and multiply-adds follows from
shapes alone, before anything is allocated; a smaller recipe may fit the limits.

>>> from xlstm.model import RepeatVector, Source, chain
>>> model = chain("m", [("again", RepeatVector(10**7), True)], (3,), {}, Source("keras"))
>>> print(cost_of(model, [(6, 3)]))
31.7 GB of memory and 1.8e+08 multiply-adds a run
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from xlstm.errors import UsageError
from xlstm.files.hashes import of_arrays
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node, row_numbers
from xlstm.ir.types import Array, Shape
from xlstm.reference import Coverage
from xlstm.verification.bounds import MOST, ROOM, runs_of_each

BATCH = 6
STEPS = 16
SEED = 20
SCALES = (1.0, 4.0, 16.0, 64.0)
"""Scales in the order of trial, until every piece of every activation is reached."""


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
    specs = [node.spec for node in model.nodes if isinstance(node.spec, L.Input)]
    return next((spec.batch for spec in specs if spec.batch), None)


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
        if isinstance(node.spec, L.Masking) and before in model.inputs:
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
    for name, size in zip(model.inputs, made_shapes(model, recipe), strict=True):
        spec = model.node(name).spec
        dtype = spec.dtype if isinstance(spec, L.Input) else "float32"
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


GIVEN_UP = "not reached, the model gives NaN or infinity for"
"""The reason for inputs that are left out so that the model's outputs are finite."""


def best_of(
    model: Model, recipe: Recipe, scales: Sequence[float] = SCALES
) -> tuple[list[Array], list[str], Recipe]:
    """As `chosen`, for variations of a recipe; the third item is the recipe of the inputs.

    Args:
        model: the model to run.
        recipe: the first recipe.
        scales: factors of its scale, in the order of trial.
    """
    return best_of_each([model], recipe, scales)[0]


Made = tuple[list[Array], list[str], Recipe]
"""Inputs, the pieces that they do not reach, and their recipe."""


def best_of_each(
    models: Sequence[Model],
    recipe: Recipe,
    scales: Sequence[float] = SCALES,
    room: int | None = None,
) -> list[Made]:
    """As `best_of` for each of several models of one graph, whose runs are stacked.

    Models that take the same recipe get the same arrays.

    Args:
        models: one graph with different weights of equal shapes; its names may differ.
        recipe: as in `best_of`.
        scales: as in `best_of`.
        room: as in `bounds_in`.
    """
    best: dict[int, tuple[tuple[bool, int], Made]] = {}
    for positive, masks in product((False, True), (recipe.masks, SEEN)):
        left = [n for n in range(len(models)) if n not in best or best[n][0][0]]
        for scale in scales:
            tried = recipe._replace(scale=scale * recipe.scale, masks=masks, positive=positive)
            given_up = [f"every step masked: {GIVEN_UP} it"] * (masks != recipe.masks)
            given_up += [f"inputs below zero: {GIVEN_UP} them"] * positive
            inputs = make_inputs(models[0], tried) if left else []
            found = _reached([models[n] for n in left], inputs, room)
            for n, (finite, lines) in zip(left, found, strict=True):
                rank = (not finite, len(lines) + len(given_up))
                if n not in best or rank < best[n][0]:
                    best[n] = rank, (inputs, [*lines, *given_up], tried)
            left = [n for n in left if best[n][0] != (False, 0)]
    return [best[n][1] for n in range(len(models))]


def _reached(
    models: Sequence[Model], inputs: list[Array], room: int | None
) -> Iterator[tuple[bool, list[str]]]:
    """True for each model whose outputs are all finite, and the pieces that it does not reach."""
    pairs = [((), (model, inputs)) for model in models]
    coverages = [Coverage() for _ in models]
    # numbers that are finite in float32 are finite in float64
    runs = runs_of_each(pairs, np.float32, ROOM if room is None else room, coverages)
    for coverage, (_, outputs) in zip(coverages, runs, strict=True):
        yield all(np.isfinite(y).all() for y in outputs), coverage.unexercised()


def shorter(steps: int) -> Iterator[int]:
    """Fewer and fewer time steps, down to one."""
    while steps > 1:
        steps //= 2
        yield steps


def has_free_axis(model: Model) -> bool:
    """True if an input axis may have any length."""
    return any(None in model.node(name).shape for name in model.inputs)


MEMORY = 10**9
"""Default limit of a comparison in bytes, beside weights and frameworks."""

WORK = 10**12
"""Limit of the multiply-adds of all runs for `MEMORY`, some minutes; more memory allows more."""

BYTES, WIDEST = 8, 16
"""Bytes of a number in float64, and in long double, the reference's dtype for small models."""

KEPT = 6
"""Runs whose outputs are in memory at once: the reference, another precision, four perturbed."""

RUNS = 40
"""Approximate runs of one comparison: choice of inputs, bounds in two precisions, frameworks."""

TEMPORARIES = 4
"""Arrays as large as a layer's input and output together that are alive while it is computed."""

ITERATION = 20_000
"""Multiply-adds that take as long as one iteration of a loop over time steps."""

Sizes = tuple[int, ...]


class Cost(NamedTuple):
    """The cost of a run.

    Attributes:
        memory: bytes, with the outputs of all runs in memory.
        work: multiply-adds of one run.
        whole: False if a layer does not take its inputs; the cost is that of the layers before it.
    """

    memory: int
    work: int
    whole: bool = True

    def __str__(self) -> str:
        return f"{_gigabytes(self.memory)} of memory and {_products(self.work)} a run"

    def over(self, limits: Limits) -> str:
        """The cost that is over the limits, in words; "" where all fits."""
        if self.memory > limits.memory:
            return f"{_gigabytes(self.memory)} of memory"
        if self.work * limits.runs > limits.work:
            return f"{_products(self.work * limits.runs)}"
        return ""


class Limits(NamedTuple):
    """The largest cost of a comparison.

    Attributes:
        memory: bytes.
        runs: approximate number of runs of the model.
    """

    memory: int = MEMORY
    runs: int = RUNS

    @property
    def room(self) -> int:
        """Numbers of several runs that may wait for each other, a quarter of the memory."""
        return self.memory // (4 * BYTES)

    @property
    def work(self) -> int:
        """Multiply-adds of all runs together."""
        return WORK * self.memory // MEMORY

    def __str__(self) -> str:
        return f"{_gigabytes(self.memory)} of memory and {_products(self.work)}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 10**18 else "more than 1,000,000,000 GB"


def _products(number: int) -> str:
    words = f"{number:.2g}" if number < 10**24 else "more than 1e+24"
    return f"{words} multiply-adds"


def check_memory(memory: Any) -> int:
    """Bytes as a whole number.

    Raises:
        UsageError: it is no number above zero.
    """
    if isinstance(memory, bool) or not isinstance(memory, (int, float)) or not 0 < memory < 2**60:
        raise UsageError(
            "memory", "a number of bytes above zero", repr(memory), "pass a larger number"
        )
    return int(memory)


def edge_shapes(model: Model, shapes: Sequence[Sizes]) -> dict[Edge, Shape]:
    """Shape of one sample on every edge, for inputs of these shapes, batch first.

    A layer that does not take its inputs, and all after it, are left out.
    """
    known: dict[Edge, Shape] = {
        Edge(name): shape[1:] for name, shape in zip(model.inputs, shapes, strict=True)
    }
    for node in model.layers:
        found: tuple[Shape, ...] = ()
        with contextlib.suppress(Exception):  # a registered layer computes shapes with user code
            found = node.spec.output_shapes(*(known[edge] for edge in node.inputs))
        if not found:
            break
        known |= {Edge(node.name, number): shape for number, shape in enumerate(found)}
    return known


def cost_of(model: Model, shapes: Sequence[Sizes]) -> Cost:
    """The cost of a run for inputs of these shapes, batch first."""
    known = edge_shapes(model, shapes)
    found = [cost for _, _, cost in _layers(model, known)]
    kept = sum(map(_size, known.values()))
    ends = sum(_size(known[edge]) for edge in model.outputs if edge in known)
    most, work = max((cost.room for cost in found), default=0), sum(cost.work for cost in found)
    batch = shapes[0][0] if shapes else 1
    width = WIDEST if batch * work < MOST else BYTES
    whole = len(found) == len(model.layers)
    return Cost(width * batch * (kept + most + KEPT * ends), batch * work, whole)


HEAVY = 32
"""Iterations of another layer's loop that take as long as one of a ConvLSTM."""


def costs_of(model: Model, shapes: Sequence[Sizes]) -> dict[str, float]:
    """Multiply-adds of one run of each node, for inputs of these shapes, batch first.

    The time of an iteration of a loop over time steps is counted once for all samples.
    """
    batch = shapes[0][0] if shapes else 1
    found = {}
    for node, before, cost in _layers(model, edge_shapes(model, shapes)):
        turns = 0
        if isinstance(node.spec, (L.Recurrent, L.Bidirectional)):
            turns = (2 if isinstance(node.spec, L.Bidirectional) else 1) * (before[0][0] or 1)
        heavy = HEAVY if isinstance(node.spec, L.ConvLSTM) else 1
        loops = ITERATION * turns
        found[node.name] = float(batch * (cost.work - loops) + heavy * loops)
    return found


class _Layer(NamedTuple):
    """The cost of one layer for one sample.

    Attributes:
        room: temporary numbers that are in memory only while it is computed.
        work: multiply-adds.
    """

    room: int = 0
    work: int = 0


def _layers(
    model: Model, known: Mapping[Edge, Shape]
) -> Iterator[tuple[Node, list[Shape], _Layer]]:
    """Every node with the shapes of its inputs and its cost, up to one of unknown shape."""
    for node in model.layers:
        edges = [Edge(node.name, number) for number in range(len(node.shapes))]
        if not all(edge in known for edge in edges):
            return
        weights = sum(array.size for array in model.weights.get(node.owner, {}).values())
        before = [known[edge] for edge in node.inputs]
        yield node, before, _layer(node.spec, weights, before, [known[edge] for edge in edges])


def _layer(
    spec: L.LayerSpec, weights: int, before: Sequence[Shape], after: Sequence[Shape]
) -> _Layer:
    if isinstance(spec, L.TimeDistributed):
        steps = before[0][0] or 1
        inner = _layer(
            spec.layer, weights, *([s[1:] for s in shapes] for shapes in (before, after))
        )
        return _Layer(steps * inner.room, steps * inner.work)
    numbers = sum(map(_size, (*before, *after)))
    recurrent = isinstance(spec, (L.Recurrent, L.Bidirectional))
    places = _size((before[0] if recurrent else after[0])[:-1])
    own = next((rule for kind, rule in RULES.items() if isinstance(spec, kind)), None)
    more = own(spec, before, after) if own else _Layer()
    room, work = max(TEMPORARIES * numbers, more.room), numbers + weights * places + more.work
    return _Layer(room, work)


def _size(shape: Shape) -> int:
    return math.prod(max(size or 1, 0) for size in shape)


Rule = Callable[[Any, Sequence[Shape], Sequence[Shape]], _Layer]


def _recurrent(spec: Any, before: Sequence[Shape], _after: Sequence[Shape]) -> _Layer:
    """The input's part of every gate at every step, and an iteration of the loop for each step."""
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    steps = before[0][0] or 1
    states = sum(_size(shape) for half in halves for shape in half.state_shapes())
    return _Layer(4 * steps * states, len(halves) * steps * ITERATION)


def _window(spec: Any, before: Sequence[Shape], after: Sequence[Shape]) -> _Layer:
    """A copy of every window, as PyTorch makes one in float64."""
    window, channels = math.prod(spec.window), before[0][-1] or 1
    places = max(_size(before[0][:-1]), _size(after[0][:-1]))
    room = 0 if isinstance(spec, L.Pool) else window * channels * places
    return _Layer(room, window * _size(after[0]))


def _heads(spec: Any, before: Sequence[Shape], _after: Sequence[Shape]) -> _Layer:
    """A score of every query and value, three times: scores, masked scores, weights."""
    pairs = (before[0][0] or 1) * (before[1][0] or 1)
    width = (before[0][-1] or 1) + (before[1][-1] or 1)
    if isinstance(spec, L.MultiHeadAttention):
        width = spec.key_dim + spec.value_dim
        steps = sum(shape[0] or 1 for shape in before[:3])
        room = steps * spec.heads * width
        return _Layer(3 * spec.heads * pairs + room, spec.heads * pairs * width)
    return _Layer(3 * pairs, pairs * width)


def _dot(spec: Any, before: Sequence[Shape], after: Sequence[Shape]) -> _Layer:
    return _Layer(work=_size(after[0]) * (before[0][spec.axes[0] - 1] or 1))


def _einsum(spec: Any, before: Sequence[Shape], _after: Sequence[Shape]) -> _Layer:
    pairs = zip(spec.letters, before, strict=False)
    sizes = {name: size for names, own in pairs for name, size in zip(names, own, strict=False)}
    return _Layer(work=_size(tuple(sizes.values())))


RULES: dict[Any, Rule] = {
    L.Recurrent: _recurrent,
    L.Bidirectional: _recurrent,
    L.Conv: _window,
    L.ConvTranspose: _window,
    L.DepthwiseConv: _window,
    L.Pool: _window,
    L.Attention: _heads,
    L.MultiHeadAttention: _heads,
    L.Dot: _dot,
    L.Einsum: _einsum,
}
"""Layers whose cost is more than that of their inputs, outputs and weights."""


def made_shapes(model: Model, recipe: Recipe) -> list[Sizes]:
    """Shapes of the inputs of a recipe, batch first."""
    batch = recipe.batch or built_batch(model) or BATCH
    shapes = (model.node(name).shape for name in model.inputs)
    return [(batch, *(recipe.steps if n is None else n for n in shape)) for shape in shapes]


def fitted(model: Model, recipe: Recipe, limits: Limits, *, shorten: bool = True) -> Recipe:
    """The recipe, or one with fewer rows and steps with which a comparison fits the limits.

    Args:
        model: the model to run.
        recipe: the largest recipe.
        limits: of a comparison.
        shorten: True if there may be fewer steps.

    Raises:
        UsageError: no recipe fits.
    """
    found, least = _fit(model, recipe, limits, shorten)
    if found is None:
        raise too_large(model, least, limits)
    return found


def _fit(
    model: Model, recipe: Recipe, limits: Limits, shorten: bool = True
) -> tuple[Recipe | None, Cost]:
    """The first recipe that fits, None if none does; and the cost of the last one."""
    for tried in _smaller(model, recipe, shorten and has_free_axis(model)):
        least = cost_of(model, made_shapes(model, tried))
        # fewer steps may be less than the size of a window
        if not least.over(limits) and (least.whole or tried == recipe):
            return tried, least
    return None, least


def _smaller(model: Model, recipe: Recipe, shorten: bool) -> Iterator[Recipe]:
    """The recipe, then smaller and smaller ones: many rows prove more than many steps."""
    yield recipe
    batch = recipe.batch or BATCH
    batches = [None] if built_batch(model) else [batch, *shorter(batch)]
    steps = [recipe.steps, *(shorter(recipe.steps) if shorten else ())]
    pairs = sorted(product(batches, steps), key=lambda pair: -(pair[0] or 1) * pair[1])
    yield from (recipe._replace(batch=rows, steps=n) for rows, n in pairs[1:])


def check_cost(model: Model, arrays: Sequence[Array], limits: Limits) -> None:
    """Raises UsageError if a comparison on these inputs is over the limits."""
    found = cost_of(model, [array.shape for array in arrays])
    if found.over(limits):
        raise too_large(model, found, limits)


def too_large(model: Model, found: Cost, limits: Limits) -> UsageError:
    """The error for a comparison that is over the limits."""
    do = "pass smaller inputs, allow more (memory=), or port with --no-verify"
    want = f"a comparison of at most {limits}"
    return UsageError(model.name, want, f"one that would need {found.over(limits)}", do)


def why_not(model: Model, limits: Limits = Limits()) -> str:  # noqa: B008  a tuple of numbers
    """The reason why no comparison on generated inputs fits the limits, "" where one fits."""
    found, least = _fit(model, Recipe(), limits)
    return "" if found else f"would need {least.over(limits)}"


def recipe_of(
    model: Model, trials: Sequence[Sequence[Array]], made: Recipe | None
) -> dict[str, Any]:
    """The inputs of a comparison as plain data, from which they can be generated again.

    Args:
        model: the model of the inputs.
        trials: the inputs, and those of further shapes.
        made: the recipe of the first ones (`make_inputs`); None for inputs of the user.

    Returns:
        `cooked`: the recipe's fields, null for inputs of the user; `inputs`: name, shape and dtype
        of the first ones; `sha256` of all.
    """
    first = zip(model.inputs, trials[0], strict=True)
    options = made._asdict().items() if made else ()
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in options}
    return {
        "cooked": fields or None,
        "inputs": [
            {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
            for name, array in first
        ],
        "sha256": of_arrays(array for arrays in trials for array in arrays),
    }
