"""Prints measured contests as tables, for a terminal and for Markdown.

In: the JSON of `benchmarks/bench.py`. Out: text. A claim that misses its limit says by how much.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

Found = Mapping[str, Any]

MISSED = "**missed**"


def milliseconds(times: list[float]) -> str:
    """Returns a median with three digits.

    >>> milliseconds([0.00123, 0.00125, 0.00121])
    '1.23'
    """
    value = 1e3 * statistics.median(times)
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def passes(claim: Found) -> bool:
    """Returns True if a claim holds, or is only printed."""
    return claim["limit"] is None or claim["ratio"] <= claim["limit"]


def wording(claim: Found) -> tuple[str, str, str]:
    """Returns a claim's ratio, the spread of its rounds and its limit, as people say them.

    A limit below 1 asks for a speed: the ratio is turned round.

    >>> wording({"ratio": 0.25, "low": 0.2, "high": 0.5, "limit": 0.5})
    ('4.0 x faster', '2.0 to 5.0', 'at least 2')
    """
    limit = claim["limit"]
    if limit is not None and limit < 1:
        low, high = 1 / claim["high"], 1 / claim["low"]
        digits = 0 if limit < 0.1 else 1
        ratio = f"{1 / claim['ratio']:.{digits}f} x faster"
        return ratio, f"{low:.{digits}f} to {high:.{digits}f}", f"at least {1 / limit:.3g}"
    spread = f"{claim['low']:.2f} to {claim['high']:.2f}"
    return f"{claim['ratio']:.2f} x", spread, "" if limit is None else f"at most {limit:.3g} x"


HEADER = ("layer", "units", "batch", "measured", "against", "ratio", "half of the rounds", "target")


def missed(contest: Found) -> list[Found]:
    """Returns the claims of a contest that do not hold."""
    return [claim for claim in contest["claims"] if not passes(claim)]


def claim_rows(contests: list[Found]) -> Iterator[tuple[str, ...]]:
    """Yields the cells of a row for each claim, as in HEADER; the last says if it was missed."""
    for contest in contests:
        for claim in contest["claims"]:
            ratio, spread, limit = wording(claim)
            target = limit if passes(claim) else f"{limit}, {MISSED}"
            case = (contest["title"], str(contest["units"]), str(contest["batch"]))
            yield (*case, claim["over"], claim["under"], ratio, spread, target)


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Returns a table of Markdown.

    >>> print(markdown(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [header, tuple("---" for _ in header), *rows]
    text = [f"| {' | '.join(line)} |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text)


def terminal(header: tuple[str, ...], rows: list[tuple[str, ...]], title: str) -> Table:
    """Returns a table for a terminal."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    return table


def time_rows(contests: list[Found]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns header and rows of a table of milliseconds: a line a case, a column a call."""
    names = list(dict.fromkeys(name for contest in contests for name in contest["seconds"]))
    rows = []
    for contest in contests:
        case = (contest["title"], str(contest["units"]), str(contest["batch"]))
        times = contest["seconds"]
        floor = f"{1e3 * contest['floor']:.3g}" if contest["batch"] == 1 else ""
        cells = [milliseconds(times[name]) if name in times else "" for name in names]
        rows.append((*case, *cells, floor))
    return ("layer", "units", "batch", *names, "floor"), rows


def first_rows(contests: list[Found]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns header and rows of a table of the seconds until a first result."""
    names = list(dict.fromkeys(name for contest in contests for name in contest["first_call"]))
    rows = []
    for contest in contests:
        case = (contest["title"], str(contest["units"]), str(contest["batch"]))
        first = contest["first_call"]
        rows.append((*case, *(f"{first[name]:.2f}" if name in first else "" for name in names)))
    return ("layer", "units", "batch", *names), rows


def profile_rows(contests: list[Found]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns header and rows of a table of the operators of profiled calls."""
    rows = []
    for contest in contests:
        case = f"{contest['title']}, {contest['units']} units, batch {contest['batch']}"
        for call, found in contest.get("profiles", {}).items():
            for place, one in enumerate(found):
                where = (case, call) if not place else ("", "")
                number = f"{one['number']:g}"
                rows.append((*where, f"`{one['operator']}`", f"{one['share']:.0%}", number))
    return ("layer", "call", "operator", "share of the time", "in one run"), rows
