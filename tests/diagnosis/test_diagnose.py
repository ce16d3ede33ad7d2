"""Where two models part, and why: hand-written ports with one mistake each, and the right ones."""

import dataclasses

import numpy as np
import pytest
import torch
from cases import model
from torch import nn

import xlstm
from xlstm.ir.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Masking,
    Relu,
    SimpleRNN,
)

SEQUENCE = {"return_sequences": True}
HARD = "hard_sigmoid_keras2"
STACK = model([LSTM(3, 5, **SEQUENCE), LSTM(5, 4), Dense(4, 2, "tanh")], (None, 3))
GATED = model([GRU(3, 5, **SEQUENCE), Dense(5, 2)], (None, 3))
HALF = LSTM(3, 4)
BOTH = model(
    [Bidirectional(HALF, dataclasses.replace(HALF, go_backwards=True)), Dense(8, 2)], (None, 3)
)
NORMED = model([Dense(3, 6, "relu"), BatchNorm(6), Dropout(0.5), Dense(6, 2)], (3,))


def port(source):
    return xlstm.port(source, "torch")


def change(module, name, act):
    """Changes one tensor of a module by `act`."""
    tensor = module.state_dict()[name]
    tensor.copy_(act(tensor.clone()))
    return module


def order(array, places):
    """Blocks of rows in another order."""
    blocks = array.reshape(4 if len(places) == 4 else 3, -1, *array.shape[1:])
    return blocks[list(places)].reshape(array.shape)


def plus_one(bias):
    bias[5:10] += 1
    return bias


TENSORS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")


def turned(matrix):
    """Every gate's matrix of a recurrent kernel transposed."""
    return matrix.reshape(4, 5, 5).mT.reshape(20, 5)


def wrong_arrays():
    """Name of a mistake -> the truth, the tensors that are changed, how, the cause, the layer."""
    three = [f"lstm_0.{name}" for name in TENSORS]
    gru = [f"gru_0.{name}" for name in (*TENSORS, "bias_hh_l0")]
    return {
        "i f o g": (STACK, three, lambda x: order(x, (0, 1, 3, 2)), "gate-order", "lstm_0"),
        "f first in one tensor": (
            STACK, three[1:2], lambda x: order(x, (1, 0, 2, 3)), "gate-order", "lstm_0",
        ),
        "z r n": (GATED, gru, lambda x: order(x, (1, 0, 2)), "gate-order", "gru_0"),
        "transposed": (STACK, three[1:2], turned, "transposed", "lstm_0"),
        "reshaped": (STACK, three[:1], lambda x: x.T.reshape(20, 3), "reshaped", "lstm_0"),
        "lost": (STACK, three[2:], lambda x: 0 * x, "lost-bias", "lstm_0"),
        "doubled": (STACK, three[2:], lambda x: 2 * x, "doubled-bias", "lstm_0"),
        "one side": (GATED, gru[3:], lambda x: 0 * x, "lost-bias", "gru_0"),
        "forget": (STACK, ["lstm_0.bias_hh_l0"], plus_one, "forget-bias", "lstm_0"),
        "half": (STACK, three, lambda x: x.half(), "rounded-weights", "lstm_0"),
        "tiny": (STACK, ["dense_2.bias"], lambda x: x + 1e-6, "other-weights", "dense_2"),
        "head": (STACK, ["dense_2.bias"], lambda x: 0 * x, "lost-bias", "dense_2"),
    }  # fmt: skip


@pytest.mark.parametrize("name", wrong_arrays())
def test_a_wrong_tensor_is_named_in_a_live_port_and_in_its_state_dict(name):
    truth, tensors, act, cause, layer = wrong_arrays()[name]
    wrong = port(truth)
    for tensor in tensors:
        change(wrong, tensor, act)
    for found in (xlstm.diagnose(truth, wrong), xlstm.diagnose(truth, wrong.state_dict())):
        assert not found.ok
        assert not found.unexplained
        assert found.findings[0].cause == cause
        assert found.findings[0].layer == layer
        assert found.findings[0].before > 0


@pytest.mark.parametrize(
    "truth", [STACK, GATED, BOTH, NORMED], ids=["stack", "gru", "both", "norm"]
)
def test_a_right_port_is_equal_whatever_it_is_handed_in_as(truth):
    right = port(truth)
    numbers = xlstm.port(truth, "numpy")
    for suspect in (right, right.state_dict(), truth, numbers):
        found = xlstm.diagnose(truth, suspect)
        assert found.ok, str(found)
        assert "Equal up to rounding" in str(found)


def test_the_sentence_names_orders_and_rows_of_the_suspect():
    wrong = nn.LSTM(1, 20, batch_first=True)
    truth = model([LSTM(1, 20, **SEQUENCE)], (None, 1))
    right = port(truth).state_dict()
    held = {name.removeprefix("lstm_0."): tensor for name, tensor in right.items()}
    held["weight_ih_l0"] = order(held["weight_ih_l0"], (0, 1, 3, 2))
    wrong.load_state_dict(held)
    found = xlstm.diagnose(truth, wrong)
    (finding,) = found.findings
    assert finding.text == "Your `weight_ih_l0` holds i f o g; PyTorch reads i f g o."
    assert finding.fix == "Reorder rows 41-60 and 61-80."
    assert finding.tensor == "weight_ih_l0"
    assert finding.after_ulp < 100
    assert "After that the outputs agree to" in str(found)


def test_mistakes_in_several_layers_are_all_found():
    wrong = port(STACK)
    change(wrong, "lstm_0.bias_ih_l0", lambda x: 0 * x)
    for name in TENSORS:
        change(wrong, f"lstm_1.{name}", lambda x: order(x, (0, 2, 1, 3)))
    found = xlstm.diagnose(STACK, wrong)
    assert [(f.layer, f.cause) for f in found.findings] == [
        ("lstm_0", "lost-bias"),
        ("lstm_1", "gate-order"),
    ]
    assert not found.unexplained


class Hand(nn.Module):
    """A layer in both directions and a head, as people write them; `pick` takes what is joined."""

    def __init__(self, pick, batch_first=True):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(8, 2)
        self.pick = pick
        right = port(BOTH).state_dict()
        own = self.state_dict()
        for name, array in zip(own, right.values(), strict=True):
            own[name].copy_(array)

    def forward(self, x):
        out, (h, _) = self.lstm(x)
        return self.head(self.pick(out, h))


PICKS = {
    "right": (lambda _out, h: torch.cat([h[0], h[1]], 1), ()),
    "last": (lambda out, _h: out[:, -1], ("last-of-backward",)),
    "swapped": (lambda _out, h: torch.cat([h[1], h[0]], 1), ("swapped-outputs",)),
    "first": (lambda out, _h: out[:, 0], ("last-of-backward",)),
}


@pytest.mark.parametrize("name", PICKS)
def test_what_is_taken_of_both_halves(name):
    pick, causes = PICKS[name]
    found = xlstm.diagnose(BOTH, Hand(pick))
    assert found.causes == causes
    assert not found.unexplained


def test_batch_and_time_taken_for_each_other():
    found = xlstm.diagnose(BOTH, Hand(lambda out, _h: out[:, -1], batch_first=False))
    assert found.causes == ("batch-first",)


class Loop(nn.Module):
    """An LSTM step by step, which torch.fx cannot trace: a decision on data comes first."""

    def __init__(self, source, gate=torch.sigmoid, gates="ifgo", last=-1):
        super().__init__()
        self.gate, self.gates, self.last = gate, gates, last
        for name, tensor in port(source).state_dict().items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(tensor.clone()))

    def layer(self, x, name):
        weights = dict(self.named_parameters())
        w, u, b = (weights[f"{name}_{tensor}"] for tensor in TENSORS)
        h = c = torch.zeros(len(x), u.shape[1])
        found = []
        for t in range(x.shape[1]):
            z = dict(zip(self.gates, (x[:, t] @ w.T + h @ u.T + b).chunk(4, 1), strict=True))
            c = self.gate(z["f"]) * c + self.gate(z["i"]) * torch.tanh(z["g"])
            h = self.gate(z["o"]) * torch.tanh(c)
            found.append(h)
        return torch.stack(found, 1)

    def forward(self, x):
        if x.sum() > 1e30:
            return x
        y = self.layer(self.layer(x, "lstm_0"), "lstm_1")[:, self.last]
        return torch.tanh(y @ self.dense_2_weight.T + self.dense_2_bias)


SLOPED = model(
    [LSTM(3, 5, "tanh", HARD, **SEQUENCE), LSTM(5, 4, "tanh", HARD), Dense(4, 2, "tanh")], (None, 3)
)
LOOPS = {
    "right": (STACK, {}, ()),
    "hard_sigmoid of Keras 3": (SLOPED, {"gate": nn.functional.hardsigmoid}, ("hard-sigmoid",)),
    "sigmoid": (SLOPED, {}, ("hard-sigmoid",)),
    "without the clip": (SLOPED, {"gate": lambda x: 0.2 * x + 0.5}, ("hard-sigmoid",)),
    "order": (STACK, {"gates": "ifog"}, ("gate-order",)),
    "first step": (STACK, {"last": 0}, ("first-step",)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_module_that_no_reader_can_trace(name):
    truth, options, causes = LOOPS[name]
    found = xlstm.diagnose(truth, Loop(truth, **options))
    assert found.causes == causes, str(found)
    assert not found.unexplained


def of_kind(module, kind):
    return next(m for m in module.modules() if isinstance(m, kind))


def with_eps(module):
    of_kind(module, nn.BatchNorm1d).eps = 1e-5


def with_momentum(module):
    of_kind(module, nn.BatchNorm1d).momentum = 0.1


TOUCHED = {
    "epsilon": with_eps,
    "batchnorm-mode": lambda module: of_kind(module, nn.BatchNorm1d).train(),
    "dropout-on": lambda module: of_kind(module, nn.Dropout).train(),
}


@pytest.mark.parametrize("cause", TOUCHED)
def test_options_of_a_live_module(cause):
    wrong = port(NORMED)
    TOUCHED[cause](wrong)
    before = {name: tensor.clone() for name, tensor in wrong.state_dict().items()}
    random = torch.get_rng_state()
    assert xlstm.diagnose(NORMED, wrong).causes == (cause,)
    assert all(torch.equal(before[n], t) for n, t in wrong.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("keeps", ["a", "b"])
def test_states_that_one_model_keeps_are_a_note(keeps):
    """The first call shows nothing: the second one starts from other states."""
    plain = model([LSTM(3, 4), Dense(4, 2)], (5, 3))
    kept = model([LSTM(3, 4, stateful=True), Dense(4, 2)], (5, 3))
    truth, other = (kept, plain) if keeps == "a" else (plain, kept)
    found = xlstm.diagnose(truth, other, effort=0)
    assert found.ok
    assert [note.cause for note in found.notes] == ["stateful"]
    assert found.notes[0].text.startswith(f"{keeps} keeps its states between calls")
    assert not xlstm.diagnose(truth, truth, effort=0).notes


def test_a_momentum_is_a_note():
    other = port(NORMED)
    with_momentum(other)
    found = xlstm.diagnose(NORMED, other)
    assert found.ok
    assert [note.cause for note in found.notes] == ["momentum"]
    assert "note: batchnorm_1: Your momentum is 0.9; a's is 0.99." in str(found)
    assert found.to_json()["notes"][0]["cause"] == "momentum"


def as_function(truth, layers=None, weights=None):
    """A plain function that computes other layers with the same weights."""
    other = model(layers, truth.nodes[0].shape) if layers else truth
    return xlstm.port(dataclasses.replace(other, weights=weights or truth.weights), "numpy")


MASKED = model([Masking(0.0), GRU(3, 4, **SEQUENCE)], (None, 3))
IMAGE = model([Relu(slope=0.3), Flatten(), Dense(24, 2, "gelu")], (2, 3, 4))
FUNCTIONS = {
    "gelu": (IMAGE, [Relu(slope=0.3), Flatten(), Dense(24, 2, "gelu_tanh")]),
    "slope": (IMAGE, [Relu(slope=0.01), Flatten(), Dense(24, 2, "gelu")]),
    "mask-zeroed": (MASKED, [Masking(0.0), GRU(3, 4, zero_output_for_mask=True, **SEQUENCE)]),
    "reset-after": (GATED, [GRU(3, 5, reset_after=False, **SEQUENCE), Dense(5, 2)]),
    "go-backwards": (GATED, [GRU(3, 5, go_backwards=True, **SEQUENCE), Dense(5, 2)]),
    "activation": (STACK, [LSTM(3, 5, **SEQUENCE), LSTM(5, 4), Dense(4, 2, "relu")]),
}


@pytest.mark.parametrize("cause", FUNCTIONS)
def test_a_function_of_arrays_is_a_black_box(cause):
    truth, layers = FUNCTIONS[cause]
    found = xlstm.diagnose(truth, as_function(truth, layers))
    assert found.causes == (cause,), str(found)


def test_two_mistakes_in_a_black_box():
    weights = {name: dict(layer) for name, layer in STACK.weights.items()}
    for tensor, axis in (("kernel", 0), ("recurrent", 0), ("bias", 1)):
        weights["lstm_0"][tensor] = np.take(weights["lstm_0"][tensor], [0, 1, 3, 2], axis)
    weights["dense_2"]["bias"] = 0 * weights["dense_2"]["bias"]
    found = xlstm.diagnose(STACK, as_function(STACK, weights=weights))
    assert [(f.layer, f.cause) for f in found.findings] == [
        ("lstm_0", "gate-order"),
        ("dense_2", "lost-bias"),
    ]


def test_row_numbers_off_by_one():
    truth = model([Embedding(7, 3), GRU(3, 4)], (None,))
    right = xlstm.port(truth, "numpy")
    found = xlstm.diagnose(truth, lambda ids: right((ids - 1) % 7))
    assert found.causes == ("embedding-offset",)


def test_layers_of_equal_shape_with_each_others_weights():
    truth = model([SimpleRNN(4, 4, **SEQUENCE), SimpleRNN(4, 4), Dense(4, 2)], (None, 4))
    held = truth.weights
    names = {"simplernn_0": "simplernn_1", "simplernn_1": "simplernn_0"}
    swapped = {name: held[names.get(name, name)] for name in held}
    wrong = xlstm.port(dataclasses.replace(truth, weights=swapped), "nnx")
    assert xlstm.diagnose(truth, wrong).causes == ("swapped-layers",)


def test_an_unknown_cause_is_said_to_be_unknown():
    right = xlstm.port(STACK, "numpy")
    lines = []
    wrong = lambda x: right(x) + 0.01 * np.sin(40 * right(x))  # noqa: E731
    found = xlstm.diagnose(STACK, wrong, effort=0.05, progress=lines.append)
    assert not found.ok
    assert not found.findings
    (unexplained,) = found.unexplained
    assert "none of the known causes" in unexplained.text
    assert "some pairs of mistakes were left out" in unexplained.text
    assert lines[0] == "[1/3] reading a and b"
    assert lines[1] == "[2/3] running a and b"
    assert lines[2].startswith("[3/3] different: the outputs differ by up to")
    assert "tried" in lines[-1]
    assert 0 < unexplained.difference <= 0.02


def test_the_first_layer_and_step_where_an_unknown_cause_acts():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.ported = port(GATED)
            self.ported.gru_0.register_forward_hook(self.late)

        def late(self, _module, _inputs, output):
            first, *rest = output
            first = first.clone()
            first[:, 5] = torch.cos(7 * first[:, 5])
            return (first, *rest)

        def forward(self, x):
            return self.ported(x)

    found = xlstm.diagnose(GATED, Odd(), effort=0.05)
    assert found.unexplained[0].layer == "gru_0"
    assert found.unexplained[0].step == 5
    assert "All weights are equal: the mistake is in the code of forward." in str(found)
