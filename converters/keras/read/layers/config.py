"""Converts the config of one Keras layer to its specs, by the rule of its class; no framework.

In: a config and the shapes of its inputs. Out: specs. For an input of 3 features:

    {"class_name": "LSTM", "config": {"units": 4, ...}}    LSTM(features=3, units=4)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from xlstm.errors import FileError, UnsupportedError, UsageError, XlstmError
from xlstm.ir.layers import Input, LayerSpec

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

COMMON = frozenset(
    "name trainable dtype batch_input_shape batch_shape input_dtype activity_regularizer "
    "kernel_initializer recurrent_initializer bias_initializer kernel_regularizer "
    "recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint "
    "bias_constraint".split()
)
"""Keys that never change what a trained layer computes."""

CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "SimpleRNN"}
"""Class of a cell inside RNN -> the equivalent layer."""

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


KNOWN = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM", "Bidirectional", "RNN")

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
        want = f"layers that are known: {', '.join(KNOWN)} and those around them"
        do = "tell them by xlstm.register_layer, or port the part up to a layer with until="
        raise UnsupportedError(reader.file, want, ", ".join(wrong), do)


def _incomplete(where: str, error: Exception) -> FileError:
    got = f"{type(error).__name__} ({error})"
    return FileError(where, "a complete layer config", got, "save the model anew")


def read_layer(reader: ReadContext, layer: Config, given: CallContext) -> tuple[LayerSpec, ...]:
    """Returns the specs of one layer's config for the inputs of its call, in order.

    Raises:
        UnsupportedError: an option without an exact form.
        FileError: a config that is incomplete, or whose options contradict each other.
    """
    name = layer.get("config", {}).get("name", layer.get("class_name"))
    specs: list[LayerSpec] = []
    try:
        for config in unwrapped(layer):
            found = _specs(reader, config, given)
            specs += found
            if class_of(layer) == "RNN":
                given = CallContext((found[-1].output_shape(given.shapes[0]),))
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


def _specs(reader: ReadContext, layer: Config, given: CallContext) -> list[LayerSpec]:
    """Returns the specs of one layer that is no stack of cells."""
    where = reader.where(layer.get("config", {}).get("name", layer.get("class_name")))
    if name := registered_name(layer):
        _check_policy(reader, layer.get("config", {}), where)
        return [custom_spec(reader, layer, name, given)]
    class_name, config = reader.modern(layer, where)
    rule = reader.rules.get(class_name)
    if rule is None or is_custom(layer):
        got = layer.get("registered_name") or class_name
        raise UnsupportedError(where, "a layer of Keras that is known", got, LIMITS)
    _check_keys(reader, config, rule, where)
    if not rule.joins and len(given.shapes) > 1:
        raise UnsupportedError(where, "a layer of one input", f"{len(given.shapes)}", LIMITS)
    found = rule.build(config, given if rule.joins else given.shapes[0], reader)
    return [found] if isinstance(found, LayerSpec) else list(found)


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


def read_input(config: Config, where: str) -> Input:
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
    return Input(tuple(shape[1:]), dtype, shape[0] if shape else None)
