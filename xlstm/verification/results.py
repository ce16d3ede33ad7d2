"""Results of comparisons: the base of all, and one framework's part."""

from __future__ import annotations

import abc
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.verification.bounds import ROUNDING, Verdict


class Compared(abc.ABC):
    """A result that is true where what was compared is equal, and shows itself as its text.

    >>> class Never(Compared):
    ...     ok = False
    >>> bool(Never())
    False
    """

    @property
    @abc.abstractmethod
    def ok(self) -> bool:
        """True if all that was compared is equal up to rounding."""

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


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
        """True if every precision is equal up to rounding, and every weight is the source's."""
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
