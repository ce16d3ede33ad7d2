"""Source of each activation in Flax, and activations of live Flax cells; imports no framework."""

from __future__ import annotations

CELLS = "flax/templates/activations.py"
"""File of the helpers."""

FUNCTIONS: dict[str, tuple[str, str]] = {
    "linear": ("linear", "linear"),
    "tanh": ("{m}.tanh", ""),
    "sigmoid": ("{m}.sigmoid", ""),
    "relu": ("{m}.relu", ""),
    "softmax": ("{m}.softmax", ""),
    "hard_sigmoid": ("{m}.hard_sigmoid", ""),
    "hard_sigmoid_keras2": ("hard_sigmoid_keras2", "hard_sigmoid_keras2"),
    "elu": ("{m}.elu", ""),
    "selu": ("{m}.selu", ""),
    "celu": ("{m}.celu", ""),
    "softplus": ("{m}.softplus", ""),
    "softsign": ("{m}.soft_sign", ""),
    "silu": ("{m}.silu", ""),
    "gelu": ("gelu", "gelu"),
    "gelu_tanh": ("{m}.gelu", ""),
    "mish": ("jax.nn.mish", ""),
    "exponential": ("jnp.exp", ""),
    "leaky_relu": ("leaky_relu", "leaky_relu"),
    "leaky_relu_01": ("{m}.leaky_relu", ""),
    "relu6": ("{m}.relu6", ""),
    "hard_tanh": ("{m}.hard_tanh", ""),
    "hard_silu": ("{m}.hard_silu", ""),
    "log_sigmoid": ("{m}.log_sigmoid", ""),
    "log_softmax": ("{m}.log_softmax", ""),
    "tanh_shrink": ("tanh_shrink", "tanh_shrink"),
    "soft_shrink": ("soft_shrink", "soft_shrink"),
    "hard_shrink": ("hard_shrink", "hard_shrink"),
    "squareplus": ("jax.nn.squareplus", ""),
    "sparse_plus": ("jax.nn.sparse_plus", ""),
    "sparse_sigmoid": ("jax.nn.sparse_sigmoid", ""),
}
"""Activation -> (expression for a function of one array, helper in `CELLS` that it needs or "").

`{m}` is the dialect's module, `nn` or `nnx`; `jnp` is `jax.numpy`.
"""

LIVE: tuple[tuple[str, str], ...] = (
    ("jax.nn.identity", "linear"),
    ("jax.nn.tanh", "tanh"),
    ("jax.numpy.tanh", "tanh"),
    ("jax.lax.tanh", "tanh"),
    ("jax.nn.sigmoid", "sigmoid"),
    ("jax.lax.logistic", "sigmoid"),
    ("jax.nn.relu", "relu"),
    ("jax.nn.softmax", "softmax"),
    ("jax.nn.hard_sigmoid", "hard_sigmoid"),
    ("jax.nn.elu", "elu"),
    ("jax.nn.selu", "selu"),
    ("jax.nn.celu", "celu"),
    ("jax.nn.softplus", "softplus"),
    ("jax.nn.soft_sign", "softsign"),
    ("jax.nn.silu", "silu"),
    ("jax.nn.swish", "silu"),
    ("jax.nn.gelu", "gelu_tanh"),
    ("jax.nn.mish", "mish"),
    ("jax.numpy.exp", "exponential"),
    ("jax.lax.exp", "exponential"),
    ("jax.nn.leaky_relu", "leaky_relu_01"),
    ("jax.nn.relu6", "relu6"),
    ("jax.nn.hard_tanh", "hard_tanh"),
    ("jax.nn.hard_silu", "hard_silu"),
    ("jax.nn.hard_swish", "hard_silu"),
    ("jax.nn.log_sigmoid", "log_sigmoid"),
    ("jax.nn.log_softmax", "log_softmax"),
    ("jax.nn.squareplus", "squareplus"),
    ("jax.nn.sparse_plus", "sparse_plus"),
    ("jax.nn.sparse_sigmoid", "sparse_sigmoid"),
)
"""Functions in live Flax cells, with their defaults -> the canonical names."""

LIVE_OPTIONS: tuple[tuple[str, str, object, str], ...] = (
    ("jax.nn.celu", "alpha", 1.0, "celu"),
    ("jax.nn.elu", "alpha", 1.0, "elu"),
    ("jax.nn.squareplus", "b", 4.0, "squareplus"),
    ("jax.nn.gelu", "approximate", False, "gelu"),
    ("jax.nn.gelu", "approximate", True, "gelu_tanh"),
    ("jax.nn.leaky_relu", "negative_slope", 0.2, "leaky_relu"),
    ("jax.nn.leaky_relu", "negative_slope", 0.01, "leaky_relu_01"),
)
"""The same within `functools.partial`: (function, keyword, its value, canonical name)."""
