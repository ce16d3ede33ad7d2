"""The models that are ported rightly and wrongly: small, of random sizes, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from cases import built, model

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    BatchNorm,
    Bidirectional,
    Conv,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    LayerNorm,
    Masking,
    Recurrent,
    Relu,
    SimpleRNN,
    TimeDistributed,
)

SEQUENCE = {"return_sequences": True}


def sizes(seed: int, count: int) -> list[int]:
    """`count` different sizes between 2 and 9."""
    return [int(n) for n in 2 + np.random.default_rng(seed).permutation(8)[:count]]


def both(spec: Recurrent, merge: str = "concat") -> Bidirectional:
    """A layer in both directions."""
    return Bidirectional(spec, replace(spec, go_backwards=True), merge)


def conv(features: int, units: int, *window: int, **options: Any) -> Conv:
    """A convolution without strides."""
    ones = (1,) * len(window)
    return Conv(features, units, window, strides=ones, dilation=ones, **options)


def _lone(make: Callable[[int, int], Recurrent], square: bool = False) -> Callable[[int], Model]:
    def made(seed: int) -> Model:
        m, n = sizes(seed, 2)
        m = n if square else m
        return model([make(m, n)], (None, m), seed=seed)

    return made


def _masked(make: Callable[[int, int], Any]) -> Callable[[int], Model]:
    def made(seed: int) -> Model:
        m, n = sizes(seed, 2)
        return model([Masking(0.0), make(m, n)], (None, m), seed=seed)

    return made


def _both(make: Callable[[int, int], Any]) -> Callable[[int], Model]:
    def made(seed: int) -> Model:
        m, n = sizes(seed, 2)
        return model([make(m, n)], (None, m), seed=seed)

    return made


def two_sided(seed: int) -> Model:
    """An LSTM both of whose biases hold numbers, as PyTorch trains them."""
    made = _lone(lambda m, n: LSTM(m, n, **SEQUENCE))(seed)
    rng = np.random.default_rng([seed, 8])
    ((name, held),) = made.weights.items()
    bias = rng.normal(0, 0.5, (2, *held["bias"].shape[1:])).astype(np.float32)
    return replace(made, weights={name: {**held, "bias": bias}})


def stack(seed: int) -> Model:
    """Two LSTMs with dropout between them, then two dense layers."""
    m, a, b, c = sizes(seed, 4)
    specs = [LSTM(m, a, **SEQUENCE), Dropout(0.3), LSTM(a, b), Dense(b, b, "relu")]
    return model([*specs, Dense(b, c, "softmax")], (None, m), seed=seed)


def tagger(seed: int) -> Model:
    """Words, a masked Bidirectional layer, and a dense one at every step."""
    rows, e, n, c = 9, *sizes(seed, 3)
    graph = Builder()
    x = graph.add("words", Input((None,), "int32"))
    x = graph.add("embedding", Embedding(rows, e, mask_zero=True), [x])
    half = both(LSTM(e, n, zero_output_for_mask=True, **SEQUENCE))
    x = graph.add("both", half, [x], mask=Edge("embedding", 1))
    x = graph.add("dense", TimeDistributed(Dense(2 * n, c, "softmax")), [x])
    return built(graph, [x], seed)


def image(seed: int) -> Model:
    """A convolution, a norm, LeakyReLU, and what follows once it is flat."""
    a, b, c, _ = sizes(seed, 4)
    layers = [conv(a, b, 2, 2), BatchNorm(b), Relu(slope=0.3), Flatten(), Dense(12 * b, c, "tanh")]
    return model(layers, (4, 5, a), seed=seed)


def signal(seed: int) -> Model:
    """A convolution over time, a norm, then a GRU."""
    m, a, n, c = sizes(seed, 4)
    layers = [
        conv(m, a, 3, activation="relu", padding="causal"),
        BatchNorm(a),
        Dropout(0.2),
        GRU(a, n),
        Dense(n, c),
    ]
    return model(layers, (None, m), seed=seed)


def normed(seed: int) -> Model:
    """A layer norm between a dense layer and a plain recurrent one."""
    m, a, n, c = sizes(seed, 4)
    layers = [Dense(m, a), LayerNorm(a), SimpleRNN(a, n, **SEQUENCE), Dense(n, c, "gelu")]
    return model(layers, (None, m), seed=seed)


def dense(seed: int) -> Model:
    """Square matrices, which a transposition leaves their shape."""
    (n,) = sizes(seed, 1)
    return model([Dense(n, n, "elu"), Activation("sigmoid"), Dense(n, n, "tanh")], (n,), seed=seed)


HARD = "hard_sigmoid_keras2"

SOURCES: dict[str, Callable[[int], Model]] = {
    "lstm": _lone(lambda m, n: LSTM(m, n, **SEQUENCE)),
    "lstm-square": _lone(lambda m, n: LSTM(n, n), square=True),
    "lstm-hard": _lone(lambda m, n: LSTM(m, n, "tanh", "hard_sigmoid", **SEQUENCE)),
    "lstm-relu-hard_keras2": _lone(lambda m, n: LSTM(m, n, "relu", HARD, **SEQUENCE)),
    "lstm-large": lambda seed: model([LSTM(12, 48, **SEQUENCE)], (None, 12), seed=seed),
    "gru-large": lambda seed: model([GRU(20, 32)], (None, 20), seed=seed),
    "lstm-backwards": _lone(lambda m, n: LSTM(m, n, go_backwards=True, **SEQUENCE)),
    "gru": _lone(lambda m, n: GRU(m, n, **SEQUENCE)),
    "gru-square": _lone(lambda m, n: GRU(n, n), square=True),
    "gru-before": _lone(lambda m, n: GRU(m, n, reset_after=False, **SEQUENCE)),
    "gru-hard_keras2": _lone(lambda m, n: GRU(m, n, "tanh", HARD)),
    "rnn": _lone(lambda m, n: SimpleRNN(m, n, **SEQUENCE)),
    "rnn-relu-square": _lone(lambda m, n: SimpleRNN(n, n, "relu", **SEQUENCE), square=True),
    "masked-lstm": _masked(lambda m, n: LSTM(m, n, **SEQUENCE)),
    "masked-lstm-last": _masked(lambda m, n: LSTM(m, n)),
    "masked-gru": _masked(lambda m, n: GRU(m, n, **SEQUENCE)),
    "masked-both": _masked(lambda m, n: both(GRU(m, n, zero_output_for_mask=True, **SEQUENCE))),
    "both-lstm": _both(lambda m, n: both(LSTM(m, n, **SEQUENCE))),
    "both-lstm-last": _both(lambda m, n: both(LSTM(m, n))),
    "both-gru-sum": _both(lambda m, n: both(GRU(m, n, **SEQUENCE), "sum")),
    "both-gru-last-ave": _both(lambda m, n: both(GRU(m, n), "ave")),
    "both-rnn-mul": _both(lambda m, n: both(SimpleRNN(m, n, **SEQUENCE), "mul")),
    "lstm-two-biases": two_sided,
    "stack": stack,
    "tagger": tagger,
    "image": image,
    "signal": signal,
    "normed": normed,
    "dense": dense,
}
"""Name -> model of a seed."""
