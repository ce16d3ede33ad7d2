"""The budget of the search for causes, counted in multiply-adds and never timed.

In: costs of the truth's layers, and how much may be spent. Out: whether more may be tried, and
lines that say how far the search has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.errors import UsageError

SINGLE = 2e11
"""Multiply-adds that single mistakes may take at effort 1: of a usual model all are tried."""

PAIRS = 4e9
"""Multiply-adds that pairs of mistakes may take at effort 1, some seconds."""

TRIAL = 10_000
"""Multiply-adds that making and judging a hypothesis takes as much time as."""

EVERY = 250
"""Hypotheses between two lines that say how far the search has come."""

Tell = Callable[[str], None]


def silent(_text: str) -> None:
    """Says nothing."""


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
            self.tell(f"looking for the cause: {self.tried:,} tried{self._share(paired)}")

    def _share(self, paired: bool) -> str:
        """The share of the budget of pairs that is spent; single mistakes seldom take all."""
        share = self.pairs / (PAIRS * self.scale) if paired else 0.0
        return f", {min(share, 1):.0%} of all pairs that may be" if paired else ""

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
        return f"; some {what} were left out, effort={10 * self.scale:g} tries more"


def check_effort(effort: Any) -> float:
    """The effort as a number.

    Raises:
        UsageError: no number from zero on.
    """
    number = isinstance(effort, (int, float)) and not isinstance(effort, bool)
    if not number or not 0 <= effort < float("inf"):
        raise UsageError("effort", "a number from 0 on", repr(effort), "pass such a one")
    return float(effort)
