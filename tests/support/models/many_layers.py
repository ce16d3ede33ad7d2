"""Keras files of very many layers, written by hand: Dense and Activation in turn after an LSTM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from make_files import OUTPUTS, h5_file, keras_file, layer

KINDS = {"keras": keras_file, "h5": h5_file}


def _names(number: int) -> list[str]:
    return [f"layer_{n}" for n in range(number)]


def _entries(number: int) -> list[dict[str, Any]]:
    return [
        layer("Activation", name=name, activation="relu")
        if n % 2
        else layer("Dense", name=name, units=OUTPUTS, activation="tanh", use_bias=True)
        for n, name in enumerate(_names(number))
    ]


def _keras_calls(config: dict[str, Any]) -> None:
    """Every layer reads the one before it, in Keras 3's words."""
    layers = config["config"]["layers"]
    for before, entry in zip([None, *layers], layers, strict=False):
        history = before and {"keras_history": [before["config"]["name"], 0, 0]}
        tensor = {"class_name": "__keras_tensor__", "config": history}
        entry["inbound_nodes"] = [{"args": [tensor], "kwargs": {}}] if before else []


def _h5_calls(config: dict[str, Any]) -> None:
    """Every layer reads the one before it, in Keras 2's words."""
    layers = config["config"]["layers"]
    for before, entry in zip([None, *layers], layers, strict=False):
        entry["inbound_nodes"] = [[[before["config"]["name"], 0, 0, {}]]] if before else []


def chain_file(kind: str, folder: Path, number: int, *, functional: bool = False) -> Path:
    """A file of an LSTM, a Dense layer and `number` layers after these.

    Args:
        kind: "keras" an archive of Keras 3, "h5" an HDF5 file of Keras 2.
        folder: where to write.
        number: of layers.
        functional: whether the chain is told as a graph.
    """
    rng = np.random.default_rng(1)

    def config(found: dict[str, Any]) -> None:
        layers = found["config"]["layers"]
        layers += _entries(number)
        if functional:
            found["class_name"] = "Functional"
            for entry in layers:
                entry["name"] = entry["config"]["name"]
            {"keras": _keras_calls, "h5": _h5_calls}[kind](found)
            found["config"]["input_layers"] = [["input_1", 0, 0]]
            found["config"]["output_layers"] = [[layers[-1]["name"], 0, 0]]

    def weights(file: h5py.File) -> None:
        if kind == "h5":
            root = file["model_weights"]
            root.attrs["layer_names"] = np.array(["lstm", "dense", *_names(number)], "S")
        for n, name in enumerate(_names(number)):
            arrays = [rng.standard_normal((OUTPUTS, OUTPUTS)), rng.standard_normal(OUTPUTS)]
            if kind == "keras" and not n % 2:
                # an archive calls the layers after their classes
                for place, array in enumerate(arrays):
                    file[f"layers/dense_{n // 2 + 1}/vars/{place}"] = array.astype("float32")
            elif kind == "h5":
                group = root.create_group(name)
                paths = [] if n % 2 else [f"{name}/kernel:0", f"{name}/bias:0"]
                group.attrs["weight_names"] = np.array(paths, "S")
                for path, array in zip(paths, arrays, strict=False):
                    group[path] = array.astype("float32")

    return KINDS[kind](folder / f"chain.{kind}", config=config, weights=weights)
