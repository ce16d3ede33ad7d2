"""Reports on a fleet: text for a terminal, JSON, and a page.

    print(fleet_report("ports").text())

In: the target of a fleet. Out: a `FleetReport`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlstm.errors import printable
from xlstm.files.atomic import write_file
from xlstm.fleets.report_page import fleet_page
from xlstm.fleets.report_tables import (
    SHOWN,
    architecture_table,
    cost_line,
    parameter_table,
    slowest_table,
    some,
)
from xlstm.fleets.storage import FleetTarget, open_target
from xlstm.fleets.summary import ADVICE, FleetSummary, Problem, summed
from xlstm.rendering.tables import Grid, to_text

MOST = 20
"""Groups of architectures and of duplicates that a terminal shows."""


@dataclass(frozen=True)
class FleetReport(FleetSummary):
    """The table of a fleet in sums and groups, with the attributes of `FleetSummary`."""

    def text(self) -> str:
        """The report for a terminal."""
        parts: list[Grid | str] = [self.summary(), ""]
        for problem in self.problems:
            parts.append("\n".join(_problem_lines(problem)))
        parts += self._tables()
        return to_text(*parts)

    def _tables(self) -> Iterator[Grid | str]:
        if self.architectures:
            yield architecture_table(self.architectures[:MOST])
            yield from _more(len(self.architectures), MOST, "architectures")
        if self.parameters:
            yield parameter_table(self)
        if self.slowest:
            yield slowest_table(self)
        yield cost_line(self)
        if self.duplicates:
            yield "\nThe same weights under several names:"
            for names in self.duplicates[:MOST]:
                yield f"  {some(names)}"
            yield from _more(len(self.duplicates), MOST, "groups")

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, with the names of all models of each group."""
        groups = {
            "problems": [{**vars(one), "found": dict(one.found)} for one in self.problems],
            "architectures": [
                {**vars(one), "outcomes": dict(one.outcomes)} for one in self.architectures
            ],
        }
        return {"ok": self.ok, "models": self.total, **vars(self), **groups}

    def to_html(self) -> str:
        """The report as one HTML page without scripts; names of models are text in it."""
        return fleet_page(self)

    def save_html(self, file: str | os.PathLike[str]) -> None:
        """Writes the page of `to_html` to a file, in one step.

        Raises:
            OSError: the file cannot be written.
        """
        write_file(Path(file), self.to_html().encode("utf-8", "backslashreplace"))


def fleet_report(target: str | os.PathLike[str] | FleetTarget) -> FleetReport:
    """Reads the rows of a fleet's target, also while it runs, and sums them up.

    Args:
        target: path, URL, or an open target.

    Raises:
        UsageError: no target of a fleet, or a storage that fails.
    """
    opened = target if isinstance(target, FleetTarget) else open_target(target)
    found = summed(opened.each_row(), opened, str(opened.mark()["to"]))
    return FleetReport(**vars(found))


def _problem_lines(problem: Problem) -> Iterator[str]:
    count = len(problem.names)
    yield f"{count:,} {problem.outcome}: expected {printable(problem.reason)}"
    for got, number in problem.found.most_common(SHOWN):
        yield f"  got {printable(got)}" + (f" ({number:,})" if number < count else "")
    yield from (f"  {line}" for line in _more(len(problem.found), SHOWN, "causes"))
    yield f"  to do: {printable(problem.do)}. {ADVICE[problem.outcome][1]}"
    yield f"  models: {some(problem.names)}"
    yield f"  more: {problem.command}"
    yield ""


def _more(count: int, shown: int, what: str) -> Iterator[str]:
    if count > shown:
        yield f"and {count - shown:,} more {what} (all with --json)"
