"""Attention with context in Flax Linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class AttentionWithContext(nn.Module):
    """Weighs the steps of a sequence by what they say."""

    features: int

    def setup(self) -> None:
        """Makes the weights."""
        n, zeros = self.features, nn.initializers.zeros
        self.W = self.param("W", zeros, (n, n))
        self.b = self.param("b", zeros, (n,))
        self.u = self.param("u", zeros, (n,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, time, n) -> (batch, n)."""
        says = jnp.tanh(x @ self.W + self.b)
        weights = nn.softmax(says @ self.u)
        return (weights[..., None] * x).sum(axis=1)
