"""Attention with context in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx


class AttentionWithContext(nnx.Module):
    """Weighs the steps of a sequence by what they say."""

    def __init__(self, features: int) -> None:
        self.W = nnx.Param(jnp.zeros((features, features)))
        self.b = nnx.Param(jnp.zeros(features))
        self.u = nnx.Param(jnp.zeros(features))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, time, n) -> (batch, n)."""
        says = jnp.tanh(x @ self.W[...] + self.b[...])
        weights = nnx.softmax(says @ self.u[...])
        return (weights[..., None] * x).sum(axis=1)
