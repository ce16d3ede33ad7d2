"""The result of a diagnosis: for programs, for a terminal, and for a notebook."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from xlstm.errors import NotEqualError, printable
from xlstm.verification.report import Compared

UNGRANTED = ("inputs", "outputs", "shape", "nan", "failed", "not-repeatable")
"""Causes that say what is seen, not what it comes from: nothing follows if they are granted."""


NO_STEP = "no step can be decided: rounding alone moves a's outputs by more than their digits"
"""The text of a difference that rounding alone may make."""


@dataclass(frozen=True)
class Finding:
    """One mistake that explains a difference, tried and found true.

    Attributes:
        layer: the truth's layer where it is, "" where it is no single layer's.
        step: first time step at which that layer's outputs part, counted from 0; None where they
            have no time axis or are not known.
        tensor: the suspect's tensors, by its own names where those are known; "" for none.
        cause: stable id, one of `xlstm.diagnosing.CAUSES`.
        text: what is wrong, in a sentence or two.
        fix: what to do.
        before: largest difference of that layer's output (of the model's, where the layer's own is
            not known; of the tensors, where only weights are compared).
        after_ulp: largest difference left once this finding and those before it are granted, in
            units of the last place of the largest |y|; None where nothing could be run.
    """

    layer: str
    step: int | None
    tensor: str
    cause: str
    text: str
    fix: str = ""
    before: float = 0.0
    after_ulp: float | None = None


@dataclass(frozen=True)
class Unexplained:
    """A difference that no known cause explains.

    Attributes:
        layer: where the models part first, "" where only the outputs are known.
        step: first time step, None where there is no time axis.
        difference: the largest one.
        text: the same as a sentence.
    """

    layer: str
    step: int | None
    difference: float
    text: str


@dataclass(frozen=True, repr=False)
class Diagnosis(Compared):
    """The places at which two models differ, and the causes.

    Attributes:
        a: the truth, in words.
        b: the suspect, in words.
        findings: mistakes, in the order in which data meets them.
        unexplained: differences that no known cause explains.
        compared: what was compared: "outputs", "weights" or both.
        tried: how many hypotheses were tried.
        unexercised: what the inputs did not reach, where an error cannot be seen.
        inputs: how the inputs were made.
        max_ulp: largest difference of the outputs once all findings are granted, None if not run.
        precision: what the suspect was run in, "" if it was not.
        undecidable: the time steps of a's outputs at which rounding alone decides, "" for none.
        notes: what differs and is no mistake: it changes no output.
        seen: what is plain to see in b's outputs, such as NaN, where the findings explain it.
        ratio: largest difference of the outputs over the allowed one, before any finding is
            granted; None if not run.
        first: the first element of the outputs that differs, as "output[0, 3]: a gives 1 and b 2
            (allowed 1e-15)"; "" for none.
    """

    a: str
    b: str
    findings: tuple[Finding, ...] = ()
    unexplained: tuple[Unexplained, ...] = ()
    compared: tuple[str, ...] = ("outputs",)
    tried: int = 0
    unexercised: tuple[str, ...] = ()
    inputs: str = ""
    max_ulp: float | None = None
    precision: str = ""
    undecidable: str = ""
    notes: tuple[Finding, ...] = ()
    seen: tuple[str, ...] = ()
    ratio: float | None = None
    first: str = ""

    @property
    def ok(self) -> bool:
        """True if the two are equal up to rounding."""
        return not self.findings and not self.unexplained

    @property
    def undecided(self) -> bool:
        """True if rounding alone may make the difference of an output."""
        return any(found.text.startswith(NO_STEP) for found in self.unexplained)

    def check(self) -> None:
        """Raises NotEqualError where the two are not equal, with the whole text as its note."""
        if self.ok:
            return
        got = "; ".join([*(f.text for f in self.findings), *(u.text for u in self.unexplained)])
        do = next((f.fix for f in self.findings if f.fix), "see the diagnosis for the figures")
        error = NotEqualError(f"b ({self.b})", f"what a ({self.a}) gives", got, do)
        error.add_note(str(self))
        raise error

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes found, without repetition, in order."""
        return tuple(dict.fromkeys(finding.cause for finding in self.findings))

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as plain data; numbers that JSON has not are null."""
        return {"ok": self.ok, **_plain(asdict(self))}

    def summary(self) -> str:
        """Returns one line: equal, or the number of mistakes and unexplained differences."""
        if self.ok:
            return f"Equal up to rounding: {' and '.join(self.compared) or 'nothing'}."
        found, left = len(self.findings), len(self.unexplained)
        parts = [f"{found} mistake{'s' * (found > 1)} found"] if found else []
        parts += [f"{left} difference{'s' * (left > 1)} unexplained"] if left else []
        return f"Different: {', '.join(parts)}."

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in [self.summary(), *self._lines()])

    def _lines(self) -> list[str]:
        lines = [f"a: {self.a}", f"b: {self.b}", *self.seen, ""]
        for number, finding in enumerate(self.findings, 1):
            where = _place(finding.layer, finding.step)
            lines.append(f"{number}. {where}{finding.text} [{finding.cause}]")
            lines += [f"   {finding.fix}"] if finding.fix else []
        lines += [f"?  {found.text}" for found in self.unexplained]
        for note in self.notes:
            where = _place(note.layer, note.step)
            lines.append(f"note: {where}{note.text} [{note.cause}]")
            lines += [f"   {note.fix}"] if note.fix else []
        lines += ["", *self._closing()] if lines[-1] else self._closing()
        return lines

    def _closing(self) -> list[str]:
        what = " and ".join(self.compared) or "nothing"
        lines = [] if self.ok else [f"compared: {what}"]
        known = {finding.cause for finding in self.findings} - {*UNGRANTED}
        if known and not self.unexplained and self.max_ulp is not None:
            ulp = max(round(self.max_ulp), int(self.max_ulp > 0))
            after = f"After that the outputs agree to {ulp} ULP of {self.precision}."
            lines.insert(0, after)
        if self.undecidable:
            blurred = (
                "cannot be decided: rounding alone moves a's outputs by more than their digits"
            )
            lines.append(f"{self.undecidable} {blurred}; an error there would not be seen")
        lines += [*self.unexercised]
        lines += [f"inputs: {self.inputs}"] if self.inputs else []
        return lines


def _place(layer: str, step: int | None) -> str:
    where = ", ".join(([layer] if layer else []) + ([f"step {step}"] if step is not None else []))
    return f"{where}: " if where else ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
