"""Charts as static SVG: errors over time steps, and histograms in ULP.

In: numbers. Out: an SVG element each. Colours and line styles are those of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xlstm.html_report.markup import Html, element
from xlstm.ir.types import Array

WIDE, HIGH = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 30
ZERO = 16
"""From the line of errors that are 0 up to the smallest power of ten."""

POINTS = 120
"""Most points of a line; of the steps of one point the one closest to its limit is drawn."""

SERIES = 6
"""Number of line styles in the style sheet."""

TICKS = 5
"""Most labels of an axis."""


@dataclass(frozen=True)
class Line:
    """The errors of one framework: label, number of its line style, and (T,) errors and limits."""

    label: str
    style: int
    errors: Array
    limits: Array


@dataclass(frozen=True)
class Curve:
    """The errors of one output in one precision over time steps.

    Attributes:
        output: name of the output or layer.
        precision: float32, for example.
        lines: one for each framework, all of the same number of steps.
        decided: (T,) bool, True for each step that has a verdict.
    """

    output: str
    precision: str
    lines: tuple[Line, ...]
    decided: Array

    @property
    def nearness(self) -> float:
        """The largest share of a limit that an error reaches."""
        return max(float(_shares(line)[self.decided].max(initial=0)) for line in self.lines)


@dataclass(frozen=True)
class Histogram:
    """The errors of one framework in one precision: names of bins, and elements in each."""

    framework: str
    precision: str
    names: tuple[str, ...]
    counts: tuple[int, ...]


def _shares(line: Line) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(line.errors == 0, 0, line.errors / line.limits)


@dataclass(frozen=True)
class _Axes:
    """The place of a step and of an error; an error of 0 lies on the lowest line."""

    steps: int
    low: int
    high: int

    def x(self, step: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * (step / max(self.steps - 1, 1))

    def y(self, error: float) -> float:
        """The height of an error; those outside the axes lie on their ends."""
        base = HIGH - BOTTOM
        if not error > 0:
            return base
        power = math.log10(error) if math.isfinite(error) else self.high
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return base - ZERO - (base - ZERO - TOP) * share


def draw_curve(curve: Curve) -> Html:
    """Returns the chart of the errors of an output over time, on a logarithmic axis."""
    axes = _axes(curve)
    parts = [*_undecided(curve, axes), *_grid(axes)]
    limits = {line.limits.tobytes(): line for line in curve.lines}
    for line in limits.values():
        parts.append(_polyline(_picked(line), line.limits, axes, "limit"))
    for line in curve.lines:
        parts.append(_polyline(_picked(line), line.errors, axes, f"s{line.style % SERIES}"))
    names = ", ".join(line.label for line in curve.lines)
    title = f"Error over time steps, {curve.precision}: {names}, and the limit"
    return svg(title, HIGH, *parts)


def svg(title: str, high: float, *parts: Html, wide: float = WIDE, class_: str = "chart") -> Html:
    """Returns a picture with its name for readers of screens."""
    size = f"0 0 {wide:g} {high:g}"
    return element("svg", *parts, viewBox=size, class_=class_, role="img", aria_label=title)


def words(text: str, x: float, y: float, anchor: str | None = None, **more: object) -> Html:
    """Returns a text of a picture."""
    return element("text", text, x=f"{x:.5g}", y=f"{y:.6g}", text_anchor=anchor, **more)


def _axes(curve: Curve) -> _Axes:
    every = np.concatenate([np.concatenate([one.errors, one.limits]) for one in curve.lines])
    sizes = every[np.isfinite(every) & (every > 0)]
    low, high = (sizes.min(), sizes.max()) if sizes.size else (0.1, 1.0)
    low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return _Axes(len(curve.decided), low, max(high, low + 1))


def _picked(line: Line) -> Array:
    """The steps that are drawn: of each run of steps the one that is closest to its limit."""
    count = len(line.errors)
    if count <= POINTS:
        return np.arange(count)
    edges = np.linspace(0, count, POINTS + 1).astype(int)
    shares = np.nan_to_num(_shares(line))
    runs = pairwise(edges)
    return np.array([a + int(np.argmax(shares[a:b])) for a, b in runs])


def _polyline(steps: Array, values: Array, axes: _Axes, kind: str) -> Html:
    points = [f"{axes.x(step):.4g},{axes.y(float(values[step])):.4g}" for step in steps]
    if len(points) == 1:  # a line needs two points
        points.append(f"{WIDE - RIGHT},{points[0].partition(',')[2]}")
    return element("polyline", points=" ".join(points), class_=f"line {kind}")


def _grid(axes: _Axes) -> Iterator[Html]:
    """The axes and their labels."""
    apart = math.ceil((axes.high - axes.low + 1) / TICKS)
    base = HIGH - BOTTOM
    for power in range(axes.low, axes.high + 1, apart):
        y = axes.y(10.0**power)
        yield element("line", x1=LEFT, x2=WIDE - RIGHT, y1=f"{y:.5g}", y2=f"{y:.5g}", class_="grid")
        yield words(f"1e{power}", LEFT - 5, y + 4, "end")
    yield element("line", x1=LEFT, x2=WIDE - RIGHT, y1=base, y2=base, class_="axis")
    yield words("0", LEFT - 5, base + 4, "end")
    yield words("0", LEFT, HIGH - 14)
    yield words("time step", (LEFT + WIDE - RIGHT) / 2, HIGH - 3, "middle")
    if axes.steps > 1:
        yield words(f"{axes.steps - 1}", WIDE - RIGHT, HIGH - 14, "end")


def _undecided(curve: Curve, axes: _Axes) -> Iterator[Html]:
    """Areas behind the steps that have no verdict."""
    left = np.flatnonzero(~curve.decided)
    groups = np.split(left, np.flatnonzero(np.diff(left) > 1) + 1) if left.size else []
    for group in groups[:POINTS]:
        start, end = axes.x(max(group[0] - 0.5, 0)), axes.x(min(group[-1] + 0.5, axes.steps - 1))
        size = {"width": f"{max(end - start, 1):.4g}", "height": HIGH - BOTTOM - TOP}
        yield element("rect", x=f"{start:.4g}", y=TOP, class_="unsure", **size)


BARS = 120
"""Height of a histogram."""


def draw_histogram(found: Histogram) -> Html:
    """Returns the bars of a histogram, up to its last bin that is not empty."""
    last = max((n for n, count in enumerate(found.counts) if count), default=0)
    counts, names = found.counts[: max(last + 1, 6)], found.names
    total, most = sum(counts) or 1, max(counts) or 1
    base, room = BARS - 22, WIDE - 24
    size = room / len(counts)
    apart = 1 if len(counts) <= 9 else 2
    parts = [element("line", x1=8, x2=WIDE - 8, y1=base, y2=base, class_="axis")]
    for n, count in enumerate(counts):
        high = (base - 18) * count / most
        x = 8 + n * size
        if count:
            box = {"width": f"{size - 3:.4g}", "height": f"{max(high, 1):.4g}"}
            y = base - max(high, 1)
            parts.append(element("rect", x=f"{x + 1.5:.4g}", y=f"{y:.4g}", class_="bar", **box))
        if count == most and n == counts.index(most):  # one label
            middle = min(max(x + size / 2, 22), WIDE - 22)
            parts.append(words(share(count, total), middle, base - high - 4, "middle"))
        if not n:
            parts.append(words("0", x + size / 2, base + 14, "middle"))
        elif n % apart == 0 and n < len(names) - 1:
            parts.append(words(names[n].removeprefix("< "), x + size, base + 14, "middle"))
    title = f"{found.framework} {found.precision}: " + _as_words(names, counts)
    return svg(title, BARS, *parts)


def share(count: int, total: int) -> str:
    """Returns a part of a whole in percent.

    >>> share(1, 3), share(999, 1000), share(1, 5000)
    ('33 %', '99.9 %', '< 0.1 %')
    """
    percent = 100 * count / total
    if 0 < percent < 0.1:
        return "< 0.1 %"
    exact = 99 < percent < 100 or 0 < percent < 1
    return f"{math.floor(10 * percent) / 10:.1f} %" if exact else f"{percent:.0f} %"


def _as_words(names: Sequence[str], counts: Sequence[int]) -> str:
    total = sum(counts) or 1
    pairs = zip(names, counts, strict=False)
    return ", ".join(f"{name} {share(count, total)}" for name, count in pairs if count)
