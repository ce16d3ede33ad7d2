"""Draws the times of contests beside the floor of the machine, as an SVG document.

In: the contests of one group at batch 1, as JSON. Out: a picture with a line for each case, a dot
for each call on a scale of powers of ten, and a bar from the left to the floor.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]

PAGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" \
viewBox="0 0 {wide} {high}" role="img">
<title>{title}</title>
<style>
text {{ font: 11px Arial, Helvetica, "DejaVu Sans", sans-serif; fill: #1a1a1a }}
text.end {{ text-anchor: end }} text.middle {{ text-anchor: middle }}
rect.page {{ fill: #ffffff }} rect.floor {{ fill: #cccccc }}
line {{ stroke: #cccccc; stroke-width: 1 }}
@media screen and (prefers-color-scheme: dark) {{
text {{ fill: #e8e8e8 }} rect.page {{ fill: #161616 }} rect.floor {{ fill: #444444 }}
line {{ stroke: #444444 }}
}}
</style>
<rect class="page" width="{wide}" height="{high}"/>
{parts}
</svg>
"""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f3c8d", "#999999")
"""Okabe and Ito's colours, which differ for any colour vision, and two more."""

WIDE, LEFT, RIGHT, TOP, LINE = 720, 190, 20, 30, 26


def draw(contests: Sequence[Found], title: str) -> str:
    """Returns the picture as the text of an SVG document."""
    names = list(dict.fromkeys(name for contest in contests for name in contest["seconds"]))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    values = [value for contest in contests for value in _values(contest).values()]
    floors = [contest["floor"] for contest in contests]
    low, high = math.floor(_log(min(*values, *floors))), math.ceil(_log(max(values)))

    def across(seconds: float) -> float:
        """Returns the distance from the left of a time."""
        share = (_log(seconds) - low) / (high - low)
        return round(LEFT + share * (WIDE - LEFT - RIGHT), 1)

    bottom = TOP + LINE * len(contests)
    parts = [f'<text x="12" y="18">{html.escape(title)}</text>']
    for power in range(low, high + 1):
        x = across(10**power)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="middle" x="{x}" y="{bottom + 14}">{10**power * 1e3:g} ms</text>'
        )
    for place, contest in enumerate(contests):
        parts += _row(contest, TOP + LINE * place + LINE / 2, across, colours)
    parts += _legend(colours, bottom + 34)
    high_page = bottom + 44 + 18 * _legend_lines(colours)
    title = html.escape(title)
    return PAGE.format(wide=WIDE, high=high_page, title=title, parts="\n".join(parts))


def _values(contest: Found) -> dict[str, float]:
    return {name: statistics.median(times) for name, times in contest["seconds"].items()}


def _log(seconds: float) -> float:
    return math.log10(seconds)


def _row(contest: Found, y: float, across: Any, colours: Mapping[str, str]) -> Iterator[str]:
    """Yields the line of one case."""
    label = f"{contest['title']}, {contest['units']} units"
    yield f'<text class="end" x="{LEFT - 10}" y="{y + 4}">{html.escape(label)}</text>'
    width = round(across(contest["floor"]) - LEFT, 1)
    yield f'<rect class="floor" x="{LEFT}" y="{y - 6}" width="{width}" height="12"/>'
    for name, seconds in _values(contest).items():
        text = html.escape(f"{name}: {1e3 * seconds:.3g} ms")
        circle = f'<circle cx="{across(seconds)}" cy="{y}" r="4.5" fill="{colours[name]}">'
        yield f"{circle}<title>{text}</title></circle>"


COLUMNS = 4


def _legend_lines(colours: Mapping[str, str]) -> int:
    return -(-(len(colours) + 1) // COLUMNS)


def _legend(colours: Mapping[str, str], top: float) -> Iterator[str]:
    """Yields the names of the colours, four in a line; the floor comes first."""
    wide = (WIDE - 24) / COLUMNS
    yield f'<rect class="floor" x="12" y="{top - 6}" width="12" height="12"/>'
    yield f'<text x="30" y="{top + 4}">floor: recurrent weights</text>'
    for place, (name, colour) in enumerate(colours.items(), start=1):
        x, y = 12 + wide * (place % COLUMNS), top + 18 * (place // COLUMNS)
        yield f'<circle cx="{x + 6}" cy="{y}" r="4.5" fill="{colour}"/>'
        yield f'<text x="{x + 18}" y="{y + 4}">{html.escape(name)}</text>'
