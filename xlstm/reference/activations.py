"""Activation formulas, and the pieces of the piecewise ones.

Each computes in the precision of its argument: float32, float64 or longdouble.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xlstm.ir.types import Array


def _clip(x: Array, low: float, high: float) -> Array:
    """numpy.clip without its Python wrapper, which takes longer than the numbers of a step."""
    return np.minimum(np.maximum(x, low), high)


def _constant(x: Array, digits: str) -> Any:
    """A number in the precision of x."""
    return x.dtype.type(digits)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow on either side.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    e = np.exp(-np.abs(x))
    return np.asanyarray(np.where(x >= 0, 1, e) / (1 + e))


def softmax(x: Array) -> Array:
    """e^x over its sum along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """The logarithm of softmax.

    >>> log_softmax(np.array([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def hard_sigmoid(x: Array) -> Array:
    """clip(x/6 + 1/2, 0, 1): Keras 3, `torch.nn.functional.hardsigmoid`, `jax.nn.hard_sigmoid`.

    >>> hard_sigmoid(np.array([-4.0, 0.0, 1.5, 4.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    return _clip(x / 6 + x.dtype.type(0.5), 0, 1)


def hard_sigmoid_keras2(x: Array) -> Array:
    """clip(x/5 + 1/2, 0, 1): `keras.activations.hard_sigmoid` of Keras 1 and 2.

    >>> hard_sigmoid_keras2(np.array([-4.0, 0.0, 1.5, 4.0])).tolist()
    [0.0, 0.5, 0.8, 1.0]
    """
    return _clip(x / 5 + x.dtype.type(0.5), 0, 1)


def sparse_sigmoid(x: Array) -> Array:
    """clip((x + 1)/2, 0, 1), the slope of sparse_plus."""
    return (_clip(x, -1, 1) + 1) / 2


def hard_tanh(x: Array) -> Array:
    """clip(x, -1, 1)."""
    return _clip(x, -1, 1)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    """clip(x, 0, 6)."""
    return _clip(x, 0, 6)


def leaky_relu(x: Array) -> Array:
    """X, below zero x/5: the activation of Keras; its layer LeakyReLU has another slope."""
    return np.where(x > 0, x, x / 5)


def leaky_relu_01(x: Array) -> Array:
    """X, below zero x/100: the default of PyTorch and JAX."""
    return np.where(x > 0, x, x / 100)


def elu(x: Array) -> Array:
    """X, below zero e^x - 1; the same as celu with alpha 1."""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """Scale x, below zero scale alpha (e^x - 1): keeps mean 0 and variance 1 (Klambauer et al.).

    >>> selu(np.array([-1000.0, 0.0, 1.0])).tolist()
    [-1.7580993408473766, 0.0, 1.0507009873554805]
    """
    alpha = _constant(x, "1.6732632423543772848170429916717")
    scale = _constant(x, "1.0507009873554804934193349852946")
    return np.asarray(scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def softplus(x: Array) -> Array:
    """log(1 + e^x), without overflow, and with all digits where e^x is small.

    >>> softplus(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.6931471805599453, 1000.0]
    """
    return np.logaddexp(x, 0)


def log_sigmoid(x: Array) -> Array:
    """The logarithm of sigmoid, -log(1 + e^-x)."""
    return np.asarray(-softplus(-x))


def softsign(x: Array) -> Array:
    """X / (1 + |x|)."""
    return np.asarray(x / (1 + np.abs(x)))


def silu(x: Array) -> Array:
    """X sigmoid(x), also called swish."""
    return np.asarray(x * sigmoid(x))


def hard_silu(x: Array) -> Array:
    """X hard_sigmoid(x), also called hard_swish."""
    return np.asarray(x * hard_sigmoid(x))


def mish(x: Array) -> Array:
    """X tanh(softplus(x))."""
    return np.asarray(x * np.tanh(softplus(x)))


def erf(x: Array) -> Array:
    """The error function; for longdouble only with the digits of float64."""
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x)).astype(x.dtype)


def gelu(x: Array) -> Array:
    """X (1 + erf(x / sqrt 2)) / 2: x times the normal distribution function.

    >>> gelu(np.array([-1.0, 1.0])).round(4).tolist()
    [-0.1587, 0.8413]
    """
    return np.asarray(x / 2 * (1 + erf(x / np.sqrt(_constant(x, "2")))))


def gelu_tanh(x: Array) -> Array:
    """The approximation of gelu that JAX uses by default; it differs by up to 0.0005.

    >>> gelu_tanh(np.array([-1.0, 1.0])).round(4).tolist()
    [-0.1588, 0.8412]
    """
    factor = _constant(x, "0.797884560802865355879892119868763737")  # sqrt(2 / pi)
    with np.errstate(over="ignore"):  # tanh of infinity is 1
        inner = factor * (x + _constant(x, "0.044715") * x**3)
    return np.asarray(x / 2 * (1 + np.tanh(inner)))


def exponential(x: Array) -> Array:
    """e^x; infinity where that is too large.

    >>> exponential(np.array([0.0, 1000.0])).tolist()
    [1.0, inf]
    """
    with np.errstate(over="ignore"):
        return np.exp(x)


def tanh_shrink(x: Array) -> Array:
    """X - tanh(x)."""
    return np.asarray(x - np.tanh(x))


def soft_shrink(x: Array) -> Array:
    """X moved by 1/2 towards zero, and zero within 1/2 of it.

    >>> soft_shrink(np.array([-2.0, -0.25, 0.75])).tolist()
    [-1.5, 0.0, 0.25]
    """
    return np.asarray(x - _clip(x, -0.5, 0.5))


def hard_shrink(x: Array) -> Array:
    """X, and zero within 1/2 of zero."""
    return np.where(np.abs(x) > 0.5, x, x.dtype.type(0))


def squareplus(x: Array) -> Array:
    """(x + sqrt(x^2 + 4)) / 2: a softplus without exponentials."""
    return np.asarray((x + np.hypot(x, 2)) / 2)


def sparse_plus(x: Array) -> Array:
    """0 below -1, (x + 1)^2 / 4 up to 1, then x: a softplus in pieces."""
    return np.where(x < 1, (_clip(x, -1, 1) + 1) ** 2 / 4, x)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "softmax": softmax,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras2": hard_sigmoid_keras2,
    "elu": elu,
    "selu": selu,
    "celu": elu,
    "softplus": softplus,
    "softsign": softsign,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": mish,
    "exponential": exponential,
    "leaky_relu": leaky_relu,
    "leaky_relu_01": leaky_relu_01,
    "relu6": relu6,
    "hard_tanh": hard_tanh,
    "hard_silu": hard_silu,
    "log_sigmoid": log_sigmoid,
    "log_softmax": log_softmax,
    "tanh_shrink": tanh_shrink,
    "soft_shrink": soft_shrink,
    "hard_shrink": hard_shrink,
    "squareplus": squareplus,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": sparse_sigmoid,
}

PIECES: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "relu6": (0.0, 6.0),
    "leaky_relu": (0.0,),
    "leaky_relu_01": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "celu": (0.0,),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_sigmoid_keras2": (-2.5, 2.5),
    "hard_silu": (-3.0, 3.0),
    "hard_tanh": (-1.0, 1.0),
    "soft_shrink": (-0.5, 0.5),
    "hard_shrink": (-0.5, 0.5),
    "sparse_plus": (-1.0, 1.0),
    "sparse_sigmoid": (-1.0, 1.0),
}
"""Points where the pieces of each piecewise activation meet."""

UNSATURATED: dict[str, tuple[float, float]] = {
    "sigmoid": (-16.0, 16.0),
    "log_sigmoid": (-16.0, 16.0),
    "softplus": (-16.0, 16.0),
    "silu": (-16.0, 16.0),
    "mish": (-16.0, 16.0),
    "tanh": (-8.0, 8.0),
    "gelu": (-5.0, 5.0),
    "gelu_tanh": (-5.0, 5.0),
}
"""Interval in which each smooth activation shows its formula.

Outside it is flat or a straight line, and errors are invisible.
"""

FLAT: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("relu", "hard_silu", "sparse_plus"), (0,)),
    **dict.fromkeys(("relu6", "hard_sigmoid", "hard_sigmoid_keras2"), (0, 2)),
    **dict.fromkeys(("hard_tanh", "sparse_sigmoid", "sigmoid", "tanh"), (0, 2)),
    **dict.fromkeys(("soft_shrink", "hard_shrink"), (1,)),
}
"""Pieces of PIECES or UNSATURATED that are flat: there no weight of a unit shows."""
