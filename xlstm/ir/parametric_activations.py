"""Activations with a parameter, as specs; imports no framework.

In: the parameter. Out: steps, each a spec and the values it reads: 0 is the input, 1 the first
step's output. If a canonical activation has that parameter, it is the only step.

    >>> [(spec.kind, reads) for spec, reads in hard_shrink(2.0)]
    [('Function', (0,)), ('Compare', (1,)), ('Where', (2, 0))]
    >>> hard_shrink(0.5)
    ((Activation(activation='hard_shrink'), (0,)),)
"""

from __future__ import annotations

from xlstm.ir import layers as L

Steps = tuple[tuple[L.LayerSpec, tuple[int, ...]], ...]


def celu(alpha: float) -> Steps:
    """Alpha (e^(x / alpha) - 1) below zero, x above; `alpha` is above 0."""
    if alpha == 1:
        return ((L.Activation("celu"), (0,)),)
    return (L.Affine(1 / alpha), (0,)), (L.Elu(), (1,)), (L.Affine(alpha), (2,))


def soft_shrink(threshold: float) -> Steps:
    """X without its part within `threshold`, from 0 on, of zero."""
    if threshold == 0.5:
        return ((L.Activation("soft_shrink"), (0,)),)
    return (L.Clip(-threshold, threshold), (0,)), (L.Merge("subtract"), (0, 1))


def hard_shrink(threshold: float) -> Steps:
    """X, and zero within `threshold` of zero."""
    if threshold == 0.5:
        return ((L.Activation("hard_shrink"), (0,)),)
    return (
        (L.Function("abs"), (0,)),
        (L.Compare("greater", threshold), (1,)),
        (L.Where(no=0.0), (2, 0)),
    )


def threshold(edge: float, other: float) -> Steps:
    """X above `edge`, and `other` from there down."""
    return (L.Compare("greater", edge), (0,)), (L.Where(no=other), (1, 0))


def squareplus(b: float) -> Steps:
    """(x + sqrt(x^2 + b)) / 2; `b` is 0 or above."""
    if b == 4:
        return ((L.Activation("squareplus"), (0,)),)
    root = (L.Function("square"), (0,)), (L.Affine(1.0, b), (1,)), (L.Function("sqrt"), (2,))
    return (*root, (L.Merge("add"), (0, 3)), (L.Affine(0.5), (4,)))
