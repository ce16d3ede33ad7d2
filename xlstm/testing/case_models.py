"""The models of `conformance`, by group and name.

Each is small, and made when its case runs. Every kind of layer has a model in "layer"; the other
groups have options, and graphs in which masks, states and shared layers meet.

>>> GROUPS["layer"]["LSTM"]().layers[0].spec == L.LSTM(3, 5)
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Model, chain
from xlstm.ir.source import Source
from xlstm.ir.types import Shape
from xlstm.testing import models as m
from xlstm.testing.trained_weights import trained_weights
from xlstm.testing.training import MODELS, training_model

Make = Callable[[], Model]

SEQUENCE: dict[str, Any] = {"return_sequences": True}
RECURRENT: dict[str, L.Recurrent] = {
    "LSTM": L.LSTM(3, 5, **SEQUENCE),
    "GRU": L.GRU(3, 5, **SEQUENCE),
    "SimpleRNN": L.SimpleRNN(3, 5, **SEQUENCE),
}
STEPS: Shape = (None, 3)


def _one(spec: L.LayerSpec, *shape: int | None) -> Make:
    return lambda: m.chained([spec], shape)


def _joined(spec: L.LayerSpec, *shapes: Shape, masks: int = 0) -> Make:
    return lambda: m.joined(spec, *shapes, masks=masks)


def _named(named: Mapping[str, L.LayerSpec], shape: Shape) -> Model:
    """Returns a chain of layers with these names."""
    rng = np.random.default_rng(11)
    weights = {name: trained_weights(spec, rng) for name, spec in named.items()}
    layers = [(name, spec, True) for name, spec in named.items()]
    return chain("case", layers, shape, weights, Source("case"))


def _both(spec: L.Recurrent, merge: str = "concat") -> L.Bidirectional:
    return L.Bidirectional(spec, replace(spec, go_backwards=True), merge)


LSTM, LAST = RECURRENT["LSTM"], replace(RECURRENT["LSTM"], return_sequences=False)
CONV: dict[str, Any] = {"strides": (1,), "dilation": (1,)}
PLANE: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1)}

LAYERS: dict[str, Make] = {
    "Dense": _one(L.Dense(4, 3), 4),
    "Embedding": _one(L.Embedding(9, 4), 7),
    "LSTM": _one(L.LSTM(3, 5), *STEPS),
    "GRU": _one(RECURRENT["GRU"], *STEPS),
    "SimpleRNN": _one(L.SimpleRNN(3, 5), *STEPS),
    "Bidirectional": _one(_both(LSTM), *STEPS),
    "ConvLSTM": _one(
        L.ConvLSTM(2, 3, space=(4, 5), window=(3, 2), **PLANE, **SEQUENCE), 4, 4, 5, 2
    ),
    "TimeDistributed": _one(L.TimeDistributed(L.Dense(3, 4, "relu")), 5, 3),
    "Dropout": lambda: m.chained([L.Dense(3, 4), L.Dropout(0.5)], (3,)),
    "TrainingOnly": lambda: m.chained([L.TrainingOnly("GaussianNoise", 0.5), L.Dense(3, 2)], (3,)),
    "Augmentation": lambda: m.chained(
        [L.Augmentation("RandomFlip", ("mode='vertical'",)), L.Flatten(), L.Dense(40, 2)], (4, 5, 2)
    ),
    "Activation": _one(L.Activation("sigmoid"), 5, 3),
    "Masking": lambda: m.masked(LAST),
    "Conv": _one(L.Conv(4, 6, (4,), **CONV), 11, 4),
    "DepthwiseConv": _one(L.DepthwiseConv(4, 2, (3,), **CONV), 9, 4),
    "ConvTranspose": _one(L.ConvTranspose(3, 4, (3,), **CONV), 5, 3),
    "BatchNorm": _one(L.BatchNorm(3), 5, 3),
    "LayerNorm": _one(L.LayerNorm(6), 5, 6),
    "RMSNorm": _one(L.RMSNorm(6), 5, 6),
    "UnitNorm": _one(L.UnitNorm(), 5, 3),
    "Normalization": _one(L.Normalization(3), 5, 3),
    "Pool": _one(L.Pool("max", (3,), (2,), "same"), 7, 3),
    "GlobalPool": _one(L.GlobalPool("average"), 5, 3),
    "Pad": _one(L.Pad((1,), (2,)), 5, 3),
    "Crop": _one(L.Crop((1,), (0,)), 5, 3),
    "UpSample": _one(L.UpSample((3,)), 4, 2),
    "Flatten": _one(L.Flatten(), 3, 4, 2),
    "Reshape": _one(L.Reshape((4, 6)), 3, 8),
    "Permute": _one(L.Permute((3, 1, 2)), 2, 3, 4),
    "RepeatVector": _one(L.RepeatVector(3), 4),
    "Reverse": _one(L.Reverse(), 5, 3),
    "Slice": _one(L.Slice(0, 1, 4, 2), 5, 3),
    "ExpandDims": _one(L.ExpandDims(1), 5, 3),
    "Squeeze": _one(L.Squeeze(0), 1, 3),
    "Relu": _one(L.Relu(3.0, 0.25, 1.0), 5, 3),
    "PRelu": _one(L.PRelu((5, 3)), 5, 3),
    "Elu": _one(L.Elu(0.7), 5, 3),
    "Softmax": _one(L.Softmax(), 5, 3),
    "Affine": _one(L.Affine(-2.0, 1.0), 5, 3),
    "Function": _one(L.Function("exp"), 3),
    "Reduce": _one(L.Reduce("mean", (0,)), 5, 3),
    "NotEqual": _one(L.NotEqual(), 5),
    "Clip": _one(L.Clip(-0.1, 0.7), 5, 3),
    "Compare": _one(L.Compare("greater", 0.1), 5, 3),
    "Where": _joined(L.Where(), (5, 1), (5, 3), (5, 3)),
    "Along": _one(L.Along("cumsum", 0), None, 3),
    "Across": _one(L.Across("mean", (0, 1)), None, 3),
    "Constant": _one(L.Constant("add", (0.1, -2.0, 3.0), (3,)), 5, 3),
    "Einsum": _joined(L.Einsum("cd,ed->ce"), (None, 3), (5, 3)),
    "Merge": _joined(L.Merge("add"), (5, 3), (5, 3), (5, 3)),
    "Concatenate": _joined(L.Concatenate(), (5, 3), (5, 2)),
    "Dot": _joined(L.Dot((2, 1)), (3, 4), (4, 5)),
    "Attention": lambda: m.attention("dot", True, "", False, False),
    "MultiHeadAttention": m.heads,
}
"""One model of every kind of layer but Input and Custom."""

OPTIONS: dict[str, Make] = {
    "Dense-no_bias": _one(L.Dense(4, 3, use_bias=False), 4),
    "Dense-softmax": _one(L.Dense(4, 3, "softmax"), 4),
    "Dense-chain": lambda: m.chained([L.Dense(4, 3, "tanh"), L.Dense(3, 3), L.Dense(3, 2)], (4,)),
    "LSTM-sequence": _one(LSTM, *STEPS),
    "LSTM-no_bias": _one(replace(LSTM, use_bias=False), *STEPS),
    "LSTM-relu": _one(replace(LSTM, activation="relu"), *STEPS),
    "LSTM-hard_sigmoid_keras2": _one(L.LSTM(3, 5, "tanh", "hard_sigmoid_keras2"), *STEPS),
    "LSTM-backwards": _one(replace(LAST, go_backwards=True), *STEPS),
    "LSTM-square": _one(L.LSTM(6, 6, **SEQUENCE), None, 6),
    "LSTM-one_unit": _one(L.LSTM(1, 1), None, 1),
    "LSTM-stack": lambda: m.chained([LSTM, L.LSTM(5, 4), L.Dense(4, 2, "sigmoid")], STEPS),
    "GRU-no_bias": _one(L.GRU(3, 5, use_bias=False), *STEPS),
    "GRU-reset_before": _one(L.GRU(3, 5, reset_after=False), *STEPS),
    "SimpleRNN-relu": _one(L.SimpleRNN(3, 5, "relu", **SEQUENCE), *STEPS),
    "Bidirectional-sum": _one(_both(LSTM, "sum"), *STEPS),
    "Bidirectional-last": _one(_both(LAST), *STEPS),
    "Bidirectional-unlike": _one(
        L.Bidirectional(LSTM, L.SimpleRNN(3, 4, go_backwards=True, **SEQUENCE)), *STEPS
    ),
    "Conv-causal": _one(L.Conv(4, 6, (4,), "tanh", padding="causal", **CONV), 11, 4),
    "Conv-2d": _one(L.Conv(3, 5, (3, 2), padding="same", **PLANE), 7, 6, 3),
    "LayerNorm-groups": _one(L.LayerNorm(6, groups=3), 4, 5, 6),
}
"""Options of layers, one at a time."""

MASKS: dict[str, Make] = {
    **{name: partial(m.masked, spec) for name, spec in RECURRENT.items()},
    "LSTM-last": lambda: m.masked(LAST, -1.0),
    "LSTM-backwards": lambda: m.masked(replace(LSTM, go_backwards=True)),
    "LSTM-zeros": lambda: m.masked(replace(LSTM, zero_output_for_mask=True)),
    "LSTM-input": lambda: m.explicit_mask(LSTM),
    "Bidirectional": lambda: m.masked(_both(replace(LSTM, zero_output_for_mask=True))),
    "Embedding": m.ids_masked,
    "MultiHeadAttention": lambda: m.heads("qv"),
}
"""Sequences with masked steps: at the end, at the start, in the middle, everywhere."""

STATES: dict[str, Make] = {
    **{
        name: partial(m.with_states, replace(spec, return_state=True))
        for name, spec in RECURRENT.items()
    },
    "LSTM-stateful": lambda: m.chained([replace(LSTM, stateful=True)], STEPS),
    "encoder-decoder": m.encoder_decoder,
}
"""Layers that start from states, and return them."""


def _twice(spec: L.LayerSpec, shape: Shape) -> Model:
    """Returns a layer that is called with two inputs."""
    graph = Builder()
    first, second = graph.add("left", L.Input(shape)), graph.add("right", L.Input(shape))
    one = graph.add("layer", spec, [first])
    return m.built(graph, [one, graph.add("again", spec, [second], layer="layer")])


SHARED: dict[str, Make] = {
    "Dense": lambda: _twice(L.Dense(4, 3), (4,)),
    "LSTM": lambda: _twice(LSTM, STEPS),
    "several": m.shared,
}
"""Layers that are called twice."""

HOSTILE = (
    *("weights", "class", "self", "a.b", "a/b", "a_b", "1st", "\u00fc\u4f60"),
    *('quote\'"""', "x\nimport os", "{name}", "l" * 300),
)
"""Names of layers that are no identifiers, alike as identifiers, or code."""

DENSE = L.Dense(3, 3)
TITLES: dict[str, Make] = {
    "Dense": lambda: _named(dict.fromkeys(HOSTILE, DENSE), (3,)),
    "LSTM": lambda: _named({"import": LSTM, "x\ny": L.LSTM(5, 3)}, STEPS),
}
"""Layers whose names have to be changed before they are code."""

DTYPES: dict[str, Make] = {
    "Dense-float64": lambda: LAYERS["Dense"]().astype("float64"),
    "LSTM-float64": lambda: LAYERS["LSTM"]().astype("float64"),
}
"""Weights that are stored in float64. All cases run in float32 and float64."""

HALVES = {name: LAYERS[name] for name in ("Dense", "LSTM")}
"""Models that run in bfloat16 and float16 too."""

GRADIENTS = {name: LAYERS[name] for name in ("Dense", "Embedding", "LSTM")}
"""Models whose gradients of weights and inputs are compared."""

TRAINING: dict[str, Make] = {name: partial(training_model, name) for name in MODELS}
"""Layers that compute something else in training."""

GROUPS: dict[str, Mapping[str, Make]] = {
    "layer": LAYERS,
    "option": OPTIONS,
    "mask": MASKS,
    "state": STATES,
    "shared": SHARED,
    "name": TITLES,
    "dtype": DTYPES,
    "half": HALVES,
    "gradient": GRADIENTS,
    "training": TRAINING,
}
"""Group -> name -> the function that makes its model."""
