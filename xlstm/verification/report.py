"""The results of a comparison: for programs, for a terminal, and for a notebook.

`reconcile` returns a `Report`; `str(report)` is its text, `report.to_json()` its data.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.counting.ledger import Ledger
from xlstm.counting.ledger_text import render_counts
from xlstm.errors import NotEqualError
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.verification.bounds import ROUNDING
from xlstm.verification.report_text import render_verdicts
from xlstm.verification.results import Compared, FrameworkReport

BLURRED = (
    "cannot be decided: rounding alone may move them by more than their digits, and an error there "
    "would not be seen; differences and ULP are those of the other steps"
)
"""The text for time steps without a verdict."""

REFERENCE = "Reference: float64 numpy, independent of all tables."

BUG = "The counts above differ from the frameworks' own: this is a bug, report it."


@dataclass(frozen=True)
class Report(Compared):
    """Counts and outputs of several frameworks against the float64 reference.

    Attributes:
        model: the model of the comparison.
        ledger: the counts.
        frameworks: name -> that framework's part.
        unexercised: pieces of activations that the inputs did not reach.
        inputs: description of the inputs.
        counts_ok: True if the tables' counts equal the frameworks' own.
        recipe: options that generate the same inputs again, and their hash.
    """

    model: Model
    ledger: Ledger
    frameworks: dict[str, FrameworkReport]
    unexercised: tuple[str, ...]
    inputs: str
    counts_ok: bool
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if all frameworks are equal up to rounding and all counts agree."""
        return self.counts_ok and all(f.ok for f in self.frameworks.values())

    @property
    def missing(self) -> list[str]:
        """A line for each framework that the user names and that is not installed."""
        return [found.missing for found in self.frameworks.values() if found.missing]

    @property
    def ran(self) -> bool:
        """True if a framework ran: else nothing was compared."""
        return any(found.what for found in self.frameworks.values())

    def check(self) -> None:
        """Raises NotEqualError with the names of unequal frameworks; its note is the text.

        Warns (UserWarning) if all are equal and some time steps cannot be decided.
        """
        wrong = [
            f"{f.title} {what}: {v.verdict} (max difference {v.max_abs:.3g}, bound {v.bound:.3g}"
            f"{', ' + v.detail if v.detail else ''})"
            for f in self.frameworks.values()
            for what, v in f.every()
            if v.verdict != ROUNDING
        ]
        wrong += [f"{f.title}: {f.weights}" for f in self.frameworks.values() if f.weights]
        if not self.counts_ok:
            wrong.append("parameter counts differ from the frameworks' own")
        if wrong:
            do = "see the report for the figures"
            error = NotEqualError(self.model.name, "equal up to rounding", "; ".join(wrong), do)
            error.add_note(str(self))
            raise error
        for line in self.undecidable():
            warnings.warn(f"{self.model.name}: {line}", stacklevel=2)

    def undecidable(self) -> list[str]:
        """A line for each set of time steps that cannot be decided for any framework."""
        where: dict[str, list[str]] = {}
        for found in self.frameworks.values():
            for dtype, v in found.every():
                if v.undecidable and v.ran:
                    where.setdefault(v.undecidable, []).append(f"{found.title} {dtype}")
        return [f"{steps} {BLURRED} ({', '.join(who)})" for steps, who in where.items()]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, in the form that `xlstm verify --json` prints."""
        return {
            "ok": self.ok,
            "frameworks": {name: found.to_json() for name, found in self.frameworks.items()},
            "counts": {
                "ok": self.counts_ok,
                "own": {name: found.parameters for name, found in self.frameworks.items()},
                "totals": self.ledger.totals(),
            },
            "unexercised": list(self.unexercised),
            "undecidable_from": self._undecidable_from(),
            "inputs": self.inputs,
            "recipe": dict(self.recipe),
            "warnings": warnings_of(self.model),
        }

    def _undecidable_from(self) -> int | None:
        found = [
            v.undecidable_from
            for f in self.frameworks.values()
            for v in f.verdicts.values()
            if v.undecidable_from is not None
        ]
        return min(found, default=None)

    def __str__(self) -> str:
        lines = [*self.undecidable()], [*warnings_of(self.model), *self.unexercised]
        lines[1].append(f"Inputs: {self.inputs}. {REFERENCE}")
        if not self.counts_ok:
            lines[1].append(BUG)
        several = len(self.model.outputs) > 1
        verdicts = render_verdicts(self.frameworks.values(), *lines, several=several)
        return f"{render_counts(self.ledger)}\n{verdicts}"
