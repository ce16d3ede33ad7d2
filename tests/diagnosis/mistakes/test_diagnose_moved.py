"""`diagnose` names an activation that is applied before a layer as one mistake, not as two."""

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import Dense, Input, Relu
from xlstm.ir.source import Source

rng = np.random.default_rng(44)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


WEIGHTS = {
    name: {"kernel": some(4, units), "bias": some(units)}
    for name, units in (("first", 4), ("rate", 4), ("out", 2))
}
ROWS = some(6, 4)


def truth(two=False, leaky=False):
    """Dense, Dense with an activation of its own or after it, Dense; `two` outputs of the first."""
    graph = Builder()
    first = graph.add("first", Dense(4, 4), [graph.add("x", Input((4,), "float32", None))])
    rate = graph.add("rate", Dense(4, 4, activation="linear" if leaky else "softplus"), [first])
    rate = graph.add("leaky", Relu(slope=0.3), [rate]) if leaky else rate
    graph.add("out", Dense(4, 2), [rate])
    ends = (Edge("out"), *([first] * two))
    return Model("m", graph.nodes, ("x",), ends, WEIGHTS, Source("keras"))


class Port(nn.Module):
    """The port, its activation before the second layer, or after it."""

    def __init__(self, act, before=True, two=False):
        super().__init__()
        self.act, self.before, self.two = act, before, two
        self.first, self.rate, self.out = (nn.Linear(*a["kernel"].shape) for a in WEIGHTS.values())
        with torch.no_grad():
            for name, arrays in WEIGHTS.items():
                getattr(self, name).weight.copy_(torch.tensor(arrays["kernel"].T))
                getattr(self, name).bias.copy_(torch.tensor(arrays["bias"]))

    def forward(self, x):
        first = self.first(x)
        y = self.rate(self.act(first)) if self.before else self.act(self.rate(first))
        return (self.out(y), first) if self.two else self.out(y)


CASES = {
    "softplus": ({}, nn.functional.softplus, "rate"),
    "two outputs": ({"two": True}, nn.functional.softplus, "rate"),
    "leaky": ({"leaky": True}, lambda x: nn.functional.leaky_relu(x, 0.3), "leaky"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_activation_before_a_layer_is_one_mistake(name):
    options, act, layer = CASES[name]
    two = options.get("two", False)
    found = xlstm.diagnose(truth(**options), Port(act, two=two).eval(), inputs=ROWS)
    assert [(f.cause, f.layer) for f in found.findings] == [("activation-place", layer)], found
    assert not found.unexplained
    right = Port(act, before=False, two=two).eval()
    assert xlstm.diagnose(truth(**options), right, inputs=ROWS).ok


def test_an_activation_before_and_after_a_layer_is_one_of_the_layer_before():
    """The layer's own activation is where it belongs."""
    port = Port(nn.functional.softplus, before=False)
    port.first = nn.Sequential(port.first, nn.Softplus())
    found = xlstm.diagnose(truth(), port.eval(), inputs=ROWS)
    assert [(f.cause, f.layer) for f in found.findings] == [("activation", "first")], found
