"""The study: mutants tried, right ports judged, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xlstm
from mutators.correct import Right
from mutators.mutant import Judge, Mutant, is_caught, is_same
from xlstm.diagnosing import diagnose
from xlstm.parity import ROUNDING, UNDECIDED, WORST, Verdict


@dataclass(frozen=True)
class Tried:
    """What came of one mutant.

    Attributes:
        kind: the kind of error.
        name: which one.
        by_outputs: whether the outputs alone show it.
        by_weights: whether the weights compared apart show it; None where they cannot be read.
        unexercised: whether the report says that the inputs could not show it.
        same: whether it is the same function, so that there is nothing to show.
        said: the causes that `diagnose` named, None where it was not asked.
        named: whether one of them is right.
        failed: whether the port failed, or gave no numbers.
        nearest: the largest difference over its bound.
        note: what to look at, "" where nothing is wrong.
    """

    kind: str
    name: str
    by_outputs: bool
    by_weights: bool | None = None
    unexercised: bool = False
    same: bool = False
    said: tuple[str, ...] | None = None
    named: bool = False
    failed: bool = False
    nearest: float = 0.0
    note: str = ""

    @property
    def caught(self) -> bool:
        """Whether the product reports the error in one of its ways."""
        return self.by_outputs or bool(self.by_weights) or self.unexercised


@dataclass(frozen=True)
class Judged:
    """What came of one right port: the verdicts of both precisions."""

    kind: str
    name: str
    verdict: str
    ratio: float
    undecidable_from: int | None = None
    note: str = ""


def tried(mutant: Mutant, judge: Judge, *, ask: bool = True) -> Tried:
    """Judges one mutant, and asks for its cause.

    Args:
        mutant: the wrong port.
        judge: of its model.
        ask: whether `diagnose` is run.
    """
    verdicts = judge.outputs(mutant.port, mutant.framework)
    seen = is_caught(verdicts)
    found = Tried(
        mutant.kind,
        mutant.name,
        seen,
        bool(judge.weights(mutant.port, mutant.framework)) if mutant.named else None,
        failed=any(v.verdict == "failed" for v in verdicts.values()),
        nearest=max(v.ratio for v in verdicts.values()),
    )
    said = _said(mutant, judge) if ask else None
    more: dict[str, Any] = {"said": said and said[0], "named": bool(said and said[1])}
    if not seen:
        more["unexercised"] = any(f" {mutant.layer} " in line for line in judge.unexercised)
        more["same"] = not mutant.weights_only and is_same(mutant)
    return Tried(**{**found.__dict__, **more})


def _said(mutant: Mutant, judge: Judge) -> tuple[tuple[str, ...], bool] | None:
    """The causes that `diagnose` names, and whether the right one is among them, at its layer."""
    found = diagnose(mutant.model, mutant.port("float32"), inputs=judge.inputs)
    right = any(
        finding.cause in mutant.causes and (not mutant.layer or finding.layer in ("", mutant.layer))
        for finding in found.findings
    )
    return found.causes, right


def judged(right: Right) -> Judged:
    """Judges one right port: by `reconcile`, or, written by hand, by its outputs."""
    if right.port is None:
        report = xlstm.reconcile(right.model, [right.framework], inputs=right.inputs)
        verdicts = report.frameworks[right.framework].verdicts
        note = report.frameworks[right.framework].weights
    else:
        verdicts = Judge(right.model, right.inputs).outputs(right.port, right.framework)
        note = ""
    return _worst(right, verdicts, note)


def _worst(right: Right, verdicts: dict[str, Verdict], note: str) -> Judged:
    word = min((v.verdict for v in verdicts.values()), key=WORST.index)
    details = [v.detail for v in verdicts.values() if v.detail and v.verdict != ROUNDING]
    blurred = [v.undecidable_from for v in verdicts.values() if v.undecidable_from is not None]
    ratio = max(v.ratio for v in verdicts.values())
    first = min(blurred, default=None)
    return Judged(right.kind, right.name, word, ratio, first, note or "; ".join(details))


def is_false_alarm(found: Judged) -> bool:
    """Whether a right port was called wrong."""
    return found.verdict not in (ROUNDING, UNDECIDED) or bool(found.note)
