"""Converts the config of one Keras layer to its specs, by the rule of its class; no framework.

In: a config and the shapes of its inputs. Out: specs. For an input of 3 features:

    {"class_name": "LSTM", "config": {"units": 4, ...}}    LSTM(features=3, units=4)

The rules of recurrent layers, wrappers and Dense are here; those of other families are in
`elementwise`, `shape` and `convolution`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xlstm.errors import FileError, UnsupportedError, UsageError, XlstmError
from xlstm.ir import layers as L
from xlstm.ir.permutes import time_distributed
from xlstm.ir.types import Shape

from ...versions import ERA_CLASSES, TAKEN_APART
from ..context import (
    DTYPES,
    LIMITS,
    NESTED,
    WHOLE,
    CallContext,
    Config,
    LayerRule,
    ReadContext,
    dtype_policy,
    is_custom,
    is_operation,
    registered_name,
)
from ..custom_layers import custom_spec
from ..ops.node_defs import is_node, operation_name

# each registers its rules in RULES
from . import elementwise as _elementwise  # noqa: F401
from . import shape as _shape  # noqa: F401
from .convolution import check_same
from .options import RULES, LayerConfig, Specs, is_first, rule, sizes, to_first

COMMON = frozenset(
    "name trainable dtype batch_input_shape batch_shape input_dtype activity_regularizer "
    "kernel_initializer recurrent_initializer bias_initializer kernel_regularizer "
    "recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint "
    "bias_constraint".split()
)
"""Keys that never change what a trained layer computes."""

CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "SimpleRNN"}
"""Class of a cell inside RNN -> the equivalent layer."""

CONV_LSTMS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

STACK = "StackedRNNCells"


def class_of(layer: Config) -> str:
    """Returns today's name of the class of a layer's config."""
    name = str(layer.get("class_name"))
    return ERA_CLASSES.get(name, (name,))[0]


def inner(config: Config, key: str) -> Config:
    """Returns the config of a layer inside another.

    Raises:
        TypeError: none there.
    """
    found = config[key]
    if not isinstance(found, Mapping) or not isinstance(found.get("config", {}), Mapping):
        raise TypeError(f"no config in {key}")
    return found


def cells_of(layer: Config) -> list[Config]:
    """Returns the cells of an RNN layer in the order of computation."""
    cell = inner(layer["config"], "cell")
    if cell.get("class_name") != STACK:
        return [cell]
    listed = cell.get("config", {}).get("cells")
    unknown = sorted(set(cell["config"]) - {"cells", "name", "trainable", "dtype"})
    if not isinstance(listed, list) or not listed:
        raise TypeError("no cells")
    if unknown:
        raise TypeError(f"unknown options of the cells: {', '.join(map(str, unknown))}")
    return [inner({"cell": item}, "cell") for item in listed]


WRAPPED = ("TimeDistributed",)
"""Classes of layers around another one, whose class must be known too."""


def operation_of(layer: Config) -> str:
    """Returns today's name of an operation, "" for a layer."""
    if is_operation(layer):
        name = snake(str(layer.get("class_name")))
    elif layer.get("class_name") in LAMBDAS:
        options = layer.get("config")
        function = options.get("function") if isinstance(options, Mapping) else None
        name = str(function or "getitem").split(".")[-1]
    elif is_node(layer):
        name = operation_name(layer)
    else:
        return ""
    return SYNONYMS.get(name, name)


LAMBDAS = ("TFOpLambda", "SlicingOpLambda")
"""Classes of operations in files of tf.keras."""

SYNONYMS = {
    "true_divide": "divide",
    "truediv": "divide",
    "sub": "subtract",
    "mul": "multiply",
    "neg": "negative",
    "pow": "power",
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "concat": "concatenate",
    "getitem": "get_item",
    "reduce_mean": "mean",
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_any": "any",
    "reduce_all": "all",
    "reduce_std": "std",
    "reduce_variance": "var",
    "clip_by_value": "clip",
    "rint": "round",
    "gather": "take",
    "ne": "not_equal",
    "eq": "equal",
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "less",
    "le": "less_equal",
    "where_v2": "where",
    "swish": "silu",
    "reverse": "flip",
    "softmax_v2": "softmax",
}
"""Other names of operations -> today's."""


def snake(name: str) -> str:
    """Keras's to_snake_case of a class name: the stem of its group in new weights files."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def refused_class(reader: ReadContext, layer: Config) -> str:
    """Returns the class without a rule in a layer's config, "" if all are known.

    Raises:
        TypeError: a wrapper without the config of its layer.
    """
    name = class_of(layer)
    if name == "InputLayer" or registered_name(layer):
        return ""
    operation = operation_of(layer)
    if operation:
        return "" if operation in reader.operations else f"operation {operation}"
    if name in WRAPPED and not is_custom(layer):
        wrapped = inner(layer["config"], "layer")
        found = refused_class(reader, wrapped) if wrapped.get("class_name") not in NESTED else ""
        found += f":{wrapped.get('config', {}).get('name')}" if found == "Lambda" else ""
        return f"{name}({found})" if found else ""
    if name == "RNN" and not is_custom(layer):
        cells = cells_of(layer)
        known = [cell.get("class_name") in CELLS and not is_custom(cell) for cell in cells]
        names = ", ".join(str(cell.get("class_name")) for cell in cells)
        return "" if all(known) else f"RNN({names})"
    if name in TAKEN_APART and reader.major == 1 and not is_custom(layer):
        return ""
    if name not in reader.rules or is_custom(layer):
        return str(layer.get("registered_name") or name)
    return ""


def check_classes(reader: ReadContext, layers: list[Config]) -> None:
    """Raises UnsupportedError that names every layer there is no rule for, all at once."""
    wrong = []
    for layer in layers:
        name = layer.get("name") or layer.get("config", {}).get("name")
        try:
            refused = refused_class(reader, layer)
        except (KeyError, TypeError) as error:
            raise _incomplete(reader.where(name), error) from None
        wrong += [f"{refused} ({name})"] if refused else []
    if wrong:
        want = "layers that xlstm knows (docs/models.md)"
        do = "register them with xlstm.register_layer, or stop before them with until="
        raise UnsupportedError(reader.file, want, ", ".join(wrong), do)


def _incomplete(where: str, error: Exception) -> FileError:
    got = f"{type(error).__name__} ({error})"
    return FileError(where, "a complete layer config", got, "save the model again")


def read_layer(reader: ReadContext, layer: Config, context: CallContext) -> tuple[L.LayerSpec, ...]:
    """Returns the specs of one layer's config for the inputs of its call, in order.

    Raises:
        UnsupportedError: an option without an exact form.
        FileError: a config that is incomplete, or whose options contradict each other.
    """
    name = layer.get("config", {}).get("name", layer.get("class_name"))
    specs: list[L.LayerSpec] = []
    try:
        for config in unwrapped(layer):
            found = _specs(reader, config, context)
            specs += found
            if class_of(layer) == "RNN":
                context = CallContext((found[-1].output_shape(context.shapes[0]),))
    except XlstmError as error:
        # wrong sizes are an error of the file here, not of the caller
        kind = FileError if isinstance(error, UsageError) else type(error)
        place = error.where.removeprefix(f"{reader.file}, ")
        own = reader.where(name)
        where = own if place == f"layer {name}" else f"{own}, {place}"
        raise kind(where, error.expected, error.got, error.do) from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise _incomplete(reader.where(name), error) from None
    return tuple(specs)


def unwrapped(layer: Config) -> list[Config]:
    """Returns RNN(cell) as the equivalent layer; stacked cells as layers in a row."""
    if class_of(layer) != "RNN" or registered_name(layer):
        return [layer]
    options = {key: value for key, value in layer["config"].items() if key != "cell"}
    cells = cells_of(layer)
    first, last = 0, len(cells) - 1
    return [
        {
            "class_name": CELLS.get(str(cell.get("class_name")), f"RNN({cell.get('class_name')})"),
            **_custom(layer, layer["config"]["cell"], cell),
            "config": {
                **options,
                **cell.get("config", {}),
                "name": options.get("name"),
                **({} if number == last else BETWEEN),
                **({} if number == first else {"go_backwards": False}),
            },
        }
        for number, cell in enumerate(cells)
    ]


def _custom(*layers: Config) -> Config:
    """Returns options that mark the first of these configs as a user's class, if one is."""
    found = next((layer for layer in layers if is_custom(layer)), {})
    return {key: found.get(key) for key in ("module", "registered_name")}


BETWEEN = {"return_sequences": True, "zero_output_for_mask": False}
"""Options of stacked cells before the last one: their outputs are read at valid steps only."""


def _specs(reader: ReadContext, layer: Config, context: CallContext) -> list[L.LayerSpec]:
    """Returns the specs of one layer that is no stack of cells."""
    where = reader.where(layer.get("config", {}).get("name", layer.get("class_name")))
    if name := registered_name(layer):
        _check_policy(reader, layer.get("config", {}), where)
        return [custom_spec(reader, layer, name, context)]
    class_name, config = reader.modern(layer, where)
    own = reader.rules.get(class_name)
    if own is None or is_custom(layer):
        got = layer.get("registered_name") or class_name
        raise UnsupportedError(where, "a layer of Keras that is known", got, LIMITS)
    _check_keys(reader, config, own, where)
    if "name" not in config and class_name.startswith(NAMED):
        raise KeyError("name")  # files whose errors could not say where
    if not own.joins and len(context.shapes) > 1:
        raise UnsupportedError(where, "a layer of one input", f"{len(context.shapes)}", LIMITS)
    found = own.build(LayerConfig(class_name, config, context, reader))
    return [found] if isinstance(found, L.LayerSpec) else list(found)


NAMED = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM", "Bidirectional", "Dense", "TimeDistributed")
"""Beginnings of class names whose configs are incomplete without a name."""

ENDS = ("_initializer", "_regularizer", "_constraint")
"""Suffixes of keys for training of weights."""


def _check_keys(reader: ReadContext, config: Config, rule: LayerRule, where: str) -> None:
    only = rule.only or {}
    unknown = sorted(set(config) - COMMON - rule.reads - rule.harmless - set(only))
    unknown = [key for key in unknown if not str(key).endswith(ENDS)]
    if unknown:
        got = ", ".join(map(str, unknown))
        raise UnsupportedError(where, "options that are known", got, LIMITS)
    for key, value in only.items():
        if config.get(key, value) != value and config.get(key) is not None:
            got = f"{key}={config[key]!r}"
            raise UnsupportedError(where, f"{key}={value!r}", got[:80], LIMITS)
    _check_policy(reader, config, where)


def _check_policy(reader: ReadContext, config: Config, where: str) -> None:
    """Raises UnsupportedError for a layer that computes in no float dtype."""
    policy = dtype_policy(config.get("dtype"))
    # embeddings and layers that only move numbers may have integers
    counts = not {"units", "filters"} & set(config)
    if policy not in (*DTYPES, *(WHOLE if counts else ())):
        raise UnsupportedError(where, "a float dtype", policy, "save the model unquantised")
    if policy.startswith("mixed"):
        reader.note(f"{where}: policy {policy}; ports compute in one dtype")


def halves_of(config: Config) -> tuple[Config, Config]:
    """Returns configs of the layers inside Bidirectional; the second may be the first reversed."""
    forward = inner(config, "layer")
    if config.get("backward_layer") is not None:
        return forward, inner(config, "backward_layer")
    options = forward.get("config", {})
    turned = {**options, "go_backwards": not options.get("go_backwards", False)}
    return forward, {**forward, "config": turned}


INPUT_ONLY = {"sparse": False, "ragged": False, "optional": False}
"""Options of input layers with only one supported value."""


def read_input(config: Config, where: str) -> L.Input:
    """Reads an input layer, with the option names of any era."""
    for key, value in INPUT_ONLY.items():
        if config.get(key) not in (None, value):
            got = f"{key}={config[key]!r}"
            raise UnsupportedError(where, f"{key}={value!r}", got, LIMITS)
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(shape, (list, tuple)) or not all(
        size is None or (type(size) is int and size > 0) for size in shape
    ):
        got = "none in the config" if shape is None else shape
        raise FileError(where, "an input shape", got, "build the model first")
    dtype = dtype_policy(config.get("dtype") or config.get("input_dtype"))
    dtype = dtype if dtype in (*DTYPES, *WHOLE) else "float32"
    return L.Input(tuple(shape[1:]), dtype, shape[0] if shape else None)


FLAGS = ("use_bias", "return_sequences", "return_state", "go_backwards", "stateful")


def _recurrent(
    layer: LayerConfig, shape: Shape | None = None, units: str = "units"
) -> dict[str, Any]:
    """Returns the options that all recurrent layers share."""
    config = layer.config
    for key in ("dropout", "recurrent_dropout"):
        if config.get(key):
            line = f"{key}={config[key]} acts only in training; ports do not apply it"
            layer.reader.note(f"{layer.where}: {line}")
    return {
        "features": layer.features(shape),
        "units": config[units],
        "activation": layer.activation(),
        **layer.flags(*FLAGS),
        "zero_output_for_mask": layer.flag("zero_output_for_mask", False),
        "dropout": config.get("dropout", 0.0),
        "recurrent_dropout": config.get("recurrent_dropout", 0.0),
    }


SHARED = (
    "units activation use_bias return_sequences return_state go_backwards stateful dropout "
    "recurrent_dropout zero_output_for_mask"
)

HARMLESS = "implementation unroll seed use_cudnn input_dim input_length"

ONLY = {"time_major": False, "num_constants": None}

CALL = "sequences initial_state mask training"


# unit_forget_bias is an initialiser: the trained bias already contains it
@rule("LSTM", f"{SHARED} recurrent_activation", f"{HARMLESS} unit_forget_bias", ONLY, CALL)
def _lstm(layer: LayerConfig) -> Specs:
    gate = layer.activation("recurrent_activation")
    return L.LSTM(gate_activation=gate, **_recurrent(layer))


@rule("GRU", f"{SHARED} recurrent_activation reset_after", HARMLESS, ONLY, CALL)
def _gru(layer: LayerConfig) -> Specs:
    gate = layer.activation("recurrent_activation")
    after = layer.flag("reset_after")
    return L.GRU(gate_activation=gate, reset_after=after, **_recurrent(layer))


@rule("SimpleRNN", SHARED, HARMLESS, ONLY, CALL)
def _simple_rnn(layer: LayerConfig) -> Specs:
    return L.SimpleRNN(**_recurrent(layer))


@rule(
    "Bidirectional",
    "layer backward_layer merge_mode",
    "input_dim input_length",
    {"num_constants": None},
    CALL,
)
def _bidirectional(layer: LayerConfig) -> Specs:
    config, shape, reader = layer.config, layer.shape, layer.reader
    halves = halves_of(config)
    firsts = [class_of(half) in CONV_LSTMS and is_first(half["config"]) for half in halves]
    if len({*firsts}) > 1:
        raise layer.refused("halves of one data_format", "channels_first in one")
    forward, backward = (_half(half, shape, reader) for half in halves)
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


@rule(
    " ".join(CONV_LSTMS),
    f"{SHARED} filters kernel_size strides padding data_format dilation_rate recurrent_activation",
    f"{HARMLESS} unit_forget_bias",
    ONLY,
    CALL,
)
def _conv_lstm(layer: LayerConfig) -> Specs:
    config, rank, shape = layer.config, layer.rank, layer.shape
    shape = _steps_last(rank).output_shape(shape) if layer.is_first else shape
    options = _recurrent(layer, shape, "filters")
    window, strides = sizes(config["kernel_size"], rank), sizes(config["strides"], rank)
    check_same(layer.reader, window, strides, config["padding"], layer.where)
    spec = L.ConvLSTM(
        gate_activation=layer.activation("recurrent_activation"),
        space=tuple(shape[1:-1]),
        window=window,
        strides=strides,
        padding=config["padding"],
        dilation=sizes(config["dilation_rate"], rank),
        **options,
    )
    return _channels_first(spec, rank) if layer.is_first else spec


@rule(
    "Dense",
    "units activation use_bias",
    # files store kernels with LoRA merged; other arrays raise an error as unused
    "input_dim input_length lora_rank lora_alpha",
    {"quantization_config": None},
)
def _dense(layer: LayerConfig) -> Specs:
    return L.Dense(
        features=layer.features(),
        units=layer.config["units"],
        activation=layer.activation(),
        use_bias=layer.flag("use_bias"),
    )


@rule("TimeDistributed", "layer", arguments="inputs training mask")
def _time_distributed(layer: LayerConfig) -> Specs:
    wrapped, shape, reader = inner(layer.config, "layer"), layer.shape, layer.reader
    if len(shape) < 2:
        got = f"(batch, {str(shape)[1:]}"
        raise layer.refused("an input with a time axis, (batch, time, ...)", got)
    found: list[L.LayerSpec] = []
    for spec in read_layer(reader, wrapped, CallContext((shape[1:],))):
        # Keras 3 drops the mask of an Embedding in TimeDistributed
        if isinstance(spec, L.Embedding) and reader.major > 2:
            spec = replace(spec, mask_zero=False)
        # axes counted from the end are the same at every step
        found.append(spec if isinstance(spec, L.Concatenate) else time_distributed(spec))
    return found


@rule("Masking", "mask_value", arguments="inputs")
def _masking(layer: LayerConfig) -> Specs:
    value = layer.config["mask_value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise layer.refused(
            "a mask_value that is one number", f"mask_value of {type(value).__name__}"
        )
    return L.Masking(value)  # in float32, as Keras compares


CLASSES = frozenset({*RULES, *ERA_CLASSES, *NESTED, "InputLayer", "RNN"})
"""Every class that is read without registration."""
