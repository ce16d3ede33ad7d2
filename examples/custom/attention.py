"""Tells xlstm the layer AttentionWithContext: import it, or `xlstm verify FILE --custom` it."""

from pathlib import Path

import numpy as np

import xlstm


def reference(_config, weights, x):
    """The layer in numpy: the judge of every framework."""
    scores = np.tanh(x @ weights["W"] + weights["b"]) @ weights["u"]
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = shares / shares.sum(axis=-1, keepdims=True)
    return (shares[..., None] * x).sum(axis=1)


def code(framework, arguments=None):
    """The text of the layer's class in a framework, and what it is made with."""
    text = Path(__file__).with_name(f"attention_{framework}.py").read_text("utf-8")
    return xlstm.LayerCode(text, arguments)


def size(_config, shapes):
    """Arguments of the classes that do not see their input when they are made."""
    return {"features": shapes["W"][0]}


xlstm.register_layer(
    "AttentionWithContext",
    reference=reference,
    output_shape=lambda _config, shape: shape[-1:],
    weights=("W", "b", "u"),  # in the order of the file, which `xlstm inspect` shows
    mask="stops",
    torch=code("torch", size),
    nnx=code("nnx", size),
    linen=code("linen", size),
    keras=code("keras"),
)
