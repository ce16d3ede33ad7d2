"""Activations as prepared calls: numpy functions with their arguments, run once a step.

In: the name of an activation and a buffer. Out: calls without arguments, which work in place.

>>> x = np.array([-1.0, 0.0, 1.0])
>>> for call in calls("sigmoid", x, x):
...     _ = call()
>>> x.round(4).tolist()
[0.2689, 0.5, 0.7311]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS

Call = Callable[[], Any]

LINES: dict[str, tuple[float, float]] = {
    "sigmoid": (1 / 2, 0.0),  # tanh(x / 2) / 2 + 1 / 2
    "hard_sigmoid": (1 / 6, 1 / 2),
    "hard_sigmoid_keras2": (1 / 5, 1 / 2),
}
"""Activations that begin with a line, factor x + offset, which weights can contain."""

ACROSS_UNITS = ("softmax", "log_softmax")
"""Activations that are not elementwise."""


def calls(name: str, x: Array, y: Array, line: bool = True) -> list[Call]:
    """The calls that compute an elementwise activation.

    Args:
        name: of `xlstm.ir.activation_names.ACTIVATIONS`, but none of `ACROSS_UNITS`.
        x: the buffer to read.
        y: the buffer to write, of the same shape and dtype; it may be `x`.
        line: False if `x` has the line of `LINES` behind it already.
    """
    if name in LINES:
        factor, offset = (number(value, x) for value in LINES[name])
        before = [partial(np.multiply, x, factor, y)] if line else []
        before += [partial(np.add, y, offset, y)] if line and offset else []
        return [*before, *_after_line(name, y if line else x, y)]
    if name == "tanh":
        return [partial(np.tanh, x, y)]
    if name == "relu":
        return [_clipped(x, 0, np.inf, y)]
    if name == "linear":
        return [] if x is y else [partial(np.copyto, y, x)]
    return [partial(_store, FUNCTIONS[name], x, y)]


def _after_line(name: str, x: Array, y: Array) -> list[Call]:
    if name == "sigmoid":
        return [partial(np.tanh, x, y), *halved(y)]
    return [_clipped(x, 0, 1, y)]


CLIP = getattr(getattr(getattr(np, "_core", None), "umath", None), "clip", None)
"""The ufunc inside `np.clip`, None in a numpy that has it elsewhere.

It takes 0.2 microseconds for a short array, the method `clip` 0.6, and `np.maximum` 1.1.
"""


def _clipped(x: Array, low: float, high: float, y: Array) -> Call:
    bounds = number(low, x), number(high, x)
    return partial(CLIP, x, *bounds, y) if CLIP else partial(x.clip, *bounds, y)


def halved(y: Array) -> list[Call]:
    """The calls for y / 2 + 1 / 2, in place."""
    half = number(0.5, y)
    return [partial(np.multiply, y, half, y), partial(np.add, y, half, y)]


def number(value: float, like: Array) -> Array:
    """A number as an array without axes, which numpy need not convert at every call."""
    return np.array(value, like.dtype)


def _store(function: Callable[[Array], Array], x: Array, y: Array) -> None:
    y[...] = function(x)
