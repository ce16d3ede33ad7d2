"""Tables of text are those of rich, line by line."""

import io
import random

import pytest
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xlstm.rendering.tables import Grid

WORDS = [*"lstm;1,760;a;;a much longer cell;weight_ih_l0_reverse;語順;é".split(";"), "x" * 60]


def drawn(seed):
    """Rows of texts, the headers the first, after which of them a section ends, and flush left."""
    rng = random.Random(seed)
    columns = rng.randint(1, 5)
    rows = [
        tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 3))).strip() for _ in range(columns))
        for _ in range(rng.randint(1, 6))
    ]
    rows[0] = tuple(cell or "?" for cell in rows[0])  # no column is empty
    return rows, rng.randrange(len(rows)), rng.randint(0, columns)


def by_rich(rows, end, left, width):
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, header in enumerate(rows[0]):
        side = "left" if place < left else "right"
        table.add_column(Text(header), justify=side, overflow="fold")
    for number, row in enumerate(rows[1:], 1):
        table.add_row(*map(Text, row), end_section=number == end)
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 100])
def test_tables_are_those_of_rich(width):
    for seed in range(150):
        rows, end, left = drawn(seed)
        grid = Grid(rows[0], left)
        for number, row in enumerate(rows[1:], 1):
            grid.add(*row)
            if number == end:
                grid.end_section()
        wanted = by_rich(rows, end, left, width)
        assert [line.rstrip() for line in grid.lines(width)] == wanted, seed
