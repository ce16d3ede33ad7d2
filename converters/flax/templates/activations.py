"""Activations that JAX lacks or has with other defaults, copied as text into emitted modules."""

import jax
import jax.numpy as jnp


def linear(x: jax.Array) -> jax.Array:
    """X itself."""
    return x


def hard_sigmoid_keras2(x: jax.Array) -> jax.Array:
    """clip(0.2 x + 0.5, 0, 1), the hard_sigmoid of Keras 1 and 2."""
    return jnp.clip(0.2 * x + 0.5, 0.0, 1.0)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU; JAX's default is an approximation."""
    return jax.nn.gelu(x, approximate=False)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with Keras's slope of 0.2."""
    return jax.nn.leaky_relu(x, negative_slope=0.2)


def tanh_shrink(x: jax.Array) -> jax.Array:
    """X - tanh(x)."""
    return x - jnp.tanh(x)


def soft_shrink(x: jax.Array) -> jax.Array:
    """X moved by 1/2 towards zero, and zero within 1/2 of it."""
    return x - jnp.clip(x, -0.5, 0.5)


def hard_shrink(x: jax.Array) -> jax.Array:
    """X, and zero within 1/2 of zero."""
    return jnp.where(jnp.abs(x) > 0.5, x, 0.0)
