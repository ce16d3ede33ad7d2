"""Facts about a suspect's outputs come first, before any cause; so does a suspect that hangs."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import built, model
from torch import nn

import xlstm
from xlstm.diagnosis.suspect import models as slow
from xlstm.ir.graph import Builder
from xlstm.ir.layers import LSTM, Bidirectional, Dense, Input

TRUTH = model([LSTM(3, 4, return_sequences=True), Dense(4, 2)], (None, 3))
RIGHT = xlstm.port(TRUTH, "numpy")


class Ends(nn.Module):
    """The truth's layers, and what a test makes of the output."""

    def __init__(self, end):
        super().__init__()
        self.core, self.end = xlstm.port(TRUTH, "torch"), end

    def forward(self, x):
        return self.end(self.core(x))


def quits(_y):
    raise SystemExit(3)


def fails(_y):
    raise KeyError("no such layer")


def holes(y):
    return y * (1 if isinstance(y, torch.Tensor) else 1.0) / (abs(y) > 0.2)


AWKWARD = {
    "nan": (lambda y: y * float("nan"), "nan", "NaN or infinity"),
    "fewer": (lambda y: y[..., :1], "shape", "shape (6, 8, 1), a's has (6, 8, 2)"),
    "flat": (lambda y: y.reshape(-1), "shape", "shape (96,)"),
    "pair": (lambda y: (y, y), "outputs", "b gives 2 (a tuple of 2). The first is compared."),
    "names": (lambda y: {"z": y, "b": y * 2}, "outputs", "(a dict (b, z)). The second is compared"),
    "nothing": (lambda y: (), "outputs", "b gives 0"),
    "text": (lambda y: "done", "failed", "inputs: it gives text"),
    "object": (lambda y: object(), "failed", "inputs: it gives object"),
    "fails": (fails, "failed", "KeyError: 'no such layer'"),
    "quits": (quits, "failed", "SystemExit: 3"),
    "bools": (lambda y: y > 0, "outputs", "b gives True and False"),
    "holes": (holes, "nan", "NaN or infinity"),
}
"""End of a suspect -> the cause, and words of the first line after the titles."""


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("kind", ["module", "function"])
@np.errstate(all="ignore")
def test_what_is_plain_to_see_is_said_in_the_first_line(kind, name):
    end, cause, words = AWKWARD[name]
    found = xlstm.diagnose(TRUTH, Ends(end) if kind == "module" else lambda x: end(RIGHT(x)))
    assert found.causes == (cause,)
    assert not found.unexplained
    assert words in str(found).splitlines()[4]


@pytest.mark.parametrize("y", ["int", "complex"])
def test_numbers_of_another_kind_get_no_other_cause(y):
    cast = {"int": lambda y: y.int(), "complex": lambda y: y.to(torch.complex64)}[y]
    found = xlstm.diagnose(TRUTH, Ends(cast))
    assert found.causes == ("outputs",)
    assert {"int": "whole numbers", "complex": "complex"}[y] in found.findings[0].text


CONTAINERS = {
    "tuple": (lambda y: (y,), "b gives a tuple of 1, a gives the array itself"),
    "dict": (lambda y: {"y": y}, "b gives a dict (y), a gives the array itself"),
    "none": (lambda y: (y, None), ""),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_around_right_numbers_is_a_note(name):
    end, text = CONTAINERS[name]
    for suspect in (Ends(end), lambda x: end(RIGHT(x))):
        found = xlstm.diagnose(TRUTH, suspect)
        assert found, str(found)
        assert [note.text.partition(";")[0] for note in found.notes] == [text] * bool(text)


def test_a_module_that_gives_a_dict_is_equal_to_itself_without_a_note():
    source = Ends(lambda y: {"z": y, "b": y * 2})
    found = xlstm.diagnose(source, source)
    assert found
    assert not found.notes


def test_what_a_cause_explains_is_said_before_it():
    half = LSTM(3, 4, return_sequences=True)
    truth = model([Bidirectional(half, replace(half, go_backwards=True))], (None, 3))
    node = truth.layers[0]
    summed = replace(node, spec=replace(node.spec, merge="sum"))
    other = Builder()
    x = other.add("input", Input((None, 3)))
    end = other.add(node.name, summed.spec, [x])
    found = xlstm.diagnose(
        truth, replace(truth, nodes=other.nodes, outputs=(end,), inputs=("input",))
    )
    assert found.causes == ("merge-mode",)
    lines = str(found).splitlines()
    assert lines[3] == "b's output has shape (6, 8, 4), a's has (6, 8, 8)."
    assert lines[5].startswith("1.")


def test_one_of_two_outputs_is_named():
    graph = Builder()
    x = graph.add("x", Input((3,)))
    two = built(graph, [graph.add("a", Dense(3, 2), [x]), graph.add("b", Dense(3, 2), [x])])
    right = xlstm.port(two, "numpy")
    found = xlstm.diagnose(two, lambda x: (right(x)[0], right(x)[1] * np.nan))
    assert "b's output b" not in str(found)
    assert "12 of 12 numbers of its output b" in str(found)


def test_a_suspect_may_write_into_what_it_is_called_with():
    def scaled(x):
        y = RIGHT(x.copy())
        x *= 0
        return y

    assert xlstm.diagnose(TRUTH, scaled)


def test_a_suspect_that_does_not_return_is_told_of_while_it_runs(monkeypatch):
    told, lines = threading.Event(), []
    monkeypatch.setattr(slow, "PATIENCE", 0.0)
    monkeypatch.setattr(slow, "tell", lambda line: (lines.append(line), told.set()))

    def hangs(x):
        told.wait()  # it ends as soon as the line is written
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        xlstm.diagnose(TRUTH, hangs)
    assert "b, called in float64 with inputs (6, 8, 3), has not returned" in lines[-1]
    assert "loop that does not end" in stopped.value.__notes__[0]
