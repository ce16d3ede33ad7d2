"""Suspects that are awkward to run, and what `diagnose` says of those that cannot be."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from cases import model
from refusing import refused
from torch import nn

import xlstm
from xlstm.errors import UsageError
from xlstm.ir.layers import GRU, LSTM, Dense, Embedding, Reverse

TRUTH = model([LSTM(3, 5), Dense(5, 2)], (None, 3))


class Hand(nn.Module):
    """The truth's layers, in code that no tracer follows."""

    def __init__(self):
        super().__init__()
        self.core = xlstm.port(TRUTH, "torch")

    def forward(self, x):
        return self.core(x) if float(x.sum()) < 1e30 else x


class Locked(Hand):
    def __init__(self):
        super().__init__()
        self.lock, self.numbers, self.last = threading.Lock(), iter(range(3)), None

    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def called_before():
    module = Locked()
    module(torch.zeros(1, 2, 3))
    assert module.last.grad_fn is not None
    return module.eval()


class InNumpy(Hand):
    def forward(self, x):
        return super().forward(x).detach().numpy()


class WithStates(nn.Module):
    def __init__(self, states):
        super().__init__()
        ported = xlstm.port(TRUTH, "torch")
        self.lstm, self.dense, self.states = ported.lstm_0, ported.dense_1, states

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        return self.dense(y[:, -1]), *self.states(h, c)


RIGHT = {
    "a lock, an iterator and a tensor with a history": called_before,
    "a scripted module": lambda: torch.jit.script(xlstm.port(TRUTH, "torch")),
    "numpy arrays": lambda: InNumpy().eval(),
    "states behind the output": lambda: WithStates(lambda h, c: (h, c)).eval(),
    "None behind the output": lambda: WithStates(lambda h, c: (None,)).eval(),
    "nested lists": lambda: lambda x: xlstm.port(TRUTH, "numpy")(x).tolist(),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", RIGHT)
def test_right_suspects_of_any_kind(name):
    found = xlstm.diagnose(TRUTH, RIGHT[name]())
    assert found.ok, str(found)
    assert "outputs" in found.compared


def test_an_output_too_many_is_said():
    found = xlstm.diagnose(TRUTH, WithStates(lambda h, c: (h[0, :, :1],)).eval())
    assert found.causes == ("outputs",)


class StartsWithTime(Hand):
    def forward(self, x):
        zeros = x.new_zeros(1, x.size(1), 5)
        y, _ = self.core.lstm_0(x, (zeros, zeros))
        return self.core.dense_1(y[:, -1])


class Short(Hand):
    def forward(self, x):
        if x.shape[1] > 6:
            raise ValueError("sequences longer than 6 not supported")
        return super().forward(x)


@pytest.mark.parametrize(("kind", "word"), [(StartsWithTime, "hidden"), (Short, "longer than 6")])
def test_a_suspect_that_fails_on_the_inputs_is_not_right(kind, word):
    found = xlstm.diagnose(TRUTH, kind().eval())
    assert found.causes == ("failed",)
    assert word in str(found)
    assert "After that" not in str(found)


def again():
    right, calls = xlstm.port(TRUTH, "numpy"), []

    def suspect(x):
        calls.append(x)
        if len(calls) > 1:
            raise ValueError("no second time")
        return right(x)

    return suspect


def noisy():
    right, rng = xlstm.port(TRUTH, "numpy"), np.random.default_rng(0)
    return lambda x: right(x) + rng.normal(size=2)


BROKEN = {
    "a second call": (again, "failed", "no second time"),
    "no output": (lambda: lambda x: None, "failed", "it gives NoneType"),
    "text": (lambda: lambda x: "done", "failed", "it gives text"),
    "noise": (noisy, "not-repeatable", "Two runs of b"),
    "functional dropout": (
        lambda: type("Drops", (Hand,), {"forward": dropped})(),
        "not-repeatable",
        "training=self.training",
    ),
}


def dropped(self, x):
    return nn.functional.dropout(Hand.forward(self, x), 0.5)


@pytest.mark.parametrize("name", BROKEN)
def test_suspects_that_cannot_be_compared(name):
    make, cause, words = BROKEN[name]
    found = xlstm.diagnose(TRUTH, make())
    assert found.causes == (cause,)
    assert words in str(found)


def test_nothing_is_compared_with_a_truth_without_numbers():
    weights = {**TRUTH.weights, "lstm_0": {**TRUTH.weights["lstm_0"]}}
    weights["lstm_0"]["kernel"] = weights["lstm_0"]["kernel"] * np.nan
    bad = dataclasses.replace(TRUTH, weights=weights)
    found = xlstm.diagnose(bad, xlstm.port(TRUTH, "torch"))
    assert [(f.cause, f.layer) for f in found.findings] == [("nan", "lstm_0")]
    other = xlstm.diagnose(TRUTH, xlstm.port(bad, "torch"))
    assert "nan" in other.causes or not other.ok
    assert "After that" not in str(other)


def test_a_matrix_the_other_way_round_in_a_state_dict_alone():
    state = {name: t.numpy() for name, t in xlstm.port(TRUTH, "torch").state_dict().items()}
    assert xlstm.diagnose(TRUTH, state).ok
    state["lstm_0.weight_ih_l0"] = state["lstm_0.weight_ih_l0"].T
    found = xlstm.diagnose(TRUTH, state)
    assert [(f.cause, f.tensor) for f in found.findings] == [("transposed", "lstm_0.weight_ih_l0")]


def test_a_checkpoint_is_its_state_dict():
    state = xlstm.port(TRUTH, "torch").state_dict()
    for name in ("state_dict", "model_state_dict"):
        assert xlstm.diagnose(TRUTH, {name: state, "epoch": 3, "note": "best"}).ok


def test_whole_numbers_are_values_to_a_module():
    x = np.random.default_rng(1).integers(-3, 4, (4, 6, 3))
    assert xlstm.diagnose(TRUTH, Hand().eval(), x).ok
    assert xlstm.diagnose(TRUTH, Hand().eval(), x.astype(np.int8)).ok


def test_inputs_are_as_long_as_the_suspect_wants():
    fixed = model([LSTM(3, 5), Dense(5, 2)], (11, 3))
    found = xlstm.diagnose(xlstm.port(TRUTH, "torch"), fixed)
    assert found.ok, str(found)
    other = model([LSTM(3, 5), Dense(5, 2)], (11, 3), seed=8)
    assert "other-weights" in xlstm.diagnose(xlstm.port(TRUTH, "torch"), other).causes


def test_row_numbers_that_no_embedding_has_are_the_users():
    truth = model([Embedding(7, 3), GRU(3, 4)], (None,))
    right = xlstm.port(truth, "torch")
    refused(UsageError, lambda: xlstm.diagnose(truth, right, [[1, 9]]), "holds 9", "rows 0 to 6")


def test_rounding_of_a_whole_module():
    found = xlstm.diagnose(TRUTH, xlstm.port(TRUTH, "torch").half())
    assert found.causes == ("rounded-weights",)


def test_the_shape_of_an_input_is_what_a_module_runs_on_not_what_a_trace_tells():
    truth = model([Reverse(), Dense(6, 2)], (5, 6))
    found = xlstm.diagnose(truth, Turned(truth).eval())
    assert found.causes == ("go-backwards",), str(found)
    other = xlstm.port(model([LSTM(4, 5), Dense(5, 2)], (None, 4)), "torch")
    found = xlstm.diagnose(TRUTH, other)
    assert found.causes == ("inputs",)


class Turned(nn.Module):
    """A linear layer alone, whose input may have any rank."""

    def __init__(self, truth):
        super().__init__()
        self.dense = xlstm.port(truth, "torch").dense_1

    def forward(self, x):
        return self.dense(x)
