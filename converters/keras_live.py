"""Keras, the half that imports it: reads live models and layers, builds and runs ports."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from xlstm.converters.keras_reader import read_description

from xlstm.errors import MissingFrameworkError, UnsupportedError
from xlstm.files.description import Description, Stored
from xlstm.model import Array, Model

BACKENDS = ("tensorflow", "torch", "jax")
"""Backends in the order in which they are tried when KERAS_BACKEND names none."""


@contextlib.contextmanager
def _backend_chosen() -> Iterator[None]:
    """Names the first installed backend while Keras is imported, unless the user named one."""
    if "KERAS_BACKEND" in os.environ:
        yield
        return
    found = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not found:
        want = "a backend of Keras: " + ", ".join(BACKENDS)
        raise MissingFrameworkError(
            "adapter keras", want, "none", "pip install 'xlstm-converter[keras]'"
        )
    os.environ["KERAS_BACKEND"] = found[0]
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]


with _backend_chosen():
    import keras


def backend() -> str:
    """The backend that this process's Keras computes with."""
    return str(keras.backend.backend())


def _precision(dtype: str) -> AbstractContextManager[Any]:
    if backend() == "jax" and np.dtype(dtype).itemsize == 8:
        return importlib.import_module("jax").enable_x64(True)  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def to_numpy(tensor: Any) -> Array:
    """Values as numpy; bfloat16, which numpy lacks, widened to float32 exactly."""
    # a copy: numpy warns where it is handed TensorFlow's variable itself
    array = keras.ops.convert_to_numpy(keras.ops.copy(tensor))
    return np.array(array.astype("float32") if array.dtype.name == "bfloat16" else array)


def _stored(layer: Any) -> tuple[Stored, ...]:
    return tuple(
        Stored(v.name, tuple(v.shape), str(v.dtype), functools.partial(to_numpy, v))
        for v in layer.weights
    )


def read(source: Any) -> Model:
    """A live Keras model or layer as a Model.

    Raises:
        UnsupportedError: a layer or option without an exact form here, or a layer not built yet.
    """
    lone = not isinstance(source, keras.Model)
    kind = type(source).__name__
    if not source.built:
        raise UnsupportedError(
            f"keras {kind}", "a built model", "no weights yet", "call it once first"
        )
    if lone:
        one = json.loads(json.dumps(keras.layers.serialize(source)))
        config = {"class_name": "Sequential", "config": {"name": source.name, "layers": [one]}}
        layers = [source]
    else:
        config, layers = json.loads(source.to_json()), source.layers
    weights = {layer.name: _stored(layer) for layer in layers}
    container = f"live {'layer' if lone else 'model'} keras {kind}"
    described = Description("keras", keras.__version__, container, "", "", config, weights, True)
    return read_description(described, lone=lone)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> Any:
    """The Keras model that emitted `code` gives with these weights."""
    with _precision(dtype):
        return code.build(weights, np.dtype(dtype).name)


def run(ported: Any, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Outputs for numpy inputs, in evaluation mode."""
    arrays = [np.array(x, dtype) for x in inputs]
    given = arrays[0] if len(arrays) == 1 else arrays
    with _precision(dtype):
        outputs = ported.predict_on_batch(given)
        several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [to_numpy(y) for y in several]


def count(ported: Any) -> int:
    """`model.count_params()`."""
    return int(ported.count_params())


def save_extra(ported: Any, folder: Path) -> None:
    """Writes model.keras beside the source."""
    ported.save(folder / "model.keras")


def open_native(path: Path, dtype: str) -> Any:
    """A Keras 3 file as Keras itself opens it, computing in `dtype`; no table of ours involved."""
    with _precision(dtype):
        model = keras.models.load_model(path, compile=False)
        return in_dtype(model, dtype)


def in_dtype(model: Any, dtype: str) -> Any:
    """A copy of a live model that computes in `dtype`: the dtype is rewritten in its config."""
    with _precision(dtype):
        config = _with_dtype(json.loads(model.to_json()), np.dtype(dtype).name)
        copy = keras.models.model_from_json(json.dumps(config))
        if not copy.built:
            copy.build(model.input_shape)
        _sharpen(copy, dtype)
        copy.set_weights([to_numpy(v).astype(dtype) for v in model.weights])
        return copy


def _sharpen(model: Any, dtype: str) -> None:
    """Lets the stock activations that we write compute in `dtype`; see keras_cells.py."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Rescaling):
            layer.scale = np.float64(layer.scale)
        elif isinstance(layer, keras.Sequential):
            layer.dtype_policy = np.dtype(dtype).name


def _with_dtype(config: Any, dtype: str) -> Any:
    if isinstance(config, list):
        return [_with_dtype(item, dtype) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: dtype if key == "dtype" and _is_float(value) else _with_dtype(value, dtype)
        for key, value in config.items()
    }


def _is_float(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("class_name") == "DTypePolicy"
    return isinstance(value, str) and "float" in value


def weights(ported: Any) -> dict[str, Array]:
    """What a built model holds, named layer.variable."""
    return {f"{layer.name}.{v.name}": to_numpy(v) for layer in ported.layers for v in layer.weights}


FLOAT32_INSIDE = {
    "torch": "keras.ops.matmul of float64 is off by 2.5e-8",
    "jax": "keras.ops.tanh of float64 gives float32",
}
"""Backends on which Keras's own operations leave float64 -> which one, measured with Keras 3.15."""


def inexact(dtype: str) -> str:
    """Why this process's Keras cannot compute in `dtype`, "" where it can."""
    return FLOAT32_INSIDE.get(backend(), "") if np.dtype(dtype).itemsize == 8 else ""
