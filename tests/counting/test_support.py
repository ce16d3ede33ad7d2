"""The table of what ports to what: no blank cell, and the emitted code keeps its word."""

import re

import pytest

from xlstm.counting.support import NATIVE, OWN, REFUSED, graph_of, rows, table, verdict
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.ir.graph import Edge, Model
from xlstm.ir.source import Source
from xlstm.porting.port import code_of

ROWS = list(rows())
BOTH = "Bidirectional, "
OTHERS = re.compile(r"^class (?!Model\b|Pretrained\b|(Masked)?Bidirectional)", re.M)
"""A class of an own cell: neither the model, nor its base, nor two layers side by side."""


def model_of(node):
    """The smallest model with a row's layer, weights left out: emitting reads none."""
    nodes = graph_of(node.spec, mask=node.mask is not None, states=bool(node.states))
    inputs = tuple(found.name for found in nodes[:-1])
    outputs = tuple(Edge(node.name, n) for n in range(len(node.shapes)))
    return Model("row", nodes, inputs, outputs, {}, Source("case"))


def options_of(cell):
    """The options of one row of the table, in the words of `rows()`."""
    both = re.compile(r"Bidirectional \((.*)\)$")
    listed = both.sub(lambda found: f"{BOTH}{found[1]}".replace("; ", f"; {BOTH}"), cell)
    return [re.sub(r" \(from [\w ]+\)$", "", option) for option in listed.split("; ")]


def test_every_option_stands_in_one_row_without_a_blank_cell():
    lines = table().split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(cell for row in cells for cell in row)
    listed = [(layer, option) for layer, options, *_ in cells for option in options_of(options)]
    assert sorted(listed) == sorted((row.layer, row.option) for row in ROWS)
    assert len(listed) > 100
    assert len({(layer, *found) for layer, _, *found in cells}) == len(cells) < 20


@pytest.mark.parametrize("framework", registry.frameworks())
def test_emitted_code_keeps_the_tables_word(framework):
    adapter = registry.adapter(framework)
    for layer, option, node in ROWS:
        found, where = verdict(node, adapter), f"{layer}, {option}"
        if found.word == REFUSED:
            assert found.why, where
            with pytest.raises(UnsupportedError):
                code_of(model_of(node), adapter)
            continue
        text = adapter.emit(model_of(node))
        if framework != "keras":
            assert found.word == (OWN if OTHERS.search(text) else NATIVE), where
