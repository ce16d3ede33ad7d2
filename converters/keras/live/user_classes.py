"""Classes and functions of the user in live Keras models; callers have imported Keras.

Models of a user's class: returns their graph if it is complete, or an error with advice.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xlstm.errors import UnsupportedError, XlstmError
from xlstm.ir.graph import Model
from xlstm.ir.precision import HALF

from ..read.context import registered_name
from ..read.graph import held_by, marked

PORTED = "xlstm_port_"
"""Prefix of the names of the modules that `port` makes."""

COPY = "xlstm>SameLambda"
"""Replaces Lambda in the config of a copy; Keras would build that from the bytes of its code."""


def classes_told(layers: Sequence[Any]) -> list[str]:
    """Returns the code to open model.keras where its layers are classes of model.py."""
    import keras

    own = {type(layer) for layer in layers if _emitted(type(layer))}
    known = {cls for cls in own if keras.saving.get_registered_name(cls) != cls.__name__}
    lines = []
    if known:
        names = ", ".join(sorted(cls.__name__ for cls in known))
        lines.append(f"model.keras: import model.py before opening it, which holds {names}")
    if left := sorted(cls.__name__ for cls in own - known):
        entries = ", ".join(f'"{name}": model.{name}' for name in left)
        lines.append(f"model.keras: open it with custom_objects={{{entries}}} of model.py")
    return lines


_RUNNING = threading.RLock()
"""Lock for executing emitted source that may register classes."""


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Restores the classes registered in Keras after emitted source has run.

    Keras has one dict for the whole process. Classes that other threads register stay.
    """
    import keras

    known = keras.saving.get_custom_objects()
    with _RUNNING:
        before = dict(known)
        try:
            yield
        finally:
            changed = {n: v for n, v in dict(known).items() if before.get(n) is not v}
            for name in (n for n, v in changed.items() if _emitted(v)):
                if name in before:
                    known[name] = before[name]
                else:
                    known.pop(name, None)


def _emitted(registered: Any) -> bool:
    """True for a class or function of a module that `port` made."""
    return str(getattr(registered, "__module__", "")).startswith(PORTED)


@contextlib.contextmanager
def made_in(dtype: str, own: bool) -> Iterator[None]:
    """Sets the default dtype of layers inside the user's classes, which no config has.

    Keras has one default for each thread.
    """
    import keras

    if not own:
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def own_classes(model: Any) -> dict[str, Any]:
    """Returns the user's classes in a live model, by the names in its config."""
    import keras

    layers = list(model._flatten_layers(include_self=False))
    kinds = {type(layer) for layer in layers}
    own = [kind for kind in kinds if kind.__module__.split(".")[0] != "keras"]
    every = [layer for layer in layers if isinstance(layer, keras.layers.Lambda)]
    lambdas = {layer.name: layer for layer in every}
    if len(lambdas) < len(every):
        want, got = "Lambda layers of different names", "two of one name"
        raise UnsupportedError(f"keras {model.name}", want, got, "rename one")

    class SameLambda:
        """Makes Lambda layers that call the model's own functions."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            first = lambdas[config["name"]]
            options = {key: config[key] for key in ("name", "trainable", "dtype")}
            more = {"mask": first.mask, "arguments": first.arguments}
            return keras.layers.Lambda(first.function, first._output_shape, **more, **options)

    found = {keras.saving.get_registered_name(kind): kind for kind in own}
    return {**found, COPY: SameLambda}


def same_lambdas(config: Any) -> Any:
    """Returns a config with replacements for Lambda layers."""
    if isinstance(config, list):
        return [same_lambdas(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "Lambda" and isinstance(config.get("config"), dict):
        kept = {key: config["config"].get(key) for key in ("name", "trainable", "dtype")}
        stands = {"class_name": "SameLambda", "module": None, "registered_name": COPY}
        return {**config, **stands, "config": kept}
    return {key: same_lambdas(value) for key, value in config.items()}


def with_dtype(config: Any, dtype: str) -> Any:
    """Returns a config with every dtype of floats replaced."""
    if isinstance(config, list):
        return [with_dtype(item, dtype) for item in config]
    if not isinstance(config, dict):
        return config
    kind = config.get("class_name")
    if dtype in HALF and kind == "InputLayer":
        return config  # row numbers that half precision cannot store
    if dtype == "bfloat16" and kind in ("Orthogonal", "OrthogonalInitializer"):
        return "zeros"  # there is no QR decomposition in bfloat16, and weights are set
    return {
        key: dtype if key == "dtype" and _is_float(value) else with_dtype(value, dtype)
        for key, value in config.items()
    }


def _is_float(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("class_name") == "DTypePolicy"
    return isinstance(value, str) and "float" in value


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
    got = f"a class of your own, whose {own_code(model) or 'call'}() is code that no config has"
    if others:
        got += f" (and layers that are not known: {', '.join(others)})"
    where = f"keras {type(model).__name__}"
    return UnsupportedError(where, "a Sequential or functional model", got, do)
