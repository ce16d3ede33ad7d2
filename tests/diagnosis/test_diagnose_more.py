"""`diagnose` names mistakes beside the weights: inputs, states, attention, masks, norms, windows.

Each suspect is a function of numpy arrays that makes one mistake, written with the right model and
numpy alone.
"""

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import Builder, Edge, Model, chain
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Attention,
    Bidirectional,
    Conv,
    Dense,
    Embedding,
    Input,
    LayerNorm,
    Masking,
    MultiHeadAttention,
)
from xlstm.ir.source import Source

rng = np.random.default_rng(8)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


def cell(features, units, gates=4, sides=1):
    kernels = {"kernel": some(gates, features, units), "recurrent": some(gates, units, units)}
    return {**kernels, "bias": some(sides, gates, units)}


def dense(features, units):
    return {"kernel": some(features, units), "bias": some(units)}


def of(layers, shape, weights, **options):
    held = [(name, spec, True) for name, spec in layers]
    return chain("m", held, shape, weights, Source("keras"), **options)


def run(model, *inputs):
    return xlstm.port(model, "numpy")(*inputs)


LAST = of(
    [("lstm", LSTM(3, 4)), ("dense", Dense(4, 2))],
    (6, 3),
    {"lstm": cell(3, 4), "dense": dense(4, 2)},
)
GATED = [("first", GRU(3, 4, return_sequences=True)), ("gru", GRU(4, 4)), ("dense", Dense(4, 2))]
STACK = of(
    GATED,
    (6, 3),
    {"first": cell(3, 4, 3, 2), "gru": cell(4, 4, 3, 2), "dense": dense(4, 2)},
)


def started(spec, weights, shape=(5, 3)):
    """A layer with initial states, as a model of one input and its states."""
    graph = Builder()
    x = graph.add("x", Input(shape, "float32", None))
    shapes = spec.state_shapes()
    states = [graph.add(f"s{n}", Input(s, "float32", None)) for n, s in enumerate(shapes)]
    graph.add("rnn", spec, [x], states=states)
    names = ("x", *(edge.node for edge in states))
    return Model("m", graph.nodes, names, (Edge("rnn"),), {"rnn": weights}, Source("keras"))


LSTM_CELL = cell(3, 4)
STARTED = started(LSTM(3, 4), LSTM_CELL)
HALVES = {f"{half}_{n}": a for half in ("forward", "backward") for n, a in cell(3, 4).items()}
LONE = of([("lstm", LSTM(3, 4))], (5, 3), {"lstm": LSTM_CELL})
BOTH = started(Bidirectional(LSTM(3, 4), LSTM(3, 4, go_backwards=True)), HALVES)


def masked(x, mask):
    """The last output of the LSTM, whose states are kept where the mask is 0."""
    kernel, recurrent, bias = (LSTM_CELL[n].astype(float) for n in ("kernel", "recurrent", "bias"))
    h = c = np.zeros((len(x), 4))
    for t in range(x.shape[1]):
        i, f, g, o = x[:, t] @ kernel + h @ recurrent + bias[0][:, None]
        new = np.tanh(g) / (1 + np.exp(-i)) + c / (1 + np.exp(-f))
        keep = mask[:, t, None].astype(bool)
        h, c = np.where(keep, np.tanh(new) / (1 + np.exp(-o)), h), np.where(keep, new, c)
    return h


def late(x):
    return np.concatenate([0 * x[:, :1], x[:, :-1]], 1)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def two_inputs(spec, weights):
    graph = Builder()
    ends = [graph.add(name, Input((5, 4), "float32", None)) for name in "qv"]
    graph.add("attention", spec, ends)
    held = {"attention": weights} if weights else {}
    return Model("m", graph.nodes, ("q", "v"), (Edge("attention"),), held, Source("keras"))


CROSS = two_inputs(Attention(4), {})

TABLE, TURNED = some(7, 3), [1, 0, 2, 3, 4, 5, 6]
MASKED = of(
    [("masking", Masking(0.0)), ("lstm", LSTM(3, 4))],
    (6, 3),
    {"lstm": LSTM_CELL},
)


def words(table):
    graph = Builder()
    ids = graph.add("ids", Input((6,), "float32", None))
    rows = graph.add("embedding", Embedding(7, 3, mask_zero=True), [ids])
    graph.add("lstm", LSTM(3, 4), [rows], mask=Edge("embedding", 1))
    held = {"embedding": {"table": table}, "lstm": LSTM_CELL}
    return Model("m", graph.nodes, ("ids",), (Edge("lstm"),), held, Source("keras"))


WORDS, ONE_MASKED = words(TABLE), words(TABLE[TURNED])
NORM = {"gamma": some(4), "beta": some(4)}
NORMED = {"dense": dense(3, 4), "norm": NORM, "last": dense(4, 4)}
RELU = Dense(3, 4, "relu")
AFTER = of([("dense", RELU), ("norm", LayerNorm(4)), ("last", Dense(4, 4))], (3,), NORMED)
CAUSAL = Conv(3, 4, (3,), strides=(1,), padding="causal", dilation=(1,))
WINDOWS = {"conv": {"kernel": some(3, 3, 4), "bias": some(4)}}
CONV = of([("conv", CAUSAL)], (None, 3), WINDOWS)


def without(model, *names):
    """The model without some layers of it."""
    left = [(n.name, n.spec) for n in model.layers if n.name not in names]
    return of(left, model.node(model.inputs[0]).shape, model.weights)


def in_order(model, *names):
    """The model with its layers in another order."""
    return of([(n, model.node(n).spec) for n in names], (3,), model.weights)


def bare(x):
    """The right layers, the norm before the relu."""
    x = x.astype(float)
    own = NORMED["dense"]
    y = x @ own["kernel"] + own["bias"]
    spread = np.sqrt(y.var(-1, keepdims=True) + 0.001)
    y = (y - y.mean(-1, keepdims=True)) / spread * NORM["gamma"] + NORM["beta"]
    return np.maximum(y, 0) @ NORMED["last"]["kernel"] + NORMED["last"]["bias"]


HEAD = MultiHeadAttention(2, 3, 3, 4, 4, 4, 4, use_bias=False)
IN = {f"{name}_kernel": some(4, 2, 3) for name in ("query", "key", "value")}
HEADS = two_inputs(HEAD, {**IN, "output_kernel": some(2, 3, 4)})
SECOND = started(GRU(4, 4), STACK.weights["gru"], (6, 4))


def unscaled(q, v):
    """Two heads, their scores not divided."""
    own = HEADS.weights["attention"]
    heads = {n: np.einsum("bti,ink->bntk", v, own[f"{n}_kernel"]) for n in ("key", "value")}
    scores = np.einsum("bti,ink->bntk", q, own["query_kernel"]) @ heads["key"].swapaxes(2, 3)
    return np.einsum("bntk,nko->bto", softmax(scores) @ heads["value"], own["output_kernel"])


def next_state(x):
    """The second layer begins with the first one's last state."""
    every = run(without(STACK, "gru", "dense"), x)
    head = STACK.weights["dense"]
    return run(SECOND, every, every[:, -1]) @ head["kernel"] + head["bias"]


def over_the_batch(x):
    """The right layers, the norm over the batch."""
    y = run(without(AFTER, "norm", "last"), x.astype(float))
    y = (y - y.mean(0)) / np.sqrt(y.var(0) + 0.001) * NORM["gamma"] + NORM["beta"]
    return y @ NORMED["last"]["kernel"] + NORMED["last"]["bias"]


CASES = {
    "input-late": (LAST, lambda x: run(LAST, late(x)), "other-input", "one step late"),
    "features": (
        LAST,
        lambda x: run(LAST, x[..., ::-1]),
        "reordered-weights",
        "inputs is reversed",
    ),
    "absolute": (LAST, lambda x: run(LAST, np.abs(x)), "other-input", "lost its signs"),
    "scaled": (LAST, lambda x: run(LAST, x / 255), "other-input", "divided by 255"),
    "h-alone": (STARTED, lambda x, h, c: run(STARTED, x, h, 0 * c), "initial-state", "c of zeros"),
    "h-twice": (STARTED, lambda x, h, c: run(STARTED, x, h, h), "initial-state", "for c too"),
    "halves": (
        BOTH,
        lambda x, h, c, k, d: run(BOTH, x, k, d, h, c),
        "initial-state",
        "each other's states",
    ),
    "states-laid-out": (
        BOTH,
        lambda x, h, c, k, d: run(BOTH, x, h, k, c, d),
        "initial-state",
        "h, h, c, c",
    ),
    "ones": (
        LONE,
        lambda x: run(STARTED, x, np.ones((len(x), 4)), np.ones((len(x), 4))),
        "initial-state",
        "starts from ones",
    ),
    "scale": (
        CROSS,
        lambda q, v: softmax(q @ v.swapaxes(1, 2) / 2) @ v,
        "attention",
        "divided by the square root",
    ),
    "axis": (CROSS, lambda q, v: softmax(q @ v.swapaxes(1, 2), 1) @ v, "attention", "the queries"),
    "exchanged": (CROSS, lambda q, v: run(CROSS, v, q), "attention", "query and value"),
    "mask-late": (MASKED, lambda x: masked(x, late((x != 0).any(-1))), "other-mask", "step late"),
    "mask-id": (
        WORDS,
        lambda x: run(ONE_MASKED, np.array(TURNED)[x.astype(int)]),
        "other-mask",
        "leaves out id 1",
    ),
    "norm-left-out": (AFTER, lambda x: run(without(AFTER, "norm"), x), "missing-layer", "norm"),
    "norm-late": (
        AFTER,
        lambda x: run(in_order(AFTER, "dense", "last", "norm"), x),
        "norm-order",
        "Your norm comes after last",
    ),
    "norm-axis": (AFTER, over_the_batch, "norm-axis", "runs over axis 0"),
    "norm-early": (AFTER, bare, "norm-order", "before the relu of dense"),
    "causal-ahead": (
        CONV,
        lambda x: run(CONV, np.pad(x, ((0, 0), (0, 2), (0, 0))))[:, 2:],
        "causal",
        "padded at its end",
    ),
    "causal-turned": (CONV, lambda x: run(CONV, x[:, ::-1])[:, ::-1], "causal", "from its end"),
    "heads": (HEADS, unscaled, "attention", "not divided by the square root"),
    "next-state": (STACK, next_state, "initial-state", "last state of the layer before it"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named(name):
    truth, suspect, cause, words = CASES[name]
    found = xlstm.diagnose(truth, suspect)
    assert found.causes == (cause,)
    assert words in found.findings[0].text
    assert not found.unexplained


def test_a_mask_of_one_feature_is_named_where_inputs_show_it():
    x = some(3, 6, 3)
    x[:, 4:] = 0
    x[1, 2, 0] = x[2, 1, 1] = 0
    found = xlstm.diagnose(MASKED, lambda x: masked(x, x[..., 0] != 0), x)
    assert found.causes == ("other-mask",)
    assert "looks at the first feature alone" in found.findings[0].text
