"""Draws a model as a column of boxes, one for each layer, in the order of its graph.

In: a Model. Out: an SVG element, as narrow as a phone. A layer that reads the one above it has a
short arrow. All other edges run along lines on the left, one line for each layer that is read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from xlstm.counting.picture import text_width
from xlstm.html_report.charts import svg, words
from xlstm.html_report.markup import Html, element, short
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Bidirectional, Recurrent, TimeDistributed
from xlstm.rendering.tables import kind_text, shape_text

WIDE, ROW, BOX = 350.0, 50.0, 38.0
TRACK, MARGIN = 9.0, 4.0
LANES = 12
"""Most lines on the left; graphs with more of them share some."""
NAME, KIND = 13.0, 11.0
"""Sizes of type."""


def draw_model(model: Model) -> Html:
    """Returns the picture of a model."""
    rows = {node.name: row for row, node in enumerate(model.nodes)}
    spans = _spans(model, rows)
    lanes = _lanes(spans)
    left = MARGIN + TRACK * (max(lanes.values(), default=-1) + 1)
    left += TRACK if lanes else 0
    parts = [part for node in model.nodes for part in _box(model, node, rows[node.name], left)]
    parts += [part for node in model.nodes for part in _arrows(node, rows, left)]
    for name, span in spans.items():
        parts.append(_lane(span, MARGIN + TRACK * lanes[name], left))
    title = f"The layers of the model: {len(model.layers)}"
    return svg(title, ROW * len(rows), *parts, wide=WIDE, class_="model")


def _spans(model: Model, rows: Mapping[str, int]) -> dict[str, list[int]]:
    """Each node that is read further below -> its row, and the rows of those readers."""
    found: dict[str, list[int]] = {}
    for node in model.nodes:
        for name in dict.fromkeys(edge.node for edge in node.reads):
            if rows[node.name] - rows[name] > 1:
                found.setdefault(name, [rows[name]]).append(rows[node.name])
    return {name: found[name] for name in sorted(found, key=rows.__getitem__)}


def _lanes(spans: Mapping[str, list[int]]) -> dict[str, int]:
    """A line for each node of `spans`, so that no two lines of one place overlap."""
    free: list[int] = []
    found = {}
    for number, (name, span) in enumerate(spans.items()):
        lane = next((n for n, end in enumerate(free) if end < span[0]), len(free))
        lane = lane if lane < LANES else number % LANES
        free += [0] * (lane + 1 - len(free))
        free[lane] = max(free[lane], span[-1])
        found[name] = lane
    return found


def _lane(span: list[int], x: float, left: float) -> Html:
    """The line from a box to all that read it."""
    row, *readers = span
    start = row * ROW + BOX * 0.7
    way = f"M{left:g} {start:g}H{x:g}V{readers[-1] * ROW + BOX * 0.3:g}"
    heads = "".join(_head_right(left, reader * ROW + BOX * 0.3, x) for reader in readers)
    return element("path", d=way + heads, class_="edge")


def _head_right(x: float, y: float, start: float) -> str:
    return f"M{start:g} {y:g}H{x:g}m-4 -3l4 3l-4 3"


def _arrows(node: Node, rows: Mapping[str, int], left: float) -> Iterator[Html]:
    """The arrow from the box above, if the node reads that one."""
    row = rows[node.name]
    if any(rows[edge.node] == row - 1 for edge in node.reads):
        x, y = left + 18, row * ROW
        way = f"M{x:g} {y - ROW + BOX:g}V{y:g}m-3 -4l3 4l3 -4"
        yield element("path", d=way, class_="edge")


def _box(model: Model, node: Node, row: int, left: float) -> Iterator[Html]:
    y, spec = row * ROW, node.spec
    spec = spec.layer if isinstance(spec, TimeDistributed) else spec
    kind = "recurrent" if isinstance(spec, (Recurrent, Bidirectional)) else "layer"
    kind = "input" if node.name in model.inputs else kind
    size = {"width": f"{WIDE - left - 1:g}", "height": f"{BOX:g}", "rx": 5}
    yield element("rect", x=f"{left:g}", y=f"{y:g}", class_=f"box {kind}", **size)
    room = WIDE - left - 16
    yield words(fitted(node.name, NAME, room), left + 8, y + 16, class_="name")
    yield words(fitted(_second_line(model, node), KIND, room), left + 8, y + 31, class_="kind")


def _second_line(model: Model, node: Node) -> str:
    """Kind and shape; a mask, initial states, the layer that is called again, and outputs."""
    found = [f"{kind_text(node)} {shape_text(node.shape)}"]
    found += ["masked"] if node.mask else []
    found += ["initial state"] if node.states else []
    found += [f"again {short(node.layer, 24)}"] if node.layer else []
    found += ["output"] if any(edge.node == node.name for edge in model.outputs) else []
    return ", ".join(found)


def fitted(text: str, size: float, room: float) -> str:
    """Returns a text that is at most so wide, its end cut off.

    >>> fitted("abcdef", 10.0, 30.0)
    'abc…'
    """
    text = short(text, 80)
    if _width(text, size) <= room:
        return text
    count = len(text)
    while count and _width(f"{text[:count]}…", size) > room:
        count -= 1
    return f"{text[:count]}…"


def _width(text: str, size: float) -> float:
    """Width of a text; letters of East Asia are as wide as high."""
    full = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return text_width(text, size) + 0.4 * size * full
