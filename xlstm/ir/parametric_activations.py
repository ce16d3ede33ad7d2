"""Activations that have a number of their own, as specs; imports no framework.

In: the number. Out: steps, each a spec and the values it reads: 0 is the input, 1 the first step's
output. With the number that an activation of the hub has, that activation is the only step.

    >>> [(spec.kind, reads) for spec, reads in hard_shrink(2.0)]
    [('Function', (0,)), ('Compare', (1,)), ('Where', (2, 0))]
    >>> hard_shrink(0.5)
    ((Activation(activation='hard_shrink'), (0,)),)
"""

from __future__ import annotations

from xlstm.ir.graph import Activation, Affine, Elu, Function, LayerSpec, Merge
from xlstm.ir.layers import Clip, Compare, Where

Steps = tuple[tuple[LayerSpec, tuple[int, ...]], ...]


def celu(alpha: float) -> Steps:
    """Alpha (e^(x / alpha) - 1) below zero, x above; `alpha` is above 0."""
    if alpha == 1:
        return ((Activation("celu"), (0,)),)
    return (Affine(1 / alpha), (0,)), (Elu(), (1,)), (Affine(alpha), (2,))


def soft_shrink(threshold: float) -> Steps:
    """X without its part within `threshold`, from 0 on, of zero."""
    if threshold == 0.5:
        return ((Activation("soft_shrink"), (0,)),)
    return (Clip(-threshold, threshold), (0,)), (Merge("subtract"), (0, 1))


def hard_shrink(threshold: float) -> Steps:
    """X, and zero within `threshold` of zero."""
    if threshold == 0.5:
        return ((Activation("hard_shrink"), (0,)),)
    return (Function("abs"), (0,)), (Compare("greater", threshold), (1,)), (Where(no=0.0), (2, 0))


def threshold(edge: float, other: float) -> Steps:
    """X above `edge`, and `other` from there down."""
    return (Compare("greater", edge), (0,)), (Where(no=other), (1, 0))


def squareplus(b: float) -> Steps:
    """(x + sqrt(x^2 + b)) / 2; `b` is 0 or above."""
    if b == 4:
        return ((Activation("squareplus"), (0,)),)
    root = (Function("square"), (0,)), (Affine(1.0, b), (1,)), (Function("sqrt"), (2,))
    return (*root, (Merge("add"), (0, 3)), (Affine(0.5), (4,)))
