"""Live models of a user's class: returns their graph if it is complete, or an error with advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from xlstm.errors import UnsupportedError, XlstmError
from xlstm.ir.graph import Model

from ..read.context import registered_name
from ..read.shared_layers import held_by, marked

WIRED = ("Sequential", "Functional")
"""Classes of Keras whose configs contain the graph of layers."""

CODE = ("__call__", "call", "compute_mask")
"""Methods that a user's class may override, so that the graph is not the whole function."""


def wired_as(model: Any) -> str:
    """Returns the Keras class whose graph is all that a live model computes, "" for more.

    Training steps, losses and metrics of a class of the user change nothing of a trained function.
    """
    return "" if own_code(model) else _base(model)


def own_code(model: Any) -> str:
    """Returns the method of a live model's class that the user wrote, "" if none."""
    for name in CODE:
        owners = (cls for cls in type(model).__mro__ if name in vars(cls))
        if name in vars(model) or not _is_keras(next(owners)):
            return name
    return ""


def _base(model: Any) -> str:
    names = (cls.__name__ for cls in type(model).__mro__ if _is_keras(cls))
    return next((name for name in names if name in WIRED), "")


def _is_keras(cls: type) -> bool:
    return cls.__module__.split(".")[0] == "keras"


def config_of(model: Any) -> dict[str, Any]:
    """Returns the config of a live model as a file with Keras's own classes has it.

    Layers that occur twice have one mark. Nested models of the user's classes are written as
    Keras's classes where their graph is complete.
    """
    return marked(_plain(_own_config(model), model), model)


def _own_config(model: Any) -> dict[str, Any]:
    """Returns a model's config; for a user's class, in the form of Keras's classes."""
    import keras

    kind = wired_as(model)
    if kind == "Sequential" and not _is_keras(type(model)):
        own = {"module": "keras", "class_name": kind, "registered_name": None}
        own |= {"config": keras.Sequential.get_config(model)}
        return dict(json.loads(json.dumps({**own, "build_config": model.get_build_config()})))
    if kind and not _is_keras(type(model)):
        model = keras.Model(model.input, model.output, name=model.name)  # with the same layers
    return dict(json.loads(model.to_json()))


def _plain(config: dict[str, Any], model: Any) -> dict[str, Any]:
    """Replaces nested models of the user's classes by Keras's, at any depth, in the config."""
    for entry, layer in held_by(config, model):
        if hasattr(layer, "layers") and wired_as(layer) and not registered_name(entry):
            if not _is_keras(type(layer)):
                entry |= {**_own_config(layer), "name": layer.name}
            _plain(entry, layer)
    return config


def graph_weights(layer: Any) -> list[Any]:
    """Returns the variables of a live layer in Keras's order that a layer of its graph has.

    A user's class may have more, for its training step only.
    """
    used = {id(variable) for variable in _used(layer)}
    return [variable for variable in layer.weights if id(variable) in used]


def _used(layer: Any) -> Iterator[Any]:
    if hasattr(layer, "layers") and wired_as(layer):
        for own in layer.layers:
            yield from _used(own)
    elif type(layer).__name__ == "TimeDistributed":
        yield from _used(layer.layer)
    else:
        yield from layer.weights


def by_hand(model: Any, read: Callable[[Any], Model]) -> UnsupportedError:
    """Returns the error for a subclassed model: layers that port, and layers that do not.

    Args:
        model: a live model.
        read: returns the Model of one of its layers.
    """
    known, others = [], []
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        name = f"{layer.name} ({type(layer).__name__})"
        try:
            read(layer)
            known.append((layer.name, name))
        except XlstmError as error:
            others.append(f"{name}: {error.got}")
    do = "the wiring is yours to write"
    if known:
        example = f'xlstm.port(model.get_layer("{known[0][0]}"), to)'
        names = ", ".join(name for _, name in known)
        do = f"port its layers one by one, such as {example}; {do}; known: {names}"
    got = f"a class of your own, whose {own_code(model) or 'call'}() is code that no config holds"
    if others:
        got += f" (and layers that are not known: {', '.join(others)})"
    where = f"keras {type(model).__name__}"
    return UnsupportedError(where, "a Sequential or functional model", got, do)
