"""What the live halves of Linen and NNX share: precision, arrays and activations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlstm.errors import UnsupportedError
from xlstm.model import Array

ACTIVATIONS: tuple[tuple[Callable[..., Any], str], ...] = (
    (jax.nn.tanh, "tanh"),
    (jnp.tanh, "tanh"),
    (jax.nn.sigmoid, "sigmoid"),
    (jax.nn.relu, "relu"),
    (jax.nn.softmax, "softmax"),
    (jax.nn.hard_sigmoid, "hard_sigmoid"),
    (jax.nn.identity, "linear"),
)
"""Functions that live Flax cells may hold, and their names in the hub."""


def precision(dtype: str) -> AbstractContextManager[Any]:
    """Allows 64-bit arrays inside the context only, where `dtype` needs them."""
    context: AbstractContextManager[Any] = jax.enable_x64(np.dtype(dtype).itemsize == 8)
    return context


def to_numpy(array: Any) -> Array:
    """Values as numpy; bfloat16, which numpy lacks, widened to float32 exactly."""
    if array.dtype == jnp.bfloat16:
        array = array.astype(jnp.float32)
    return np.array(array)


def activation(fn: Callable[..., Any], where: str) -> str:
    """The hub's name of a function held by a live cell.

    Raises:
        UnsupportedError: a function that is none of the known ones.
    """
    for known, name in ACTIVATIONS:
        if fn is known:
            return name
    got = getattr(fn, "__name__", repr(fn))
    known_names = ", ".join(dict.fromkeys(name for _, name in ACTIVATIONS))
    raise UnsupportedError(where, f"jax.nn's {known_names}", got, "use one of these functions")


def check_residual(cell: Any, where: str) -> None:
    """Raises UnsupportedError for a SimpleCell that adds its state to its output."""
    if cell.residual:
        do = "use a cell without residual"
        raise UnsupportedError(where, "residual=False", "residual=True", do)


def check_dtype(layer: Any, where: str) -> None:
    """Raises UnsupportedError for a layer that computes in less than float32."""
    if layer.dtype is not None and np.dtype(layer.dtype).itemsize < 4:
        got, do = f"dtype={np.dtype(layer.dtype).name}", "set dtype=None"
        raise UnsupportedError(where, "computation in the parameters' dtype", got, do)
