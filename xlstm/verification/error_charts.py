"""The errors of a comparison as charts and rows of a page.

In: verdicts with the framework and precision of each. Out: curves over time steps, histograms, and
a table of worst elements (`xlstm.html_report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from xlstm.html_report.charts import Curve, Histogram, Line
from xlstm.rendering.tables import Grid, add, grid
from xlstm.verification.bounds import Verdict
from xlstm.verification.error_profile import ErrorProfile, bin_names


class ComparedOutput(NamedTuple):
    """A verdict on an output, with its framework's title and number, and its precision."""

    framework: str
    number: int
    precision: str
    verdict: Verdict


def _profiles(parts: Iterable[ComparedOutput]) -> Iterator[tuple[ComparedOutput, ErrorProfile]]:
    """The parts that ran and have errors."""
    for part in parts:
        if part.verdict.ran and part.verdict.profile is not None:
            yield part, part.verdict.profile


def curves(parts: Iterable[ComparedOutput]) -> tuple[Curve, ...]:
    """A chart for each output with time steps and each precision, with a line for each framework.

    The worst output may be another one in another framework: then it has a chart of its own.
    """
    groups: dict[tuple[str, str, int], list[tuple[ComparedOutput, ErrorProfile]]] = {}
    for part, profile in _profiles(parts):
        count = len(profile.errors)
        if count > 1:
            key = (part.verdict.output, part.precision, count)
            groups.setdefault(key, []).append((part, profile))
    return tuple(
        Curve(
            output,
            precision,
            tuple(Line(p.framework, p.number, own.errors, own.limits) for p, own in found),
            found[0][1].decided,
        )
        for (output, precision, _), found in groups.items()
    )


def histograms(parts: Iterable[ComparedOutput]) -> tuple[Histogram, ...]:
    """The errors in ULP of each framework and precision."""
    names = tuple(bin_names())
    return tuple(
        Histogram(part.framework, part.precision, names, profile.ulps)
        for part, profile in _profiles(parts)
    )


def worst_elements(parts: Sequence[ComparedOutput]) -> tuple[Grid, str]:
    """A row for the worst element of each part, those closest to their limits first.

    The second result is a sentence about the first of them.
    """
    heads = ["framework", "precision", "output", "element", "reference", "value", "difference"]
    table = grid([*heads, "limit of the step"], left=4)
    every = sorted(_profiles(parts), key=lambda one: -one[0].verdict.ratio)
    for part, own in every:
        gap = abs(own.got - own.wanted)
        step = own.limits[part.verdict.step or 0]
        cells = (f"{own.wanted:.9g}", f"{own.got:.9g}", f"{gap:.3g}", f"{step:.3g}")
        place = f"[{', '.join(map(str, own.place))}]"
        add(table, part.framework, part.precision, part.verdict.output, place, *cells)
    if not every:
        return table, ""
    part, own = every[0]
    what = "Furthest above" if part.verdict.ratio > 1 else "Closest to"
    line = (
        f"{what} its limit: {part.framework} {part.precision}, "
        f"element {[*own.place]} of {part.verdict.output}. "
        "Elements are counted from 0: the sample, the time step if there is one, then the others."
    )
    return table, line
