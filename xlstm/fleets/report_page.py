"""The page of a fleet's report: outcomes first, then what to do, then the groups.

In: a `FleetSummary`. Out: one HTML file as text. It has no script, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xlstm.fleets.entry import DIFFERENT, FAILED, REFUSED
from xlstm.fleets.report_tables import (
    architecture_table,
    cost_line,
    parameter_table,
    slowest_table,
)
from xlstm.fleets.summary import ADVICE, FleetSummary, Problem, models
from xlstm.html_report.document import document
from xlstm.html_report.markup import Child, Html, element, folded, listed, name_of, sentence, table
from xlstm.rendering.tables import Grid

MOST_ROWS = 30
"""Most rows of a table that are shown at once."""

MOST_LISTED = 1000
"""Most rows of a table, and names of a group, on the page."""


def fleet_page(report: FleetSummary) -> str:
    """Returns the page as the text of an HTML file."""
    architectures = architecture_table(report.architectures[:MOST_LISTED])
    sections = [
        ("problems", "What to do next", _problems(report.problems)),
        ("architectures", "Architectures", _rows(architectures, len(report.architectures), 2)),
        ("parameters", "Parameters of all models", _rows(parameter_table(report), 0, 1)),
        ("slowest", "The slowest models", _rows(slowest_table(report), 0, 2)),
        ("duplicates", "The same weights under several names", _duplicates(report.duplicates)),
    ]
    bad = any(report.outcomes[outcome] for outcome in (DIFFERENT, FAILED, REFUSED))
    state = "good" if report.ok else "bad" if bad else "unsure"
    verdict = element("div", element("p", sentence(report.summary())), class_=f"verdict {state}")
    outcomes = [("outcome", "models"), *((k, f"{n:,}") for k, n in report.outcomes.items())]
    links = (element("a", heading, href=f"#{name}") for name, heading, _ in sections)
    return document(
        "Report on a fleet",
        element("header", element("h1", "Report on ", name_of(report.url, 80))),
        element(
            "main",
            element("section", verdict, aria_label="Outcomes"),
            element("nav", *links, aria_label="Parts of this page"),
            table(outcomes, "Outcomes"),
            element("p", cost_line(report)),
            *(element("section", element("h2", h), *c, id=name) for name, h, c in sections),
        ),
    )


def _rows(grid: Grid, count: int, left: int) -> list[Child]:
    """A table, folded if it is long; `count` is the number of all rows."""
    rows = grid.rows
    if len(rows) < 2:
        return [element("p", "None.")]
    whole = table(rows, rows[0][0], left)
    shown = len(rows) - 1
    found: list[Child] = [whole if shown <= MOST_ROWS else folded(f"Show {shown:,} rows", whole)]
    return [*found, _rest(count, shown)]


def _rest(count: int, shown: int) -> Html | None:
    line = f"These are the first {shown:,} of {count:,}. xlstm fleet report --json has all."
    return element("p", line) if count > shown else None


def _problems(problems: Iterable[Problem]) -> list[Child]:
    """A part for each reason: its causes, advice, a command, and the names of the models."""
    found: list[Child] = []
    for problem in problems:
        count = len(problem.names)
        causes = [("got", "models"), *((got, f"{n:,}") for got, n in problem.found.most_common(50))]
        names = listed(problem.names[:MOST_LISTED])
        found += [
            element("h3", f"{count:,} {problem.outcome}: expected ", sentence(problem.reason)),
            element("p", "To do: ", sentence(problem.do), f". {ADVICE[problem.outcome][1]}"),
            element("pre", element("code", problem.command), tabindex="0"),
            table(causes, f"Causes: {problem.reason}", mark=False),
            _rest(len(problem.found), len(causes) - 1),
            folded(models(count), names, _rest(count, min(count, MOST_LISTED))),
        ]
    return found or [element("p", "Nothing: every model was ported.")]


def _duplicates(groups: Sequence[Sequence[str]]) -> list[Child]:
    if not groups:
        return [element("p", "None.")]
    parts = [
        folded(f"{len(names):,} models: {names[0]}", listed(names[:MOST_LISTED]))
        for names in groups[:MOST_LISTED]
    ]
    return [*parts, _rest(len(groups), len(parts))]
