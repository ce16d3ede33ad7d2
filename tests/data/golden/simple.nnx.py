"""A Flax NNX module ported from Keras 3.15.1.

Needs flax and safetensors. `model = load()` gives the model with its trained weights.
An eager call traces every recurrent layer again, and `nnx.jit` takes the model apart
at every call. To take it apart once:

    graphdef, params = nnx.split(model)
    run = jax.jit(lambda params, x: nnx.merge(graphdef, params)(x))
    run(params, x)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from safetensors.flax import load_file


def zeros(x: jax.Array, *size: int) -> jax.Array:
    """A state of zeros for a batch like x."""
    return jnp.zeros((x.shape[0], *size), x.dtype)


class Model(nnx.Module):
    """LSTM, Dense.

    (batch, time, 1) -> (batch, 1)
    """

    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.param_dtype = param_dtype
        options: Any = {"param_dtype": param_dtype, "rngs": rngs}
        # (batch, time, 1) -> (batch, time, 20)
        # Any: the declared result of an RNN is a union, with and without its carry
        self.lstm: Any = nnx.RNN(nnx.OptimizedLSTMCell(1, 20, **options), rngs=False)
        # (batch, 20) -> (batch, 1)
        self.forecast = nnx.Linear(20, 1, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """One output for a batch of inputs (batch, time, 1)."""
        x = jnp.asarray(x, self.param_dtype)
        if x.ndim != 3:
            raise ValueError(f"x of shape (batch, time, 1) was expected, not {x.shape}")
        x = self.lstm(x, initial_carry=(zeros(x, 20), zeros(x, 20)))
        x = x[:, -1]
        x = self.forecast(x)
        return x


def build(weights: Mapping[str, ArrayLike], dtype: DTypeLike = jnp.float32) -> Model:
    """The model with these weights, by dotted name, in evaluation mode."""
    # eval_shape: shapes only, no time spent on random weights
    model = nnx.eval_shape(
        lambda: Model(param_dtype=dtype, rngs=nnx.Rngs(params=0, dropout=0))
    )
    params = nnx.to_flat_state(nnx.state(model, nnx.Param))
    names = {".".join(map(str, path)) for path, _ in params}
    if names != set(weights):
        raise ValueError(f"weights that do not fit: {sorted(names ^ set(weights))}")
    filled = [
        (path, param.replace(jnp.asarray(weights[".".join(map(str, path))], dtype)))
        for path, param in params
    ]
    nnx.update(model, nnx.from_flat_state(filled))
    model.eval()
    return model


def load(
    folder: str | Path = Path(__file__).parent, dtype: DTypeLike = jnp.float32
) -> Model:
    """The model with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
