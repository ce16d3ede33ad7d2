"""A Keras 3 model ported from Keras 3.15.1.

Needs keras and safetensors. `load()` gives the model with its trained weights, as does
`keras.models.load_model("model.keras")`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from safetensors.numpy import load_file


def make(dtype: str) -> keras.Sequential:
    """LSTM, Dense; not yet trained.

    (batch, time, 1) -> (batch, 1)
    """
    return keras.Sequential(
        [
            keras.Input((None, 1), dtype=dtype, name="passengers"),
            # (batch, time, 1) -> (batch, 20)
            keras.layers.LSTM(20, dtype=dtype, name="lstm"),
            # (batch, 20) -> (batch, 1)
            keras.layers.Dense(1, dtype=dtype, name="forecast"),
        ],
        name="simple",
    )


def build(weights: Mapping[str, Any], dtype: str = "float32") -> keras.Sequential:
    """The model with these weights, named layer.variable."""
    model = make(dtype)
    held = {
        f"{layer.name}.{v.name}": v for layer in model.layers for v in layer.weights
    }
    if held.keys() != weights.keys():
        wrong = sorted(held.keys() ^ weights.keys())
        raise ValueError(f"weights that do not fit: {wrong}")
    for name, variable in held.items():
        variable.assign(weights[name])
    return model


def load(
    folder: str | Path = Path(__file__).parent, dtype: str = "float32"
) -> keras.Sequential:
    """The model with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
