"""Tables and lines of text for a terminal.

In: names, numbers and rows. Out: plain text of limited width.
"""

from __future__ import annotations

from collections.abc import Iterable

from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.ir.graph import Node
from xlstm.ir.layers import Bidirectional, TimeDistributed
from xlstm.ir.types import Shape
from xlstm.rendering.text_table import Grid, wrapped

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
