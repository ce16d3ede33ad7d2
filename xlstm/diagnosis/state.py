"""One diagnosis while it is made, and the budget of its search for causes.

The budget is counted in multiply-adds and never timed. In: costs of the truth's layers, and how
much may be spent. Out: whether more may be tried, and lines that say how far the search has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.diagnosis.result import Finding, Unexplained
from xlstm.diagnosis.suspect.models import Suspect
from xlstm.errors import UsageError
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.verification.progress import Tell, silent

STEPS = 8
"""Time steps of the inputs that are made: many hypotheses are run."""


SINGLE = 2e11
"""Multiply-adds that single mistakes may take at effort 1: of a usual model all are tried."""

PAIRS = 4e9
"""Multiply-adds that pairs of mistakes may take at effort 1, some seconds."""

TRIAL = 10_000
"""Multiply-adds that making and judging a hypothesis takes as much time as."""

EVERY = 250
"""Hypotheses between two lines that say how far the search has come."""


@dataclass
class Effort:
    """The work that one diagnosis may still do.

    Attributes:
        costs: multiply-adds of a run of each node.
        scale: 1 for what is usual, more for a longer search.
        tell: is given a line now and then.
        single: spent on single mistakes.
        pairs: spent on pairs of mistakes.
        tried: hypotheses so far.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    tell: Tell = silent
    single: float = 0.0
    pairs: float = 0.0
    tried: int = 0

    def spend(self, nodes: Iterable[str], paired: bool) -> None:
        """Counts a run of some nodes."""
        cost = TRIAL + sum(self.costs.get(name, 0) for name in nodes)
        if paired:
            self.pairs += cost
        else:
            self.single += cost
        self.tried += 1
        if self.tried % EVERY == 0:
            # the share of the budget of pairs: single mistakes seldom take all of theirs
            share = min(self.pairs / max(PAIRS * self.scale, 1.0), 1) if paired else 0.0
            of_pairs = f", {share:.0%} of the pairs of mistakes" if paired else ""
            self.tell(f"[3/3] looking for the cause: {self.tried:,} tried{of_pairs}")

    @property
    def spent(self) -> bool:
        """True when no more single mistakes may be tried."""
        return self.single >= SINGLE * self.scale

    @property
    def without_pairs(self) -> bool:
        """True when no more pairs of mistakes may be tried."""
        return self.spent or self.pairs >= PAIRS * self.scale

    @property
    def stopped(self) -> str:
        """Words for what was left out, "" if nothing was."""
        if not self.without_pairs:
            return ""
        what = "mistakes" if self.spent else "pairs of mistakes"
        return f"; some {what} were left out, effort={10 * self.scale or 1:g} tries more"


def check_effort(effort: Any) -> float:
    """The effort as a number.

    Raises:
        UsageError: no number from zero on.
    """
    number = isinstance(effort, (int, float)) and not isinstance(effort, bool)
    if not number or not 0 <= effort < float("inf"):
        raise UsageError(
            "effort", "a number from 0 on", repr(effort), "pass 1 for the usual effort"
        )
    return float(effort)


@dataclass
class DiagnosisState:
    """One diagnosis while it is made.

    Attributes:
        a: the truth.
        b: the suspect.
        inputs: what both are given.
        findings: so far.
        unexplained: so far.
        notes: so far.
        tried: hypotheses so far.
        dtype: what the suspect computes in.
        max_ulp: the difference of the outputs that is left, None where nothing was run.
        ratio: the largest difference of the outputs over its bound, None where nothing was run.
        first: the first element of the outputs that differs, in words.
        compared: what was compared.
        seen: what is plain to see in the outputs, cause -> sentence, whatever explains it.
        failed: what the suspect said where it failed on the inputs, and ran on some of them.
        effort: what may be spent on the search for causes.
        about: what is sure of an unknown cause, "" for nothing.
    """

    a: Model
    b: Suspect
    inputs: list[Array]
    findings: list[Finding] = field(default_factory=list)
    unexplained: list[Unexplained] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    tried: int = 0
    dtype: str = "float64"
    max_ulp: float | None = None
    ratio: float | None = None
    first: str = ""
    compared: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    effort: Effort = field(default_factory=Effort)
    about: str = ""
