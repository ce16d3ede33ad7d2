"""Tables of plain text in the layout of rich, in a time that is linear in the rows.

In: headers and rows of texts. Out: lines of at most so many columns. Rich takes a millisecond a
row, half a minute for a model of 20,000 layers; here a row that needs no wrapping is one `join`.

>>> table = Grid(["layer", "count"], left=1)
>>> table.add("lstm", "1,760")
>>> table.lines(40)
['', ' layer   count', ' ─────────────', ' lstm    1,760', '']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from rich._wrap import divide_line
from rich.cells import cell_len

from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.ir.graph import Node
from xlstm.ir.layers import Bidirectional, TimeDistributed
from xlstm.ir.types import Shape

GAP = 3
"""Columns between two cells."""


class Grid:
    """A table of texts: a line below the headers, blank lines above, below and between sections.

    Attributes:
        left: number of the first columns that are flush left; the others are flush right.
        rows: the rows so far, the headers the first.
    """

    def __init__(self, headers: Sequence[str], left: int = 1) -> None:
        self.left = left
        self.rows: list[tuple[str, ...]] = [tuple(headers)]
        self._sections: set[int] = set()

    def add(self, *cells: str) -> None:
        """Adds a row of texts without control characters, one for each header."""
        self.rows.append(cells)

    def end_section(self) -> None:
        """Leaves a line blank before the next row."""
        self._sections.add(len(self.rows))

    def lines(self, width: int) -> list[str]:
        """The whole table, every line of at most `width` columns."""
        sizes = _fitted([max(map(_size, column)) for column in zip(*self.rows, strict=True)], width)
        found = [""]
        for number, row in enumerate(self.rows):
            found += [""] if number in self._sections else []
            found += self._row(row, sizes, heads=not number)
            found += [f" {'─' * (sum(sizes) + GAP * (len(sizes) - 1))}"] if not number else []
        return [*found, ""]

    def _row(self, row: Sequence[str], sizes: Sequence[int], heads: bool) -> Iterator[str]:
        """The lines of one row; those of headers end on one line, others start on one."""
        if all(_size(cell) <= size for cell, size in zip(row, sizes, strict=True)):
            yield self._line(row, sizes)
            return
        cells = [wrapped(cell, size) for cell, size in zip(row, sizes, strict=True)]
        height = max(map(len, cells))
        blank = [[""] * (height - len(cell)) for cell in cells]
        pairs = zip(cells, blank, strict=True)
        for texts in zip(*([*b, *c] if heads else [*c, *b] for c, b in pairs), strict=True):
            yield self._line(texts, sizes)

    def _line(self, texts: Sequence[str], sizes: Sequence[int]) -> str:
        pairs = enumerate(zip(texts, sizes, strict=True))
        padded = [_padded(text, size, place < self.left) for place, (text, size) in pairs]
        return f" {(' ' * GAP).join(padded)}".rstrip()


def _size(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _padded(text: str, size: int, left: bool) -> str:
    if text.isascii():
        return text.ljust(size) if left else text.rjust(size)
    blank = " " * (size - _size(text))
    return text + blank if left else blank + text


def wrapped(text: str, size: int) -> list[str]:
    """A text cut between words, and inside words that are wider than the lines."""
    if _size(text) <= size:
        return [text]
    ends = [0, *divide_line(text, size), len(text)]
    return [text[a:b].rstrip() for a, b in pairwise(ends)]


def _fitted(sizes: Sequence[int], width: int) -> list[int]:
    """Sizes of columns, with the widest reduced until all fit."""
    # rich counts the blanks beside a cell as part of it: one on the edges, two between cells
    last = len(sizes) - 1
    beside = [(place > 0) + (place < last) for place in range(len(sizes))]
    room = width - 2 - last
    found = [min(size + blank, room) for size, blank in zip(sizes, beside, strict=True)]
    while (excess := sum(found) - room) > 0:
        widest = max(found)
        second = max((size for size in found if size != widest), default=0)
        found = _reduced(found, [size == widest for size in found], excess, widest - second)
    return [max(size - blank, 1) for size, blank in zip(found, beside, strict=True)]


def _reduced(sizes: Sequence[int], chosen: Sequence[bool], excess: int, most: int) -> list[int]:
    """Sizes with `excess` subtracted from the chosen ones, `most` at most from each."""
    left, found = sum(chosen), []
    for size, own in zip(sizes, chosen, strict=True):
        taken = min(most, round(excess / left)) if own else 0
        excess, left = excess - taken, left - own
        found.append(size - taken)
    return found


WIDTH = 100


def to_text(*parts: Grid | str) -> str:
    """Tables and lines as plain text of at most WIDTH columns."""
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Grid):
            lines += part.lines(WIDTH)
        else:
            lines += (line for own in part.split("\n") for line in wrapped(own, WIDTH))
    return "\n".join(lines)


def grid(headers: Iterable[str], left: int = 1) -> Grid:
    """An empty table; the first `left` columns are flush left, the others right."""
    return Grid([*headers], left)


def add(table: Grid, *cells: object) -> None:
    """Adds a row of plain texts, with escapes for control characters, and long ones cut."""
    table.add(*(_cell(str(cell)) for cell in cells))


LONGEST = 2000
"""Most characters of a cell: a layer's name in a file may have millions."""


def _cell(text: str) -> str:
    return printable(text) if len(text) <= LONGEST else f"{printable(text[:LONGEST])}..."


def titles(names: Iterable[str]) -> list[str]:
    """The frameworks in their own spelling."""
    return [registry.adapter(name).title for name in names]


def shape_text(shape: Shape) -> str:
    """(None, 3) as "(any, 3)"."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def kind_text(node: Node) -> str:
    """The kind of a layer, with the layer that it wraps."""
    spec = node.spec
    if isinstance(spec, TimeDistributed):
        return f"{spec.kind}({spec.layer.title})"
    if isinstance(spec, Bidirectional):
        names = dict.fromkeys(half.kind for half in spec.halves)
        return f"{spec.kind}({', '.join(names)})"
    return spec.title


def amount(number: int | None) -> str:
    """A number of parameters; a dash where the framework refuses the layer."""
    return "-" if number is None else f"{number:,}"
