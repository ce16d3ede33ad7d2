"""`diagnose` names which piece of (out, h_n, c_n) was taken in another one's place."""

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM, Bidirectional, Dense
from xlstm.ir.source import Source

rng = np.random.default_rng(20)


def some(*shape):
    return rng.normal(0, 0.6, shape).astype(np.float32)


def cell(features, units):
    size = {"kernel": features, "recurrent": units}
    return {"bias": some(1, 4, units), **{n: some(4, k, units) for n, k in size.items()}}


def head(inputs):
    return {"kernel": some(inputs, 2), "bias": some(2)}


HALVES, STACK = (cell(3, 4), cell(3, 4)), (cell(3, 4), cell(4, 4))
JOINED = {"dense": head(8), "lstm": {}}
for before, half in zip(("forward_", "backward_"), HALVES, strict=True):
    JOINED["lstm"] |= {before + name: array for name, array in half.items()}
BOTH = Bidirectional(LSTM(3, 4), LSTM(3, 4, go_backwards=True))
TRUTHS = {
    True: chain(
        "two_halves",
        [("lstm", BOTH, True), ("dense", Dense(8, 2), True)],
        (6, 3),
        JOINED,
        Source("keras"),
    ),
    False: chain(
        "two_layers",
        [
            ("first", LSTM(3, 4, return_sequences=True), True),
            ("lstm", LSTM(4, 4), True),
            ("dense", Dense(4, 2), True),
        ],
        (6, 3),
        {"first": STACK[0], "lstm": STACK[1], "dense": head(4)},
        Source("keras"),
    ),
}


class Port(nn.Module):
    """The port of a truth, of two halves or of two layers, that takes a piece for the last step."""

    def __init__(self, both, pick):
        super().__init__()
        layers = {"bidirectional": True} if both else {"num_layers": 2}
        self.lstm, self.pick = nn.LSTM(3, 4, batch_first=True, **layers), pick
        dense = TRUTHS[both].weights["dense"]
        self.fc = nn.Linear(len(dense["kernel"]), 2)
        own = dict(
            zip(("l0", "l0_reverse" if both else "l1"), HALVES if both else STACK, strict=True)
        )
        for end, held in own.items():
            rows = {f"weight_{n}h": held[h] for n, h in (("i", "kernel"), ("h", "recurrent"))}
            for name, array in rows.items():
                self.fill(f"{name}_{end}", np.concatenate([gate.T for gate in array]))
            self.fill(f"bias_ih_{end}", held["bias"].ravel())
            self.fill(f"bias_hh_{end}", np.zeros(16, np.float32))
        self.fc.weight = nn.Parameter(torch.from_numpy(dense["kernel"].T.copy()))
        self.fc.bias = nn.Parameter(torch.from_numpy(dense["bias"]))

    def fill(self, name, array):
        setattr(self.lstm, name, nn.Parameter(torch.from_numpy(array)))

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        return self.fc(self.pick(out, h, c))


PICKS = {
    "view": (True, lambda out, h, c: h.reshape(-1, 8), "mixed-samples"),
    "cell-view": (True, lambda out, h, c: c.view(-1, 8), "mixed-samples"),
    "forward-twice": (True, lambda out, h, c: torch.cat([h[0], h[0]], 1), "other-state"),
    "cell-states": (True, lambda out, h, c: torch.cat([c[0], c[1]], 1), "other-state"),
    "h-and-c": (True, lambda out, h, c: torch.cat([h[0], c[0]], 1), "other-state"),
    "sum-twice": (True, lambda out, h, c: h.sum(0).repeat(1, 2), "other-state"),
    "mean": (True, lambda out, h, c: out.mean(1), "pooled-steps"),
    "first-layer": (False, lambda out, h, c: h[0], "other-state"),
    "cell-state": (False, lambda out, h, c: c[-1], "other-state"),
    "sum-of-layers": (False, lambda out, h, c: h.sum(0), "other-state"),
    "max": (False, lambda out, h, c: out.max(1)[0], "pooled-steps"),
    "layers-viewed": (False, lambda out, h, c: h.view(-1, 2, 4)[:, -1], "mixed-samples"),
    "out-viewed": (False, lambda out, h, c: out.reshape(6, -1, 4)[-1], "mixed-samples"),
}


@pytest.mark.parametrize("name", PICKS)
def test_a_piece_that_is_taken_for_the_last_step_is_named(name):
    both, pick, cause = PICKS[name]
    found = xlstm.diagnose(TRUTHS[both], Port(both, pick))
    assert found.causes == (cause,)
    assert [finding.layer for finding in found.findings] == ["lstm"]
    assert not found.unexplained
    assert found.max_ulp < 16


def test_the_piece_that_is_meant_is_right():
    assert xlstm.diagnose(TRUTHS[True], Port(True, lambda out, h, c: torch.cat([h[0], h[1]], 1)))
    assert xlstm.diagnose(TRUTHS[False], Port(False, lambda out, h, c: out[:, -1]))


def test_a_mean_over_time_and_a_step_are_told_apart():
    """In a module that is the truth too."""
    mean = Port(False, lambda out, h, c: out.mean(1))
    last = Port(False, lambda out, h, c: out[:, -1])
    last.load_state_dict(mean.state_dict())
    x = [some(3, 6, 3)]
    for a, b in ((mean, last), (last, mean)):
        assert xlstm.diagnose(a, b, x).causes == ("pooled-steps",)


JOINS = {
    "swapped": (lambda out, h, c: torch.cat([h[1], h[0]], 1), "swapped-outputs"),
    "viewed": (lambda out, h, c: h.reshape(-1, 8), "mixed-samples"),
    "cell-states": (lambda out, h, c: torch.cat([c[0], c[1]], 1), "other-state"),
}


@pytest.mark.parametrize("name", JOINS)
def test_a_truth_that_joins_the_states_itself(name):
    pick, cause = JOINS[name]
    right = Port(True, lambda out, h, c: torch.cat([h[0], h[1]], 1))
    found = xlstm.diagnose(right, Port(True, pick), [some(3, 6, 3)])
    assert found.causes == (cause,)
    assert not found.unexplained
