"""A Keras 3 model ported from Keras 3.15.1.

Needs keras and safetensors. `load()` gives the model with its trained weights, as does
`keras.models.load_model("model.keras")`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from safetensors.numpy import load_file


def make(dtype: str) -> keras.Model:
    """2 LSTM, Dense; not yet trained.

    (batch, time, 71), (batch, time, 93) -> (batch, time, 93), (batch, 64), (batch, 64)
    """
    english = keras.Input((None, 71), dtype=dtype, name="english")
    french = keras.Input((None, 93), dtype=dtype, name="french")
    inputs = [english, french]
    # (batch, time, 71) -> (batch, 64)
    _, h, c = keras.layers.LSTM(64, return_state=True, dtype=dtype, name="encoder")(
        english
    )
    # (batch, time, 93) -> (batch, time, 64)
    x, h, c = keras.layers.LSTM(
        64, return_sequences=True, return_state=True, dtype=dtype, name="decoder"
    )(french, initial_state=[h, c])
    # (batch, time, 64) -> (batch, time, 93)
    characters = keras.layers.Dense(
        93, activation="softmax", dtype=dtype, name="characters"
    )(x)
    return keras.Model(inputs, [characters, h, c], name="seq2seq")


def build(weights: Mapping[str, Any], dtype: str = "float32") -> keras.Model:
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
) -> keras.Model:
    """The model with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
