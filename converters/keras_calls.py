"""How a layer of a Keras model is called: on what, with which mask and states, in every era."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlstm.converters.keras_configs import class_of
from xlstm.converters.keras_context import LIMITS, Config, is_operation
from xlstm.converters.keras_rules import RULES

from xlstm.errors import FileError, UnsupportedError

ANEW = "save the model anew"

MASK = -1
"""Number of the output that is a Masking layer's mask: no config has such a number."""


class Tensor(NamedTuple):
    """One output of one call of a layer, as configs name it."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """A layer or operation, and what it is called on.

    Attributes:
        name: its name.
        layer: its config.
        inputs: what it reads.
        states: what its states start from.
        mask: the mask that the call names.
        constants: further arguments of an operation.
    """

    name: str
    layer: Config
    inputs: tuple[Tensor, ...] = ()
    states: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    constants: tuple[Any, ...] = ()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Every tensor it is called on."""
        return (*self.inputs, *self.states, *([self.mask] if self.mask else []))

    @property
    def kind(self) -> str:
        """Its class, as the config has it."""
        return str(self.layer.get("class_name"))


def read_call(name: str, layer: Config, where: str) -> Call:
    """The one call of a layer.

    Raises:
        UnsupportedError: several calls, or arguments that the hub has no form of.
        FileError: a config that is incomplete or contradicts itself.
    """
    if layer.get("class_name") == "InputLayer":
        return Call(name, layer)
    nodes = layer.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise FileError(where, "a list of calls", type(nodes).__name__, ANEW)
    if len(nodes) != 1:
        raise UnsupportedError(where, "a layer that is called once", f"{len(nodes)} calls", LIMITS)
    if is_operation(layer):
        return _operation(name, layer, nodes[0], where)
    new = isinstance(nodes[0], Mapping)
    arguments = (_new_arguments if new else _old_arguments)(layer, nodes[0], where)
    _check_arguments(layer, arguments, where)
    inputs, states, masks = (
        tuple(tensors_in(arguments.get(key), f"{where}, {key or 'inputs'}"))
        for key in ("", "initial_state", "mask")
    )
    if len(masks) > 1 or not inputs:
        got = f"{len(inputs)} inputs and {len(masks)} masks"
        raise FileError(where, "inputs, and one mask at most", got, ANEW)
    return Call(name, layer, inputs, states, masks[0] if masks else None)


def _operation(name: str, layer: Config, node: Any, where: str) -> Call:
    args, kwargs = _parts(node, where)
    inputs = tuple(tensors_in(args[:1], where))
    if not inputs:
        raise FileError(where, "an operation on a tensor", "none", ANEW)
    return Call(name, layer, inputs, constants=(*args[1:], *kwargs.values()))


def _parts(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments by place and by name of a call as Keras 3 writes it."""
    args = node.get("args", []) if isinstance(node, Mapping) else None
    kwargs = node.get("kwargs", {}) if isinstance(node, Mapping) else None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise FileError(where, "a call with args and kwargs", type(node).__name__, ANEW)
    return args, kwargs


def _arguments_of(layer: Config) -> tuple[str, ...]:
    """What the call of a layer takes, in order; the first is the data."""
    kind = class_of(layer)
    return RULES["LSTM" if kind == "RNN" else kind].arguments


def _new_arguments(layer: Config, node: Any, where: str) -> dict[str, Any]:
    """Arguments of a call by name as Keras 3 writes them; the data's name is ""."""
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
    """Arguments of a call by name as Keras 1 and 2 write them: states follow the data."""
    items = list(_items(node, where))
    options = [item[3] for item in items if len(item) > 3]
    kwargs = options[0] if options else {}
    if not isinstance(kwargs, dict) or not all(other in (kwargs, {}) for other in options):
        raise FileError(where, "one set of options of a call", type(kwargs).__name__, ANEW)
    tensors = [item[:3] for item in items]
    if "initial_state" not in _arguments_of(layer) or len(tensors) < 2:
        return {"": tensors, **kwargs}
    data, *states = tensors
    named = [list(tensor) for tensor in tensors_in(kwargs.get("initial_state"), where)]
    if named not in ([], states):
        raise FileError(where, "one set of initial states", f"{states} and {named}", ANEW)
    return {"": [data], **kwargs, "initial_state": states}


def _items(node: Any, where: str) -> Iterator[list[Any]]:
    """The tensors of a call as Keras 1 and 2 write them, nested as they may be, with options."""
    if not isinstance(node, list):
        raise FileError(where, "a list of inputs", type(node).__name__, ANEW)
    if _is_tensor(node[:3]):
        yield node
    elif node[:2] == ["_CONSTANT_VALUE", -1]:
        raise UnsupportedError(where, "outputs of layers", f"a constant ({node[2:3]})", LIMITS)
    else:
        for item in node:
            yield from _items(item, where)


def _check_arguments(layer: Config, arguments: Mapping[str, Any], where: str) -> None:
    """Raises UnsupportedError for arguments of a call that would change what it computes."""
    known = _arguments_of(layer)[1:]
    unknown = [
        str(key)
        for key, value in arguments.items()
        if key not in ("", *known) and value not in (None, False)
    ]
    if unknown:
        want = f"a call with {', '.join(known) or 'nothing'} beside the data"
        raise UnsupportedError(where, want, ", ".join(unknown), LIMITS)
    options = layer.get("config", {})
    noise = [key for key in ("rate", "dropout", "recurrent_dropout") if options.get(key)]
    if arguments.get("training") and noise:
        got = f"training=True with {noise[0]}={options[noise[0]]}"
        do = "call the layer without training=True and save the model anew"
        raise UnsupportedError(where, "a layer without noise when it is used", got, do)


def _is_tensor(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(number) is int and number >= 0 for number in value[1:])
    )


def tensors_in(value: Any, where: str) -> Iterator[Tensor]:
    """All tensors in an argument of a call, nested as it may be; those of a dict by its keys.

    Raises:
        UnsupportedError: something else among them, such as a constant.
    """
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        options = value.get("config", {})
        value = options.get("keras_history") if isinstance(options, Mapping) else None
        if not _is_tensor(value):
            raise FileError(where, "the layer that a tensor comes from", value, ANEW)
    if _is_tensor(value):
        yield Tensor(*value)
    elif isinstance(value, Mapping) and "class_name" not in value:
        for key in sorted(value):
            yield from tensors_in(value[key], where)
    elif isinstance(value, list):
        for item in value:
            yield from tensors_in(item, where)
    elif value is not None:
        got = value.get("class_name") if isinstance(value, Mapping) else repr(value)
        raise UnsupportedError(where, "outputs of layers", f"a constant ({got})", LIMITS)


def mentioned(value: Any) -> Iterator[Tensor]:
    """Every tensor that a config names anywhere, whatever else it holds."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from mentioned(item)
    elif isinstance(value, list) and _is_tensor(value[:3]):
        yield Tensor(*value[:3])
        yield from mentioned(value[3:])
    elif isinstance(value, list):
        for item in value:
            yield from mentioned(item)
