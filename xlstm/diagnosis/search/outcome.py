"""The outcome of a walk along the points of a plan, and plainer mistakes that explain the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from xlstm.diagnosis.altered_model import Layer, Values, before, layers_of, run, start
from xlstm.diagnosis.hypothesis import Hypothesis
from xlstm.diagnosis.mistakes.layers.options import SCALED_ROWS
from xlstm.diagnosis.mistakes.table import MOVED, hypotheses
from xlstm.diagnosis.pairing.names import Naming
from xlstm.diagnosis.search.search import Checkpoint, Explained
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.tolerance import Gap, allowed, gap_of
from xlstm.ir.graph import Model
from xlstm.ir.layers import Embedding
from xlstm.ir.types import Array

Granted = list[tuple[Hypothesis, float]]
"""Mistakes that compared weights have shown, each with the largest difference of the tensors."""


@dataclass(frozen=True)
class SearchPlan:
    """One way to go about it: the layers to begin with, the points, and what is granted.

    Attributes:
        layers: the truth's, with the suspect's weights where those are granted.
        line: points in the order of the graph, the outputs last.
        granted: what compared weights have shown.
        dtype: the precision up to whose rounding something is explained.
        pairs: whether pairs of mistakes are looked for too.
    """

    layers: dict[str, Layer]
    line: tuple[Checkpoint, ...]
    granted: Granted
    dtype: str
    pairs: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of a plan; `final` is the difference of the outputs, without any known difference.

    `direct` are the hypotheses about options of the suspect's layers that really differ.
    """

    plan: SearchPlan
    layers: dict[str, Layer]
    explained: list[Explained]
    final: Gap
    direct: tuple[Hypothesis, ...] = ()


def without(found: Iterable[Hypothesis], *others: Hypothesis) -> tuple[Hypothesis, ...]:
    """Hypotheses but for some; they hold arrays, which are not compared."""
    return tuple(h for h in found if all(h is not other for other in others))


def agrees(case: DiagnosisState, best: Outcome, hypotheses: Sequence[Hypothesis]) -> bool:
    """True if the outputs agree with some mistakes alone."""
    layers = dict(best.plan.layers)
    for hypothesis in hypotheses:
        layers.update(hypothesis.layers)
    end, values = best.plan.line[-1], start(case.a, case.inputs)
    return same(case.a, layers, values, end.values, best.plan.dtype).same


def same(
    model: Model, layers: dict[str, Layer], values: Values, outputs: Sequence[Array], dtype: str
) -> Gap:
    """The worst gap of all outputs."""
    wanted = before(model, model.outputs, ())
    bounds = allowed(model, layers, values, model.outputs, dtype, wanted)
    gaps = [gap_of(y, b, dtype) for y, b in zip(outputs, bounds, strict=True)]
    return max(gaps, key=lambda gap: (not gap.same, gap.ratio))


def simplest(case: DiagnosisState, best: Outcome, naming: Naming) -> Outcome:
    """The outcome without what is not needed, and with one mistake for two where one does."""
    if not best.final.same:
        return best
    best = _needed(case, best)
    for change in (_moved_activation, _scaled_rows):
        best = change(case, best, naming)
    return _without_idle_masks(case, best)


def _every(best: Outcome) -> list[Hypothesis]:
    return [hypothesis for one in best.explained for hypothesis in one.found]


def _needed(case: DiagnosisState, best: Outcome) -> Outcome:
    """An outcome without mistakes that cancel: the outputs agree without all of them alike.

    One mistake that changes no output is hidden by the inputs, and was seen further inside.
    """
    every = _every(best)
    for two in combinations(every, 2):
        if agrees(case, best, without(every, *two)) and not any(
            agrees(case, best, without(every, one)) for one in two
        ):
            kept = [replace(one, found=without(one.found, *two)) for one in best.explained]
            return _needed(case, replace(best, explained=kept))
    return best


def _moved_activation(case: DiagnosisState, best: Outcome, naming: Naming) -> Outcome:
    """An outcome in which an activation that moved is one mistake: not one more, and one lost."""
    every = _every(best)
    more = [h for h in every if h.cause == "extra-activation"]
    lost = [h for h in every if h.cause == "activation"]
    for first, second in product(more, lost):
        node = case.a.node(second.layer)
        for whole in hypotheses(case.a, best.plan.layers, [node], naming, MOVED):
            if agrees(case, best, [*without(every, first, second), whole]):
                left = [replace(one, found=without(one.found, first)) for one in best.explained]
                return replace(best, explained=_exchanged(left, second, whole))
    return best


def _scaled_rows(case: DiagnosisState, best: Outcome, naming: Naming) -> Outcome:
    """An outcome in which the rows of an embedding are scaled: not the kernel that reads them."""
    every = _every(best)
    for hypothesis in (h for h in every if h.cause == "scaled-weights"):
        node = case.a.node(hypothesis.layer)
        first = case.a.node(node.inputs[0].node)
        if hypothesis.layer not in naming.equal or not isinstance(first.spec, Embedding):
            continue
        for other in hypotheses(case.a, best.plan.layers, [first], naming, SCALED_ROWS):
            if agrees(case, best, [*without(every, hypothesis), other]):
                return replace(best, explained=_exchanged(best.explained, hypothesis, other))
    return best


def _without_idle_masks(case: DiagnosisState, best: Outcome) -> Outcome:
    """An outcome without masks that only another mistake brings to light.

    A packed sequence is right where the padding is at its end, and stays so.
    """
    every = _every(best)
    idle = [h for h in every if h.cause == "mask-ignored" and len(every) > 1]
    values, layers = start(case.a, case.inputs), layers_of(case.a)
    own = run(case.a, layers, values) if idle else {}
    outputs = [own[edge] for edge in case.a.outputs] if idle else []
    idle = [
        h
        for h in idle
        if same(case.a, {**layers, **h.layers}, values, outputs, best.plan.dtype).same
    ]
    kept = [replace(one, found=without(one.found, *idle)) for one in best.explained]
    return replace(best, explained=kept) if idle else best


def _exchanged(explained: Sequence[Explained], old: Hypothesis, new: Hypothesis) -> list[Explained]:
    """The explanation, with one hypothesis in another one's place."""
    return [
        replace(one, found=tuple(new if h is old else h for h in one.found)) for one in explained
    ]
