"""RMSNorm where no table of layers has a row for it: causes, counts and axes of steps."""

from dataclasses import replace

import numpy as np
from cases import model

import xlstm
from xlstm.decoding.step_axes import axes_before
from xlstm.ir.layers import LSTM, Dense, RMSNorm

MODEL = model([LSTM(3, 5, return_sequences=True), RMSNorm(5, 1e-3), Dense(5, 2)], (None, 3))


def test_another_epsilon_and_a_lost_scale_are_named():
    nodes = {node.spec.kind: node for node in MODEL.nodes}
    norm = nodes["RMSNorm"]
    other = replace(norm, spec=replace(norm.spec, epsilon=0.1))
    wrong = replace(MODEL, nodes=tuple(other if n is norm else n for n in MODEL.nodes))
    assert "Your epsilon is 0.1; a's is 0.001." in str(xlstm.diagnose(MODEL, wrong))
    lost = {**MODEL.weights, norm.name: {"gamma": np.ones(5, "float32")}}
    said = str(xlstm.diagnose(MODEL, replace(MODEL, weights=lost)))
    assert "is lost (ones)" in said
    assert "bias" not in said.lower(), "a scale is no bias"


def test_it_is_counted_alike_everywhere():
    layer = next(layer for layer in xlstm.count(MODEL).layers if layer.kind == "RMSNorm")
    assert set(layer.params.values()) == {5}
    assert {name: found[0].name.split(".")[-1] for name, found in layer.tensors.items()} == {
        "keras": "scale",
        "torch": "weight",
        "nnx": "scale",
        "linen": "scale",
    }


def test_steps_stay_apart():
    assert axes_before(RMSNorm(5), [(9, 5)], 0) == (0,)
    assert axes_before(RMSNorm(5), [(9, 5)], 1) is None
