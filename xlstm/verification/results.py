"""Results of comparisons: their base class, and one framework's part.

A result is true if all is equal; `check()` raises if not.
"""

from __future__ import annotations

import abc
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.verification.bounds import ROUNDING, Verdict


class Compared(abc.ABC):
    """The base of results: true if the comparison found all equal, and displayed as its text.

    >>> class Never(Compared):
    ...     ok = False
    >>> bool(Never())
    False
    """

    @property
    @abc.abstractmethod
    def ok(self) -> bool:
        """True if all comparisons are equal up to rounding."""

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class FrameworkReport(Compared):
    """One framework's part of a comparison.

    Attributes:
        name: the name that users write.
        title: the framework's own spelling.
        version: installed version.
        what: the object that ran: the original, or our port.
        verdicts: dtype -> verdict.
        parameters: number of parameters in the framework's own count, None if it has none.
        weights: "" if the port's weights are bit for bit the source's, else the first difference;
            None if they were not compared: those of the original, or without a run.
        missing: the reason why it did not run, if it is not installed.
        shapes: shape of the inputs -> dtype -> verdict, if several were compared.
        layers: dtype -> output of a recurrent layer -> verdict, if hidden states were compared.
        gradients: dtype -> tensor or input -> verdict, if gradients were compared.
        steps: dtype -> tensor -> verdict, if one step of SGD was compared.
        step_notes: differences of such a step from the source's, with advice.
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
        """True if every precision is equal up to rounding, and every weight is the source's."""
        return not self.weights and all(v.verdict == ROUNDING for _, v in self.every())

    def every(self) -> Iterator[tuple[str, Verdict]]:
        """Each verdict with its precision, and with its layer, tensor or shape if it has one."""
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
