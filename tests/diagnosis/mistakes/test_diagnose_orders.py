"""`diagnose` on orders of gates beside another mistake, and on suspects with little to tell."""

import dataclasses

import numpy as np
import pytest
import torch
from cases import model

import xlstm
from xlstm.errors import UsageError
from xlstm.ir.layers import GRU, LSTM, Dense

ORDERS = {"LSTM": ("ifgo", "ifog"), "GRU": ("rzn", "zrn")}


def two_sided(kind):
    """A layer of 3 features and 4 units, both of whose biases hold numbers, and a head."""
    made = model([kind(3, 4, return_sequences=True), Dense(4, 2)], (None, 3))
    name, *_ = made.weights
    held = dict(made.weights[name])
    shape = (2, *held["bias"].shape[1:])
    held["bias"] = np.random.default_rng(3).normal(0, 0.5, shape).astype(np.float32)
    return dataclasses.replace(made, weights={**made.weights, name: held})


def moved(array, kind):
    """Rows in the other order of the gates."""
    was, order = ORDERS[kind]
    blocks = array.reshape(len(was), -1, *array.shape[1:])
    return blocks[[was.index(gate) for gate in order]].reshape(array.shape)


def turned(array, kind):
    """Every gate's matrix transposed."""
    return array.reshape(len(ORDERS[kind][0]), 4, 4).mT.reshape(array.shape)


def only(*tensors):
    return lambda held, kind: {t: moved(held[t], kind) for t in tensors}


def summed(first, second):
    """All gates moved; the two biases are these shares of their sum."""

    def change(held, kind):
        whole = {t: moved(array, kind) for t, array in held.items()}
        bias = whole["bias_ih"] + whole["bias_hh"]
        return {**whole, "bias_ih": first * bias, "bias_hh": second * bias}

    return change


def of_all(**more):
    def change(held, kind):
        whole = {t: moved(array, kind) for t, array in held.items()}
        return whole | {t: act(whole[t], kind) for t, act in more.items()}

    return change


ONE = ("weight_ih", "weight_hh", "bias_ih")
WRONG = {
    "added up": (summed(1, 0), {"LSTM": ("gate-order",), "GRU": ("gate-order", "misplaced-bias")}),
    "on both": (summed(1, 1), ("gate-order", "doubled-bias")),
    "all but one bias": (only(*ONE), ("gate-order",)),
    "one bias": (only("bias_hh"), ("gate-order",)),
    "input product": (only("weight_ih", "bias_ih"), ("gate-order",)),
    "one bias lost": (of_all(bias_hh=lambda x, _: 0 * x), ("gate-order", "lost-bias")),
    "transposed": (of_all(weight_hh=turned), ("gate-order", "transposed")),
    "reshaped": (of_all(weight_hh=lambda x, _: x.T.reshape(x.shape)), ("gate-order", "reshaped")),
}


@pytest.mark.parametrize("kind", [LSTM, GRU], ids=["lstm", "gru"])
@pytest.mark.parametrize("name", WRONG)
def test_an_order_of_the_gates_beside_another_mistake(name, kind):
    change, causes = WRONG[name]
    truth = two_sided(kind)
    wrong = xlstm.port(truth, "torch")
    state = wrong.state_dict()
    layer = f"{kind.__name__.lower()}_0"
    tensors = {name: f"{layer}.{name}_l0" for name in (*ONE, "bias_hh")}
    held = {short: state[name].clone() for short, name in tensors.items()}
    for short, array in change(held, kind.__name__).items():
        state[tensors[short]].copy_(array)
    wanted = causes[kind.__name__] if isinstance(causes, dict) else causes
    for suspect in (wrong, state):
        found = xlstm.diagnose(truth, suspect)
        assert found.causes == wanted
        assert not found.unexplained
        assert " ".join(ORDERS[kind.__name__][1]) in found.findings[0].text


def test_the_tensors_whose_gates_are_moved_are_named():
    """Three tensors in Keras's order, and the second bias, which was made anew, in PyTorch's."""
    truth = two_sided(GRU)
    state = xlstm.port(truth, "torch").state_dict()
    for tensor in ONE:
        state[f"gru_0.{tensor}_l0"] = moved(state[f"gru_0.{tensor}_l0"], "GRU")
    (finding,) = xlstm.diagnose(truth, state).findings
    names = ", ".join(f"gru_0.{tensor}_l0" for tensor in ONE)
    assert finding.tensor == names
    assert finding.fix == "Reorder rows 1-4 and 5-8 of each."


def test_two_sides_added_up_in_the_right_order_are_right():
    truth = two_sided(LSTM)
    right = xlstm.port(truth, "torch")
    state = right.state_dict()
    state["lstm_0.bias_ih_l0"] += state["lstm_0.bias_hh_l0"]
    state["lstm_0.bias_hh_l0"].zero_()
    assert xlstm.diagnose(truth, state).ok


@pytest.mark.parametrize("empty", [{}, {"state_dict": {}}], ids=["empty", "empty inside"])
def test_a_dict_without_arrays_is_said_to_be_empty(empty, tmp_path):
    truth = two_sided(LSTM)
    with pytest.raises(UsageError, match="it is empty"):
        xlstm.diagnose(truth, empty)
    np.savez(tmp_path / "nothing.npz")
    with pytest.raises(UsageError, match="it is empty"):
        xlstm.diagnose(truth, tmp_path / "nothing.npz")


def test_a_function_may_return_tensors_that_require_grad():
    truth = two_sided(LSTM)
    right = xlstm.port(truth, "torch")

    def run(x):
        y = right(torch.from_numpy(x).float())
        assert y.requires_grad
        return y

    assert xlstm.diagnose(truth, run).ok
    assert xlstm.diagnose(truth, lambda x: (run(x), (run(x),))).ok
