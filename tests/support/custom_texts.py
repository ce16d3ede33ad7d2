"""Layers that xlstm does not know, as a user would tell them: texts, references, registration."""

from __future__ import annotations

import contextlib

import numpy as np

import xlstm

WEIGH = {
    "torch": '''
"""Attention over the steps of a sequence."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Weigh(nn.Module):
    """Weighs the steps of a sequence by what they say."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, units))
        self.b = nn.Parameter(torch.empty(units))
        self.u = nn.Parameter(torch.empty(units))

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        scores = torch.tanh(x @ self.W + self.b) @ self.u
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        return (F.softmax(scores, dim=-1).unsqueeze(-1) * x).sum(dim=1)
''',
    "nnx": '''
import jax
import jax.numpy as jnp
from flax import nnx


class Weigh(nnx.Module):
    """Weighs the steps of a sequence by what they say."""

    def __init__(self, features: int, units: int) -> None:
        self.W = nnx.Param(jnp.zeros((features, units)))
        self.b = nnx.Param(jnp.zeros(units))
        self.u = nnx.Param(jnp.zeros(units))

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        scores = jnp.tanh(x @ self.W[...] + self.b[...]) @ self.u[...]
        if mask is not None:
            scores = jnp.where(mask, scores, -1e9)
        return (nnx.softmax(scores)[..., None] * x).sum(axis=1)
''',
    "linen": '''
import flax.linen as nn
import jax
import jax.numpy as jnp


class Weigh(nn.Module):
    """Weighs the steps of a sequence by what they say."""

    features: int
    units: int

    def setup(self) -> None:
        zeros = nn.initializers.zeros
        self.W = self.param("W", zeros, (self.features, self.units))
        self.b = self.param("b", zeros, (self.units,))
        self.u = self.param("u", zeros, (self.units,))

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        scores = jnp.tanh(x @ self.W + self.b) @ self.u
        if mask is not None:
            scores = jnp.where(mask, scores, -1e9)
        return (nn.softmax(scores)[..., None] * x).sum(axis=1)
''',
    "keras": '''
import keras


@keras.saving.register_keras_serializable(package="mine")
class Weigh(keras.layers.Layer):
    """Weighs the steps of a sequence by what they say."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.supports_masking = True

    def build(self, input_shape):
        shapes = {
            "W": (input_shape[-1], self.units),
            "b": (self.units,),
            "u": (self.units,),
        }
        start = keras.initializers.RandomNormal(stddev=0.7)
        for name, shape in shapes.items():
            setattr(
                self, name, self.add_weight(name=name, shape=shape, initializer=start)
            )

    def call(self, x, mask=None):
        scores = (keras.ops.tanh(x @ self.W + self.b) @ self.u[:, None])[..., 0]
        if mask is not None:
            scores = keras.ops.where(mask, scores, -1e9)
        weights = keras.ops.softmax(scores, axis=-1)
        return keras.ops.sum(weights[..., None] * x, axis=1)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "units": self.units}
''',
}


def weigh(_config, weights, x, mask=None):
    """Weighs the steps of x (B, T, F) by what they say."""
    scores = np.tanh(x @ weights["W"] + weights["b"]) @ weights["u"]
    if mask is not None:
        scores = np.where(mask, scores, scores.dtype.type(-1e9))
    found = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found = found / found.sum(axis=-1, keepdims=True)
    return (found[..., None] * x).sum(axis=1)


BLEND = {
    "torch": """
import torch
from torch import nn


class Blend(nn.Module):
    def __init__(self, sharp: bool) -> None:
        super().__init__()
        self.sharp = sharp
        self.share = nn.Parameter(torch.empty(()))

    def forward(
        self, a: torch.Tensor, b: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.share * a + (1 - self.share) * b
        return (torch.relu(mean) if self.sharp else mean), a - b
""",
    "nnx": """
import jax
import jax.numpy as jnp
from flax import nnx


class Blend(nnx.Module):
    def __init__(self, sharp: bool) -> None:
        self.sharp = sharp
        self.share = nnx.Param(jnp.zeros(()))

    def __call__(self, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = self.share[...] * a + (1 - self.share[...]) * b
        return (nnx.relu(mean) if self.sharp else mean), a - b
""",
    "linen": """
import jax
from flax import linen as nn


class Blend(nn.Module):
    sharp: bool

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        share = self.param("share", nn.initializers.zeros, ())
        mean = share * a + (1 - share) * b
        return (nn.relu(mean) if self.sharp else mean), a - b
""",
    "keras": """
import keras


class Blend(keras.layers.Layer):
    def __init__(self, sharp, **options):
        super().__init__(**options)
        self.sharp = sharp

    def build(self, input_shape):
        self.share = self.add_weight(name="share", shape=(), initializer="ones")

    def call(self, inputs):
        a, b = inputs
        mean = self.share * a + (1 - self.share) * b
        return (keras.ops.relu(mean) if self.sharp else mean), a - b

    def get_config(self):
        return {**super().get_config(), "sharp": self.sharp}
""",
}


def blend(config, weights, a, b):
    """A mean and a difference."""
    mean = weights["share"] * a + (1 - weights["share"]) * b
    return (np.maximum(mean, 0) if config["sharp"] else mean), a - b


SCALE = {
    "torch": """
import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor
""",
    "nnx": """
import jax
from flax import nnx


class Scale(nnx.Module):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.factor
""",
    "linen": """
import flax.linen as nn
import jax


class Scale(nn.Module):
    factor: float

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.factor
""",
    "keras": """
import keras


class Scale(keras.layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor
        self.supports_masking = True

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
""",
}


def codes(texts, arguments=None, **listed):
    """LayerCode for every framework."""
    return {
        name: xlstm.LayerCode(text, arguments, listed=listed.get(name, False))
        for name, text in texts.items()
    }


def sizes(config, shapes):
    """Arguments of Weigh where it does not see its input when it is made."""
    return {"features": shapes["W"][0], "units": config["units"]}


def told():
    """What is registered, by name."""
    return {
        "Weigh": {
            "reference": weigh,
            "output_shape": lambda _config, shape: shape[-1:],
            "weights": ("W", "b", "u"),
            "mask": "uses",
            **codes(WEIGH, sizes),
            "keras": xlstm.LayerCode(WEIGH["keras"], lambda c, _shapes: {"units": c["units"]}),
        },
        "Blend": {
            "reference": blend,
            "output_shape": lambda _config, a, b: (a, b),
            "weights": lambda _config: ["share"],
            "mask": "stops",
            **codes(BLEND, lambda c, _shapes: {"sharp": c["sharp"]}, keras=True),
        },
        "Lambda:triple": {
            "reference": lambda _config, _weights, x: x * 3.0,
            "output_shape": lambda _config, shape: shape,
            "weights": (),
            "mask": "passes",
            **codes(SCALE, lambda _config, _shapes: {"factor": 3.0}),
        },
    }


@contextlib.contextmanager
def registered(**changes):
    """Registers all of them, changed as `changes` says for Weigh, and forgets them at the end."""
    found = told()
    found["Weigh"] |= changes
    for name, options in found.items():
        xlstm.register_layer(name, **options)
    try:
        yield
    finally:
        for name in found:
            xlstm.unregister_layer(name)
