"""The parts of a picture of a layer's tensors: tensors with their gates, and whole frameworks.

Everything is in pixels from the upper left corner.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlstm.counting.tensor_rows import Column, TensorRow

THINNEST = 3.0
"""Shortest side."""
NARROWEST = 6.0
"""Narrowest gate."""

MARGIN, GAP, LINE = 20.0, 16.0, 14.0
TRACK = 6.0
"""Distance of parallel lines."""
LETTER = 12.0
"""Room for a gate's letter, each way."""
STRIP = LETTER + 6.0
"""Room for the letters beside a tensor whose gates are too small to hold them."""
SMALL, MEDIUM, LARGE = 10.5, 12.0, 15.0
"""Sizes of type."""


@dataclass(frozen=True)
class PictureBlock:
    """One gate's part of a tensor, or all of a tensor without gates."""

    gate: str
    x: float
    y: float
    wide: float
    high: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle."""
        return self.x + self.wide / 2, self.y + self.high / 2


@dataclass(frozen=True)
class Text:
    """A line of text; x is its start or its middle, y its base line."""

    text: str
    x: float
    y: float
    size: float = SMALL
    bold: bool = False
    over: PictureBlock | None = None
    centred: bool = False


@dataclass(frozen=True)
class Line:
    """A line in a gate's colour, with or without an arrow's head at its end."""

    gate: str
    points: tuple[tuple[float, float], ...]
    head: bool = False


@dataclass
class Sheet:
    """All parts of a picture, and its extent."""

    measure: Callable[[str, float, bool], float]
    scale: float
    blocks: list[PictureBlock] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    wide: float = 0.0
    high: float = 0.0

    def write(
        self, text: str, x: float, y: float, size: float = SMALL, bold: bool = False
    ) -> float:
        """Adds a line of text that starts at x, and returns the x of its end."""
        self.texts.append(Text(text, x, y, size, bold))
        end = x + self.measure(text, size, bold)
        self.reach(end, y + 4)
        return end

    def reach(self, x: float, y: float) -> None:
        """Makes the sheet large enough for a point and a margin."""
        self.wide, self.high = max(self.wide, x + MARGIN), max(self.high, y + MARGIN)


@dataclass(frozen=True)
class PictureCell:
    """A tensor and its size in the picture.

    Attributes:
        row: the tensor.
        upright: True if its gates lie one below the other.
        wide: of its rectangle.
        high: of its rectangle.
        label: width of its name and its shape.
    """

    row: TensorRow
    upright: bool
    wide: float
    high: float
    label: float

    @property
    def gates(self) -> list[str]:
        """Letters of its gates, an empty one if there are none."""
        return self.row.gates.split() or [""]

    @property
    def block(self) -> tuple[float, float]:
        """Width and height of one gate."""
        count = len(self.gates)
        return (self.wide, self.high / count) if self.upright else (self.wide / count, self.high)

    @property
    def strip(self) -> tuple[float, float]:
        """Width and height of the letters beside the rectangle; zeros if they are inside."""
        if not self.row.gates or min(self.block) >= LETTER:
            return 0.0, 0.0
        length = LETTER * len(self.gates)
        return (STRIP, length) if self.upright else (length, STRIP)

    @property
    def width(self) -> float:
        """With letters and label."""
        wide = self.wide + self.strip[0] if self.upright else max(self.wide, self.strip[0])
        return max(wide, self.label)

    @property
    def under(self) -> float:
        """From the rectangle's upper side to the label below it, letters included."""
        return max(self.high, self.strip[1]) if self.upright else self.high + self.strip[1]

    @property
    def height(self) -> float:
        """With letters and label."""
        return self.under + 2 * LINE + 4

    def blocks(self, x: float, y: float) -> list[PictureBlock]:
        """Its gates, the rectangle's upper left corner being at (x, y)."""
        wide, high = self.block
        return [
            PictureBlock(
                gate, x + (0 if self.upright else k * wide), y + self.upright * k * high, wide, high
            )
            for k, gate in enumerate(self.gates)
        ]


def _cell(row: TensorRow, upright: bool, sheet: Sheet) -> PictureCell:
    """A tensor to scale; a vector runs along the gate axis of its framework's matrices."""
    high, wide = row.shape if len(row.shape) == 2 else (1, row.shape[0])
    if len(row.shape) == 1 and upright:
        high, wide = wide, high
    sides = [max(THINNEST, wide * sheet.scale), max(THINNEST, high * sheet.scale)]
    sides[upright] = max(sides[upright], NARROWEST * len(row.gates.split()))
    label = max(sheet.measure(text, SMALL, False) for text in (row.name, str(row.shape)))
    return PictureCell(row, upright, sides[0], sides[1], label)


@dataclass(frozen=True)
class Panel:
    """The tensors of one framework."""

    title: str
    upright: bool
    cells: tuple[PictureCell, ...]

    @property
    def gates(self) -> list[str]:
        """Letters of the gates in the kernel's order."""
        return [gate for cell in self.cells if self.leads(cell) for gate in cell.gates]

    def leads(self, cell: PictureCell) -> bool:
        """True if the lines lead to this tensor: the kernel of the first half."""
        first = self.cells[0].row
        return (cell.row.role, cell.row.part) == ("kernel", first.part)

    def rows(self, *, by_role: bool) -> list[list[PictureCell]]:
        """The tensors that stand side by side: those of one half, or of one kind in one half."""
        found: dict[tuple[str, str], list[PictureCell]] = {}
        for cell in self.cells:
            role = cell.row.role if by_role else ""
            found.setdefault((cell.row.part, role), []).append(cell)
        return list(found.values())

    def widths(self, *, by_role: bool) -> list[float]:
        """Widths of the columns that the rows form."""
        columns = itertools.zip_longest(*self.rows(by_role=by_role))
        return [max(cell.width for cell in column if cell) + GAP for column in columns]


def panel_of(column: Column, rows: Sequence[TensorRow], sheet: Sheet) -> Panel:
    """The tensors of one framework, to the sheet's scale."""
    upright = rows[0].axis == 0
    cells = tuple(_cell(row, upright, sheet) for row in rows)
    return Panel(f"{column.title}: {column.total:,} parameters", upright, cells)
