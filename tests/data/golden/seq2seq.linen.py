"""A Flax Linen module ported from Keras 3.15.1.

Needs flax and safetensors. `module, variables = load()` gives the module and its trained
weights; `module.apply(variables, *inputs)` runs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.typing import ArrayLike, DTypeLike
from safetensors.flax import load_file


def zeros(x: jax.Array, *size: int) -> jax.Array:
    """A state of zeros for a batch like x."""
    return jnp.zeros((x.shape[0], *size), x.dtype)


def checked(state: jax.Array, x: jax.Array, *size: int) -> jax.Array:
    """A state as it was given, for a batch like x."""
    if jnp.shape(state) != (x.shape[0], *size):
        wanted, given = (x.shape[0], *size), jnp.shape(state)
        raise ValueError(f"a state of shape {wanted} was expected, not {given}")
    return jnp.asarray(state, x.dtype)


class Model(nn.Module):
    """2 LSTM, Dense.

    (batch, time, 71), (batch, time, 93) -> (batch, time, 93), (batch, 64), (batch, 64)
    """

    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        # (batch, time, 71) -> (batch, time, 64)
        # Any: the declared result of an RNN is a union, with and without its carry
        self.encoder: Any = nn.RNN(
            nn.OptimizedLSTMCell(64, param_dtype=self.param_dtype)
        )
        # (batch, time, 93) -> (batch, time, 64)
        self.decoder: Any = nn.RNN(
            nn.OptimizedLSTMCell(64, param_dtype=self.param_dtype)
        )
        # (batch, time, 64) -> (batch, time, 93)
        self.characters = nn.Dense(93, param_dtype=self.param_dtype)

    def __call__(
        self, english: jax.Array, french: jax.Array, *, train: bool = False
    ) -> tuple[jax.Array, ...]:
        """The outputs for a batch of inputs."""
        english = jnp.asarray(english, self.param_dtype)
        if english.ndim != 3:
            raise ValueError(
                f"english of shape (batch, time, 71) was expected, not {english.shape}"
            )
        french = jnp.asarray(french, self.param_dtype)
        if french.ndim != 3:
            raise ValueError(
                f"french of shape (batch, time, 93) was expected, not {french.shape}"
            )
        (c, h), _ = self.encoder(
            english,
            initial_carry=(zeros(english, 64), zeros(english, 64)),
            return_carry=True,
        )
        (c, h), x = self.decoder(
            french,
            initial_carry=(checked(c, french, 64), checked(h, french, 64)),
            return_carry=True,
        )
        characters = nn.softmax(self.characters(x))
        return characters, h, c


def build(
    weights: Mapping[str, ArrayLike], dtype: DTypeLike = jnp.float32
) -> tuple[Model, dict[str, Any]]:
    """The module and its variables with these weights, by dotted name."""
    flat = {
        tuple(name.split(".")): jnp.asarray(array, dtype)
        for name, array in weights.items()
    }
    return Model(param_dtype=dtype), traverse_util.unflatten_dict(flat)


def load(
    folder: str | Path = Path(__file__).parent, dtype: DTypeLike = jnp.float32
) -> tuple[Model, dict[str, Any]]:
    """The module and the trained variables that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
