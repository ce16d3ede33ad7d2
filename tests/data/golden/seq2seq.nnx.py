"""A Flax NNX module ported from Keras 3.15.1.

Needs flax and safetensors. `model = load()` gives the model with its trained weights.
An eager call traces every recurrent layer again, and `nnx.jit` takes the model apart
at every call. To take it apart once:

    graphdef, params = nnx.split(model)
    run = jax.jit(lambda params, *inputs: nnx.merge(graphdef, params)(*inputs))
    run(params, *inputs)
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


def checked(state: jax.Array, x: jax.Array, *size: int) -> jax.Array:
    """A state as it was given, for a batch like x."""
    if jnp.shape(state) != (x.shape[0], *size):
        wanted, given = (x.shape[0], *size), jnp.shape(state)
        raise ValueError(f"a state of shape {wanted} was expected, not {given}")
    return jnp.asarray(state, x.dtype)


class Model(nnx.Module):
    """2 LSTM, Dense.

    (batch, time, 71), (batch, time, 93) -> (batch, time, 93), (batch, 64), (batch, 64)
    """

    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.param_dtype = param_dtype
        options: Any = {"param_dtype": param_dtype, "rngs": rngs}
        # (batch, time, 71) -> (batch, time, 64)
        # Any: the declared result of an RNN is a union, with and without its carry
        self.encoder: Any = nnx.RNN(
            nnx.OptimizedLSTMCell(71, 64, **options), rngs=False
        )
        # (batch, time, 93) -> (batch, time, 64)
        self.decoder: Any = nnx.RNN(
            nnx.OptimizedLSTMCell(93, 64, **options), rngs=False
        )
        # (batch, time, 64) -> (batch, time, 93)
        self.characters = nnx.Linear(64, 93, **options)

    def __call__(self, english: jax.Array, french: jax.Array) -> tuple[jax.Array, ...]:
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
        characters = nnx.softmax(self.characters(x))
        return characters, h, c


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
