"""Two functions that can only be called: where they part, and by how much."""

import numpy as np
import pytest
from cases import model
from refusing import refused
from torch import nn

import xlstm
from xlstm.errors import UsageError
from xlstm.ir.layers import LSTM, Dense

TRUTH = model([LSTM(3, 4, return_sequences=True), Dense(4, 2)], (None, 3))
RIGHT = xlstm.port(TRUTH, "numpy")

WEIGHT = np.random.default_rng(1).normal(size=(3, 4))
X = np.random.default_rng(2).normal(size=(5, 6, 3))


def plain(x):
    return np.tanh(x @ WEIGHT)


EQUAL = {
    "itself": plain,
    "another order": lambda x: np.tanh(sum(x[..., n, None] * WEIGHT[n] for n in (2, 0, 1))),
    "float32": lambda x: np.tanh(x.astype("f") @ WEIGHT.astype("f")),
    "nested lists": lambda x: plain(x).tolist(),
}


@pytest.mark.parametrize("name", EQUAL)
def test_two_functions_agree(name):
    found = xlstm.diagnose(plain, EQUAL[name], X)
    assert found, str(found)
    assert xlstm.diagnose(EQUAL[name], plain, [X])


def off(x):
    y = plain(x)
    y[1:, 2] += 1e-9
    return y


def test_two_functions_part_at_a_place_and_by_so_much():
    found = xlstm.diagnose(plain, off, X)
    assert not found
    assert found.causes == ()
    (part,) = found.unexplained
    assert part.step == 2
    assert part.difference == pytest.approx(1e-9, rel=1e-3)
    assert "differ in 16 of 120 numbers of their output" in part.text
    assert "first at [1, 2, 0]" in part.text
    assert "no causes were looked for" in part.text
    assert found.max_ulp > 1e5


PLAIN = {
    "shape": (lambda x: plain(x)[:, -1], "shape"),
    "two": (lambda x: (plain(x), plain(x)), "outputs"),
    "nan": (lambda x: plain(x) * np.nan, "nan"),
    "whole": (lambda x: plain(x).astype(int), "outputs"),
    "fails": (lambda x: 1 / 0, "failed"),
    "noise": (lambda x: plain(x) + np.random.default_rng().normal(), "not-repeatable"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_functions_that_cannot_be_compared(name):
    suspect, cause = PLAIN[name]
    assert xlstm.diagnose(plain, suspect, X).causes == (cause,)


def test_a_function_and_a_model_need_no_inputs():
    module = xlstm.port(TRUTH, "torch")
    assert xlstm.diagnose(RIGHT, module)
    assert xlstm.diagnose(RIGHT, TRUTH)
    assert not xlstm.diagnose(lambda x: RIGHT(x) * 1.001, module)


def test_what_two_functions_need_is_said():
    refused(UsageError, lambda: xlstm.diagnose(plain, off), "inputs", "one array per argument")
    refused(UsageError, lambda: xlstm.diagnose(plain, {"a": X}, X), "something to run")
    refused(UsageError, lambda: xlstm.diagnose(PLAIN["fails"][0], off, X), "ZeroDivisionError")
    refused(UsageError, lambda: xlstm.diagnose(PLAIN["noise"][0], off, X), "that differ")
    refused(UsageError, lambda: xlstm.diagnose(plain, off, [X * np.nan]), "finite numbers")


def test_reconcile_points_from_a_model_to_diagnose():
    module = nn.Sequential(nn.Linear(3, 2))
    for frameworks in ([module], module, nn.Linear(3, 2)):
        refused(UsageError, lambda: xlstm.reconcile(TRUTH, frameworks), "call xlstm.diagnose(a, b)")  # noqa: B023
