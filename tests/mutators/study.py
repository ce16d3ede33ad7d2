"""The study: mutants tried, right ports judged, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass

import xlstm
from mutators.correct import Right
from mutators.mutant import Judge, Mutant, is_caught, is_same
from xlstm.diagnosis import Diagnosis, Finding, Unexplained, diagnose
from xlstm.verification.bounds import ROUNDING, UNDECIDED, WORST, Verdict


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
    """What came of one right port.

    Attributes:
        kind: a row of the table.
        name: which port.
        verdict: the worse one of both precisions.
        ratio: the largest difference over its bound.
        undecidable_from: first step too ill-conditioned to decide, None for none.
        note: what was said.
        doubted: whether its weights, or `diagnose`, were said to show an error.
    """

    kind: str
    name: str
    verdict: str
    ratio: float
    undecidable_from: int | None = None
    note: str = ""
    doubted: bool = False


def tried(mutant: Mutant, judge: Judge, *, ask: bool = True) -> Tried:
    """Judges one mutant, and asks for its cause.

    Args:
        mutant: the wrong port.
        judge: of its model.
        ask: whether `diagnose` is run.
    """
    verdicts = judge.outputs(mutant.port, mutant.framework)
    seen = is_caught(verdicts)
    found = _said(mutant, judge) if ask else None
    weights: bool | None = None
    if mutant.named:
        weights = bool(judge.weights(mutant.port, mutant.framework))
    elif found is not None and mutant.weights_only and "weights" in found.compared:
        weights = not found.ok
    return Tried(
        mutant.kind,
        mutant.name,
        seen,
        weights,
        unexercised=not seen and _listed(mutant, judge),
        same=not seen and not mutant.weights_only and is_same(mutant),
        said=None if found is None else (*found.causes, *(one.text for one in found.unexplained)),
        named=found is not None and any(_names(mutant, one) for one in found.findings),
        failed=any(v.verdict == "failed" for v in verdicts.values()),
        nearest=max(v.ratio for v in verdicts.values()),
    )


def _said(mutant: Mutant, judge: Judge) -> Diagnosis:
    try:
        return diagnose(mutant.model, mutant.port("float32"), inputs=judge.inputs)
    except Exception as error:  # noqa: BLE001  the table counts it as not named
        lost = Unexplained("", None, float("nan"), repr(error))
        return Diagnosis("", "", unexplained=(lost,), compared=())


def _listed(mutant: Mutant, judge: Judge) -> bool:
    """Whether the report says that the inputs could not show it: in its layer, or just before."""
    before = [
        edge.node
        for node in mutant.model.layers
        if node.name == mutant.layer
        for edge in node.inputs
    ]
    return any(f" {n} " in line for n in (mutant.layer, *before) for line in judge.unexercised)


def _names(mutant: Mutant, finding: Finding) -> bool:
    """Whether a finding is about the mutant's error, in its layer, with the order of its gates."""
    # a mask that is left out may be named where it would be made
    makers = [n.mask.node for n in mutant.model.layers if n.name == mutant.layer and n.mask]
    here = not mutant.layer or finding.layer in ("", mutant.layer, *makers)
    return finding.cause in mutant.causes and here and mutant.words in finding.text


def judged(right: Right) -> Judged:
    """Judges one right port: by `reconcile`; or, written by hand, by its outputs and `diagnose`."""
    if right.port is None:
        report = xlstm.reconcile(right.model, [right.framework], inputs=right.inputs)
        found = report.frameworks[right.framework]
        return _worst(right, found.verdicts, found.weights)
    judge = Judge(right.model, right.inputs)
    verdicts = judge.outputs(right.port, right.framework)
    if right.rounded:  # in float64 the rounded weights show, as they should
        verdicts = {"float32": verdicts["float32"]}
    said = diagnose(right.model, right.port("float32"), inputs=judge.inputs)
    return _worst(right, verdicts, "" if said.ok else f"diagnose says {said}")


def _worst(right: Right, verdicts: dict[str, Verdict], note: str) -> Judged:
    word = min((v.verdict for v in verdicts.values()), key=WORST.index)
    details = [v.detail for v in verdicts.values() if v.detail and v.verdict != ROUNDING]
    blurred = [v.undecidable_from for v in verdicts.values() if v.undecidable_from is not None]
    ratio = max(v.ratio for v in verdicts.values())
    first = min(blurred, default=None)
    said = note or "; ".join(details)
    return Judged(right.kind, right.name, word, ratio, first, said, bool(note))


def is_false_alarm(found: Judged) -> bool:
    """Whether a right port was called wrong."""
    return found.verdict not in (ROUNDING, UNDECIDED) or found.doubted
