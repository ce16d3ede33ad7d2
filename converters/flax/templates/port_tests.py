"""Runs a Flax port in its tests, Linen or NNX; copied as text into test_port.py."""

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

PORT = ModuleType("ported_model")


def run_linen(dtype: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every output of the port, for inputs of this dtype; masks are bool."""
    with jax.enable_x64(dtype == "float64"):
        module, variables = PORT.load(dtype=jnp.dtype(dtype))
        outputs = jax.jit(lambda *args: module.apply(*args))(variables, *inputs)
        found = [outputs]
        return [np.asarray(y) for y in found]


def run_nnx(dtype: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every output of the port, for inputs of this dtype; masks are bool."""
    with jax.enable_x64(dtype == "float64"):
        graph, state = nnx.split(PORT.load(dtype=jnp.dtype(dtype)))
        outputs = jax.jit(lambda state, *x: nnx.merge(graph, state)(*x))(state, *inputs)
        found = [outputs]
        return [np.asarray(y) for y in found]
