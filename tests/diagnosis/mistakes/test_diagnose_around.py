"""`diagnose` names what is done around layers: padding, the order of layers, inputs, factors.

Each suspect is a function of numpy arrays, or a small module, that makes one mistake.
"""

import dataclasses

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import Builder, Edge, Model, chain
from xlstm.ir.layers import LSTM, Conv, Dense, Dropout, Input, SimpleRNN
from xlstm.ir.source import Source
from xlstm.reference import run

rng = np.random.default_rng(45)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


def cell(features, units):
    kernels = {"kernel": some(4, features, units), "recurrent": some(4, units, units)}
    return {**kernels, "bias": some(1, 4, units)}


def plain(features, units):
    return {
        "kernel": some(features, units),
        "recurrent": some(units, units),
        "bias": some(1, units),
    }


def of(layers, weights):
    return chain("m", [(*one, True) for one in layers], (5, 4), weights, Source("keras"))


CONV = Conv(4, 4, (3,), "tanh", strides=(1,), padding="same", dilation=(1,))
CONVOLVED = of(
    [("conv", CONV), ("rnn", SimpleRNN(4, 4))],
    {"conv": {"kernel": some(3, 4, 4), "bias": some(4)}, "rnn": plain(4, 4)},
)
VALID = dataclasses.replace(CONV, padding="valid")
LOWER, UPPER = LSTM(4, 4, return_sequences=True), LSTM(4, 4)
DEEP = {"lower": cell(4, 4), "upper": cell(4, 4), "out": {"kernel": some(4, 2), "bias": some(2)}}
STACK = of([("lower", LOWER), ("drop", Dropout(0.2)), ("upper", UPPER), ("out", Dense(4, 2))], DEEP)


def piece(*layers, weights=DEEP):
    """Some layers as a function; a pair is (name, spec)."""
    held = [(*one, True) for one in layers]
    own = chain("m", held, (None, 4), {name: weights[name] for name, _ in layers}, Source("keras"))
    return lambda x: run(own, [np.asarray(x, np.float64)])[0]


def padded(mode):
    rows = piece(("conv", VALID), weights=CONVOLVED.weights)
    read = piece(("rnn", SimpleRNN(4, 4)), weights=CONVOLVED.weights)

    def port(x):
        wide = np.pad(x.astype(float), ((0, 0), (1, 1), (0, 0)), mode=mode)
        return read(wide_rows(rows, wide))

    return port


def wide_rows(rows, x):
    """Every window of a longer input, one by one."""
    return np.concatenate([rows(x[:, t : t + 3]) for t in range(5)], axis=1)


def viewed(x):
    rows = piece(("conv", CONV), weights=CONVOLVED.weights)(x)
    read = piece(("rnn", SimpleRNN(4, 4)), weights=CONVOLVED.weights)
    return read(rows.swapaxes(1, 2).reshape(rows.shape))


def stack(x, *names, factor=1.0):
    """The port of `STACK`, its recurrent layers by their names, the last one by its last step."""
    x = np.asarray(x, np.float64)
    for name in names:
        x = piece((name, LOWER))(factor * x)
    return x[:, -1] @ DEEP["out"]["kernel"].astype(float) + DEEP["out"]["bias"]


WRONG = {
    "the numbers at its ends (replicate)": (CONVOLVED, padded("edge")),
    "other end (circular)": (CONVOLVED, padded("wrap")),
    "viewed as (batch, time, channels)": (CONVOLVED, viewed),
    "run in the other order": (STACK, lambda x: stack(x, "upper", "lower")),
    "applies upper twice": (STACK, lambda x: stack(x, "lower", "upper", "upper")),
    "times 0.7 plus 1.25: it is scaled": (
        STACK,
        lambda x: stack(0.7 * x.astype(float) + 1.25, "lower", "upper"),
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_mistake_around_layers_is_named(said):
    """One finding, and nothing beside it."""
    truth, suspect = WRONG[said]
    found = xlstm.diagnose(truth, suspect, inputs=some(6, 5, 4))
    assert [said in finding.text for finding in found.findings] == [True], found
    assert not found.unexplained


def test_the_factor_of_a_dropout_in_every_layer_is_named():
    """One finding for each layer, with one cause."""
    port = lambda x: stack(x, "lower", "upper", factor=0.8)  # noqa: E731
    found = xlstm.diagnose(STACK, port, inputs=some(6, 5, 4))
    assert [(f.layer, f.cause) for f in found.findings] == [
        ("lower", "dropout-scale"),
        ("upper", "dropout-scale"),
    ]


def test_right_ports_are_right():
    """The ports that the others are made from."""
    assert xlstm.diagnose(STACK, lambda x: stack(x, "lower", "upper"), some(6, 5, 4)).ok
    assert xlstm.diagnose(CONVOLVED, padded("constant"), some(6, 5, 4)).ok


def test_another_input_of_the_model_is_named():
    """The decoder reads the source, cut to as many steps as the target has."""
    graph = Builder()
    source = graph.add("source", Input((6, 4), "float32", None))
    target = graph.add("target", Input((5, 4), "float32", None))
    graph.add("encoder", SimpleRNN(4, 4, return_state=True), [source])
    graph.add("decoder", SimpleRNN(4, 4), [target], states=[Edge("encoder", 1)])
    weights = {"encoder": plain(4, 4), "decoder": plain(4, 4)}
    names, ends = ("source", "target"), (Edge("decoder"),)
    truth = Model("m", graph.nodes, names, ends, weights, Source("keras"))
    port = lambda source, _target: run(truth, [source, source[:, :5]])[0]  # noqa: E731
    found = xlstm.diagnose(truth, port, inputs=[some(6, 6, 4), some(6, 5, 4)])
    assert [(f.layer, f.cause) for f in found.findings] == [("decoder", "other-input")], found
    assert "reads source in place of target" in found.findings[0].text
