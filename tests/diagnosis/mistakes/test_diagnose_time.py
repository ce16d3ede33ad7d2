"""`diagnose` names what is wrong along time: steps that are lost, other steps, other windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM, Bidirectional, Dense, GlobalPool, RepeatVector
from xlstm.ir.source import Source

rng = np.random.default_rng(41)


def some(*shape):
    return rng.normal(0, 0.6, shape).astype(np.float32)


def cell(features, units):
    sizes = {"kernel": features, "recurrent": units}
    return {"bias": some(1, 4, units), **{n: some(4, k, units) for n, k in sizes.items()}}


def truth(layers, shape=(7, 3)):
    """A chain of named layers, each with its weights."""
    rows = [(name, spec, True) for name, spec, _ in layers]
    return chain("m", rows, shape, {n: w for n, _, w in layers}, Source("keras"))


def head(inputs):
    return "out", Dense(inputs, 2), {"kernel": some(inputs, 2), "bias": some(2)}


EVERY = LSTM(3, 4, return_sequences=True)
LAST = truth([("lstm", LSTM(3, 4), cell(3, 4)), head(4)])
TWO = truth([("lower", EVERY, cell(3, 4)), ("upper", LSTM(4, 4), cell(4, 4)), head(4)])
MEAN = truth([("lstm", EVERY, cell(3, 4)), ("pool", GlobalPool("average"), {}), head(4)])
MAX = truth([("lstm", EVERY, cell(3, 4)), ("pool", GlobalPool("max"), {}), head(4)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def steps(x, weights, read=slice(None)):
    """The outputs of an LSTM written by hand, for some of the steps."""
    h = c = np.zeros((len(x), 4))
    found = []
    for now in np.moveaxis(x, 1, 0)[read]:
        gates = now @ weights["kernel"].astype(float) + h @ weights["recurrent"]
        i, f, g, o = gates + np.moveaxis(weights["bias"], 0, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found, 1)


def port(model, read=slice(None), pick=lambda y: y[:, -1]):
    """A function of numpy arrays: every layer reads some steps, and a step of the last is taken."""

    def run(x):
        for node in model.layers:
            if isinstance(node.spec, LSTM):
                x = steps(x, model.weights[node.name], read)
        return pick(x) @ model.weights["out"]["kernel"].astype(float) + model.weights["out"]["bias"]

    return run


LOST = {
    "first": (LAST, {"read": slice(1, None)}, "lstm", "lost-step", "all steps but the first one"),
    "in both": (TWO, {"read": slice(1, None)}, "lower", "lost-step", "all steps but the first"),
    "middle": (LAST, {"pick": lambda y: y[:, 3]}, "lstm", "other-step", "You take step 3"),
    "mean": (
        MEAN,
        {"pick": lambda y: y[:, 1:].mean(1)},
        "pool",
        "pooled-steps",
        "leaves out the first step",
    ),
    "max": (MAX, {"pick": lambda y: y[:, :-1].max(1)}, "pool", "pooled-steps", "the last step"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_step_that_is_lost_or_taken_for_another_one_is_named(name):
    model, how, layer, cause, text = LOST[name]
    found = xlstm.diagnose(model, port(model, **how))
    assert {finding.cause for finding in found.findings} == {cause}, str(found)
    assert found.findings[0].layer == layer
    assert text in found.findings[0].text
    assert not found.unexplained


def test_all_steps_are_right():
    for model, pick in ((LAST, lambda y: y[:, -1]), (MEAN, lambda y: y.mean(1))):
        assert xlstm.diagnose(model, port(model, pick=pick)).ok


class Stack(nn.Module):
    """Two GRUs; of the input some steps are read."""

    def __init__(self, read=slice(None)):
        super().__init__()
        self.lower, self.upper = (nn.GRU(n, 4, batch_first=True) for n in (3, 4))
        self.out, self.read = nn.Linear(4, 2), read

    def forward(self, x):
        return self.out(self.upper(self.lower(x[:, self.read])[0])[0][:, -1])


def test_a_module_shows_that_its_input_lacks_a_step():
    """Outputs alone look like those of the last step but one."""
    right, wrong = Stack(), Stack(slice(None, -1))
    wrong.load_state_dict(right.state_dict())
    found = xlstm.diagnose(right, wrong, [some(4, 7, 3)])
    assert [(f.layer, f.cause) for f in found.findings] == [("lower", "lost-step")], str(found)
    assert found.findings[0].text == "Your layer reads all steps but the last one."


def test_windows_of_a_pool_that_are_shifted():
    class Port(nn.Module):
        def __init__(self, padding):
            super().__init__()
            self.gru, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
            self.pool = nn.MaxPool1d(2, padding=padding)

        def forward(self, x):
            return self.out(self.gru(self.pool(x.transpose(1, 2)).transpose(1, 2))[1][0])

    right, wrong = Port(0), Port(1)
    wrong.load_state_dict(right.state_dict())
    found = xlstm.diagnose(right, wrong, [some(3, 8, 3)])
    assert [(f.layer, f.cause) for f in found.findings] == [("pool", "pooled-steps")], str(found)
    assert "each end" in found.findings[0].text


class Net(nn.Module):
    """An LSTM, a Dense; what is done to the sequence between them is another's."""

    def __init__(self, between=lambda out: out[:, -1], units=4, **options):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True, **options)
        self.out, self.between = nn.Linear(units, 2), between

    def forward(self, x):
        return self.out(self.between(self.lstm(x)[0]))


def compared(right, wrong, shape=(4, 6, 3)):
    """Layer and cause of each finding, for two modules of the same weights."""
    wrong.load_state_dict(right.state_dict())
    found = xlstm.diagnose(right, wrong, [some(*shape)])
    assert not found.unexplained, str(found)
    return [(finding.layer, finding.cause) for finding in found.findings], str(found)


def test_the_layer_that_dropout_reaches_is_named():
    right, wrong = Net(), Net(lambda out: nn.functional.dropout(out[:, -1], 0.5))
    wrong.load_state_dict(right.state_dict())
    (finding,) = xlstm.diagnose(right, wrong, [some(40, 6, 3)]).findings
    assert (finding.layer, finding.cause) == ("out", "not-repeatable")
    assert "% of the numbers that it gets are zeros" in finding.text


def test_a_state_that_is_kept_is_no_dropout():
    def kept(out, last=[0]):  # noqa: B006  the mistake itself
        last[0] += 1
        return out[:, -1] * last[0]

    right, wrong = Net(), Net(kept)
    wrong.load_state_dict(right.state_dict())
    (finding,) = xlstm.diagnose(right, wrong, [some(4, 6, 3)]).findings
    assert (finding.layer, finding.cause) == ("out", "not-repeatable")
    assert "it gets other numbers in each run" in finding.text


def test_a_weight_of_another_shape_is_named_whatever_it_makes_of_memory():
    right, wrong = Net(), Net()
    wrong.load_state_dict(right.state_dict())
    wrong.lstm.weight_hh_l0.data = wrong.lstm.weight_hh_l0.data[:12].clone()
    (finding,) = xlstm.diagnose(right, wrong, [some(4, 6, 3)]).findings
    assert (finding.layer, finding.cause) == ("lstm", "weight-shape")
    assert "(12, 4) (rows of 3 gates)" in finding.text


def mixed(out):
    return out.transpose(0, 1).reshape(out.shape)


def flat(out):
    return out.flatten(1)


BETWEEN = {
    "steps viewed as samples": (lambda out: out, mixed, 4, "mixed-samples"),
    "steps flattened in reverse": (flat, lambda out: flat(out.flip(1)), 24, "go-backwards"),
    "step in the middle": (lambda out: out[:, -1], lambda out: out[:, 2], 4, "other-step"),
    "maximum without a step": (
        lambda out: out.amax(1),
        lambda out: out[:, 1:].amax(1),
        4,
        "pooled-steps",
    ),
    "a sum without an input": (
        lambda out: out[:, 1:] + out[:, :-1],
        lambda out: out[:, 1:],
        4,
        "missing-input",
    ),
    "a sum one step off": (
        lambda out: out + out.flip(2),
        lambda out: out + out.flip(2).roll(1, 1),
        4,
        "other-input",
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_mixes_or_loses_steps_between_layers_is_named(name):
    right, wrong, units, cause = BETWEEN[name]
    found, text = compared(Net(right, units), Net(wrong, units))
    assert [one for _, one in found] == [cause], text


class States(nn.Module):
    """The states of an LSTM joined, a Dense."""

    def __init__(self, join=lambda h, c: torch.cat([h, c], 1)):
        super().__init__()
        self.lstm, self.out, self.join = nn.LSTM(3, 4, batch_first=True), nn.Linear(8, 2), join

    def forward(self, x):
        _, (h, c) = self.lstm(x)
        return self.out(self.join(h[0], c[0]))


JOINS = {
    "h twice": (lambda h, c: torch.cat([h, h], 1), "h of lstm twice"),
    "c twice": (lambda h, c: torch.cat([c, c], 1), "c of lstm twice"),
    "viewed": (lambda h, c: torch.stack([h, c]).reshape(-1, 8), "samples are mixed"),
}


@pytest.mark.parametrize("name", JOINS)
def test_states_that_are_joined_wrongly_are_named(name):
    join, words = JOINS[name]
    found, text = compared(States(), States(join))
    assert [cause for _, cause in found] == ["repeated-input"], text
    assert words in text


HALVES = {
    "input turned round": (lambda x, a, b: (a(np.flip(x, 1)), np.flip(b(x), 1)), "other-input"),
    "flipped over features": (lambda x, a, b: (a(x), np.flip(b(np.flip(x, 2)), 1)), "go-backwards"),
    "output over units": (
        lambda x, a, b: (a(x), np.flip(b(np.flip(x, 1)), 2)),
        "unturned-backward",
    ),
    "forward twice": (lambda x, a, b: (a(x), a(x)), "merge-mode"),
}


@pytest.mark.parametrize("name", HALVES)
def test_halves_that_are_turned_the_wrong_way_are_one_finding(name):
    each, cause = HALVES[name]
    half = [cell(3, 4), cell(3, 4)]
    spec = Bidirectional(EVERY, replace(EVERY, go_backwards=True), merge="sum")
    weights = {"forward_" + n: w for n, w in half[0].items()}
    weights |= {"backward_" + n: w for n, w in half[1].items()}
    model = truth([("both", spec, weights), head(4)])

    def run(x):
        a, b = each(x, *(lambda y, w=w: steps(y, w) for w in half))
        out = model.weights["out"]
        return (a + b) @ out["kernel"].astype(float) + out["bias"]

    found = xlstm.diagnose(model, run)
    assert [(f.layer, f.cause) for f in found.findings] == [("both", cause)], str(found)


def test_vectors_that_are_repeated_along_the_batch():
    layers = [("lstm", LSTM(3, 4), cell(3, 4)), ("repeat", RepeatVector(5), {}), head(4)]
    model = truth(layers)

    def pick(y):
        return np.tile(y[:, -1], (5, 1)).reshape(-1, 5, 4)

    found = xlstm.diagnose(model, port(model, pick=pick))
    assert [(f.layer, f.cause) for f in found.findings] == [("repeat", "other-repeat")], str(found)


def test_outputs_stacked_in_reverse_in_two_loops():
    """Outputs alone look like those of a loop that carries no state: both are said."""
    wrong = port(TWO, pick=lambda y: y[:, -1])

    def run(x):
        for name in ("lower", "upper"):
            x = steps(x, TWO.weights[name])[:, ::-1]
        return x[:, -1] @ TWO.weights["out"]["kernel"].astype(float) + TWO.weights["out"]["bias"]

    assert xlstm.diagnose(TWO, wrong).ok
    (finding,) = xlstm.diagnose(TWO, run).findings
    assert (finding.layer, finding.cause) == ("upper", "state-lost")
    assert "stacked in reverse order" in finding.text
