"""Own functions for Flax, copied as text into emitted modules."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.nnx.nn.attention import dot_product_attention_weights


def zeros(x: jax.Array, *size: int) -> jax.Array:
    """A state of zeros for a batch like x."""
    return jnp.zeros((x.shape[0], *size), x.dtype)


def checked(state: jax.Array, x: jax.Array, *size: int) -> jax.Array:
    """A state as it was given, for a batch like x."""
    if jnp.shape(state) != (x.shape[0], *size):
        wanted, given = (x.shape[0], *size), jnp.shape(state)
        raise ValueError(f"a state of shape {wanted} was expected, not {given}")
    return jnp.asarray(state, x.dtype)


def concatenate(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Both halves side by side."""
    return jnp.concatenate([forward, backward], axis=-1)


def average(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """The mean of both halves."""
    return (forward + backward) / 2


def pair(forward: jax.Array, backward: jax.Array) -> Any:
    """Both halves apart."""
    return forward, backward


def last(forward: jax.Array, backward: jax.Array, merge: Callable[..., Any]) -> Any:
    """Merges what the halves end with; the backward half ends at the first step."""
    return merge(forward[:, -1], backward[:, 0])


def unit(x: jax.Array, axis: int, floor: float) -> jax.Array:
    """X by its length along an axis, or by `floor` where that is larger."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=axis, keepdims=True), floor)


def weighed(scores: jax.Array, value: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Values by the softmax of their scores; one that is not seen has 1e9 less."""
    if seen is not None:
        scores = jnp.where(seen, scores, scores - 1e9)
    return jax.nn.softmax(scores) @ value


def weighed_with(
    scores: jax.Array,
    value: jax.Array,
    seen: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Values by the softmax of their scores, and the softmax; what is not seen has 1e9 less."""
    if seen is not None:
        scores = jnp.where(seen, scores, scores - 1e9)
    weights = jax.nn.softmax(scores)
    return weights @ value, weights


def weights_or_zeros(query: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
    """Weights of the values for each query; zeros for one that sees no value."""
    weights = dot_product_attention_weights(query, key, mask=mask)
    return jnp.where(mask, weights, 0)


def weights_lowered(query: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
    """Weights of the values for each query; one that is not seen has 1e9 less score."""
    bias = jnp.where(mask, 0, jnp.asarray(-1e9, query.dtype))
    return dot_product_attention_weights(query, key, bias)
