"""`diagnose` names mistakes of norms, embeddings and masks written by hand.

Each suspect is a function of numpy arrays that makes one mistake.
"""

import numpy as np
import pytest
import torch

import xlstm
from xlstm.ir.graph import Builder, Edge, Model, chain
from xlstm.ir.layers import BatchNorm, Dense, Embedding, Input, LayerNorm, Masking, SimpleRNN
from xlstm.ir.source import Source

rng = np.random.default_rng(41)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


def one_finding(found, layer, said):
    """Sees that one finding alone explains the suspect."""
    assert [finding.layer for finding in found.findings] == [layer], found
    assert said in found.findings[0].text
    assert not found.unexplained


STATISTICS = {
    "gamma": 1 + some(4),
    "beta": some(4),
    "mean": some(4),
    "variance": some(4) ** 2 + 0.5,
}
OUT = {"kernel": some(4, 3), "bias": some(3)}
STEPS = some(6, 5, 4)


def normed(spec, weights):
    layers = [("norm", spec, True), ("out", Dense(4, 3), True)]
    return chain("m", layers, (5, 4), {"norm": weights, "out": OUT}, Source("keras"))


BATCH = normed(BatchNorm(4, epsilon=1e-3), STATISTICS)
LAYER = normed(LayerNorm(4, epsilon=1e-3), {n: STATISTICS[n] for n in ("gamma", "beta")})


def batch_norm(x, mean, variance, epsilon=1e-3):
    y = (x - mean) / np.sqrt(variance + epsilon) * STATISTICS["gamma"] + STATISTICS["beta"]
    return y @ OUT["kernel"].astype(float) + OUT["bias"]


MEAN, VARIANCE = (STATISTICS[name].astype(float) for name in ("mean", "variance"))

NORMS = {
    "deviation for the variance": lambda x: batch_norm(x, MEAN, np.sqrt(VARIANCE)),
    "each other's place": lambda x: batch_norm(x, VARIANCE, np.abs(MEAN)),
    "variance is lost (ones)": lambda x: batch_norm(x, MEAN, np.ones(4)),
    "batch, feature by feature (n - 1)": lambda x: batch_norm(
        (x - x.mean((0, 1))) / x.std((0, 1), ddof=1), MEAN, VARIANCE
    ),
    "rounded to 1 decimal in half": lambda x: batch_norm(
        x.astype(np.float16).round(1).astype(float), MEAN, VARIANCE
    ),
}


@pytest.mark.parametrize("said", NORMS)
def test_a_batch_norm_by_hand_is_named(said):
    """One finding, with its layer, and nothing beside it."""
    suspect = NORMS[said]
    found = xlstm.diagnose(BATCH, lambda x: suspect(x.astype(float)), inputs=STEPS)
    one_finding(found, "norm", said)


def test_a_layer_norm_over_time_without_epsilon_is_named():
    """The unbiased variance over time, and no epsilon."""

    def suspect(x):
        x = x.astype(float)
        return batch_norm(x, x.mean(1, keepdims=True), x.var(1, keepdims=True, ddof=1), 0.0)

    found = xlstm.diagnose(LAYER, suspect, inputs=STEPS)
    one_finding(found, "norm", "runs over axis 1; a's runs over the last one (by the unbiased")


def test_right_norms_are_right():
    """The ports that the others are made from."""
    right = xlstm.diagnose(BATCH, lambda x: batch_norm(x.astype(float), MEAN, VARIANCE), STEPS)
    assert right.ok


TABLE = some(7, 4)
IDS = rng.integers(1, 7, (6, 5))
IDS[:, -1], IDS[::2, -2] = 0, 0
PADDING = np.where(IDS[:, :, None] == 0, 0, STEPS).astype(np.float32)
CELL = {"kernel": some(4, 4), "recurrent": some(4, 4), "bias": some(1, 4)}


def masked(first, weights, shape, source):
    """A layer with a mask, and a SimpleRNN that obeys it."""
    graph = Builder()
    x = graph.add("x", Input(shape, "float32", None))
    rows = graph.add("first", first, [x])
    graph.add("rnn", SimpleRNN(4, 4), [rows], mask=Edge("first", 1))
    return Model("m", graph.nodes, ("x",), (Edge("rnn"),), {**weights, "rnn": CELL}, source)


WORDS = masked(Embedding(7, 4, mask_zero=True), {"first": {"table": TABLE}}, (5,), Source("keras"))
FRAMES = masked(Masking(0.0), {}, (5, 4), Source("keras"))


def rnn(x, mask):
    """The last output, where masked steps are left out."""
    kernel, recurrent, bias = (CELL[n].astype(float) for n in ("kernel", "recurrent", "bias"))
    h = np.zeros((len(x), 4))
    for t in range(x.shape[1]):
        new = np.tanh(x[:, t] @ kernel + h @ recurrent + bias[0])
        h = np.where(mask[:, t, None], new, h)
    return h


def packed(mask):
    return np.arange(mask.shape[1]) < mask.sum(1, keepdims=True)


def words(rows=lambda table: table, mask=lambda ids: ids != 0):
    """The port of `WORDS`."""

    def port(ids):
        ids = ids.astype(int)
        return rnn(rows(TABLE.astype(float))[ids], mask(ids))

    return port


LENGTH = np.linalg.norm(TABLE.astype(float), axis=1, keepdims=True)
WRONG_WORDS = {
    "scaled: it is a's times the square root": words(lambda table: table * 2),
    "scaled down to length 1 where": words(lambda table: table / np.maximum(LENGTH, 1)),
    "Row 3 of your embedding is zeros": words(lambda table: table * (np.arange(7) != 3)[:, None]),
    "ids 0 and 2; a's leaves out id 0 alone. You count": words(
        mask=lambda ids: packed((ids != 0) & (ids != 2))
    ),
    "one step late": words(mask=lambda ids: np.roll(ids != 0, 1, axis=1)),
}


@pytest.mark.parametrize("said", WRONG_WORDS)
def test_an_embedding_by_hand_is_named(said):
    """One finding, and nothing beside it."""
    found = xlstm.diagnose(WORDS, WRONG_WORDS[said], inputs=IDS)
    assert [said in finding.text for finding in found.findings] == [True], found
    assert not found.unexplained


WRONG_FRAMES = {
    "has the other sense": lambda x: ~(x != 0).any(-1),
    "one step late": lambda x: np.roll((x != 0).any(-1), 1, axis=1),
    "all features are above 0; a's": lambda x: (x > 0).all(-1),
    "any feature is above 0.5; a's where any feature is not 0. You count": lambda x: packed(
        (x > 0.5).any(-1)
    ),
}


@pytest.mark.parametrize("said", WRONG_FRAMES)
def test_a_mask_by_hand_is_named(said):
    """One finding, and nothing beside it."""
    mask = WRONG_FRAMES[said]
    found = xlstm.diagnose(FRAMES, lambda x: rnn(x.astype(float), mask(x)), inputs=PADDING)
    assert [said in finding.text for finding in found.findings] == [True], found
    assert not found.unexplained


class Reader(torch.nn.Module):
    """The port of `WORDS` whose embedding can be seen; ids and rows are changed on the way."""

    def __init__(self, ids=lambda ids: ids, rows=lambda rows: rows):
        super().__init__()
        self.ids, self.rows = ids, rows
        self.first, self.rnn = torch.nn.Embedding(7, 4), torch.nn.RNN(4, 4, batch_first=True)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(TABLE))
            self.rnn.weight_ih_l0.copy_(torch.tensor(CELL["kernel"].T))
            self.rnn.weight_hh_l0.copy_(torch.tensor(CELL["recurrent"].T))
            self.rnn.bias_ih_l0.copy_(torch.tensor(CELL["bias"][0]))
            self.rnn.bias_hh_l0.zero_()

    def forward(self, ids):
        ids = self.ids(ids.long())
        lengths = (ids != 0).sum(1)
        rows = torch.nn.utils.rnn.pack_padded_sequence(
            self.rows(self.first(ids)), lengths, batch_first=True, enforce_sorted=False
        )
        return self.rnn(rows)[1][0]


READERS = {
    "scaled: it is a's times": Reader(rows=lambda rows: 2 * rows),
    "reads the next row, one too high, for most ids; it reads row 0 for id 5": Reader(
        ids=lambda ids: (ids + 1) % 6
    ),
    "turned round in time": Reader(ids=lambda ids: ids.flip(1)),
}


@pytest.mark.parametrize("said", READERS)
def test_the_rows_that_an_embedding_gives_are_looked_at(said):
    """The layer that reads them, and the mask that comes of them, are not blamed."""
    found = xlstm.diagnose(WORDS, READERS[said].eval(), inputs=IDS)
    one_finding(found, "first", said)


def test_right_embeddings_and_masks_are_right():
    """The ports that the others are made from."""
    assert xlstm.diagnose(WORDS, words(), inputs=IDS).ok
    assert xlstm.diagnose(WORDS, Reader().eval(), inputs=IDS).ok
    frames = xlstm.diagnose(
        FRAMES, lambda x: rnn(x.astype(float), (x != 0).any(-1)), inputs=PADDING
    )
    assert frames.ok
