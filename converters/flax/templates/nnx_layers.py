"""Own layers for Flax NNX, copied as text into emitted modules; plain as a textbook."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights

from .common import weighed


def untraced_rngs() -> nnx.Rngs:
    """Random streams for `nnx.eval_shape` of many layers; their counters are plain numbers.

    A counter that is traced looks through the whole trace at every draw.
    """
    rngs = nnx.Rngs(params=0, dropout=0)
    for stream in (rngs.params, rngs.dropout):
        zero: Any = np.zeros((), np.uint32)
        stream.count = nnx.RngCount(zero, tag=stream.tag)
    return rngs


class PReLU(nnx.Module):
    """X, and a learned slope times x below zero."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ) -> None:
        self.negative_slope = nnx.Param(jnp.zeros(shape, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        return jnp.where(x >= 0, x, self.negative_slope[...] * x)


class Normalization(nnx.Module):
    """X by the mean and variance of the data."""

    def __init__(self, features: int, *, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.mean = nnx.BatchStat(jnp.zeros(features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(features, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        return (x - self.mean[...]) / jnp.maximum(jnp.sqrt(self.var[...]), 1e-7)


class Denormalization(nnx.Module):
    """X times the deviation of the data, plus their mean."""

    def __init__(self, features: int, *, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.mean = nnx.BatchStat(jnp.zeros(features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(features, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape."""
        return self.mean[...] + x * jnp.maximum(jnp.sqrt(self.var[...]), 1e-7)


class DotAttention(nnx.Module):
    """Values weighed by the softmax of query key^T, times a learned factor or not."""

    def __init__(
        self,
        *,
        use_scale: bool = False,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = nnx.Param(jnp.ones((), param_dtype)) if use_scale else None

    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        scores = query @ (value if key is None else key).swapaxes(1, 2)
        scores = scores if self.scale is None else scores * self.scale[...]
        return weighed(scores, value, seen)


class ConcatAttention(nnx.Module):
    """Values weighed by the softmax of a learned factor times sum(tanh(query + key))."""

    def __init__(
        self,
        *,
        use_scale: bool = False,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = nnx.Param(jnp.ones((), param_dtype)) if use_scale else None
        self.attention_scale = nnx.Param(jnp.ones((), param_dtype))

    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        pairs = query[:, :, None] + (value if key is None else key)[:, None]
        pairs = pairs if self.scale is None else pairs * self.scale[...]
        scores = self.attention_scale[...] * jnp.tanh(pairs).sum(axis=-1)
        return weighed(scores, value, seen)


class AdditiveAttention(nnx.Module):
    """Values weighed by the softmax of sum(scale * tanh(query + key))."""

    def __init__(
        self,
        features: int = 1,
        *,
        use_scale: bool = False,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = nnx.Param(jnp.ones(features, param_dtype)) if use_scale else None

    def __call__(
        self,
        query: jax.Array,
        value: jax.Array,
        key: jax.Array | None = None,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """(batch, queries, n), (batch, values, m) -> (batch, queries, m)."""
        pairs = query[:, :, None] + (value if key is None else key)[:, None]
        scale = 1 if self.scale is None else self.scale[...]
        scores = (scale * jnp.tanh(pairs)).sum(axis=-1)
        return weighed(scores, value, seen)


class UnevenAttention(nnx.MultiHeadAttention):
    """`nnx.MultiHeadAttention` whose keys and values have sizes of their own."""

    def __init__(
        self,
        *,
        num_heads: int,
        in_features: int,
        key_features: int,
        value_features: int,
        value_dim: int,
        use_bias: bool = True,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        super().__init__(
            num_heads,
            in_features,
            use_bias=use_bias,
            rngs=rngs,
            **options,
        )
        dtype = self.param_dtype
        linear = partial(
            nnx.LinearGeneral,
            use_bias=use_bias,
            param_dtype=dtype,
            rngs=rngs,
        )
        self.key = linear(key_features, (num_heads, self.head_dim))
        self.value = linear(value_features, (num_heads, value_dim))
        self.out = linear((num_heads, value_dim), self.out_features, axis=(-2, -1))


class WeighingAttention(UnevenAttention):
    """`UnevenAttention` that gives its weights as well."""

    def __call__(  # type: ignore[override]
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        **options: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The output, and weights (batch, heads, queries, values)."""
        weights = self.attention_fn(self.query(query), self.key(key), **options)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, self.value(value))
        return self.out(y), weights


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    **options: Any,
) -> jax.Array:
    """`nnx.dot_product_attention`, which has its softmax in float32 only."""
    weights = dot_product_attention_weights(query, key, **options)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def attend_or_zeros(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    **options: Any,
) -> jax.Array:
    """As `nnx.dot_product_attention`, and zeros for a query that sees no value."""
    weights = dot_product_attention_weights(query, key, mask=mask, **options)
    return jnp.einsum("bhqk,bkhd->bqhd", jnp.where(mask, weights, 0), value)


def attend_lowered(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    **options: Any,
) -> jax.Array:
    """As `nnx.dot_product_attention`; a value that is not seen has 1e9 less score."""
    bias = jnp.where(mask, 0, jnp.asarray(-1e9, query.dtype))
    weights = dot_product_attention_weights(query, key, bias, **options)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)
