"""Which layer of a Keras model reads what: every era's Sequential and functional configs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xlstm.converters.keras_calls import (
    ANEW,
    MASK,
    Call,
    Tensor,
    read_call,
    tensors_in,
)
from xlstm.converters.keras_context import LIMITS, Config, is_custom, is_operation

from xlstm.errors import FileError, UnsupportedError

FUNCTIONAL = ("Functional", "Model")
"""Classes of functional models; the second in Keras 1 and 2."""


@dataclass(frozen=True)
class Graph:
    """A Keras model.

    Attributes:
        name: the model's.
        calls: of layers, the input layers among them, each after those it reads.
        inputs: names of the input layers, in calling order.
        outputs: what the model returns.
    """

    name: str
    calls: tuple[Call, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Tensor, ...]

    def masks_alone(self) -> set[str]:
        """The input layers that are read as masks and as nothing else."""
        read = {t.layer for call in self.calls for t in (*call.inputs, *call.states)}
        read |= {tensor.layer for tensor in self.outputs}
        return {call.mask.layer for call in self.calls if call.mask} & set(self.inputs) - read


def layers_of(config: Config, where: str) -> list[Config]:
    """The configs of a model's layers and operations.

    Raises:
        UnsupportedError: a model that is neither Sequential nor functional.
        FileError: a config without layers.
    """
    kind, own = config.get("class_name"), config.get("config")
    if is_custom(config) or kind not in ("Sequential", *FUNCTIONAL):
        got = config.get("registered_name") or kind
        raise UnsupportedError(where, "a Sequential or functional model", got, LIMITS)
    layers = own.get("layers") if isinstance(own, Mapping) else own  # a list until Keras 2.2.2
    if not isinstance(layers, list) or not layers:
        raise FileError(where, "a config with layers", type(own).__name__, ANEW)
    for layer in layers:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config", {}), Mapping):
            raise FileError(where, "a layer as a mapping of options", type(layer).__name__, ANEW)
    return layers


def name_of(layer: Config) -> str:
    """A layer's name."""
    options = layer.get("config")
    own = options.get("name") if isinstance(options, Mapping) else None
    return str(layer.get("name") or own or layer.get("class_name"))


def read_graph(config: Config, where: str) -> Graph:
    """The graph of a model's config.

    Raises:
        UnsupportedError: layers called in ways that the hub has no form of.
        FileError: a config that is incomplete or contradicts itself.
    """
    layers, own = layers_of(config, where), config.get("config")
    kind = str(config["class_name"])
    name = str(own.get("name", kind.lower())) if isinstance(own, Mapping) else kind.lower()
    names = [name_of(layer) for layer in layers]
    if len(set(names)) != len(names):
        raise FileError(where, "layers with names that differ", ", ".join(names), ANEW)
    if kind == "Sequential":
        return _sequential(name, own, layers, where)
    if not isinstance(own, Mapping):
        raise FileError(where, "a config with layers", type(own).__name__, ANEW)
    return _functional(name, own, layers, where)


def _sequential(name: str, config: Any, layers: list[Config], where: str) -> Graph:
    """The graph of a chain."""
    first = layers[0]
    if first.get("class_name") != "InputLayer":
        first = {"class_name": "InputLayer", "config": _built_for(config, first)}
    rest = {name_of(la): la for la in layers if la.get("class_name") != "InputLayer"}
    if not rest:
        raise FileError(where, "a model with layers", "none", ANEW)
    start = "input"
    while start in rest:
        start += "_"
    calls, x = [Call(start, first)], Tensor(start, 0, 0)
    for layer_name, layer in rest.items():
        calls.append(Call(layer_name, layer, (x,)))
        x = Tensor(layer_name, 0, 0)
    return Graph(name, tuple(calls), (start,), (x,))


def _built_for(config: Any, first: Config) -> Config:
    """Options of the input layer that a Sequential model has not: each era keeps them elsewhere."""
    options, built = first.get("config", {}), first.get("build_config")
    built = built if isinstance(built, Mapping) else {}
    shapes = built.get("shapes_dict")
    places = [options.get("batch_shape"), options.get("batch_input_shape")]
    places += [config.get("build_input_shape")] if isinstance(config, Mapping) else []
    places += [built.get("input_shape")]
    places += [shapes.get("sequences_shape")] if isinstance(shapes, Mapping) else []
    shape = next((place for place in places if place is not None), None)
    return {"batch_shape": shape, "dtype": options.get("input_dtype", options.get("dtype"))}


def _functional(name: str, config: Config, layers: list[Config], where: str) -> Graph:
    calls = [read_call(n := name_of(la), la, f"{where}, layer {n}") for la in layers]
    inputs = [tensor.layer for tensor in _ends(config, "input_layers", where)]
    outputs = _ends(config, "output_layers", where)
    if isinstance(config.get("output_layers"), Mapping):
        got = f"a dict of {', '.join(map(str, config['output_layers']))}"
        raise UnsupportedError(where, "outputs as a list", got, LIMITS)
    known = [call.name for call in calls if call.kind == "InputLayer"]
    if sorted(inputs) != sorted(known):
        raise FileError(where, f"inputs {', '.join(known)}", ", ".join(inputs), ANEW)
    calls = _sorted(_without_operations(calls, outputs, where), outputs, where)
    return Graph(name, tuple(calls), tuple(inputs), tuple(outputs))


def _ends(config: Config, key: str, where: str) -> list[Tensor]:
    """The tensors that are a model's inputs or outputs."""
    found = list(tensors_in(config.get(key), f"{where}, {key}"))
    if not found:
        raise FileError(where, key, "none", ANEW)
    return found


def _without_operations(calls: list[Call], outputs: list[Tensor], where: str) -> list[Call]:
    """The calls of layers, which read the masks of Masking layers where they named operations.

    Raises:
        UnsupportedError: an operation that is something else than such a mask.
    """
    operations = {call.name: call for call in calls if is_operation(call.layer)}
    layers = [call for call in calls if call.name not in operations]
    data = [tensor for call in layers for tensor in (*call.inputs, *call.states)]
    for tensor in (*data, *outputs):
        if tensor.layer in operations:
            got = f"operation {operations[tensor.layer].kind} ({tensor.layer})"
            raise UnsupportedError(where, "layers alone", got, LIMITS)
    return [
        replace(call, mask=_masking(operations[call.mask.layer], operations, layers, where))
        if call.mask and call.mask.layer in operations
        else call
        for call in layers
    ]


def _masking(
    call: Call, operations: Mapping[str, Call], layers: Sequence[Call], where: str
) -> Tensor:
    """The mask of the Masking layer that an operation computes anew: any(x != value)."""
    options = call.layer.get("config", {})
    compared = operations.get(call.inputs[0].layer, call)
    last = options.get("axis") in (-1, [-1]) and not options.get("keepdims")
    if last and (call.kind, compared.kind) == ("Any", "NotEqual"):
        for layer in layers:
            value = layer.layer.get("config", {}).get("mask_value")
            same = layer.inputs == compared.inputs and compared.constants == (value,)
            if same and layer.kind == "Masking":
                return Tensor(layer.name, 0, MASK)
    want, got = "the mask of a Masking layer", f"operation {call.kind} ({call.name})"
    raise UnsupportedError(where, want, got, LIMITS)


def _sorted(calls: list[Call], outputs: list[Tensor], where: str) -> list[Call]:
    """The calls, each after those it reads; as they were where that allows it.

    Raises:
        FileError: a call that reads a layer that does not exist, or itself by way of others.
    """
    by_name = {call.name: call for call in calls}
    for tensor in (*outputs, *(tensor for call in calls for tensor in call.reads)):
        if tensor.layer not in by_name or tensor.call != 0:
            got = f"call {tensor.call} of {tensor.layer}"
            raise FileError(where, "outputs of layers of the model", got, ANEW)
    done: dict[str, Call] = {}
    waiting: set[str] = set()
    for start in calls:
        stack = [start]
        while stack:
            call = stack[-1]
            missing = [by_name[t.layer] for t in call.reads if t.layer not in done]
            if missing and call.name in waiting:
                got = f"a circle through {call.name}"
                raise FileError(where, "a graph without circles", got, ANEW)
            if missing:
                waiting.add(call.name)
                stack += reversed(missing)
            else:
                done[call.name] = stack.pop()
    return list(done.values())
