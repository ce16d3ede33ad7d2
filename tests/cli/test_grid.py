"""Tables of text: no line too long, no word cut, and those of rich where nothing is wrapped."""

import io
import random
import sys
from collections import Counter

import pytest
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xlstm.rendering.tables import Grid, screen_width

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


def grid_of(seed):
    rows, end, left = drawn(seed)
    grid = Grid(rows[0], left)
    for number, row in enumerate(rows[1:], 1):
        grid.add(*row)
        if number == end:
            grid.end_section()
    return grid, rows, end, left


def test_tables_that_fit_are_those_of_rich():
    for seed in range(150):
        grid, rows, end, left = grid_of(seed)
        wanted = by_rich(rows, end, left, 1000)
        assert [line.rstrip() for line in grid.lines(1000)] == wanted, seed


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_lines_are_not_too_long_and_words_whole(width):
    for seed in range(150):
        grid, rows, _end, _left = grid_of(seed)
        lines = grid.lines(width)
        assert max(map(cell_len, lines)) <= width, seed
        shown = Counter(word for line in lines for word in line.split())
        words = Counter(word for row in rows[1:] for cell in row for word in cell.split())
        whole = Counter({word: n for word, n in words.items() if len(word) < 30})
        assert not whole - shown, seed


def test_a_table_too_wide_for_its_words_becomes_a_list():
    grid = Grid(["layer", "kind", "parameters"], left=2)
    grid.add("a_very_long_name_of_a_layer", "LSTM", "1,760")
    grid.add("dense", "", "420")
    assert grid.lines(36) == [
        "",
        " layer",
        " ─────",
        " a_very_long_name_of_a_layer",
        "   kind        LSTM",
        "   parameters  1,760",
        "",
        " dense",
        "   parameters  420",
        "",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("columns", "width"), [(20, 60), (72, 72), (200, 140)])
def test_text_is_as_wide_as_the_terminal(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert screen_width() == 100
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert screen_width() == width


def test_a_list_repeats_the_name_of_a_group():
    table = Grid(["framework", "tensor", "parameters"], left=2)
    table.add("Keras", "kernel_of_the_input", "1,234")
    table.add("", "recurrent_kernel", "5,678")
    found = table.lines(30)
    assert found.count(" Keras") == 2
    assert found.count(" framework") == 1, "the title alone"


def test_a_narrow_table_leaves_out_spare_columns_and_says_so():
    table = Grid(["tensor", "shape", "in numbers", "count"], left=3, spare=["in numbers", "shape"])
    table.add("kernel", "(m, 4 n)", "(16, 240)", "3,840")
    wide, middle, narrow = (table.lines(size) for size in (50, 36, 24))
    assert "in numbers" in wide[1]
    assert middle[1:4] == [
        " tensor   shape      count",
        " ─────────────────────────",
        " kernel   (m, 4 n)   3,840",
    ]
    assert middle[4:] == [" Too narrow for: in numbers.", ""]
    assert narrow[1].split() == ["tensor", "count"]
    assert " ".join(narrow[4:]).strip().endswith("in numbers, shape.")
