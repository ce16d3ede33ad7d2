"""Recurrent models with random weights of trained size: the cases of every suite."""

from __future__ import annotations

from dataclasses import replace

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Input,
    LayerSpec,
    Recurrent,
    SimpleRNN,
    TimeDistributed,
)
from xlstm.testing.models import (
    built,
    encoder_decoder,
    explicit_mask,
    masked,
    with_states,
)
from xlstm.testing.models import chained as model
from xlstm.testing.trained_weights import trained_weights  # noqa: F401  tests import it from here


def lstm(activation: str = "tanh", gate: str = "sigmoid", **options: bool) -> Model:
    """One LSTM of 5 units on 3 features."""
    return model([LSTM(3, 5, activation, gate, **options)], (None, 3))


SEQUENCE = {"return_sequences": True}
RECURRENT = {
    "lstm": LSTM(3, 5, **SEQUENCE),
    "gru": GRU(3, 5, **SEQUENCE),
    "gru_before": GRU(3, 5, reset_after=False, **SEQUENCE),
    "simple_rnn": SimpleRNN(3, 5, **SEQUENCE),
}
"""One recurrent layer of each form."""


def variants(spec: Recurrent) -> dict[str, Model]:
    """Every option that all recurrent layers share, one at a time and some together."""
    last = replace(spec, return_sequences=False)
    back = replace(spec, go_backwards=True)
    zeros = replace(spec, zero_output_for_mask=True)
    both = Bidirectional(spec, back)
    state = replace(last, return_state=True)
    states = Bidirectional(state, replace(state, go_backwards=True))
    return {
        "sequence": model([spec], (None, 3)),
        "last": model([last], (None, 3)),
        "no_bias": model([replace(spec, use_bias=False)], (None, 3)),
        "backwards": model([back], (None, 3)),
        "backwards-last": model([replace(last, go_backwards=True)], (None, 3)),
        "masked": masked(spec),
        "masked-last": masked(last, -1.0),
        "masked-backwards": masked(back),
        "masked-zeros": masked(zeros),
        "masked-explicit": explicit_mask(spec),
        "states": with_states(replace(spec, return_state=True)),
        "states-backwards": with_states(replace(state, go_backwards=True)),
        "stateful": model([replace(spec, stateful=True)], (None, 3)),
        "lone": model([spec], (None, 3), lone=True),
        "both-concat": model([both], (None, 3)),
        **{
            f"both-{merge}": model([replace(both, merge=merge)], (None, 3))
            for merge in ("sum", "mul", "ave")
        },
        "both-last": model([Bidirectional(last, replace(last, go_backwards=True))], (None, 3)),
        "both-none": _two_outputs(replace(both, merge="none")),
        "both-masked": masked(Bidirectional(zeros, replace(zeros, go_backwards=True)), -2.0),
        "both-masked-last": masked(Bidirectional(last, replace(last, go_backwards=True))),
        "both-states": with_states(states),
        "both-unlike": model([Bidirectional(spec, _unlike(spec))], (None, 3)),
        "both-stateful": model(
            [Bidirectional(replace(spec, stateful=True), replace(back, stateful=True))], (None, 3)
        ),
    }


def _unlike(spec: Recurrent) -> Recurrent:
    other = SimpleRNN if isinstance(spec, LSTM) else LSTM
    return other(3, 4, return_sequences=True, go_backwards=True)


def _two_outputs(spec: LayerSpec) -> Model:
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    graph.add("layer", spec, [x])
    return built(graph, [Edge("layer", 0), Edge("layer", 1)])


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
    **{
        f"gru-{activation}-{gate}-{when}": model(
            [GRU(3, 5, activation, gate, reset_after=when == "after", return_sequences=True)],
            (None, 3),
        )
        for activation in ACTIVATIONS
        for gate in GATES
        for when in ("after", "before")
    },
    "gru-no_hidden_bias": model([GRU(3, 5, hidden_bias=False)], (None, 3)),
    **{
        f"{name}-{variant}": found
        for name, spec in RECURRENT.items()
        for variant, found in variants(spec).items()
    },
    "lstm-relu-masked": masked(LSTM(3, 5, "relu", "hard_sigmoid", return_sequences=True)),
    "gru-relu-states": with_states(GRU(3, 5, "relu", return_state=True)),
    "encoder_decoder": encoder_decoder(),
}
"""Readable id -> model."""
