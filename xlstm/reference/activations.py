"""Activation formulas, and the pieces of those that are made of pieces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xlstm.model import Array


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow on either side.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softmax(x: Array) -> Array:
    """e^x over its sum along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def hard_sigmoid(x: Array) -> Array:
    """clip(x/6 + 1/2, 0, 1): Keras 3, `torch.nn.functional.hardsigmoid`, `jax.nn.hard_sigmoid`.

    >>> hard_sigmoid(np.array([-4.0, 0.0, 1.5, 4.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    return np.asarray(np.clip(x / 6 + x.dtype.type(0.5), 0, 1))


def hard_sigmoid_keras2(x: Array) -> Array:
    """clip(x/5 + 1/2, 0, 1): `keras.activations.hard_sigmoid` of Keras 1 and 2.

    >>> hard_sigmoid_keras2(np.array([-4.0, 0.0, 1.5, 4.0])).tolist()
    [0.0, 0.5, 0.8, 1.0]
    """
    return np.asarray(np.clip(x / 5 + x.dtype.type(0.5), 0, 1))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "softmax": softmax,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras2": hard_sigmoid_keras2,
}

PIECES: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "hard_sigmoid": (-3.0, 3.0),
    "hard_sigmoid_keras2": (-2.5, 2.5),
}
"""Where the pieces of each piecewise activation meet."""

UNSATURATED: dict[str, tuple[float, float]] = {"sigmoid": (-16.0, 16.0), "tanh": (-8.0, 8.0)}
"""Where each saturating activation still answers to its argument; outside, errors are invisible."""
