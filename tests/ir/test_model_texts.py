"""A model as a line, as text and as HTML: short, and escaped."""

import dataclasses

import pytest
from cases import model

import xlstm
from xlstm.ir.layers import GRU, LSTM, Activation, Dense, RepeatVector

HOSTILE = "<script>alert(1)</script>\x1b[31m\n" + "x" * 10_000


@pytest.fixture
def hostile():
    """A model whose names come from a hostile file."""
    return dataclasses.replace(model([LSTM(3, 4), Dense(4, 2)], (None, 3)), name=HOSTILE)


def test_the_example():
    found = xlstm.load(xlstm.demo.path())
    assert repr(found) == "<Model memorise: 2 layers (LSTM, Dense)>"
    assert str(found).splitlines() == [
        "memorise: 2 layers, read from keras 3.15.1",
        "layer  kind   output of a sample",
        "lstm   LSTM   (20)",
        "dense  Dense  (20)",
    ]
    assert "<td>lstm</td><td>LSTM</td><td>(20)</td>" in found._repr_html_()


def test_a_line_names_four_kinds():
    specs = [LSTM(3, 4), RepeatVector(5), GRU(4, 4), Dense(4, 2), Activation("tanh")]
    found = repr(model(specs, (None, 3)))
    assert found.endswith("5 layers (LSTM, RepeatVector, GRU, Dense, 1 more)>")


def test_names_of_files_are_text(hostile):
    for found in (repr(hostile), str(hostile), hostile._repr_html_()):
        assert len(found) < 1000
        assert "\x1b" not in found
    assert "\n" not in repr(hostile)
    assert "<script>" not in hostile._repr_html_()


def test_many_layers_are_counted():
    many = model([Dense(3, 3) for _ in range(250)], (3,))
    assert len(str(many).splitlines()) == 203
    assert str(many).endswith("... and 50 more")
    assert many._repr_html_().count("<tr>") == 201


def test_no_weight_is_loaded():
    """A model that was read without numbers has shapes alone."""
    from xlstm.reading.load import load_shapes

    assert "LSTM" in str(load_shapes(xlstm.demo.path()))
