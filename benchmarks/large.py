"""Memory of loading a large honest model: 1.2 GB of weights, in HDF5 and in a .keras archive.

    python benchmarks/large.py

Makes the files in a temporary folder (2.5 GB), loads each in a process of its own, and prints the
seconds and the peak memory as a multiple of the file's size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

NAMES = 500
"""Names of layers in one attribute of `write_stack`."""

FEATURES, UNITS = 4000, 7000
SHAPES = ((FEATURES, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
LOAD = """
import pathlib, sys, time, xlstm
start = time.perf_counter()
xlstm.load(sys.argv[1])
seconds = time.perf_counter() - start
peak = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(seconds, int(peak) * 1024)
"""


def config() -> str:
    """One LSTM, as Keras 3 writes it."""
    options = {"name": "lstm", "units": UNITS, "activation": "tanh", "use_bias": True}
    options |= {"recurrent_activation": "sigmoid", "return_sequences": False}
    shape = {"name": "input", "batch_shape": [None, None, FEATURES]}
    layers = [
        {"class_name": "InputLayer", "config": shape},
        {"class_name": "LSTM", "config": options},
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "big", "layers": layers}})


def fill(group: h5py.Group, names: tuple[str, ...]) -> None:
    """Random weights under these names."""
    rng = np.random.default_rng(0)
    for name, shape in zip(names, SHAPES, strict=True):
        group.create_dataset(name, data=rng.standard_normal(shape, dtype="float32"))


def write_hdf5(path: Path) -> None:
    """A whole-model HDF5 file."""
    names = ("kernel", "recurrent_kernel", "bias")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config()
        group = file.create_group("model_weights")
        group.attrs.update(keras_version="3.15.1", layer_names=["lstm"])
        layer = group.create_group("lstm")
        layer.attrs["weight_names"] = list(names)
        fill(layer, names)


def write_stack(path: Path, layers: int, features: int, units: int) -> None:
    """A whole-model HDF5 file of LSTMs one after the other, as `model.save` writes it."""
    shape = {"name": "input", "batch_shape": [None, None, features]}
    config = [{"class_name": "InputLayer", "config": shape}]
    names = [f"lstm_{number}" for number in range(layers)]
    weights = ("kernel", "recurrent_kernel", "bias")
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs.update(keras_version="3.15.1")
        for start in range(0, layers, NAMES):  # as Keras splits what HDF5 cannot take in one piece
            part = f"{start // NAMES}" if layers > NAMES else ""
            group.attrs[f"layer_names{part}"] = names[start : start + NAMES]
        for name in names:
            options = {"name": name, "units": units, "activation": "tanh", "use_bias": True}
            options |= {"recurrent_activation": "sigmoid", "return_sequences": name != names[-1]}
            config.append({"class_name": "LSTM", "config": options})
            layer = group.create_group(name)
            layer.attrs["weight_names"] = list(weights)
            rows = features if name == names[0] else units
            for weight, size in zip(
                weights, ((rows, 4 * units), (units, 4 * units), (4 * units,)), strict=True
            ):
                layer.create_dataset(weight, data=rng.standard_normal(size, dtype="float32") / 8)
        whole = {"class_name": "Sequential", "config": {"name": "stack", "layers": config}}
        file.attrs["model_config"] = json.dumps(whole)


def write_archive(path: Path) -> None:
    """A .keras archive."""
    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        fill(file.create_group("layers/lstm/cell/vars"), ("0", "1", "2"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", config())
        archive.write(weights, "model.weights.h5")
    weights.unlink()


def main() -> None:
    """Prints a line for each form."""
    for name, write in (("big.h5", write_hdf5), ("big.keras", write_archive)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            write(path)
            size = path.stat().st_size
            command = [sys.executable, "-c", LOAD, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, peak = map(float, done.stdout.split())
            said = f"{size / 2**20:.0f} MB loaded in {seconds:.1f} s, peak {peak / 2**20:.0f} MB"
            print(f"{name}: {said}, {peak / size:.2f} x its size")


if __name__ == "__main__":
    main()
