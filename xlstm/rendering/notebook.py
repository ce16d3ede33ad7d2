"""Tables and lines as HTML for notebooks.

In: the parts of a text. Out: HTML without script; every text is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from xlstm.rendering.tables import Grid

ROWS = 200
"""Rows of a table that a notebook shows."""


def markup(*parts: Grid | str) -> str:
    """Returns tables as tables, and texts as paragraphs with their line breaks.

    >>> table = Grid(["layer", "count"])
    >>> table.add("<lstm>", "1,760")
    >>> markup("Equal.", table)
    ... # doctest: +ELLIPSIS
    '<p>Equal.</p><table><thead><tr><th...>layer</th>...<td style="text-align:left">&lt;lstm&gt;...
    """
    return "".join(_table(part) if isinstance(part, Grid) else _paragraph(part) for part in parts)


def _paragraph(text: str) -> str:
    lines = "<br>".join(html.escape(line) for line in text.strip("\n").split("\n"))
    return f"<p>{lines}</p>" if lines else ""


def _table(table: Grid) -> str:
    head, *rows = (_row(row, table.left, "td" if n else "th") for n, row in enumerate(table.rows))
    left = len(rows) - ROWS
    more = f"<p>... and {left} more rows</p>" if left > 0 else ""
    body = "".join(rows[:ROWS])
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>{more}"


def _row(cells: Sequence[str], left: int, tag: str) -> str:
    found = []
    for place, cell in enumerate(cells):
        side = "left" if place < left else "right"  # notebooks put all to the right
        found.append(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>')
    return f"<tr>{''.join(found)}</tr>"
