"""A Keras 3 model ported from Keras 3.15.1.

Needs keras and safetensors. `load()` gives the model with its trained weights, as does
`keras.models.load_model("model.keras")`.
"""

# Keras's parameters have no types but those of their defaults, which are too narrow
# pyright: reportArgumentType=false, reportCallIssue=false

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from safetensors.numpy import load_file


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable by its name: layer.variable, or layer.part.variable."""
    found: dict[str, keras.Variable] = {}
    for layer in model.layers:
        name = layer.name
        owners = {name: layer}
        if isinstance(layer, keras.layers.Bidirectional):
            owners = {
                f"{name}.forward_layer": layer.forward_layer,
                f"{name}.backward_layer": layer.backward_layer,
            }
        for owner, held in owners.items():
            for variable in held.weights:
                found[f"{owner}.{variable.name}"] = variable
    return found


def make(dtype: str) -> keras.Model:
    """Embedding, 2 bidirectional LSTM, Conv1D, LSTM, Dense; not yet trained.

    (batch, 40), (batch, 128, 2) -> (batch, 1)
    """
    words = keras.Input((40,), dtype=dtype, name="words")
    curve = keras.Input((128, 2), dtype=dtype, name="curve")
    inputs = [words, curve]
    # (batch, 40) -> (batch, 40, 16)
    x = keras.layers.Embedding(500, 16, mask_zero=True, dtype=dtype, name="embedding")(
        words
    )
    # (batch, 40, 16) -> (batch, 48)
    # cuDNN's masks are for the end of a sequence only
    x = keras.layers.Bidirectional(
        keras.layers.LSTM(24, use_cudnn=False, dtype=dtype), dtype=dtype, name="reader"
    )(x)
    # (batch, 128, 2) -> (batch, 128, 32)
    conv = keras.layers.Conv1D(
        32,
        5,
        padding="same",
        activation="relu",
        data_format="channels_last",
        dtype=dtype,
        name="conv",
    )(curve)
    # (batch, 128, 32) -> (batch, 32, 32)
    pool = keras.layers.MaxPooling1D(
        4, data_format="channels_last", dtype=dtype, name="pool"
    )(conv)
    # (batch, 32, 32) -> (batch, 32, 48)
    bilstm = keras.layers.Bidirectional(
        keras.layers.LSTM(24, return_sequences=True, dtype=dtype),
        dtype=dtype,
        name="bilstm",
    )(pool)
    # (batch, 32, 48) -> (batch, 32, 48)
    dropout = keras.layers.Dropout(0.3, dtype=dtype, name="dropout")(bilstm)
    # (batch, 32, 48) -> (batch, 12)
    last = keras.layers.LSTM(12, dtype=dtype, name="last")(dropout)
    # (batch, 48) -> (batch, 60)
    x = keras.layers.Concatenate(dtype=dtype, name="joined")([x, last])
    # (batch, 60) -> (batch, 1)
    x = keras.layers.Dense(1, activation="sigmoid", dtype=dtype, name="label")(x)
    return keras.Model(inputs, x, name="cnn_bilstm")


def build(weights: Mapping[str, Any], dtype: str = "float32") -> keras.Model:
    """The model with these weights, named layer.variable."""
    model = make(dtype)
    held = variables(model)
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
