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
OTHERS = re.compile(r"^class (?!Model\b)", re.M)
"""A class besides the model's, in the modules of the frameworks that have own cells."""


def model_of(node):
    """The smallest model with a row's layer, weights left out: emitting reads none."""
    nodes = graph_of(node.spec, mask=node.mask is not None, states=bool(node.states))
    inputs = tuple(found.name for found in nodes[:-1])
    outputs = tuple(Edge(node.name, n) for n in range(len(node.shapes)))
    return Model("row", nodes, inputs, outputs, {}, Source("case"))


def test_the_table_has_no_blank_cell():
    lines = table().split("\n\n")[0].splitlines()
    assert len(lines) == len(ROWS) + 2 > 100
    assert all(cell.strip() for line in lines[2:] for cell in line.strip("|").split("|"))


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
