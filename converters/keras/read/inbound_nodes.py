"""Reads the calls of a Keras layer: its inputs, masks and states, in configs of every version.

In: the config of a layer. Out: its LayerCalls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from xlstm.errors import FileError, UnsupportedError, kind_in_words
from xlstm.ir.layers.operations import CONSTANT_MOST

from ..versions import TAKEN_APART
from .context import LIMITS, NESTED, Config, is_operation, registered_name
from .layers.config import LAMBDAS, class_of
from .layers.options import RULES
from .ops.node_defs import NodeDef, decode_node, is_node, node_arguments

ANEW = "save the model again"

MASK = -1
"""Number of the output that stands for a Masking layer's mask; no config has such a number."""


def _mapping(value: Any) -> Mapping[str, Any]:
    """Returns a config, empty if there is none."""
    return value if isinstance(value, Mapping) else {}


def _only_zeros(value: Any) -> bool:
    """True if an argument consists of constants that are all zero."""
    if isinstance(value, list):
        return bool(value) and all(map(_only_zeros, value))
    if isinstance(value, Mapping) and value.get("class_name") in CONSTANTS:
        return _only_zeros(_mapping(value.get("config")).get("value"))
    return type(value) in (int, float) and value == 0


class Fixed(NamedTuple):
    """A constant state: its numbers for each sample, and the batch size; 1 for any."""

    numbers: tuple[float, ...]
    rows: int


def _fixed_starts(start: Any, where: str) -> dict[int, Fixed]:
    """Returns the constant initial states by place.

    Raises:
        UnsupportedError: constants that differ from sample to sample.
    """
    found: dict[int, Fixed] = {}
    for place, item in enumerate(start if isinstance(start, list) else [start]):
        if not isinstance(item, Mapping) or item.get("class_name") not in CONSTANTS:
            continue
        rows = _mapping(item.get("config")).get("value")
        rows = rows if isinstance(rows, list) and rows and isinstance(rows[0], list) else [rows]
        row = rows[0]
        # NaN, infinity and integers beyond float64 all fail this comparison
        plain = isinstance(row, list) and all(
            type(n) in (int, float) and abs(n) < 1e308 for n in row
        )
        if not plain or any(other != row for other in rows) or len(row) > CONSTANT_MOST:
            want = f"states, or {CONSTANT_MOST} numbers at most that are the same for every sample"
            raise UnsupportedError(where, want, f"a constant ({item['class_name']})", LIMITS)
        found[place] = Fixed(tuple(map(float, row)), len(rows))
    return found


CONSTANTS = ("__numpy__", "__tensor__")
"""Classes of arrays in configs of Keras 3."""


def _without(start: Any, fixed: Mapping[int, Fixed]) -> Any:
    """Returns initial states without constants."""
    if not fixed:
        return start
    items = start if isinstance(start, list) else [start]
    return [item for place, item in enumerate(items) if place not in fixed]


class KerasTensor(NamedTuple):
    """One output of one call of a layer, as configs name it."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer or operation.

    Attributes:
        name: the layer's name, after those of the models around it, with slashes.
        layer: its config.
        inputs: tensors that it reads.
        states: initial states.
        zeros: True if the call names zeros as initial states, which is the default.
        fixed: index of a state -> its constant initial value.
        masks: the masks that the call names, one for each input, or one for the only input.
        options: other arguments of the call that change the function.
        arguments: arguments of an operation, by place.
        number: number of the call of the layer, from 0 on.
        group: path of its layer's variables in new weights files.
        home: names of the layers around its layer, the outermost first, and its own.
        wraps: number of TimeDistributed around the model that contains it.
        same: marks of its layer; two layers with one mark are one.
    """

    name: str
    layer: Config
    inputs: tuple[KerasTensor, ...] = ()
    states: tuple[KerasTensor, ...] = ()
    zeros: bool = False
    fixed: Mapping[int, Fixed] = field(default_factory=dict)
    masks: tuple[KerasTensor | None, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()
    number: int = 0
    group: str = ""
    home: tuple[str, ...] = ()
    wraps: int = 0
    same: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[KerasTensor, ...]:
        """Every tensor that it reads."""
        return (*self.inputs, *self.states, *(mask for mask in self.masks if mask))

    @property
    def started(self) -> bool:
        """True if the call names initial states."""
        return self.zeros or bool(self.states) or bool(self.fixed)

    @property
    def kind(self) -> str:
        """Class in the config."""
        return str(self.layer.get("class_name"))

    def output(self, number: int = 0) -> KerasTensor:
        """Returns one of its outputs."""
        return KerasTensor(self.name, self.number, number)


def read_calls(name: str, layer: Config, where: str) -> list[LayerCall]:
    """Reads all calls of a layer.

    Raises:
        UnsupportedError: arguments without an exact form.
        FileError: a config that is incomplete or contradicts itself.
    """
    if layer.get("class_name") == "InputLayer":
        return [LayerCall(name, layer, home=(name,))]
    nodes = layer.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise FileError(where, "a list of calls", kind_in_words(nodes), ANEW)
    read: Callable[[str, Config, Any, str], LayerCall]
    read = _operation if is_operation(layer) or class_of(layer) in LAMBDAS else _layer_call
    read = _read_node(decode_node(layer, where)) if is_node(layer) else read
    read = _registered_call if registered_name(layer) else read
    calls = [read(name, layer, node, where) for node in nodes]
    return [replace(call, number=n, home=(name,)) for n, call in enumerate(calls)]


def _layer_call(name: str, layer: Config, node: Any, where: str) -> LayerCall:
    new = isinstance(node, Mapping)
    arguments = (_new_arguments if new else _old_arguments)(layer, node, where)
    options = _check_arguments(layer, arguments, where)
    data = [key for key in ("", *MORE_DATA) if arguments.get(key) is not None]
    inputs = [t for key in data for t in tensors_in(arguments[key], f"{where}, {key or 'inputs'}")]
    start = arguments.get("initial_state")
    zeros = _only_zeros(start)
    fixed = {} if zeros else _fixed_starts(start, f"{where}, initial_state")
    states = () if zeros else tensors_in(_without(start, fixed), f"{where}, initial_state")
    masks = _masks(arguments, data, len(inputs), where)
    if len(masks) > len(inputs) or not inputs:
        got = f"{len(inputs)} inputs and {len(masks)} masks"
        raise FileError(where, "inputs, and one mask at most for each", got, ANEW)
    return LayerCall(name, layer, tuple(inputs), tuple(states), zeros, fixed, masks, options)


def _registered_call(name: str, layer: Config, node: Any, where: str) -> LayerCall:
    """Reads the call of a registered layer: its tensors in order, and a mask if it has one."""
    if isinstance(node, Mapping):
        args, kwargs = _parts(node, where)
    else:
        items = list(_items(node, where))
        args = [item[:3] for item in items]
        kwargs = next((item[3] for item in items if len(item) > 3), {})
    named = dict(_mapping(kwargs))
    mask = list(tensors_in(named.pop("mask", None), f"{where}, mask"))
    if named.pop("training", None):
        do = "call the layer without training=True and save the model again"
        raise UnsupportedError(where, "a layer as it is when used", "training=True", do)
    values = [*args, *(value for value in named.values() if value is not False)]
    inputs = tuple(t for value in values for t in tensors_in(value, f"{where}, inputs"))
    if not inputs or len(mask) > 1:
        got = f"{len(inputs)} inputs and {len(mask)} masks"
        raise UnsupportedError(where, "inputs, and one mask at most", got, LIMITS)
    return LayerCall(name, layer, inputs, masks=tuple(mask))


MORE_DATA = ("value", "key")
"""Arguments after the first that are data as well."""


def _masks(
    arguments: Mapping[str, Any], data: list[str], count: int, where: str
) -> tuple[KerasTensor | None, ...]:
    """Returns the masks that a call names, None for inputs without one."""
    first = arguments.get("query_mask", arguments.get("mask"))
    found = [first, *(arguments.get(f"{key}_mask") for key in data[1:])]
    if len(data) == 1 and isinstance(first, list) and not _is_history(first):
        found = first
    if not any(mask is not None for mask in found):
        return ()
    read = [list(tensors_in(mask, f"{where}, mask")) for mask in found]
    if any(len(tensors) > 1 for tensors in read):
        raise FileError(where, "one mask at most for each input", f"{found}"[:80], ANEW)
    masks = tuple(tensors[0] if tensors else None for tensors in read)
    return masks + (None,) * (count - len(masks))


def _operation(name: str, layer: Config, node: Any, where: str) -> LayerCall:
    """Reads the call of an operation: arguments by place, with tensors as KerasTensor."""
    if isinstance(node, Mapping):
        args, kwargs = _parts(node, where)
    else:
        args, kwargs = _lambda_arguments(node, where)
    found = [_argument(arg) for arg in args]
    named = {str(key): _argument(value) for key, value in kwargs.items()}
    options = {**_mapping(layer.get("config")), **named}
    tensors = [t for arg in (*found, *named.values()) for t in _tensors(arg)]
    if not tensors:
        raise FileError(where, "an operation on a tensor", "none", ANEW)
    return LayerCall(name, layer, tuple(tensors), options=options, arguments=tuple(found))


def _lambda_arguments(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """Returns the arguments of an operation of tf.keras: one tensor, or a list of them."""
    if not isinstance(node, list) or not node:
        raise FileError(where, "a list of inputs", kind_in_words(node), ANEW)
    items = [node] if _is_history(node[:3]) or node[0] == "_CONSTANT_VALUE" else node
    if not all(isinstance(item, list) and len(item) >= 3 for item in items):
        raise FileError(where, "a list of inputs", kind_in_words(node), ANEW)
    kwargs = items[0][3] if len(items[0]) > 3 else {}
    values = [item[2] if item[0] == "_CONSTANT_VALUE" else item[:3] for item in items]
    return values if len(items) == 1 else [values], dict(_mapping(kwargs))


def _read_node(made: NodeDef) -> Callable[[str, Config, Any, str], LayerCall]:
    """Returns a reader for calls of a TensorFlow node, whose constants are in its config."""

    def read(name: str, layer: Config, node: Any, where: str) -> LayerCall:
        items = list(_items(node, where))
        if not items or any(item[3:] not in ([], [{}]) for item in items):
            raise FileError(where, "a node on tensors, without options", f"{items}"[:80], ANEW)
        tensors = tuple(KerasTensor(*item[:3]) for item in items)
        by_place, by_name = node_arguments(made, tensors)
        return LayerCall(name, layer, tensors, options=by_name, arguments=by_place)

    return read


def _argument(value: Any) -> Any:
    """Converts an argument of an operation; tensors and slices become objects."""
    if _is_history(value):
        return KerasTensor(*value)
    if isinstance(value, list):
        return [_argument(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    own = _mapping(value.get("config", value))
    if value.get("class_name") == "__keras_tensor__" and _is_history(own.get("keras_history")):
        return KerasTensor(*own["keras_history"])
    if value.get("class_name") == "__slice__" or {"start", "stop", "step"} <= set(value):
        return slice(*(own.get(key) for key in ("start", "stop", "step")))
    if value.get("class_name") == "__tuple__":
        return [_argument(item) for item in own.get("items", value.get("items", []))]
    return value


def _tensors(argument: Any) -> Iterator[KerasTensor]:
    if isinstance(argument, KerasTensor):
        yield argument
    elif isinstance(argument, list):
        for item in argument:
            yield from _tensors(item)


def _parts(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """Returns the arguments by place and by name of a call in the form of Keras 3."""
    args = node.get("args", []) if isinstance(node, Mapping) else None
    kwargs = node.get("kwargs", {}) if isinstance(node, Mapping) else None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise FileError(where, "a call with args and kwargs", kind_in_words(node), ANEW)
    return args, kwargs


def _arguments_of(layer: Config) -> tuple[str, ...]:
    """Returns the argument names of a layer's call, in order; the first is the data."""
    kind = class_of(layer)
    if kind in NESTED:
        return ("inputs", "training", "mask")
    if kind in TAKEN_APART:
        return ("x", "mask")
    return RULES["LSTM" if kind == "RNN" else kind].arguments


def _new_arguments(layer: Config, node: Any, where: str) -> dict[str, Any]:
    """Returns arguments of a call by name, in the form of Keras 3; the data's name is ""."""
    args, kwargs = _parts(node, where)
    data, *rest = _arguments_of(layer)
    if len(args) > len(rest) + 1:
        got = f"{len(args)} arguments"
        raise UnsupportedError(where, f"arguments {', '.join([data, *rest])}", got, LIMITS)
    by_place = dict(zip(["", *rest], args, strict=False))
    by_name = {"" if key == data else str(key): value for key, value in kwargs.items()}
    if by_place.keys() & by_name.keys():
        raise FileError(where, "arguments named once", ", ".join(map(str, kwargs)), ANEW)
    return by_place | by_name


def _old_arguments(layer: Config, node: Any, where: str) -> dict[str, Any]:
    """Returns arguments of a call by name, in the form of Keras 1 and 2: states follow the data."""
    items = list(_items(node, where))
    options = [item[3] for item in items if len(item) > 3]
    kwargs = options[0] if options else {}
    if not isinstance(kwargs, dict) or not all(other in (kwargs, {}) for other in options):
        raise FileError(where, "one set of options of a call", kind_in_words(kwargs), ANEW)
    tensors = [item[:3] for item in items]
    if "initial_state" not in _arguments_of(layer) or len(tensors) < 2:
        return {"": tensors, **kwargs}
    data, *states = tensors
    named = [list(tensor) for tensor in tensors_in(kwargs.get("initial_state"), where)]
    if named not in ([], states):
        raise FileError(where, "one set of initial states", f"{states} and {named}", ANEW)
    return {"": [data], **kwargs, "initial_state": states}


def _items(node: Any, where: str) -> Iterator[list[Any]]:
    """Yields the tensors of a call in the form of Keras 1 and 2, nested or not, with options."""
    if not isinstance(node, list):
        raise FileError(where, "a list of inputs", kind_in_words(node), ANEW)
    if _is_history(node[:3]):
        yield node
    elif node[:2] == ["_CONSTANT_VALUE", -1]:
        raise UnsupportedError(where, "outputs of layers", f"a constant ({node[2:3]})", LIMITS)
    else:
        for item in node:
            yield from _items(item, where)


def _check_arguments(layer: Config, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the arguments of a call, beside its data, that change its function.

    Raises:
        UnsupportedError: arguments that no spec has.
    """
    known = _arguments_of(layer)[1:]
    masks = (f"{key}_mask" for key in ("query", *MORE_DATA))
    data = ("initial_state", "mask", "training", *MORE_DATA, *masks)
    unknown = [
        str(key)
        for key, value in arguments.items()
        if key not in ("", *known) and value not in (None, False)
    ]
    if unknown:
        want = f"a call with {', '.join(known) or 'nothing'} beside the data"
        raise UnsupportedError(where, want, ", ".join(unknown), LIMITS)
    options = layer.get("config", {})
    noise = [key for key in NOISE if isinstance(options, Mapping) and options.get(key)]
    if arguments.get("training") and noise:
        got = f"training=True with {noise[0]}={options[noise[0]]}"
        do = "call the layer without training=True and save the model again"
        raise UnsupportedError(where, "a layer without noise when it is used", got, do)
    if arguments.get("training") and class_of(layer) == "BatchNormalization":
        do = "call the layer without training=True and save the model again"
        raise UnsupportedError(where, "statistics kept from training", "training=True", do)
    return {key: arguments[key] for key in known if key in arguments and key not in data}


NOISE = ("rate", "dropout", "recurrent_dropout", "stddev")
"""Options of noise in training."""


def is_tensor(value: Any) -> bool:
    """True if an argument of a call is a single output of a layer, in either form."""
    named = isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"
    return named or _is_history(value)


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(number) is int and number >= 0 for number in value[1:])
    )


def tensors_in(value: Any, where: str) -> Iterator[KerasTensor]:
    """Yields all tensors in an argument of a call, from nested lists, and from dicts by key.

    Raises:
        UnsupportedError: something else among them, such as a constant.
    """
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        options = value.get("config", {})
        value = options.get("keras_history") if isinstance(options, Mapping) else None
        if not _is_history(value):
            raise FileError(where, "the layer that a tensor comes from", value, ANEW)
    if _is_history(value):
        yield KerasTensor(*value)
    elif isinstance(value, Mapping) and "class_name" not in value:
        for key in sorted(value):
            yield from tensors_in(value[key], where)
    elif isinstance(value, list):
        for item in value:
            yield from tensors_in(item, where)
    elif value is not None:
        got = value.get("class_name") if isinstance(value, Mapping) else repr(value)
        raise UnsupportedError(where, "outputs of layers", f"a constant ({got})", LIMITS)


def mentioned(value: Any) -> Iterator[KerasTensor]:
    """Yields every tensor named anywhere in a config."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from mentioned(item)
    elif isinstance(value, list) and _is_history(value[:3]):
        yield KerasTensor(*value[:3])
        yield from mentioned(value[3:])
    elif isinstance(value, list):
        for item in value:
            yield from mentioned(item)
