"""The result of one comparison in a test, as the suite's report and other processes get it.

In: a Diagnosis or a Report. Out: a `ParityResult`, and its rows as plain data.

>>> result = ParityResult("equal", "model.keras", "Mine", "Equal up to rounding.", ratio=0.25)
>>> bool(result), result.to_json()["ratio"]
(True, 0.25)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

EQUAL, DIFFERENT, UNDECIDED, FAILED = "equal", "different", "undecided", "failed"
"""The outcomes of a comparison."""

_KEPT = ("outcome", "truth", "suspect", "text", "ratio", "causes", "seconds")


@dataclass(frozen=True)
class ParityResult:
    """The comparison of one suspect with the truth; true if they are equal.

    Attributes:
        outcome: "equal", "different", "undecided" (rounding alone decides) or "failed" (the suspect
            cannot be run, does not return, or ends its process).
        truth: the truth, in words.
        suspect: the suspect, in words.
        text: the whole text: verdict, causes, first difference, advice.
        ratio: largest error over the allowed one, at most 1 where equal; None where nothing ran.
        causes: ids of the causes found, as in `xlstm.diagnosing.CAUSES`.
        seconds: time of the comparison.
        report: the `xlstm.Diagnosis`, or the `xlstm.Report` for a framework's name; None for a
            report from a process of its own, and for one that did not end.
    """

    outcome: str
    truth: str
    suspect: str
    text: str
    ratio: float | None = None
    causes: tuple[str, ...] = ()
    seconds: float = 0.0
    report: Any = None

    def __bool__(self) -> bool:
        """True if the two are equal up to rounding."""
        return self.outcome == EQUAL

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, without `report`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in _KEPT}


_LISTENERS: list[Callable[[ParityResult], None]] = []
"""Functions that are called with every result: the plugin's, while it collects a report."""


def listen(listener: Callable[[ParityResult], None]) -> None:
    """Calls a function with the result of every comparison from now on."""
    _LISTENERS.append(listener)


def stop_listening(listener: Callable[[ParityResult], None]) -> None:
    """Ends `listen`; a function that does not listen is ignored."""
    if listener in _LISTENERS:
        _LISTENERS.remove(listener)


def publish(result: ParityResult) -> None:
    """Gives a result to all listeners."""
    for listener in [*_LISTENERS]:
        listener(result)
