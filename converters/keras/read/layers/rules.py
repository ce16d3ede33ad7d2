"""Rules for recurrent and common Keras layers, as tables; no framework.

In: the options of a config. Out: specs. For an input of 3 features:

    LSTM(4)    LSTM(features=3, units=4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.permutes import time_distributed
from xlstm.ir.types import Shape

from ...versions import ERA_CLASSES
from ..context import LIMITS, NESTED, CallContext, Config, LayerRule, ReadContext
from .config import CELLS, class_of, halves_of, inner, read_layer
from .convolution import RULES as WINDOWS
from .elementwise import RULES as NUMBERS
from .options import features, flag, is_first, keys, sizes, to_first
from .shape import RULES as SHAPES
from .theano_padding import check_same

FLAGS = ("use_bias", "return_sequences", "return_state", "go_backwards", "stateful")


def _recurrent(config: Config, shape: Shape, reader: ReadContext) -> dict[str, Any]:
    """Returns the options that all recurrent layers share."""
    where = reader.where(config["name"])
    for key in ("dropout", "recurrent_dropout"):
        if config.get(key):
            line = f"{key}={config[key]} acts only in training; ports do not apply it"
            reader.note(f"{where}: {line}")
    return {
        "features": features(shape, where),
        "units": config["units"],
        "activation": reader.activation(config["activation"], where),
        **{key: flag(config, key) for key in FLAGS},
        "zero_output_for_mask": flag({"zero_output_for_mask": False, **config}, ZERO),
        "dropout": config.get("dropout", 0.0),
        "recurrent_dropout": config.get("recurrent_dropout", 0.0),
    }


ZERO = "zero_output_for_mask"


def _gate(config: Config, reader: ReadContext) -> str:
    return reader.activation(config["recurrent_activation"], reader.where(config["name"]))


def _lstm(config: Config, shape: Shape, reader: ReadContext) -> L.LayerSpec:
    return L.LSTM(gate_activation=_gate(config, reader), **_recurrent(config, shape, reader))


def _gru(config: Config, shape: Shape, reader: ReadContext) -> L.LayerSpec:
    return L.GRU(
        gate_activation=_gate(config, reader),
        reset_after=flag(config, "reset_after"),
        **_recurrent(config, shape, reader),
    )


def _simple_rnn(config: Config, shape: Shape, reader: ReadContext) -> L.LayerSpec:
    return L.SimpleRNN(**_recurrent(config, shape, reader))


def _bidirectional(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    halves = halves_of(config)
    firsts = [_is_conv_lstm(half) and is_first(half["config"]) for half in halves]
    if len({*firsts}) > 1:
        where = reader.where(config["name"])
        raise UnsupportedError(where, "halves of one data_format", "channels_first in one", LIMITS)
    forward, backward = (_half(layer, shape, reader) for layer in halves)
    merge = config.get("merge_mode", "concat")
    zeros = reader.era.zeros_in_both_ways
    both = L.Bidirectional(
        replace(forward, zero_output_for_mask=zeros and forward.return_sequences),
        replace(backward, zero_output_for_mask=zeros and backward.return_sequences),
        "none" if merge is None else merge,
    )
    if not any(firsts):
        return [both]
    if merge != "concat":
        return _channels_first(both, len(shape) - 2)
    # Keras joins along the last axis, which is an axis of space here (its bidirectional.py, call)
    there, _, back = _channels_first(both, len(shape) - 2)
    return [there, replace(both, merge="none"), L.Concatenate(-2), back]


def _is_conv_lstm(layer: Config) -> bool:
    return class_of(layer) in CONV_LSTMS


def _half(layer: Config, shape: Shape, reader: ReadContext) -> L.Recurrent:
    if class_of(layer) in ("RNN", *CELLS.values(), *CONV_LSTMS):
        specs = read_layer(reader, layer, CallContext((shape,)))
        found = [spec for spec in specs if isinstance(spec, L.Recurrent)]
        if len(found) == 1 and (len(specs) == 1 or isinstance(found[0], L.ConvLSTM)):
            return found[0]
    where, want = reader.where(layer.get("config", {}).get("name")), "one recurrent layer or cell"
    got = f"{layer.get('class_name')} of several cells" if class_of(layer) == "RNN" else ""
    raise UnsupportedError(where, f"{want} inside Bidirectional", got or class_of(layer), LIMITS)


def _steps_last(rank: int) -> L.Permute:
    """Returns the move of channels from after the steps to the end, for `rank` axes of space."""
    return L.Permute((1, *range(3, rank + 3), 2))


def _channels_first(spec: L.ConvLSTM | L.Bidirectional, rank: int) -> list[L.LayerSpec]:
    """Returns a layer over `rank` axes of space between moves of the channels, at every step."""
    back = (
        L.Permute((1, rank + 2, *range(2, rank + 2))) if spec.return_sequences else to_first(rank)
    )
    return [_steps_last(rank), spec, back]


def _conv_lstm(
    config: Config, shape: Shape, reader: ReadContext, rank: int
) -> Sequence[L.LayerSpec]:
    where = reader.where(config["name"])
    if is_first(config):
        shape = _steps_last(rank).output_shape(shape)
    options = _recurrent({**config, "units": config["filters"]}, shape, reader)
    window, strides = sizes(config["kernel_size"], rank), sizes(config["strides"], rank)
    check_same(reader, window, strides, config["padding"], where)
    spec = L.ConvLSTM(
        gate_activation=_gate(config, reader),
        space=tuple(shape[1:-1]),
        window=window,
        strides=strides,
        padding=config["padding"],
        dilation=sizes(config["dilation_rate"], rank),
        **options,
    )
    return _channels_first(spec, rank) if is_first(config) else [spec]


def _dense(config: Config, shape: Shape, reader: ReadContext) -> L.LayerSpec:
    where = reader.where(config["name"])
    return L.Dense(
        features=features(shape, where),
        units=config["units"],
        activation=reader.activation(config["activation"], where),
        use_bias=flag(config, "use_bias"),
    )


def _time_distributed(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    layer = inner(config, "layer")
    where = reader.where(config["name"])
    if len(shape) < 2:
        got = f"(batch, {str(shape)[1:]}"
        raise UnsupportedError(where, "an input with a time axis, (batch, time, ...)", got, LIMITS)
    specs = read_layer(reader, layer, CallContext((shape[1:],)))
    # axes counted from the end are the same at every step
    return [
        spec if isinstance(spec, L.Concatenate) else time_distributed(_alone(reader, spec))
        for spec in specs
    ]


def _alone(reader: ReadContext, spec: L.LayerSpec) -> L.LayerSpec:
    """Applies Keras 3's rule that TimeDistributed drops the mask of an Embedding."""
    if isinstance(spec, L.Embedding) and reader.major > 2:
        return replace(spec, mask_zero=False)
    return spec


def _masking(config: Config, _shape: Shape, reader: ReadContext) -> L.LayerSpec:
    value = config["mask_value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        where, got = reader.where(config["name"]), f"mask_value of {type(value).__name__}"
        raise UnsupportedError(where, "a mask_value that is one number", got, LIMITS)
    return L.Masking(value)  # in float32, as Keras compares


CONV_LSTMS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

RNN_READS = keys(
    "units activation use_bias return_sequences return_state go_backwards stateful dropout "
    "recurrent_dropout zero_output_for_mask"
)

RNN_HARMLESS = keys("implementation unroll seed use_cudnn input_dim input_length")

RNN_ONLY = {"time_major": False, "num_constants": None}

RNN_ARGUMENTS = ("sequences", "initial_state", "mask", "training")


def _conv_lstm_rule(rank: int) -> LayerRule:
    own = "filters kernel_size strides padding data_format dilation_rate recurrent_activation"
    return LayerRule(
        partial(_conv_lstm, rank=rank),
        RNN_READS | keys(own),
        RNN_HARMLESS | keys("unit_forget_bias"),
        RNN_ONLY,
        RNN_ARGUMENTS,
    )


RULES: dict[str, LayerRule] = {
    "LSTM": LayerRule(
        _lstm,
        RNN_READS | keys("recurrent_activation"),
        # unit_forget_bias is an initialiser: the trained bias already contains it
        RNN_HARMLESS | keys("unit_forget_bias"),
        RNN_ONLY,
        RNN_ARGUMENTS,
    ),
    "GRU": LayerRule(
        _gru,
        RNN_READS | keys("recurrent_activation reset_after"),
        RNN_HARMLESS,
        RNN_ONLY,
        RNN_ARGUMENTS,
    ),
    "SimpleRNN": LayerRule(_simple_rnn, RNN_READS, RNN_HARMLESS, RNN_ONLY, RNN_ARGUMENTS),
    "Bidirectional": LayerRule(
        _bidirectional,
        keys("layer backward_layer merge_mode"),
        keys("input_dim input_length"),
        {"num_constants": None},
        RNN_ARGUMENTS,
    ),
    "Masking": LayerRule(_masking, keys("mask_value"), arguments=("inputs",)),
    "Dense": LayerRule(
        _dense,
        keys("units activation use_bias"),
        # files store kernels with LoRA merged; other arrays raise an error as unused
        keys("input_dim input_length lora_rank lora_alpha"),
        {"quantization_config": None},
    ),
    "TimeDistributed": LayerRule(
        _time_distributed, keys("layer"), arguments=("inputs", "training", "mask")
    ),
    **{name: _conv_lstm_rule(rank) for rank, name in enumerate(CONV_LSTMS, 1)},
    **NUMBERS,
    **SHAPES,
    **WINDOWS,
}
"""Keras class name -> the rule that reads its config."""

CLASSES = frozenset({*RULES, *ERA_CLASSES, *NESTED, "InputLayer", "RNN"})
"""Every class that is read without registration."""
