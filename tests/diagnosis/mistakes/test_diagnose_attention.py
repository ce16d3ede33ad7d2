"""`diagnose` names mistakes of attention written by hand, of a softmax and a sum or of heads.

Each suspect is a function of numpy arrays that makes one mistake.
"""

import numpy as np
import pytest

import xlstm
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import Attention, Dense, Dot, Flatten, Input, MultiHeadAttention, Softmax
from xlstm.ir.source import Source

rng = np.random.default_rng(43)


def some(*shape):
    return rng.normal(0, 0.7, shape).astype(np.float32)


def dense(features, units):
    return {"kernel": some(features, units), "bias": some(units)}


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


SUMMED = {"u": dense(4, 3), "score": dense(3, 1), "out": dense(4, 2)}
HEADS = {f"{name}_kernel": some(4, 2, 3) for name in ("query", "key", "value")}
HEADS |= {f"{name}_bias": some(2, 3) for name in ("query", "key", "value")}
HEADS |= {"output_kernel": some(2, 3, 6), "output_bias": some(6)}
QUERY, VALUE = some(6, 5, 4), some(6, 5, 4)


def weighted_sum():
    """A learned weight for every step, the sum of the weighted steps, Dense."""
    graph = Builder()
    x = graph.add("x", Input((5, 4), "float32", None))
    u = graph.add("u", Dense(4, 3, activation="tanh"), [x])
    score = graph.add("score", Dense(3, 1), [u])
    alpha = graph.add("alpha", Softmax(0), [score])
    y = graph.add("context", Dot((1, 1)), [alpha, x])
    graph.add("out", Dense(4, 2), [graph.add("flat", Flatten(), [y])])
    return Model("m", graph.nodes, ("x",), (Edge("out"),), SUMMED, Source("keras"))


def attended(spec, weights):
    graph = Builder()
    ends = [graph.add(name, Input((5, 4), "float32", None)) for name in "qv"]
    graph.add("attention", spec, ends)
    held = {"attention": weights} if weights else {}
    return Model("m", graph.nodes, ("q", "v"), (Edge("attention"),), held, Source("keras"))


def through(x, name):
    return x.astype(float) @ SUMMED[name]["kernel"] + SUMMED[name]["bias"]


def head(act=lambda s: softmax(s, 1), total=lambda x: x.sum(1)):
    """The port of `weighted_sum`."""
    return lambda x: through(total(act(through(np.tanh(through(x, "u")), "score")) * x), "out")


SUMS = {
    "context: x counts alike everywhere, a plain mean": head(lambda s: 0 * s + 1 / 5),
    "Your context is the mean of the weighted x": head(total=lambda x: x.mean(1)),
    "divided by the square root of 3": head(lambda s: softmax(s / 3**0.5, 1)),
}


@pytest.mark.parametrize("said", SUMS)
def test_a_weighted_sum_is_named(said):
    """One finding, and nothing beside it."""
    one_finding(xlstm.diagnose(weighted_sum(), SUMS[said], inputs=some(6, 5, 4)), said)


def one_finding(found, said):
    """Sees that one finding alone explains the suspect."""
    assert [said in finding.text for finding in found.findings] == [True], found
    assert not found.unexplained


def dot(q, k, v):
    return softmax(q @ k.swapaxes(1, 2)) @ v


PLAIN = {
    "its input v passes as it is": lambda q, v: v,
    "query is taken for the value.": lambda q, v: dot(q, v, q),
    "query is taken for the key too": lambda q, v: dot(q, q, v),
    "same weight, as in a mean": lambda q, v: 0 * v + v.mean(1, keepdims=True),
}


@pytest.mark.parametrize("said", PLAIN)
def test_attention_without_weights_of_its_own_is_named(said):
    """One finding, and nothing beside it."""
    found = xlstm.diagnose(attended(Attention(4), {}), PLAIN[said], inputs=[QUERY, VALUE])
    one_finding(found, said)


def heads(q, v, change=lambda q, k, v: (q, k, v), last=None, **weights):
    """The port of attention with two heads, with other arrays in some places."""
    own = {n: a.astype(float) for n, a in {**HEADS, **weights}.items()}
    three = (
        np.einsum("bti,ink->bntk", x, own[f"{n}_kernel"]) + own[f"{n}_bias"][:, None]
        for n, x in (("query", q), ("key", v), ("value", v))
    )
    q, k, v = change(*three)
    y = softmax(q @ k.swapaxes(2, 3) / 3**0.5) @ v
    y = last(y) if last else np.einsum("bntk,nko->bto", y, own["output_kernel"])
    return y + own["output_bias"]


VIEWED = HEADS["value_kernel"].reshape(4, 3, 2).swapaxes(1, 2)
LAID = HEADS["output_kernel"].swapaxes(0, 1).reshape(2, 3, 6)

PROJECTED = {
    "projected query for the value too": lambda q, v: heads(q, v, lambda q, k, v: (q, k, q)),
    "value's kernel is viewed as": lambda q, v: heads(q, v, value_kernel=VIEWED),
    "output of its heads is laid out": lambda q, v: heads(q, v, output_kernel=LAID),
    "output projection of your attention is left out": lambda q, v: heads(
        q, v, last=lambda y: y.swapaxes(1, 2).reshape(6, 5, 6)
    ),
}


@pytest.mark.parametrize("said", PROJECTED)
def test_attention_with_heads_is_named(said):
    """One finding, and nothing beside it."""
    truth = attended(MultiHeadAttention(2, 3, 3, 4, 4, 4, 6), HEADS)
    one_finding(xlstm.diagnose(truth, PROJECTED[said], inputs=[QUERY, VALUE]), said)


def test_right_attention_is_right():
    """The ports that the others are made from."""
    truth = attended(MultiHeadAttention(2, 3, 3, 4, 4, 4, 6), HEADS)
    assert xlstm.diagnose(truth, heads, inputs=[QUERY, VALUE]).ok
    assert xlstm.diagnose(weighted_sum(), head(), inputs=QUERY).ok
