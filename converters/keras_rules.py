"""What the options of each Keras class mean, as tables; no framework."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from xlstm.converters.keras_configs import CELLS, class_of, halves_of, inner, read_layer
from xlstm.converters.keras_context import LIMITS, Config, Reader, Rule

from xlstm.errors import UnsupportedError
from xlstm.model import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Masking,
    Recurrent,
    Shape,
    SimpleRNN,
    Spec,
    TimeDistributed,
)


def _features(shape: Shape, where: str) -> int:
    if not shape or shape[-1] is None:
        raise UnsupportedError(where, "a known number of features", f"{shape}", "name input_shape")
    return shape[-1]


def _flag(config: Config, key: str) -> bool:
    if not isinstance(config[key], (bool, int)) or config[key] not in (0, 1):
        raise ValueError(f"{key}={config[key]!r}")
    return bool(config[key])


FLAGS = ("use_bias", "return_sequences", "return_state", "go_backwards", "stateful")


def _recurrent(config: Config, shape: Shape, reader: Reader) -> dict[str, Any]:
    """The options that all recurrent layers share."""
    where = reader.where(config["name"])
    for key in ("dropout", "recurrent_dropout"):
        if config.get(key):
            line = f"{key}={config[key]} acts only in training; ports do not apply it"
            reader.note(f"{where}: {line}")
    return {
        "features": _features(shape, where),
        "units": config["units"],
        "activation": reader.activation(config["activation"], where),
        **{key: _flag(config, key) for key in FLAGS},
        "zero_output_for_mask": _flag({"zero_output_for_mask": False, **config}, ZERO),
        "dropout": config.get("dropout", 0.0),
        "recurrent_dropout": config.get("recurrent_dropout", 0.0),
    }


ZERO = "zero_output_for_mask"


def _gate(config: Config, reader: Reader) -> str:
    return reader.activation(config["recurrent_activation"], reader.where(config["name"]))


def _lstm(config: Config, shape: Shape, reader: Reader) -> Spec:
    return LSTM(gate_activation=_gate(config, reader), **_recurrent(config, shape, reader))


def _gru(config: Config, shape: Shape, reader: Reader) -> Spec:
    return GRU(
        gate_activation=_gate(config, reader),
        reset_after=_flag(config, "reset_after"),
        **_recurrent(config, shape, reader),
    )


def _simple_rnn(config: Config, shape: Shape, reader: Reader) -> Spec:
    return SimpleRNN(**_recurrent(config, shape, reader))


def _bidirectional(config: Config, shape: Shape, reader: Reader) -> Spec:
    forward, backward = (_half(layer, shape, reader) for layer in halves_of(config))
    merge = config.get("merge_mode", "concat")
    zeros = reader.era.zeros_in_both_ways
    return Bidirectional(
        replace(forward, zero_output_for_mask=zeros and forward.return_sequences),
        replace(backward, zero_output_for_mask=zeros and backward.return_sequences),
        "none" if merge is None else merge,
    )


def _half(layer: Config, shape: Shape, reader: Reader) -> Recurrent:
    if class_of(layer) in ("RNN", *CELLS.values()):
        specs = read_layer(reader, layer, shape)
        if len(specs) == 1 and isinstance(specs[0], Recurrent):
            return specs[0]
    where, want = reader.where(layer.get("config", {}).get("name")), "one recurrent layer or cell"
    got = f"{layer.get('class_name')} of several cells" * (class_of(layer) == "RNN")
    raise UnsupportedError(where, f"{want} inside Bidirectional", got or class_of(layer), LIMITS)


def _dense(config: Config, shape: Shape, reader: Reader) -> Spec:
    where = reader.where(config["name"])
    return Dense(
        features=_features(shape, where),
        units=config["units"],
        activation=reader.activation(config["activation"], where),
        use_bias=_flag(config, "use_bias"),
    )


def _time_distributed(config: Config, shape: Shape, reader: Reader) -> Spec:
    layer = inner(config, "layer")
    if class_of(layer) not in ("Dense", "Activation"):
        got = f"TimeDistributed({layer.get('class_name')})"
        where = reader.where(config["name"])
        raise UnsupportedError(where, "TimeDistributed(Dense)", got, LIMITS)
    return TimeDistributed(read_layer(reader, layer, shape[1:])[0])


def _dropout(config: Config, _shape: Shape, reader: Reader) -> Spec:
    if config.get("noise_shape") is not None:
        where = reader.where(config["name"])
        got = f"noise_shape={config['noise_shape']}"
        raise UnsupportedError(where, "noise_shape=None", got, LIMITS)
    return Dropout(config["rate"])


def _activation(config: Config, _shape: Shape, reader: Reader) -> Spec:
    return Activation(reader.activation(config["activation"], reader.where(config["name"])))


def _masking(config: Config, _shape: Shape, reader: Reader) -> Spec:
    value = config["mask_value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        where, got = reader.where(config["name"]), f"mask_value of {type(value).__name__}"
        raise UnsupportedError(where, "a mask_value that is one number", got, LIMITS)
    return Masking(float(np.float32(value)))  # Keras compares in float32


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


RNN_READS = _keys(
    "units activation use_bias return_sequences return_state go_backwards stateful dropout "
    "recurrent_dropout zero_output_for_mask"
)

RNN_HARMLESS = _keys("implementation unroll seed use_cudnn input_dim input_length")

RNN_ONLY = {"time_major": False, "num_constants": None}

RNN_ARGUMENTS = ("sequences", "initial_state", "mask", "training")

RULES: dict[str, Rule] = {
    "LSTM": Rule(
        _lstm,
        RNN_READS | _keys("recurrent_activation"),
        # unit_forget_bias is an initialiser: the trained bias holds it already
        RNN_HARMLESS | _keys("unit_forget_bias"),
        RNN_ONLY,
        RNN_ARGUMENTS,
    ),
    "GRU": Rule(
        _gru,
        RNN_READS | _keys("recurrent_activation reset_after"),
        RNN_HARMLESS,
        RNN_ONLY,
        RNN_ARGUMENTS,
    ),
    "SimpleRNN": Rule(_simple_rnn, RNN_READS, RNN_HARMLESS, RNN_ONLY, RNN_ARGUMENTS),
    "Bidirectional": Rule(
        _bidirectional,
        _keys("layer backward_layer merge_mode"),
        _keys("input_dim input_length"),
        {"num_constants": None},
        RNN_ARGUMENTS,
    ),
    "Masking": Rule(_masking, _keys("mask_value"), arguments=("inputs",)),
    "Dense": Rule(
        _dense,
        _keys("units activation use_bias"),
        _keys("input_dim input_length"),
        {"lora_rank": None, "quantization_config": None},
    ),
    "TimeDistributed": Rule(
        _time_distributed, _keys("layer"), arguments=("inputs", "training", "mask")
    ),
    "Dropout": Rule(_dropout, _keys("rate noise_shape"), _keys("seed")),
    "Activation": Rule(_activation, _keys("activation"), arguments=("inputs",)),
}
"""Keras class name -> how its config is read."""
