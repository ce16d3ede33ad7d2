"""`diagnose` names formulas of norms, heads, repeats and inputs that ports get wrong."""

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, BatchNorm, Dense, RepeatVector
from xlstm.ir.source import Source
from xlstm.reference import run

rng = np.random.default_rng(32)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


NORM = {"gamma": 1 + some(4), "beta": some(4), "mean": some(4), "variance": some(4) ** 2 + 0.5}
MID = {"kernel": some(4, 4), "bias": some(4)}
OUT = {"kernel": some(4, 3), "bias": some(3)}
HEAD = chain(
    "head",
    [
        ("mid", Dense(4, 4, activation="elu"), True),
        ("bn", BatchNorm(4, epsilon=1e-3), True),
        ("out", Dense(4, 3, activation="softmax"), True),
    ],
    (4,),
    {"mid": MID, "bn": NORM, "out": OUT},
    Source("keras"),
)
ROWS = some(8, 4) * 2


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def norm(x):
    spread = np.sqrt(NORM["variance"].astype(float) + 1e-3)
    return NORM["gamma"] * (x - NORM["mean"]) / spread + NORM["beta"]


def folded(shift):
    """A BatchNorm as a scale and a shift of its own."""
    scale = NORM["gamma"] / np.sqrt(NORM["variance"].astype(float) + 1e-3)
    return lambda x: x * scale + NORM["beta"] + shift(scale)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def head(norm=norm, first=lambda x: x, act=elu, last=softmax):
    """The port of `HEAD`, with other formulas."""

    def port(x):
        y = norm(act(first(x).astype(float) @ MID["kernel"] + MID["bias"]))
        return last(y @ OUT["kernel"] + OUT["bias"])

    return port


WRONG = {
    "shift is beta - mean": ("bn", head(folded(lambda scale: -NORM["mean"]))),
    "beta + mean * scale": ("bn", head(folded(lambda scale: NORM["mean"] * scale))),
    "lost its statistics": (
        "bn",
        head(lambda x: NORM["gamma"] * x / np.sqrt(1 + 1e-3) + NORM["beta"]),
    ),
    "applies bn twice": ("bn", head(lambda x: norm(norm(x)))),
    "elu has alpha=0.3": ("mid", head(act=lambda x: elu(x, 0.3))),
    "divided by 2 (a temperature)": ("out", head(last=lambda x: softmax(x / 2))),
    "a's times 3": ("out", head(last=lambda x: 3 * softmax(x))),
    "a's plus 0.25": ("out", head(last=lambda x: softmax(x) + 0.25)),
    "samples in reverse order": ("mid", head(first=lambda x: x[::-1])),
    "first sample for all": ("mid", head(first=lambda x: x[:1].repeat(len(x), 0))),
    "below -0.5 and above 0.5": ("mid", head(first=lambda x: x.clip(-0.5, 0.5))),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_formula_is_named(said):
    """One finding, with its layer, and nothing beside it."""
    layer, port = WRONG[said]
    found = xlstm.diagnose(HEAD, port, inputs=ROWS)
    assert [finding.layer for finding in found.findings] == [layer]
    assert said in found.findings[0].text
    assert not found.unexplained


def test_the_right_formulas_are_right():
    """The port that the others are made from."""
    assert xlstm.diagnose(HEAD, head(), inputs=ROWS).ok


def test_a_vector_that_is_not_repeated():
    """The first step alone reads the vector."""
    cell = {"kernel": some(3, 4, 4), "recurrent": some(3, 4, 4), "bias": some(1, 3, 4)}
    layers = [("again", RepeatVector(5), True)]
    layers += [("gru", GRU(4, 4, reset_after=False, return_sequences=True), True)]
    model = chain("m", layers, (4,), {"gru": cell}, Source("keras"))
    rest = chain("rest", layers[1:], (5, 4), {"gru": cell}, Source("keras"))

    def port(x):
        steps = np.zeros((len(x), 5, 4), np.float32)
        steps[:, 0] = x
        return run(rest, [steps])[0]

    found = xlstm.diagnose(model, port, inputs=ROWS)
    assert [finding.layer for finding in found.findings] == ["again"]
    assert "first step alone" in found.findings[0].text
