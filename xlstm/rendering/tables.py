"""Tables of plain text that cut no word, in a time that is linear in the rows.

In: headers and rows of texts. Out: lines of at most so many columns. A table that is too wide for
its words becomes a list: each row with its headers. Rich takes a millisecond a row, half a minute
for a model of 20,000 layers; here a row that needs no wrapping is one `join`.

>>> table = Grid(["layer", "count"], left=1)
>>> table.add("lstm", "1,760")
>>> table.lines(40)
['', ' layer   count', ' ─────────────', ' lstm    1,760', '']
"""

from __future__ import annotations

import shutil
import sys
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
        spare: headers of columns that a narrow screen leaves out, the first ones first.
        rows: the rows so far, the headers the first.
    """

    def __init__(self, headers: Sequence[str], left: int = 1, spare: Sequence[str] = ()) -> None:
        self.left, self.spare = left, spare
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
        for count in range(1, len(self.spare) + 1):
            if self._fits(width):
                break
            table = self._without(self.spare[:count])
            if table._fits(width):
                left_out = f" Too narrow for: {', '.join(self.spare[:count])}."
                return [*table.lines(width)[:-1], *wrapped(left_out, width), ""]
        columns = list(zip(*self.rows, strict=True))
        room = width - 1 - GAP * (len(columns) - 1)
        sizes = [max(map(_size, column)) for column in columns]
        if sum(sizes) > room:
            words = [max(map(_longest_word, column)) for column in columns]
            if sum(words) > room:
                return self._list(width)
            sizes = _fitted(sizes, words, room)
        found = [""]
        for number, row in enumerate(self.rows):
            found += [""] if number in self._sections else []
            found += self._row(row, sizes, heads=not number)
            found += [f" {'─' * (sum(sizes) + GAP * (len(sizes) - 1))}"] if not number else []
        return [*found, ""]

    def _fits(self, width: int) -> bool:
        """True if every row is one line."""
        sizes = [max(map(_size, column)) for column in zip(*self.rows, strict=True)]
        return sum(sizes) + GAP * (len(sizes) - 1) < width

    def _without(self, names: Sequence[str]) -> Grid:
        """The table without some columns."""
        kept = [place for place, head in enumerate(self.rows[0]) if head not in names]
        found = Grid([self.rows[0][place] for place in kept], sum(k < self.left for k in kept))
        found.rows = [tuple(row[place] for place in kept) for row in self.rows]
        found._sections = self._sections
        return found

    def _list(self, width: int) -> list[str]:
        """Each row as its first cell and, below, its other cells with their headers.

        The first header is the title of the list. A blank first cell means that of the row before.
        """
        heads, *rows = self.rows
        indent = min(max(map(_size, heads)) + GAP + 2, width // 2)
        title = wrapped(heads[0], width - 1)
        found = ["", *(f" {line}" for line in title), f" {'─' * max(map(_size, title))}"]
        name = heads[0]
        for row in rows:
            name = row[0] or name
            found += [f" {line}" for line in wrapped(name, width - 1)]
            for head, cell in zip(heads[1:], row[1:], strict=True):
                found += _entry(head, wrapped(cell, width - indent), indent) if cell else []
            found.append("")
        return found

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


def _entry(head: str, lines: Sequence[str], indent: int) -> Iterator[str]:
    """The lines of a cell, its header before the first one; a long header has lines above."""
    fits = 3 + _size(head) < indent
    if not fits:
        yield from (f"   {line}" for line in wrapped(head, indent - 3))
    yield _padded(f"   {head}" if fits else "", indent, True) + lines[0]
    yield from (" " * indent + line for line in lines[1:])


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


def _longest_word(text: str) -> int:
    return max(map(_size, text.split()), default=0)


def _fitted(sizes: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Sizes with the widest reduced to one size, none below its least, until all fit.

    >>> _fitted([3, 40, 20], [3, 10, 5], 43)
    [3, 20, 20]
    """
    low, high = 0, max(sizes)
    while low < high:
        most = (low + high + 1) // 2
        fits = sum(_capped(sizes, least, most)) <= room
        low, high = (most, high) if fits else (low, most - 1)
    return _capped(sizes, least, low)


def _capped(sizes: Sequence[int], least: Sequence[int], most: int) -> list[int]:
    return [max(word, min(size, most)) for size, word in zip(sizes, least, strict=True)]


NARROWEST, USUAL, WIDEST = 60, 100, 140
"""Columns of text: at least, where the output is no terminal, and at most."""


def screen_width() -> int:
    """Returns the columns of the terminal from 60 to 140, or 100 if the output is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return USUAL
    return min(max(shutil.get_terminal_size((USUAL, 24)).columns, NARROWEST), WIDEST)


def to_text(*parts: Grid | str) -> str:
    """Tables and lines as plain text, as wide as the screen at most."""
    lines, width = list[str](), screen_width()
    for part in parts:
        if isinstance(part, Grid):
            lines += part.lines(width)
        else:
            lines += (line for own in part.split("\n") for line in wrapped(own, width))
    return "\n".join(lines)


def grid(headers: Iterable[str], left: int = 1, spare: Sequence[str] = ()) -> Grid:
    """An empty table; the first `left` columns are flush left, the others right.

    A screen that is too narrow leaves out the columns `spare`, and says so.
    """
    return Grid([*headers], left, spare)


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
