"""`diagnose` names what is wrong along time: steps that are lost, other steps, other windows."""

import numpy as np
import pytest
from torch import nn

import xlstm
from xlstm.ir.graph import LSTM, Dense, Source, chain
from xlstm.ir.layers import GlobalPool

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
