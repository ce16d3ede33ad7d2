"""Draws a layer's tensors to scale, gate by gate, in every framework, as an SVG document.

In: an explanation. Out: its picture, 390 pixels wide, as narrow as a phone. Frameworks stand one
below the other. On the left runs a line for each gate, which joins the kernel's blocks of that gate
in all frameworks. An SVG viewer has fonts of its own: widths of texts are estimates with some room.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xlstm.counting.wording import GATES
from xlstm.errors import UnsupportedError

if TYPE_CHECKING:
    from xlstm.counting.explanation import ExplanationData
    from xlstm.counting.tensor_rows import TensorRow

PAGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" \
viewBox="0 0 {wide} {high}" role="img">
<title>{title}</title>
<style>
text {{ font-family: Arial, Helvetica, "DejaVu Sans", sans-serif; fill: #1a1a1a }}
rect {{ stroke: #1a1a1a; stroke-width: .5; fill: #aaaaaa }}
path {{ fill: none; stroke: #aaaaaa; stroke-width: 1.5; stroke-linejoin: round }}
rect.page {{ fill: #ffffff; stroke: none }}
text.on-o {{ fill: #ffffff }}
rect.i, rect.r {{ fill: #56b4e9 }} path.i, path.r {{ stroke: #56b4e9 }}
rect.f, rect.z {{ fill: #d55e00 }} path.f, path.z {{ stroke: #d55e00 }}
rect.g, rect.n {{ fill: #cc79a7 }} path.g, path.n {{ stroke: #cc79a7 }}
rect.o {{ fill: #0072b2 }} path.o {{ stroke: #0072b2 }}
@media print {{ svg {{ max-height: max(98vh, {least}px) }} }}
@media screen and (prefers-color-scheme: dark) {{
text {{ fill: #e8e8e8 }} text.on {{ fill: #1a1a1a }} text.on-o {{ fill: #ffffff }}
rect {{ stroke: #e8e8e8 }} rect.page {{ fill: #161616 }}
}}
</style>
<rect class="page" width="{wide}" height="{high}"/>
{parts}
</svg>
"""
"""Gates have the four of Okabe and Ito's colours that differ most for any colour vision (smallest
distance 20.7 in CIELAB with normal vision, protanopia, deuteranopia and tritanopia)."""

WIDE, MARGIN, GAP, LINE = 390.0, 12.0, 10.0, 14.0
TRACK = 6.0
"""Distance of parallel lines."""
LETTER = 10.0
"""Room for a gate's letter, each way; no gate is drawn shorter along its tensor."""
THINNEST = 3.0
"""Shortest side."""
LONGEST, LARGEST = 160.0, 24.0
"""Length of the longest side of all tensors, and of one number, at most."""
TINY, SMALL, MEDIUM, LARGE = 9.0, 10.5, 12.0, 15.0
"""Sizes of type."""

CHARACTERS = {"ijl": 0.28, ".,:;'| ": 0.33, "frt()[]-/": 0.42, "ceksvxyz": 0.6, "mwMW=+": 0.98}
"""Characters -> their width in DejaVu Sans, a wide font, over the size of type."""


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a text in a wide font.

    >>> text_width("il", 10.0)
    5.6
    """
    usual = [0.78 if c.isupper() else 0.65 for c in text]
    known = {c: width for group, width in CHARACTERS.items() for c in group}
    total = sum(known.get(c, width) for c, width in zip(text, usual, strict=True))
    return round(total * size * (1.12 if bold else 1.0), 2)


@dataclass(frozen=True)
class PictureCell:
    """A tensor and its size in the picture.

    Attributes:
        row: the tensor.
        upright: True if its gates lie one below the other.
        wide: of its rectangle.
        high: of its rectangle.
    """

    row: TensorRow
    upright: bool
    wide: float
    high: float

    @property
    def gates(self) -> list[str]:
        """Letters of its gates, an empty one if there are none."""
        return self.row.gates.split() or [""]

    @property
    def strip(self) -> float:
        """Room for the letters beside or below the rectangle; 0 if they are inside."""
        outside = self.row.gates and (self.wide if self.upright else self.high) < LINE
        return LETTER if outside else 0.0

    @property
    def width(self) -> float:
        """With letters, name and shape."""
        labels = (text_width(text, SMALL) for text in (self.row.name, str(self.row.shape)))
        return max(self.wide + self.strip * self.upright, *labels)

    @property
    def label(self) -> float:
        """From the upper side of the rectangle to the name below it."""
        return self.high + self.strip * (not self.upright) + 2


def _cell(row: TensorRow, upright: bool, scale: float) -> PictureCell:
    """A tensor to scale; a vector runs along the gate axis of its framework's matrices."""
    high, wide = row.shape if len(row.shape) == 2 else (1, row.shape[0])
    if len(row.shape) == 1 and upright:
        high, wide = wide, high
    sides = [max(THINNEST, wide * scale), max(THINNEST, high * scale)]
    sides[upright] = max(sides[upright], LETTER * len(row.gates.split()))
    return PictureCell(row, upright, *sides)


@dataclass
class Sheet:
    """The elements of a picture so far.

    Attributes:
        scale: pixels of one number.
        gates: letters of the gates in the first framework's order, "" alone if there are none.
        y: lower end of the part that is drawn.
        parts: elements.
        branches: gate -> (height at its line, the way from there to a block).
    """

    scale: float
    gates: Sequence[str]
    y: float = MARGIN
    parts: list[str] = field(default_factory=list)
    branches: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The left side of all tensors."""
        return MARGIN + TRACK * len(self.gates) + 2

    def write(self, text: str, x: float, y: float, size: float = SMALL, more: str = "") -> None:
        """Adds a line of text that starts at x, with more attributes."""
        escaped = html.escape(text, quote=False)
        at = f'x="{x:.6g}" y="{y:.6g}" font-size="{size:g}"'
        self.parts.append(f"<text {at}{more}>{escaped}</text>")

    def paragraph(self, text: str, x: float, size: float = SMALL, bold: bool = False) -> None:
        """Adds a text from x on, with as many lines as it needs."""
        line = ""
        for word in [*text.split(" "), ""]:
            longer = f"{line} {word}".strip()
            if word and x + text_width(longer, size, bold) <= WIDE - MARGIN:
                line = longer
                continue
            self.y += size * 1.3
            self.write(line, x, self.y, size, ' font-weight="bold"' * bold)
            line = word
        self.y += 3

    def block(self, gate: str, x: float, y: float, wide: float, high: float) -> None:
        """Adds one gate's part of a tensor, or all of a tensor without gates."""
        size = f'width="{wide:.6g}" height="{high:.6g}"'
        self.parts.append(f'<rect class="{gate or "none"}" x="{x:.6g}" y="{y:.6g}" {size}/>')

    def letter(self, gate: str, x: float, y: float, room: float, inside: bool) -> None:
        """Adds a gate's letter with its middle at (x, y), on a block or on the page."""
        on = f' class="{"on-o" if gate == "o" else "on"}"' * inside
        size = SMALL if room >= LINE else TINY
        self.write(gate, x, y + size / 3, size, f'{on} font-weight="bold" text-anchor="middle"')


def svg(found: ExplanationData) -> str:
    """The picture as an SVG document, byte for byte the same at every call.

    Raises:
        UnsupportedError: no framework has the layer.
    """
    if not found.tensors:
        names = ", ".join(column.title for column in found.columns)
        want, do = f"a layer that one of {names} has", "ask for the count without a picture"
        raise UnsupportedError(f"picture of {found.kind}", want, "one that none has", do)
    scale = min(LARGEST, LONGEST / max(size for row in found.tensors for size in row.shape))
    panels: dict[str, list[PictureCell]] = {}
    for column in found.columns:
        rows = [row for row in found.tensors if row.framework == column.framework]
        if rows:
            title = f"{column.title}: {column.total:,} parameters"
            panels[title] = [_cell(row, rows[0].axis == 0, scale) for row in rows]
    first = next(iter(panels.values()))
    sheet = Sheet(scale, [*dict.fromkeys(g for c in first for g in c.gates if g)] or [""])
    _heading(sheet, found, [cell for cells in panels.values() for cell in cells])
    for title, cells in panels.items():
        sheet.y += GAP
        sheet.paragraph(title, sheet.left, MEDIUM, bold=True)
        sheet.y += 4
        for line in _lines(cells, WIDE - MARGIN - sheet.left):
            _place(sheet, line, cells)
    for number, gate in enumerate(sheet.gates if len(panels) > 1 else ()):
        # the first gate's line is next to the tensors: the way to its block crosses no other line
        x = sheet.left - TRACK * (number + 1)
        heights = [y for y, _ in sheet.branches[gate]]
        way = "".join(f"M{x:.6g} {y:.6g}{rest}" for y, rest in sheet.branches[gate])
        trunk = f"M{x:.6g} {heights[0]:.6g}V{heights[-1]:.6g}"
        sheet.parts.append(f'<path class="{gate or "none"}" d="{trunk}{way}"/>')
    title, parts, high = html.escape(found.title), "\n".join(sheet.parts), int(sheet.y + MARGIN)
    # on paper, smaller if it fits one page so
    return PAGE.format(wide=int(WIDE), high=high, least=high * 3 // 4, title=title, parts=parts)


def _heading(sheet: Sheet, found: ExplanationData, cells: Sequence[PictureCell]) -> None:
    """Title, formula, legend and notes."""
    sheet.paragraph(found.title, MARGIN, LARGE, bold=True)
    sheet.paragraph(f"{found.formula} = {found.numbers}", MARGIN, MEDIUM)
    for gate in filter(None, sheet.gates):
        name = GATES[gate].rpartition(" ")[0]
        keras = {"g": ", c in Keras's documents", "n": ", h in Keras's documents"}.get(gate, "")
        sheet.block(gate, MARGIN, sheet.y + 4, 14, 14)
        sheet.letter(gate, MARGIN + 7, sheet.y + 11, LINE, inside=True)
        sheet.write(f"= {name}{keras}", MARGIN + 20, sheet.y + 15)
        sheet.y += LINE + 4
    for note in _notes(found, sheet, cells):
        sheet.paragraph(note, MARGIN)


def _notes(found: ExplanationData, sheet: Sheet, cells: Sequence[PictureCell]) -> Iterator[str]:
    scale = sheet.scale
    per = f"{1 / scale:,.0f}" if scale < 0.01 else f"{1 / scale:.3g}"
    size = f"1 number is {scale:.3g} px" if scale >= 1 else f"1 px is {per} numbers"
    note = f"Drawn to scale: {size} along every side"
    pairs = ((sorted((*c.row.shape, 1)[:2]), sorted((c.wide, c.high))) for c in cells)
    if any(abs(a * scale - b) > 0.01 for pair in pairs for a, b in zip(*pair, strict=True)):
        note += f"; but no side is drawn below {THINNEST:.0f} px, no gate below {LETTER:.0f} px"
    yield f"{note}."
    if len({cell.row.framework for cell in cells}) > 1:
        each = "each gate of the kernel" if sheet.gates != [""] else "the kernel"
        yield f"Lines join {each} in all frameworks."
    if found.rest:
        yield f"The first layer is drawn; {found.rest} likewise, with another m."
    lack = [column.title for column in found.columns if column.total is None]
    if lack:
        yield f"Not drawn: {', '.join(lack)}, without such a layer."


def _lines(cells: Sequence[PictureCell], room: float) -> Iterator[list[tuple[float, PictureCell]]]:
    """Tensors that stand side by side, each with its x from the left; halves are never mixed."""
    line: list[tuple[float, PictureCell]] = []
    widest = max(cell.width for cell in cells)
    apart = len(cells[0].row.gates) == 1  # a tensor for each gate: the same gates in columns
    x = 0.0
    for cell in cells:
        keys = {(c.row.part, c.row.role * apart) for c in (cell, *(c for _, c in line[:1]))}
        if line and (len(keys) > 1 or x + cell.width > room):
            yield line
            line, x = [], 0.0
        line.append((x, cell))
        x += (cell.width if cell.upright else widest) + GAP
    yield line


def _place(
    sheet: Sheet, line: Sequence[tuple[float, PictureCell]], cells: Sequence[PictureCell]
) -> None:
    """Draws tensors side by side, and the ways from their blocks to the lines of the gates."""
    first = cells[0].row
    kernels = [c for _, c in line if (c.row.role, c.row.part) == (first.role, first.part)]
    gates = [gate for cell in kernels for gate in cell.gates]
    sheet.y += 0 if cells[0].upright else TRACK * len(gates)
    for x, cell in line:
        _draw(sheet, sheet.left + x, cell, gates if cell in kernels else [])
    sheet.y += max(cell.label for _, cell in line) + 2 * LINE + GAP


def _draw(sheet: Sheet, x: float, cell: PictureCell, joined: Sequence[str]) -> None:
    """Draws one tensor with its letters and its label, and the ways to its blocks."""
    count, upright = len(cell.gates), cell.upright
    wide, high = (cell.wide, cell.high / count) if upright else (cell.wide / count, cell.high)
    for k, gate in enumerate(cell.gates):
        left, top = (x, sheet.y + k * high) if upright else (x + k * wide, sheet.y)
        sheet.block(gate, left, top, wide, high)
        middle, centre = left + wide / 2, top + high / 2
        if gate:
            x_letter = left + wide + 6 if cell.strip and upright else middle
            y_letter = top + high + 6 if cell.strip and not upright else centre
            sheet.letter(gate, x_letter, y_letter, high if upright else wide, not cell.strip)
        if gate in joined:
            # later gates have higher tracks, so that no way crosses another
            track = centre if upright else top - TRACK * (joined.index(gate) + 1)
            way = f"H{left:.6g}" if upright else f"H{middle:.6g}V{top:.6g}"
            sheet.branches.setdefault(gate, []).append((track, way))
    for number, text in enumerate((cell.row.name, str(cell.row.shape)), 1):
        sheet.write(text, x, sheet.y + cell.label + number * LINE - 4)
