"""The operations of one number's activation.

>>> activation("hard_sigmoid", polynomial(5)).elementwise
15
>>> dict(activation("tanh", polynomial(5)).calls)
{'tanh': 5}
"""

from __future__ import annotations

from xlstm.counting.operations.formula import OperationCount, called, elementwise
from xlstm.counting.operations.polynomial import Polynomial, polynomial

__all__ = ["ARITHMETIC", "activation", "polynomial"]

ARITHMETIC = {
    "linear": 0,
    "relu": 1,
    "relu6": 1,
    "hard_tanh": 1,
    "hard_sigmoid": 3,
    "hard_sigmoid_keras2": 3,
    "leaky_relu": 3,
    "leaky_relu_01": 3,
    "softsign": 3,
    "hard_silu": 4,
    "soft_shrink": 2,
    "hard_shrink": 3,
    "sparse_plus": 6,
    "sparse_sigmoid": 3,
}
"""Activation without a transcendental function -> its elementwise operations a number.

hard_sigmoid has a multiplication, an addition and a clip. All others count as one call.
"""


def activation(name: str, count: Polynomial) -> OperationCount:
    """The operations of an activation of so many numbers."""
    if name in ARITHMETIC:
        return elementwise(ARITHMETIC[name] * count)
    return called(name, count)
