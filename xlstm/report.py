"""What a comparison found: for programs, for a terminal, and for a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from xlstm.errors import NotEqualError
from xlstm.ledger import Ledger
from xlstm.model import Model
from xlstm.parity import ROUNDING, Verdict
from xlstm.tables import render_counts, render_verdicts


@dataclass(frozen=True)
class FrameworkReport:
    """One framework's part of a comparison.

    Attributes:
        name: as users write it.
        title: as the framework writes itself.
        version: installed version.
        what: what ran: the original, or our port.
        verdicts: dtype -> verdict.
        parameters: number of parameters as the framework itself counts them, None if it cannot.
        weights: "" where what the port holds is bit for bit the source's, else what is not.
    """

    name: str
    title: str
    version: str
    what: str
    verdicts: dict[str, Verdict]
    parameters: int | None
    weights: str = ""

    @property
    def ok(self) -> bool:
        """Whether every precision is equal up to rounding, and the weights are the source's."""
        return not self.weights and all(v.verdict == ROUNDING for v in self.verdicts.values())


@dataclass(frozen=True)
class Report:
    """Counts and outputs of several frameworks against the float64 reference.

    Attributes:
        model: what was compared.
        ledger: the counts.
        frameworks: name -> that framework's part.
        unexercised: pieces of activations that the inputs did not reach.
        inputs: how the inputs were made.
        counts_ok: whether the tables' counts equal the frameworks' own.
    """

    model: Model
    ledger: Ledger
    frameworks: dict[str, FrameworkReport]
    unexercised: tuple[str, ...]
    inputs: str
    counts_ok: bool

    @property
    def ok(self) -> bool:
        """Whether all frameworks are equal up to rounding and all counts agree."""
        return self.counts_ok and all(f.ok for f in self.frameworks.values())

    def check(self) -> None:
        """Raises NotEqualError, naming each framework that does not agree; else does nothing."""
        wrong = [
            f"{f.title} {dtype}: {v.verdict} (max difference {v.max_abs:.3g}, bound {v.bound:.3g}"
            f"{', ' + v.detail if v.detail else ''})"
            for f in self.frameworks.values()
            for dtype, v in f.verdicts.items()
            if v.verdict != ROUNDING
        ]
        wrong += [f"{f.title}: {f.weights}" for f in self.frameworks.values() if f.weights]
        if not self.counts_ok:
            wrong.append("parameter counts differ from the frameworks' own")
        if wrong:
            do = "see the report for the figures"
            raise NotEqualError(self.model.name, "equal up to rounding", "; ".join(wrong), do)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, in the form that `xlstm verify --json` prints."""
        return {
            "ok": self.ok,
            "frameworks": {
                name: {
                    **{dtype: verdict.to_json() for dtype, verdict in found.verdicts.items()},
                    "version": found.version,
                    "what": found.what,
                    "weights": found.weights or "bit-equal",
                }
                for name, found in self.frameworks.items()
            },
            "counts": {
                "ok": self.counts_ok,
                "own": {name: found.parameters for name, found in self.frameworks.items()},
                "totals": self.ledger.totals(),
            },
            "unexercised": list(self.unexercised),
            "undecidable_from": self._undecidable_from(),
            "inputs": self.inputs,
            "warnings": list(self.model.source.warnings),
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
        return f"{render_counts(self.ledger)}\n{render_verdicts(self)}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
