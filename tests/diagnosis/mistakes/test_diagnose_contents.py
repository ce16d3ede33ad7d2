"""One plain change to the numbers of a tensor is named, by weights alone and by outputs alone."""

import dataclasses

import numpy as np
import pytest
from cases import model
from torch import nn

import xlstm
from xlstm.ir.layers import GRU, Dense

TRUTH = model([GRU(3, 4), Dense(4, 5, "relu"), Dense(5, 2)], (None, 3))


def first_lost(array):
    found = array.copy()
    found[0] = 0
    return found


CHANGES = {
    "negated": ("gru_0", "kernel", np.negative, "negated-weights", "negated"),
    "halved": ("gru_0", "recurrent", lambda x: x / 2, "scaled-weights", "half of a's numbers"),
    "twice": ("dense_2", "kernel", lambda x: 2 * x, "scaled-weights", "twice a's numbers"),
    "zeros": ("dense_1", "kernel", np.zeros_like, "lost-weights", "all numbers are zero"),
    "a row": ("dense_1", "kernel", first_lost, "lost-weights", "the first input are lost"),
    "reversed": ("dense_1", "kernel", np.flipud, "reordered-weights", "inputs is reversed"),
    "shifted": ("dense_2", "kernel", lambda x: np.roll(x, 1, 0), "reordered-weights", "shifted"),
    "rounded": ("gru_0", "kernel", lambda x: x.round(1), "rounded-weights", "to 1 decimal"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_plain_change_of_numbers(name):
    layer, tensor, act, cause, words = CHANGES[name]
    held = {owner: dict(tensors) for owner, tensors in TRUTH.weights.items()}
    held[layer][tensor] = np.ascontiguousarray(act(held[layer][tensor]), np.float32)
    wrong = dataclasses.replace(TRUTH, weights=held)
    arrays = xlstm.port(wrong, "torch").state_dict()
    (by_weights,) = xlstm.diagnose(TRUTH, arrays).findings
    (by_outputs,) = xlstm.diagnose(TRUTH, xlstm.port(wrong, "numpy")).findings
    for finding in (by_weights, by_outputs):
        assert (finding.layer, finding.cause) == (layer, cause)
        assert words in finding.text
    assert by_outputs.text.startswith("This would explain it: ")


def mixed(array):
    return array[[2, 0, 3, 1, 4]]


def middle_lost(array):
    return np.where(np.arange(5)[:, None] == 2, 0, array)


OTHERS = {
    "factor": (lambda x: 0.3 * x, "They are a's times 0.3."),
    "zeros": (middle_lost, "All that differ are zero."),
    "order": (mixed, "They are a's, its inputs in another order."),
    "nothing": (lambda x: x + np.float32(0.1), "(the first at weight[0, 0])."),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_numbers_have_in_common_with_the_truths(name):
    act, words = OTHERS[name]
    held = {owner: dict(tensors) for owner, tensors in TRUTH.weights.items()}
    held["dense_2"]["kernel"] = act(held["dense_2"]["kernel"]).astype(np.float32)
    wrong = xlstm.port(dataclasses.replace(TRUTH, weights=held), "torch")
    (finding,) = xlstm.diagnose(TRUTH, wrong).findings
    assert finding.cause == "other-weights"
    assert finding.text.endswith(words)


class Sloped(nn.Module):
    """The port, with another function for its relu."""

    def __init__(self):
        super().__init__()
        self.ported = xlstm.port(TRUTH, "torch")
        self.gru, self.one, self.two = self.ported.children()

    def forward(self, x):
        h = self.gru(x)[0][:, -1]
        return self.two(nn.functional.leaky_relu(self.one(h), 0.1))


def test_a_slope_that_no_activation_has_by_its_name():
    (finding,) = xlstm.diagnose(TRUTH, Sloped()).findings
    assert (finding.layer, finding.cause) == ("dense_1", "slope")
    assert "leaky_relu of slope 0.1; a has relu" in finding.text


class Negated(nn.Module):
    """The port, given its input with another sign."""

    def __init__(self):
        super().__init__()
        self.ported = xlstm.port(TRUTH, "torch")

    def forward(self, x):
        return self.ported(-x)


def test_an_input_that_is_negated_is_not_said_to_be_of_the_weights_alone():
    (finding,) = xlstm.diagnose(TRUTH, Negated()).findings
    assert (finding.layer, finding.cause) == ("gru_0", "negated-weights")
    assert finding.text.startswith("Your arrays are a's, but your code acts as if they were not: ")
    assert finding.text.endswith("The layer's input so changed would do the same.")
