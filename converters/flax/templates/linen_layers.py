"""Own layers for Flax Linen, copied as text into emitted modules; plain as a textbook."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .common import weighed


class PReLU(nn.Module):
    """X, and a learned slope times x below zero."""

    shape: tuple[int, ...]
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        zeros = nn.initializers.zeros
        slope = self.param("negative_slope", zeros, self.shape, self.param_dtype)
        return jnp.where(x >= 0, x, slope * x)


class Normalization(nn.Module):
    """X by the mean and variance of the data."""

    features: int
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        size = self.features, self.param_dtype
        mean = self.variable("batch_stats", "mean", jnp.zeros, *size)
        var = self.variable("batch_stats", "var", jnp.ones, *size)
        return (x - mean.value) / jnp.maximum(jnp.sqrt(var.value), 1e-7)


class Denormalization(nn.Module):
    """X times the deviation of the data, plus their mean."""

    features: int
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        size = self.features, self.param_dtype
        mean = self.variable("batch_stats", "mean", jnp.zeros, *size)
        var = self.variable("batch_stats", "var", jnp.ones, *size)
        return mean.value + x * jnp.maximum(jnp.sqrt(var.value), 1e-7)


class DotAttention(nn.Module):
    """Values weighed by the softmax of query key^T, times a learned factor or not."""

    use_scale: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        scores = query @ (value if key is None else key).swapaxes(1, 2)
        if self.use_scale:
            ones = nn.initializers.ones
            scores = scores * self.param("scale", ones, (), self.param_dtype)
        return weighed(scores, value, seen)


class ConcatAttention(nn.Module):
    """Values weighed by the softmax of a learned factor times sum(tanh(query + key))."""

    use_scale: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        ones = nn.initializers.ones
        pairs = query[:, :, None] + (value if key is None else key)[:, None]
        if self.use_scale:
            pairs = pairs * self.param("scale", ones, (), self.param_dtype)
        factor = self.param("attention_scale", ones, (), self.param_dtype)
        return weighed(factor * jnp.tanh(pairs).sum(axis=-1), value, seen)


class AdditiveAttention(nn.Module):
    """Values weighed by the softmax of sum(scale * tanh(query + key))."""

    features: int = 1
    use_scale: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        pairs = jnp.tanh(query[:, :, None] + (value if key is None else key)[:, None])
        if self.use_scale:
            ones = nn.initializers.ones
            pairs = pairs * self.param(
                "scale",
                ones,
                (self.features,),
                self.param_dtype,
            )
        return weighed(pairs.sum(axis=-1), value, seen)


class UnevenAttention(nn.Module):
    """`nn.MultiHeadAttention` whose keys and values have sizes of their own."""

    num_heads: int
    qkv_features: int
    out_features: int
    value_dim: int
    use_bias: bool = True
    dropout_rate: float = 0.0
    broadcast_dropout: bool = True
    attention_fn: Callable[..., jax.Array] = nn.dot_product_attention
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        *,
        mask: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """As `nn.MultiHeadAttention`."""
        dense = partial(
            nn.DenseGeneral,
            use_bias=self.use_bias,
            param_dtype=self.param_dtype,
        )
        key_dim = self.qkv_features // self.num_heads
        draws = self.dropout_rate > 0 and not deterministic
        y = self.attention_fn(
            dense((self.num_heads, key_dim), name="query")(query),
            dense((self.num_heads, key_dim), name="key")(key),
            dense((self.num_heads, self.value_dim), name="value")(value),
            mask=mask,
            dropout_rng=self.make_rng("dropout") if draws else None,
            dropout_rate=self.dropout_rate,
            broadcast_dropout=self.broadcast_dropout,
            deterministic=deterministic,
        )
        return dense(self.out_features, axis=(-2, -1), name="out")(y)


class WeighingAttention(nn.Module):
    """As `nn.MultiHeadAttention`, keys and values of any size; gives its weights as well."""

    num_heads: int
    qkv_features: int
    out_features: int
    value_dim: int
    use_bias: bool = True
    attention_fn: Callable[..., jax.Array] = nn.dot_product_attention_weights
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        **options: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The output, and weights (batch, heads, queries, values)."""
        dense = partial(
            nn.DenseGeneral,
            use_bias=self.use_bias,
            param_dtype=self.param_dtype,
        )
        key_dim = self.qkv_features // self.num_heads
        weights = self.attention_fn(
            dense((self.num_heads, key_dim), name="query")(query),
            dense((self.num_heads, key_dim), name="key")(key),
            **options,
        )
        y = dense((self.num_heads, self.value_dim), name="value")(value)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, y)
        return dense(self.out_features, axis=(-2, -1), name="out")(y), weights


def attend_or_zeros(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    broadcast_dropout: bool = True,
    deterministic: bool = True,
) -> jax.Array:
    """As `nn.dot_product_attention`, and zeros for a query that sees no value."""
    weights = nn.dot_product_attention_weights(
        query,
        key,
        mask=mask,
        dropout_rng=dropout_rng,
        dropout_rate=dropout_rate,
        broadcast_dropout=broadcast_dropout,
        deterministic=deterministic,
    )
    return jnp.einsum("bhqk,bkhd->bqhd", jnp.where(mask, weights, 0), value)


def attend_lowered(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    broadcast_dropout: bool = True,
    deterministic: bool = True,
) -> jax.Array:
    """As `nn.dot_product_attention`; a value that is not seen has 1e9 less score."""
    return nn.dot_product_attention(
        query,
        key,
        value,
        bias=jnp.where(mask, 0, jnp.asarray(-1e9, query.dtype)),
        dropout_rng=dropout_rng,
        dropout_rate=dropout_rate,
        broadcast_dropout=broadcast_dropout,
        deterministic=deterministic,
    )
