"""`diagnose` names mistakes of norms, embeddings and inputs written by hand.

Each suspect is a function of numpy arrays that makes one mistake.
"""

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import BatchNorm, Dense, LayerNorm, Source, chain

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
