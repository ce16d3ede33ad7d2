"""The outcome of a walk along the points of a plan, and other explanations of its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xlstm.diagnosis.hypothesis.altered_model import Layer, Values, before, start
from xlstm.diagnosis.hypothesis.hypothesis import Hypothesis
from xlstm.diagnosis.search.search import Checkpoint, Explained
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.tolerance import Gap, allowed, gap_of
from xlstm.ir.graph import Model
from xlstm.ir.types import Array

Granted = list[tuple[Hypothesis, float]]
"""What compared weights have shown, each with the largest difference of the tensors."""


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
    end, given = best.plan.line[-1], start(case.a, case.inputs)
    return same(case.a, layers, given, end.values, best.plan.dtype).same


def same(
    model: Model, layers: dict[str, Layer], values: Values, outputs: Sequence[Array], dtype: str
) -> Gap:
    """The worst gap of all outputs."""
    wanted = before(model, model.outputs, ())
    bounds = allowed(model, layers, values, model.outputs, dtype, wanted)
    gaps = [gap_of(y, b, dtype) for y, b in zip(outputs, bounds, strict=True)]
    return max(gaps, key=lambda gap: (not gap.same, gap.ratio))
