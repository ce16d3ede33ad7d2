"""What a comparison found: for programs, for a terminal, and for a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.counting.ledger import Ledger
from xlstm.errors import NotEqualError
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.rendering.tables import render_counts, render_verdicts
from xlstm.verification.bounds import ROUNDING, Verdict
from xlstm.verification.comparison import Compared

BLURRED = (
    "cannot be decided: rounding alone may move them by more than their digits, and an error there "
    "would not be seen; differences and ULP are those of the other steps"
)
"""What is said of time steps without a verdict."""


@dataclass(frozen=True)
class FrameworkReport(Compared):
    """One framework's part of a comparison.

    Attributes:
        name: as users write it.
        title: as the framework writes itself.
        version: installed version.
        what: what ran: the original, or our port.
        verdicts: dtype -> verdict.
        parameters: number of parameters as the framework itself counts them, None if it cannot.
        weights: "" where what the port holds is bit for bit the source's, else what is not; None
            where they were not compared: of the original, and of what did not run.
        missing: why it did not run, where it was asked for and is not installed.
        shapes: shape of the inputs -> dtype -> verdict, where several were compared.
        layers: dtype -> what a recurrent layer gives -> verdict, where hidden states were compared.
        gradients: dtype -> tensor or input -> verdict, where gradients were compared.
        steps: dtype -> tensor -> verdict, where one step of SGD was compared.
        step_notes: where such a step goes elsewhere than in the source, and what to do about it.
    """

    name: str
    title: str
    version: str
    what: str
    verdicts: dict[str, Verdict]
    parameters: int | None
    weights: str | None = None
    missing: str = ""
    shapes: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    gradients: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    step_notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every precision is equal up to rounding, and no weight is another's."""
        return not self.weights and all(v.verdict == ROUNDING for _, v in self.every())

    def every(self) -> Iterator[tuple[str, Verdict]]:
        """Each verdict with its precision, and with what it is about beyond the outputs."""
        yield from self.verdicts.items()
        more = ("", self.layers), ("gradient of ", self.gradients), ("one step of ", self.steps)
        for what, found in more:
            for dtype, verdicts in found.items():
                yield from ((f"{dtype}, {what}{name}", v) for name, v in verdicts.items())

    def to_json(self) -> dict[str, Any]:
        """This framework's part as plain data."""
        found: dict[str, Any] = {dtype: v.to_json() for dtype, v in self.verdicts.items()}
        nothing = "not installed" if self.missing else "nothing ran"
        found |= {"version": self.version, "what": self.what or nothing}
        held = "not compared" if self.weights is None else self.weights or "bit-equal"
        found["weights"] = held
        found |= {"step_notes": list(self.step_notes)} if self.steps else {}
        for key in ("shapes", "layers", "gradients", "steps"):
            if every := getattr(self, key):
                found[key] = {
                    a: {b: v.to_json() for b, v in verdicts.items()}
                    for a, verdicts in every.items()
                }
        return found


@dataclass(frozen=True)
class Report(Compared):
    """Counts and outputs of several frameworks against the float64 reference.

    Attributes:
        model: what was compared.
        ledger: the counts.
        frameworks: name -> that framework's part.
        unexercised: pieces of activations that the inputs did not reach.
        inputs: how the inputs were made.
        counts_ok: whether the tables' counts equal the frameworks' own.
        recipe: how to make the very same inputs again, and their hash.
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
        """Whether all frameworks are equal up to rounding and all counts agree."""
        return self.counts_ok and all(f.ok for f in self.frameworks.values())

    @property
    def missing(self) -> list[str]:
        """A line for each framework that was asked for and is not installed."""
        return [found.missing for found in self.frameworks.values() if found.missing]

    @property
    def ran(self) -> bool:
        """True if a framework ran: else nothing was compared."""
        return any(found.what for found in self.frameworks.values())

    def check(self) -> None:
        """Raises NotEqualError, naming each framework that does not agree; the text is its note.

        Warns (UserWarning) where all agree and some time steps cannot be decided.
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
        """A line for each set of time steps that no framework's outputs can be decided at."""
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
        return f"{render_counts(self.ledger)}\n{render_verdicts(self)}"
