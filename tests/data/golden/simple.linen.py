"""A Flax Linen module ported from Keras 3.15.1.

Needs flax and safetensors. `module, variables = load()` gives the module and its trained
weights; `module.apply(variables, x)` runs it.
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


class Model(nn.Module):
    """LSTM, Dense.

    (batch, time, 1) -> (batch, 1)
    """

    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        # (batch, time, 1) -> (batch, time, 20)
        # Any: the declared result of an RNN is a union, with and without its carry
        self.lstm: Any = nn.RNN(nn.OptimizedLSTMCell(20, param_dtype=self.param_dtype))
        # (batch, 20) -> (batch, 1)
        self.forecast = nn.Dense(1, param_dtype=self.param_dtype)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """One output for a batch of inputs (batch, time, 1)."""
        x = jnp.asarray(x, self.param_dtype)
        if x.ndim != 3:
            raise ValueError(f"x of shape (batch, time, 1) was expected, not {x.shape}")
        x = self.lstm(x, initial_carry=(zeros(x, 20), zeros(x, 20)))
        x = x[:, -1]
        x = self.forecast(x)
        return x


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
