"""Draws a layer's tensors to scale, gate by gate, in every framework, with matplotlib.

In: an explanation. Out: the text of an SVG document.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xlstm.counting.picture.layout import layout
from xlstm.counting.picture.panels import Line, PictureBlock, Sheet, Text
from xlstm.errors import MissingFrameworkError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xlstm.counting.explanation import ExplanationData

COLOURS = {"i": "#56B4E9", "f": "#D55E00", "g": "#CC79A7", "o": "#0072B2"}
COLOURS |= {"r": "#56B4E9", "z": "#D55E00", "n": "#CC79A7"}
"""The four of Okabe and Ito's colours that differ most for any colour vision (smallest distance
20.7 in CIELAB with normal vision, protanopia, deuteranopia and tritanopia)."""

PLAIN = "#AAAAAA"
"""Colour of parts of no gate."""

INK, WHITE = "#1A1A1A", "#FFFFFF"
ON = {COLOURS["o"]: WHITE}
"""Colour of a block -> colour of a letter on it, if that is not INK."""

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "xlstm",
}

_STYLING = threading.RLock()
"""Lock for drawing: matplotlib has one style for all threads."""


def svg(found: ExplanationData) -> str:
    """The picture as an SVG document, byte for byte the same at every call.

    Raises:
        MissingFrameworkError: matplotlib is not installed.
        UnsupportedError: no framework has the layer.
    """
    with _drawing():
        picture = io.StringIO()
        metadata = {"Date": None, "Creator": "xlstm", "Title": found.title}
        figure(found).savefig(picture, format="svg", metadata=metadata)
    # matplotlib's unit is the point, which is 4/3 of a browser's pixel
    start, tag, rest = picture.getvalue().partition("<svg ")
    attributes, end, body = rest.partition(">")
    return "".join([start, tag, re.sub(r'(\d)pt"', r'\1"', attributes), end, body])


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Sets matplotlib's defaults, and restores the user's settings at the end."""
    if importlib.util.find_spec("matplotlib") is None:
        want, got = "matplotlib to be installed", "no module matplotlib"
        do = "pip install 'xlstm-converter[draw]'"
        raise MissingFrameworkError("drawing", want, got, do)
    from matplotlib import style

    with _STYLING, style.context(["default", STYLE]):
        yield


def figure(found: ExplanationData) -> Figure:
    """The picture as a figure of one axes whose unit is one pixel, its origin the upper left."""
    from matplotlib.figure import Figure

    sheet = layout(found, _measure)
    wide, high = math.ceil(sheet.wide), math.ceil(sheet.high)
    made = Figure((wide / 72, high / 72), dpi=72, facecolor=WHITE)
    axes = made.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(high, 0), autoscale_on=False)
    axes.set_axis_off()
    _paint(axes, sheet)
    return made


def _measure(text: str, size: float, bold: bool) -> float:
    """Width of a text, with some room for other fonts than matplotlib's."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    wide, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return 1.1 * float(wide)


def _paint(axes: Any, sheet: Sheet) -> None:
    for line in sheet.lines:
        _paint_line(axes, line)
    for block in sheet.blocks:
        _paint_block(axes, block)
    for text in sheet.texts:
        _paint_text(axes, text)


def _paint_block(axes: Any, block: PictureBlock) -> None:
    x, y, wide, high = block.x, block.y, block.wide, block.high
    axes.fill(
        (x, x + wide, x + wide, x),
        (y, y, y + high, y + high),
        facecolor=COLOURS.get(block.gate, PLAIN),
        edgecolor=INK,
        linewidth=0.5,
        clip_on=False,
    )


def _paint_line(axes: Any, line: Line) -> None:
    colour = COLOURS.get(line.gate, PLAIN)
    xs, ys = zip(*line.points, strict=True)
    axes.plot(xs, ys, color=colour, linewidth=1.2, clip_on=False, solid_joinstyle="round")
    if line.head:
        (x0, y0), (x, y) = line.points[-2:]
        right, down = (x > x0) * 5, (y > y0) * 5
        corners = (
            (x, x - right - down / 2, x - right + down / 2),
            (
                y,
                y - down - right / 2,
                y - down + right / 2,
            ),
        )
        axes.fill(*corners, color=colour, linewidth=0, clip_on=False)


def _paint_text(axes: Any, text: Text) -> None:
    colour = ON.get(COLOURS[text.over.gate], INK) if text.over else INK
    axes.text(
        text.x,
        text.y,
        text.text,
        size=text.size,
        weight="bold" if text.bold else "normal",
        color=colour,
        ha="center" if text.centred else "left",
        va="baseline",
        clip_on=False,
        parse_math=False,
    )
