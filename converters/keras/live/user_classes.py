"""Classes and functions of the user in live Keras models; callers have imported Keras."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir.precision import HALF

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
        given = ", ".join(f'"{name}": model.{name}' for name in left)
        lines.append(f"model.keras: open it with custom_objects={{{given}}} of model.py")
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
