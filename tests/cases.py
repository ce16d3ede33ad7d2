"""Models with random trained-scale weights and non-zero biases: the cases of every suite."""

from __future__ import annotations

import numpy as np

from xlstm.layout import KINDS
from xlstm.model import (
    LSTM,
    Activation,
    Dense,
    Dropout,
    Model,
    Shape,
    SimpleRNN,
    Source,
    Spec,
    TimeDistributed,
    chain,
)


def random_weights(spec: Spec, rng: np.random.Generator, gain: float = 1.0) -> dict:
    """Hub weights of a layer: kernels of about unit gain times `gain`, biases of about 1/2."""
    core = spec.core
    if not core.sizes():
        return {}
    kind = KINDS[core.kind]
    sizes = {**kind.axis_sizes(core.sizes()), "s": 1}
    weights = {}
    for tensor, axes in kind.tensors.items():
        if tensor in core.absent():
            continue
        shape = [sizes[axis] for axis in axes]
        scale = 0.5 if tensor == "bias" else gain / np.sqrt(shape[-2])
        weights[tensor] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return weights


def model(
    specs: list[Spec], shape: Shape, *, gain: float = 1.0, seed: int = 7, lone: bool = False
) -> Model:
    """A chain of layers with random weights."""
    rng = np.random.default_rng(seed)
    names = [f"{spec.kind.lower()}_{number}" for number, spec in enumerate(specs)]
    weights = {
        n: w for n, s in zip(names, specs, strict=True) if (w := random_weights(s, rng, gain))
    }
    layers = [(name, spec, True) for name, spec in zip(names, specs, strict=True)]
    return chain("case", layers, shape, weights, Source("case"), lone=lone)


def lstm(activation: str = "tanh", gate: str = "sigmoid", **options: bool) -> Model:
    """One LSTM of 5 units on 3 features."""
    return model([LSTM(3, 5, activation, gate, **options)], (None, 3))


ACTIVATIONS = ("tanh", "relu", "linear", "sigmoid")
GATES = ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2")

CASES: dict[str, Model] = {
    **{
        f"lstm-{activation}-{gate}": lstm(activation, gate, return_sequences=True)
        for activation in ACTIVATIONS
        for gate in GATES
    },
    "lstm-last": lstm(),
    "lstm-no_bias": lstm(use_bias=False),
    "lstm-relu-no_bias": lstm("relu", use_bias=False),
    "lstm-one_unit": model([LSTM(1, 1)], (None, 1)),
    "lstm-square": model([LSTM(6, 6, return_sequences=True)], (None, 6)),
    **{
        f"simple_rnn-{activation}": model(
            [SimpleRNN(3, 5, activation, return_sequences=True)], (None, 3)
        )
        for activation in ("tanh", "relu", "sigmoid", "hard_sigmoid_keras2")
    },
    "simple_rnn-last": model([SimpleRNN(3, 5)], (None, 3)),
    "simple_rnn-no_bias": model([SimpleRNN(3, 5, use_bias=False)], (None, 3)),
    "simple_rnn-linear-no_bias": model([SimpleRNN(3, 5, "linear", use_bias=False)], (None, 3)),
    "lone-simple_rnn": model([SimpleRNN(3, 4, return_sequences=True)], (None, 3), lone=True),
    "dense": model([Dense(4, 3)], (4,)),
    "dense-no_bias": model([Dense(4, 3, use_bias=False)], (4,)),
    **{
        f"dense-{activation}": model([Dense(4, 3, activation)], (4,))
        for activation in ("relu", "sigmoid", "softmax", "hard_sigmoid", "hard_sigmoid_keras2")
    },
    "time_distributed": model(
        [LSTM(2, 4, return_sequences=True), TimeDistributed(Dense(4, 3, "tanh"))], (None, 2)
    ),
    "stack": model(
        [
            LSTM(3, 6, return_sequences=True),
            Dropout(0.3),
            LSTM(6, 4, "relu", "hard_sigmoid_keras2"),
            Activation("softmax"),
            Dense(4, 2, "sigmoid"),
        ],
        (None, 3),
    ),
    "activation": model([Activation("hard_sigmoid_keras2"), Dense(3, 2)], (3,)),
    "lone-lstm": model([LSTM(3, 4, return_sequences=True)], (None, 3), lone=True),
    "lone-lstm-last": model([LSTM(3, 4)], (None, 3), lone=True),
    "lone-dense": model([Dense(3, 4)], (3,), lone=True),
    "fixed_steps": model([LSTM(2, 3)], (7, 2)),
}
"""Readable id -> model."""
