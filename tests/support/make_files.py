"""Writes small Keras files by hand, without Keras: an LSTM and a Dense layer, open to damage.

`make(kind, path)` writes a valid file: kind "keras" a Keras 3 archive, kind "h5" a whole-model HDF5
file of Keras 2. Hooks alter what is written: `config` the model's config (in place, or by what it
returns), `weights` the open HDF5 file, `members` the archive's (name, bytes) pairs.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FEATURES, UNITS, OUTPUTS = 3, 4, 2
KINDS = ("keras", "h5")
VERSIONS = {"keras": "3.15.1", "h5": "2.18.0"}
KERNEL = {"keras": "layers/lstm/cell/vars/0", "h5": "model_weights/lstm/lstm/lstm_cell/kernel:0"}
BIAS = {"keras": "layers/lstm/cell/vars/2", "h5": "model_weights/lstm/lstm/lstm_cell/bias:0"}
DENSE = {"keras": "layers/dense", "h5": "model_weights/dense"}
"""Where the files of each kind keep the LSTM's kernel and bias, and the whole Dense layer."""

Hook = Callable[[Any], Any]


def arrays(seed: int = 3) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> Keras's arrays in Keras's order."""
    rng = np.random.default_rng(seed)
    shapes = {
        "lstm": {
            "kernel": (FEATURES, 4 * UNITS),
            "recurrent_kernel": (UNITS, 4 * UNITS),
            "bias": (4 * UNITS,),
        },
        "dense": {"kernel": (UNITS, OUTPUTS), "bias": (OUTPUTS,)},
    }
    return {
        layer: {name: rng.standard_normal(s).astype(np.float32) for name, s in found.items()}
        for layer, found in shapes.items()
    }


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    """One entry of a config's list of layers."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


def model_config(kind: str) -> dict[str, Any]:
    """The config of a Sequential [LSTM, Dense]."""
    shape = "batch_shape" if kind == "keras" else "batch_input_shape"
    layers = [
        layer("InputLayer", name="input_1", dtype="float32", **{shape: [None, None, FEATURES]}),
        layer(
            "LSTM",
            name="lstm",
            units=UNITS,
            activation="tanh",
            recurrent_activation="sigmoid",
            use_bias=True,
            return_sequences=False,
        ),
        layer("Dense", name="dense", units=OUTPUTS, activation="linear", use_bias=True),
    ]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "small", "layers": layers},
        "registered_name": None,
    }


def _hooked(value: Any, hook: Hook | None) -> Any:
    changed = hook(value) if hook else None
    return value if changed is None else changed


def _keras_weights(file: h5py.File) -> None:
    below = {"lstm": "lstm/cell/vars", "dense": "dense/vars"}
    for name, found in arrays().items():
        for number, array in enumerate(found.values()):
            file[f"layers/{below[name]}/{number}"] = array


def _h5_weights(file: h5py.File, version: str | None) -> None:
    root = file.create_group("model_weights")
    root.attrs["layer_names"] = list(arrays())
    if version is not None:
        root.attrs["keras_version"] = version
    below = {"lstm": "lstm/lstm_cell", "dense": "dense"}
    for name, found in arrays().items():
        group = root.create_group(name)
        paths = [f"{below[name]}/{variable}:0" for variable in found]
        group.attrs["weight_names"] = paths
        for path, array in zip(paths, found.values(), strict=True):
            group[path] = array


def keras_file(
    path: Path,
    *,
    config: Hook | None = None,
    weights: Hook | None = None,
    members: Hook | None = None,
    version: str | None = VERSIONS["keras"],
) -> Path:
    """A `.keras` archive of Keras 3; `version=None` leaves it out."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        _keras_weights(file)
        _hooked(file, weights)
    metadata = {} if version is None else {"keras_version": version}
    parts = [
        ("metadata.json", json.dumps(metadata).encode()),
        ("config.json", json.dumps(_hooked(model_config("keras"), config)).encode()),
        ("model.weights.h5", stream.getvalue()),
    ]
    return zip_file(path, _hooked(parts, members))


def zip_file(path: Path, members: list[tuple[str, bytes]], compression: int = 0) -> Path:
    """A zip archive of these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return path


def h5_file(
    path: Path,
    *,
    config: Hook | None = None,
    weights: Hook | None = None,
    version: str | None = VERSIONS["h5"],
) -> Path:
    """A whole-model HDF5 file of Keras 2; `version=None` leaves it out, as Keras 1 does."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(_hooked(model_config("h5"), config))
        _h5_weights(file, version)
        _hooked(file, weights)
    return path


def make(kind: str, path: Path, **hooks: Any) -> Path:
    """A file of this kind in the folder `path`."""
    writer = {"keras": keras_file, "h5": h5_file}[kind]
    return writer(path / f"small.{kind}", **hooks)


def replace(file: h5py.File, path: str, value: Any = None, **options: Any) -> None:
    """Puts something else where a dataset was: a link, an array, or what `options` describe."""
    if path in file:
        del file[path]
    if options:
        file.create_dataset(path, data=value, **options)
    else:
        file[path] = value


def options(number: int, **changes: Any) -> Hook:
    """A `config` hook that changes options of one layer: 0 the input, 1 the LSTM, 2 the Dense."""

    def hook(config: dict[str, Any]) -> None:
        config["config"]["layers"][number]["config"].update(changes)

    return hook


def entry(number: int, **changes: Any) -> Hook:
    """A `config` hook that changes one layer's entry around its options."""

    def hook(config: dict[str, Any]) -> None:
        config["config"]["layers"][number].update(changes)

    return hook


def without(number: int, *keys: str) -> Hook:
    """A `config` hook that removes options of one layer."""

    def hook(config: dict[str, Any]) -> None:
        for key in keys:
            del config["config"]["layers"][number]["config"][key]

    return hook
