"""The places of all parts of a picture of a layer's tensors, in pixels from the upper left corner.

One framework, whose gates lie side by side, is on top, the others stand in a row below it. Lines
lead from each gate of its kernel to the same gate of theirs: down from the block to a track of
their own, along it to the gutter on the left of a framework, and from there to the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xlstm.counting.picture.panels import (
    GAP,
    LARGE,
    LETTER,
    LINE,
    MARGIN,
    MEDIUM,
    NARROWEST,
    SMALL,
    THINNEST,
    TRACK,
    Line,
    Panel,
    PictureBlock,
    PictureCell,
    Sheet,
    Text,
    panel_of,
)
from xlstm.counting.wording import GATES
from xlstm.errors import UnsupportedError

if TYPE_CHECKING:
    from xlstm.counting.explanation import ExplanationData

LONGEST = 260.0
"""Length of the longest side of all tensors."""
LARGEST = 24.0
"""Length of one number, at most."""


def layout(found: ExplanationData, measure: Callable[[str, float, bool], float]) -> Sheet:
    """The places of all parts of the picture.

    Args:
        found: the explanation to draw.
        measure: text, size and True for bold -> its width.

    Raises:
        UnsupportedError: no framework has the layer.
    """
    held = [
        (column, [row for row in found.tensors if row.framework == column.framework])
        for column in found.columns
    ]
    held = [(column, rows) for column, rows in held if rows]
    if not held:
        names = ", ".join(column.title for column in found.columns)
        want, do = f"a layer that one of {names} has", "leave the picture out"
        raise UnsupportedError(f"picture of {found.kind}", want, "one that none has", do)
    longest = max(size for row in found.tensors for size in row.shape)
    sheet = Sheet(measure, min(LARGEST, LONGEST / longest))
    panels = [panel_of(column, rows, sheet) for column, rows in held]
    top = next((panel for panel in panels if not panel.upright), panels[0])
    y = _heading(sheet, found, top, panels)
    _draw(sheet, top, [panel for panel in panels if panel is not top], y)
    return sheet


def _heading(sheet: Sheet, found: ExplanationData, top: Panel, panels: Sequence[Panel]) -> float:
    """Title, formula, legend and notes; returns the y of their end."""
    sheet.write(found.title, MARGIN, MARGIN + LARGE, LARGE, bold=True)
    y = MARGIN + LARGE + LINE + 8
    sheet.write(f"{found.formula} = {found.numbers}", MARGIN, y, MEDIUM)
    if top.gates != [""]:
        y += LINE + 10
        x = MARGIN
        for gate in top.gates:
            swatch = PictureBlock(gate, x, y - 11, 14, 14)
            sheet.blocks.append(swatch)
            sheet.texts.append(_letter(gate, *swatch.middle, swatch))
            x = sheet.write(f"= {_words(gate)}", x + 20, y) + 2 * GAP
    for note in _notes(sheet, found, top, panels):
        y += LINE + 4
        sheet.write(note, MARGIN, y)
    return y + GAP


def _words(gate: str) -> str:
    name = GATES[gate].rpartition(" ")[0]
    return name + {"g": ", c in Keras's documents", "n": ", h in Keras's documents"}.get(gate, "")


def _notes(sheet: Sheet, found: ExplanationData, top: Panel, panels: Sequence[Panel]) -> list[str]:
    scale = sheet.scale
    per = f"{1 / scale:,.0f}" if scale < 0.01 else f"{1 / scale:.3g}"
    size = f"1 number is {scale:.3g} px" if scale >= 1 else f"1 px is {per} numbers"
    note = f"Drawn to scale: {size} along every side"
    cells = [cell for panel in panels for cell in panel.cells]
    if any(_clamped(cell, scale) for cell in cells):
        note += f"; but no side is drawn below {THINNEST:.0f} px, no gate below {NARROWEST:.0f} px"
    notes = [f"{note}."]
    if len(panels) > 1:
        what = "each gate of the kernel" if top.gates != [""] else "the kernel"
        notes[0] += f" Arrows lead from {what} to where the others keep it."
    if found.rest:
        notes.append(f"The first layer is drawn; {found.rest} likewise, with another m.")
    lack = [column.title for column in found.columns if column.total is None]
    if lack:
        notes.append(f"Not drawn: {', '.join(lack)}, without such a layer.")
    return notes


def _clamped(cell: PictureCell, scale: float) -> bool:
    sides = sorted((*cell.row.shape, 1)[:2])
    drawn = sorted((cell.wide, cell.high))
    return any(abs(a * scale - b) > 0.01 for a, b in zip(sides, drawn, strict=True))


def _letter(gate: str, x: float, y: float, over: PictureBlock | None = None) -> Text:
    return Text(gate, x, y + 4, SMALL, bold=True, over=over, centred=True)


def _draw(sheet: Sheet, top: Panel, others: Sequence[Panel], y: float) -> None:
    """The panel on top, the others below it, and the lines between them."""
    gutter = _gutter(others[0]) if others else 0.0
    x = MARGIN + gutter
    sheet.write(top.title, x, y + LINE, MEDIUM, bold=True)
    y += LINE + 8
    tracks = _tracks(top.gates)
    starts: dict[str, list[tuple[float, float]]] = {}
    rows, widths = top.rows(by_role=False), top.widths(by_role=False)
    for number, row in enumerate(rows):
        y += max(cell.height for cell in row)
        blocks = _place(sheet, row, widths, x, y, above=True)
        if number == 0 and others:
            for block in blocks[: len(top.gates)]:
                down = (block.middle[0], y + 10 + tracks[block.gate])
                starts[block.gate] = [(block.middle[0], y), down]
            y += 10 + TRACK * len(top.gates) + 6
        elif number < len(rows) - 1:
            y += GAP
    if len(rows) > 1 and others:
        # past the second half on the left, in the gutter of the first of the others
        lanes = _lanes(others[0], MARGIN)
        for gate, points in starts.items():
            points += [(lanes[gate], points[-1][1]), (lanes[gate], y + 10 + tracks[gate])]
        y += 10 + TRACK * len(top.gates) + 6
    x = MARGIN
    for panel in others:
        x += _below(sheet, panel, x, y, starts) + GAP


def _tracks(gates: Sequence[str]) -> dict[str, float]:
    """Distance of each gate's track below the highest; the first is lowest, so that few cross."""
    return {gate: TRACK * k for k, gate in enumerate(reversed(gates))}


def _gutter(panel: Panel) -> float:
    return TRACK * len(panel.gates) + 8


def _lanes(panel: Panel, x: float) -> dict[str, float]:
    """Place of each gate's line down the left of a panel, in the order in which none cross."""
    gates = panel.gates[::-1] if panel.upright else panel.gates
    return {gate: x + TRACK * k for k, gate in enumerate(gates)}


def _below(
    sheet: Sheet,
    panel: Panel,
    x: float,
    y: float,
    starts: dict[str, list[tuple[float, float]]],
) -> float:
    """A panel of the lower row with the lines to it; returns its width."""
    lanes, tracks, inner = _lanes(panel, x), _tracks(panel.gates), x + _gutter(panel)
    sheet.write(panel.title, inner, y + LINE, MEDIUM, bold=True)
    widths = panel.widths(by_role=not panel.upright)
    wide = max(sheet.measure(panel.title, MEDIUM, True), sum(widths))
    band = y + LINE + 10
    y = band + TRACK * len(panel.gates) + 8
    for number, row in enumerate(panel.rows(by_role=not panel.upright)):
        blocks = _place(sheet, row, widths, inner, y, above=False)
        for block in blocks[: len(panel.gates)] if number == 0 else []:
            points = [*starts.get(block.gate, ())]
            if points:
                lane = lanes[block.gate]
                points.append((lane, points[-1][1]))
                points += _end(panel, block, lane, band + tracks[block.gate])
                sheet.lines.append(Line(block.gate, tuple(points), head=True))
        y += max(cell.height for cell in row) + GAP
    return _gutter(panel) + wide


def _end(panel: Panel, block: PictureBlock, lane: float, track: float) -> list[tuple[float, float]]:
    """The end of a line, from a lane to a block's left side, or over a track to its upper side."""
    x, y = block.middle
    if panel.upright:
        return [(lane, y), (block.x, y)]
    return [(lane, track), (x, track), (x, block.y)]


def _place(
    sheet: Sheet,
    row: Sequence[PictureCell],
    widths: Sequence[float],
    x: float,
    y: float,
    *,
    above: bool,
) -> list[PictureBlock]:
    """Tensors side by side, labels above and lower sides at y, or labels below and upper sides."""
    found = []
    for cell, width in zip(row, widths, strict=False):
        top = y - cell.high if above else y
        label = top - cell.height + cell.high if above else top + cell.under
        for number, text in enumerate((cell.row.name, str(cell.row.shape)), 1):
            sheet.write(text, x, label + number * LINE - 1)
        blocks = cell.blocks(x, top)
        sheet.blocks += blocks
        sheet.reach(x + cell.width, top + cell.high)
        for k, block in enumerate(blocks):
            if block.gate:
                _mark(sheet, cell, k, block, above)
        found += blocks
        x += width
    return found


def _mark(sheet: Sheet, cell: PictureCell, k: int, block: PictureBlock, above: bool) -> None:
    """A gate's letter: on its block, or beside it at the end of a short line."""
    x, y = block.middle
    if cell.strip == (0.0, 0.0):
        sheet.texts.append(_letter(block.gate, x, y, block))
        return
    if cell.upright:
        side = block.x + block.wide
        end = (side + 5, block.y - k * block.high + (k + 0.5) * max(LETTER, block.high))
        sheet.lines.append(Line(block.gate, ((side, y), end)))
        sheet.texts.append(_letter(block.gate, end[0] + 1 + LETTER / 2, end[1]))
        return
    edge, way = (block.y, -1) if above else (block.y + block.high, 1)
    end = (block.x - k * block.wide + (k + 0.5) * max(LETTER, block.wide), edge + 5 * way)
    sheet.lines.append(Line(block.gate, ((x, edge), end)))
    sheet.texts.append(_letter(block.gate, end[0], end[1] + way * LETTER / 2))
