"""Small models of a ConvLSTM with every option; part of the list in cases_layers."""

from __future__ import annotations

from typing import Any

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import Bidirectional, ConvLSTM, Input
from xlstm.testing.models import built, mask_given, one


def convolved(*space: int | None, **options: Any) -> ConvLSTM:
    """A ConvLSTM of 3 units on 2 channels."""
    rank = len(space)
    ones, window = (1,) * rank, (3, 2, 2)[:rank]
    sizes = {"space": space, "window": window, "strides": ones, "dilation": ones}
    return ConvLSTM(2, 3, **{**sizes, "return_sequences": True, **options})


def conv_lstm_states(spec: ConvLSTM, steps: int) -> Model:
    """A ConvLSTM after another one, whose states it starts from."""
    graph = Builder()
    x = graph.add("x", Input((steps, *spec.space, 2)))
    y = graph.add("first", spec, [x])
    graph.add("second", spec, [x], states=[Edge("first", 1), Edge("first", 2)])
    return built(graph, [y, Edge("second", 0), Edge("second", 2)])


SPACE = convolved(4, 5)
BACK = {"go_backwards": True}
CONV_LSTMS: dict[str, Model] = {
    "conv_lstm1d": one(convolved(5), 4, 5, 2),
    "conv_lstm2d": one(SPACE, 4, 4, 5, 2),
    "conv_lstm3d": one(convolved(3, 2, 2), 3, 3, 2, 2, 2),
    "conv_lstm2d-same-strides": one(
        convolved(5, 4, strides=(2, 1), padding="same", return_sequences=False), 3, 5, 4, 2
    ),
    "conv_lstm1d-dilation": one(convolved(7, dilation=(2,)), 3, 7, 2),
    "conv_lstm1d-any_length": one(convolved(None), 3, None, 2),
    "conv_lstm1d-any_length-same-strides": one(
        convolved(None, padding="same", strides=(2,)), 3, None, 2
    ),
    "conv_lstm1d-relu": one(
        convolved(5, activation="relu", gate_activation="hard_sigmoid_keras2"), 3, 5, 2
    ),
    "conv_lstm1d-no_bias": one(convolved(5, use_bias=False), 3, 5, 2),
    "conv_lstm1d-offset": one(convolved(5, padding="same", forget_offset=1.0), 3, 5, 2),
    "conv_lstm1d-offset-valid": one(convolved(5, forget_offset=1.0), 3, 5, 2),
    "conv_lstm1d-backwards": one(convolved(5, **BACK), 3, 5, 2),
    "conv_lstm1d-mask": mask_given(convolved(5), (None, 5, 2), (None,)),
    "conv_lstm1d-stateful": one(convolved(5, stateful=True), 3, 5, 2),
    "conv_lstm1d-both": one(Bidirectional(convolved(5), convolved(5, **BACK)), 3, 5, 2),
    "conv_lstm1d-states": conv_lstm_states(convolved(5, return_state=True), 3),
}
