"""The cost of running a model, computed from shapes before anything is allocated.

In: a model and the shapes of its inputs. Out: bytes and multiply-adds of a comparison, a smaller
recipe of inputs that fits the limits, or a line with the cost.

>>> from xlstm.model import RepeatVector, Source, chain
>>> model = chain("m", [("again", RepeatVector(10**7), True)], (3,), {}, Source("keras"))
>>> print(cost_of(model, [(6, 3)]))
31.7 GB of memory and 1.8e+08 multiply-adds a run
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from xlstm.errors import UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.layers import LayerSpec
from xlstm.ir.types import Array, Shape
from xlstm.verification.bounds import MOST
from xlstm.verification.inputs import BATCH, Recipe, built_batch, has_free_axis, shorter

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

STEP = 20_000
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
        raise UsageError("memory", "a number of bytes above zero", repr(memory), "pass such a one")
    return int(memory)


def sizes_of(model: Model, shapes: Sequence[Sizes]) -> dict[Edge, Shape]:
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
    known = sizes_of(model, shapes)
    kept = sum(map(_numbers, known.values()))
    ends = sum(_numbers(known[edge]) for edge in model.outputs if edge in known)
    most, work, whole = 0, 0, True
    for node in model.layers:
        after = [known.get(Edge(node.name, number)) for number in range(len(node.shapes))]
        if None in after:
            whole = False
            break
        held = sum(array.size for array in model.weights.get(node.owner, {}).values())
        before = [known[edge] for edge in node.inputs]
        found = _layer(node.spec, held, before, [shape or () for shape in after])
        most, work = max(most, found.room), work + found.work
    batch = shapes[0][0] if shapes else 1
    width = WIDEST if batch * work < MOST else BYTES
    return Cost(width * batch * (kept + most + KEPT * ends), batch * work, whole)


HEAVY = 32
"""Iterations of another layer's loop that take as long as one of a ConvLSTM."""


def costs_of(model: Model, shapes: Sequence[Sizes]) -> dict[str, float]:
    """Multiply-adds of one run of each node, for inputs of these shapes, batch first.

    The time of an iteration of a loop over time steps is counted once for all samples.
    """
    known = sizes_of(model, shapes)
    batch = shapes[0][0] if shapes else 1
    found = {}
    for node in model.layers:
        reads = [known.get(edge) for edge in node.inputs]
        after = [known.get(Edge(node.name, number)) for number in range(len(node.shapes))]
        if None in reads or None in after:
            break
        held = sum(array.size for array in model.weights.get(node.owner, {}).values())
        shaped = [[shape or () for shape in side] for side in (reads, after)]
        turns = _turns(node.spec, shaped[0])
        work = _layer(node.spec, held, *shaped).work - STEP * turns
        heavy = HEAVY if isinstance(node.spec, L.ConvLSTM) else 1
        found[node.name] = float(batch * work + heavy * STEP * turns)
    return found


def _turns(spec: LayerSpec, before: Sequence[Shape]) -> int:
    """Iterations of a layer's loops over time steps."""
    if not isinstance(spec, (L.Recurrent, L.Bidirectional)):
        return 0
    return (2 if isinstance(spec, L.Bidirectional) else 1) * (before[0][0] or 1)


class _Layer(NamedTuple):
    """The cost of one layer for one sample.

    Attributes:
        room: temporary numbers that are in memory only while it is computed.
        work: multiply-adds.
    """

    room: int = 0
    work: int = 0


def _layer(spec: LayerSpec, held: int, before: Sequence[Shape], after: Sequence[Shape]) -> _Layer:
    if isinstance(spec, L.TimeDistributed):
        steps = before[0][0] or 1
        inner = _layer(spec.layer, held, *([s[1:] for s in shapes] for shapes in (before, after)))
        return _Layer(steps * inner.room, steps * inner.work)
    numbers = sum(map(_numbers, (*before, *after)))
    recurrent = isinstance(spec, (L.Recurrent, L.Bidirectional))
    places = _numbers((before[0] if recurrent else after[0])[:-1])
    own = next((rule for kind, rule in RULES.items() if isinstance(spec, kind)), None)
    more = own(spec, before, after) if own else _Layer()
    room, work = max(TEMPORARIES * numbers, more.room), numbers + held * places + more.work
    return _Layer(room, work)


def _numbers(shape: Shape) -> int:
    return math.prod(max(size or 1, 0) for size in shape)


Rule = Callable[[Any, Sequence[Shape], Sequence[Shape]], _Layer]


def _recurrent(spec: Any, before: Sequence[Shape], _after: Sequence[Shape]) -> _Layer:
    """The input's part of every gate at every step, and an iteration of the loop for each step."""
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    steps = before[0][0] or 1
    states = sum(_numbers(shape) for half in halves for shape in half.state_shapes())
    return _Layer(4 * steps * states, len(halves) * steps * STEP)


def _window(spec: Any, before: Sequence[Shape], after: Sequence[Shape]) -> _Layer:
    """A copy of every window, as PyTorch makes one in float64."""
    window, channels = math.prod(spec.window), before[0][-1] or 1
    places = max(_numbers(before[0][:-1]), _numbers(after[0][:-1]))
    room = 0 if isinstance(spec, L.Pool) else window * channels * places
    return _Layer(room, window * _numbers(after[0]))


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
    return _Layer(work=_numbers(after[0]) * (before[0][spec.axes[0] - 1] or 1))


def _einsum(spec: Any, before: Sequence[Shape], _after: Sequence[Shape]) -> _Layer:
    pairs = zip(spec.letters, before, strict=False)
    sizes = {name: size for names, own in pairs for name, size in zip(names, own, strict=False)}
    return _Layer(work=_numbers(tuple(sizes.values())))


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
    do = "pass smaller inputs, allow more (memory=, --memory), or port with --no-verify"
    want = f"a comparison of at most {limits}"
    return UsageError(model.name, want, f"one that would need {found.over(limits)}", do)


def why_not(model: Model, limits: Limits = Limits()) -> str:  # noqa: B008  a tuple of numbers
    """The reason why no comparison on generated inputs fits the limits, "" where one fits."""
    found, least = _fit(model, Recipe(), limits)
    return "" if found else f"would need {least.over(limits)}"
