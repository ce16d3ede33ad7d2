"""`diagnose` names what one step of a cell written by hand gets wrong."""

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Dense, Masking
from xlstm.ir.source import Source

rng = np.random.default_rng(31)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


def model(layer, gates):
    """Masking of -1, a recurrent layer of 4 units, a Dense of 2."""
    cell = {"kernel": some(gates, 3, 4), "recurrent": some(gates, 4, 4), "bias": some(1, gates, 4)}
    layers = [("masking", Masking(-1.0), True), ("cell", layer, True), ("out", Dense(4, 2), True)]
    weights = {"cell": cell, "out": {"kernel": some(4, 2), "bias": some(2)}}
    return chain("m", layers, (6, 3), weights, Source("keras"))


LSTM_MODEL = model(LSTM(3, 4), 4)
GRU_MODEL = model(GRU(3, 4, reset_after=False), 3)
INPUT = some(5, 6, 3)
INPUT[:3, 2], INPUT[1:, 4] = -1, -1


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def head(truth, h):
    return h @ truth.weights["out"]["kernel"].astype(float) + truth.weights["out"]["bias"]


def lstm(cell=None, output=None, exchanged=False, hold=None, peephole=False):
    """The port of `LSTM_MODEL`, with other formulas."""
    own = LSTM_MODEL.weights["cell"]

    def port(x):
        h = c = np.zeros((len(x), 4))
        for t in range(6):
            keep = (x[:, t] != -1).any(-1)[:, None]
            one, two = (c, h) if exchanged else (h, c)
            product = x[:, t].astype(float) @ own["kernel"] + one @ own["recurrent"]
            i, f, g, o = product + np.moveaxis(own["bias"], 0, 1)
            i, f, g = sigmoid(i), sigmoid(f), np.tanh(g)
            new_c = cell(i, f, g, two) if cell else f * two + i * g
            o = sigmoid(o + new_c if peephole else o)
            new_h = output(o, new_c, two) if output else o * np.tanh(new_c)
            now = np.where(keep, new_h, h), np.where(keep, new_c, c)
            h, c = hold(keep, now, new_h, new_c) if hold else now
        return head(LSTM_MODEL, h)

    return port


def gru(inner=None, mix=None):
    """The port of `GRU_MODEL`, with other formulas."""
    own = GRU_MODEL.weights["cell"]
    (b_r, b_z, b_n), (u_r, u_z, u_n) = own["bias"][0], own["recurrent"].astype(float)

    def port(x):
        h = np.zeros((len(x), 4))
        for t in range(6):
            keep = (x[:, t] != -1).any(-1)[:, None]
            r, z, n = x[:, t].astype(float) @ own["kernel"]
            r, z = sigmoid(r + h @ u_r + b_r), sigmoid(z + h @ u_z + b_z)
            n = inner(n + b_n, h @ u_n, r) if inner else n + b_n + (r * h) @ u_n
            n = np.tanh(n)
            h = np.where(keep, mix(z, n, h) if mix else (1 - z) * n + z * h, h)
        return head(GRU_MODEL, h)

    return port


CELLS = {
    "lacks the forget gate": lstm(lambda i, f, g, c: c + i * g),
    "lacks the input gate": lstm(lambda i, f, g, c: f * c + g),
    "couples its gates: c = f c' + (1 - f) g": lstm(lambda i, f, g, c: f * c + (1 - f) * g),
    "candidate with the other sign": lstm(lambda i, f, g, c: f * c - i * g),
    "clipped to -0.5": lstm(lambda i, f, g, c: np.clip(f * c + i * g, -0.5, 0.5)),
    "lacks the output gate": lstm(output=lambda o, c, old: np.tanh(c)),
    "of the old cell state": lstm(output=lambda o, c, old: o * np.tanh(old)),
    "output gate sees the cell state": lstm(peephole=True),
    "gives the cell its states in each other's place": lstm(exchanged=True),
    "keeps h and not c": lstm(hold=lambda keep, now, h, c: (now[0], c)),
    "keeps c and not h": lstm(hold=lambda keep, now, h, c: (h, now[1])),
    "sets h and c to zeros": lstm(hold=lambda keep, now, h, c: (keep * h, keep * c)),
    "sets c to zeros": lstm(hold=lambda keep, now, h, c: (now[0], keep * c)),
}

GRUS = {
    "h = n;": gru(mix=lambda z, n, h: n),
    "lacks the factor 1 - z": gru(mix=lambda z, n, h: n + z * h),
    "lacks the factor z": gru(mix=lambda z, n, h: (1 - z) * n + h),
    "lacks the reset gate": gru(lambda n, hu, r: n + hu),
    "whole candidate": gru(lambda n, hu, r: r * (n + hu)),
}


@pytest.mark.parametrize(
    ("truth", "said", "port"),
    [
        *((LSTM_MODEL, said, port) for said, port in CELLS.items()),
        *((GRU_MODEL, said, port) for said, port in GRUS.items()),
    ],
    ids=[*CELLS, *GRUS],
)
def test_a_step_of_another_formula_is_named(truth, said, port):
    """One finding, in the layer, and nothing beside it."""
    found = xlstm.diagnose(truth, port, inputs=INPUT)
    assert [finding.layer for finding in found.findings] == ["cell"]
    assert said in found.findings[0].text
    assert "would explain" in found.findings[0].text
    assert not found.unexplained


@pytest.mark.parametrize(("truth", "port"), [(LSTM_MODEL, lstm()), (GRU_MODEL, gru())])
def test_the_right_steps_are_right(truth, port):
    """The ports that the others are made from."""
    assert xlstm.diagnose(truth, port, inputs=INPUT).ok
