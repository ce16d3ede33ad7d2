"""A ported folder is a source like any other: from each framework on to all four, and back."""

import numpy as np
import pytest
from cases import built

import xlstm
from xlstm import registry
from xlstm.model import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Builder,
    Concatenate,
    Dense,
    Dropout,
    Edge,
    Embedding,
    Input,
)

FRAMEWORKS = registry.FRAMEWORKS


def whole():
    """Words and an answer with a mask each, states handed on, layers shared, statistics."""
    graph = Builder()
    words, answer = graph.add("words", Input((None,))), graph.add("answer", Input((None,)))
    curve = graph.add("curve", Input((None, 2)))
    table = Embedding(5, 4, mask_zero=True)
    x = graph.add("embedding", table, [words])
    y = graph.add("embedding again", table, [answer], layer="embedding")
    heard, said = Edge("embedding", 1), Edge("embedding again", 1)
    x = graph.add("norm", BatchNorm(4), [x])
    graph.add("encoder", LSTM(4, 3, return_state=True), [x], mask=heard)
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    decoder = LSTM(4, 3, return_sequences=True, return_state=True)
    y = graph.add("decoder", decoder, [y], mask=said, states=states)
    half = GRU(2, 3, gate_activation="hard_sigmoid_keras2")
    back = GRU(2, 3, gate_activation="hard_sigmoid_keras2", go_backwards=True)
    z = graph.add("both ways", Bidirectional(half, back, "sum"), [curve])
    z = graph.add("dropout", Dropout(0.2), [z])
    dense = Dense(3, 2, "softmax")
    y, z = graph.add("dense", dense, [y]), graph.add("dense again", dense, [z], layer="dense")
    last = graph.add("joined", Concatenate(), [z, Edge("encoder", 0)])
    return built(graph, [y, last, Edge("decoder", 2)])


@pytest.fixture(scope="module")
def source():
    return whole()


def check_same(found, wanted):
    """The same graph with the same weights; Flax adds two biases of a GRU's gates up."""
    for field in ("nodes", "inputs", "outputs"):
        assert getattr(found, field) == getattr(wanted, field)
    for layer, arrays in wanted.weights.items():
        for name, array in arrays.items():
            mine, tolerance = found.weights[layer][name], 0.0
            if name.endswith("bias") and array.ndim == 3:
                mine, array, tolerance = mine.sum(axis=0), array.sum(axis=0), 1e-6
            np.testing.assert_allclose(mine, array, rtol=0, atol=tolerance)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_ported_folder_ports_on_to_every_framework(framework, source, tmp_path):
    again = xlstm.load(xlstm.save(source, tmp_path / "port", framework))
    check_same(again, source)
    xlstm.reconcile(again, FRAMEWORKS).check()
    for other in FRAMEWORKS:
        check_same(xlstm.load(xlstm.save(again, tmp_path / other, other)), source)
