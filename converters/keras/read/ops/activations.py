"""Operations that are activations, with the numbers that some take; imports no framework.

In: a call of an operation. Out: specs. `keras.ops.hard_shrink(x, threshold=2.0)` becomes

    where(|x| > 2, x, 0)

and with the threshold that the activation "hard_shrink" has, that activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from xlstm.ir import layers as L
from xlstm.ir import parametric_activations

from ...activations import FROM_KERAS
from ..inbound_nodes import KerasTensor
from ..layers.config import LAMBDAS
from .call import Lowered, MultipleOutputs, Operation, PendingNode, chain


def _softmax(op: Operation) -> Lowered:
    axis = op.argument(1, "axis", default=-1)
    if axis == -1 or axis == len(op.shape):
        return (op.tensor,), (L.Activation("softmax"),)
    return (op.tensor,), (L.Softmax(op.axis(axis)),)


def _activation(op: Operation) -> Lowered:
    """Reads an activation; the slope or the scale of some is an argument."""
    if op.name == "log_softmax":
        axis = op.argument(1, "axis", default=-1)
        if axis not in (-1, len(op.shape)):
            raise op.refused("log_softmax over the last axis", f"axis {axis}")
        return (op.tensor,), (L.Activation(op.name),)
    slope = op.argument(1, "negative_slope", "alpha", default=None)
    if op.name == "leaky_relu" and slope not in (None, 0.2):
        return (op.tensor,), (L.Relu(slope=slope),)
    if op.name == "elu" and slope not in (None, 1.0):
        return (op.tensor,), (L.Elu(slope),)
    if op.name == "gelu":
        # the default of Keras's operation and layer is the approximation; that of tf.keras is not
        approximate = op.argument(1, "approximate", default=op.call.kind not in LAMBDAS)
        return (op.tensor,), (L.Activation("gelu_tanh" if approximate else "gelu"),)
    others = {"name", "axis", "negative_slope", "alpha", "trainable", "dtype", "function"}
    unknown = [k for k, v in op.call.options.items() if k not in others and v is not None]
    if unknown or (slope is not None and op.name not in ("leaky_relu", "elu")):
        raise op.refused(f"{op.name} of one form", ", ".join(unknown) or f"{slope}")
    return (op.tensor,), (L.Activation(FROM_KERAS[3][op.name]),)


def _number(op: Operation, place: int, name: str, default: float, least: float) -> float:
    """Returns an argument that is a finite number from `least` on."""
    found = op.argument(place, name, default=default)
    if type(found) not in (int, float) or not math.isfinite(found) or found < least:
        want = "a finite number" if least == -math.inf else f"a number from {least:g} on"
        raise op.refused(f"{name} as {want}", found)
    return float(found)


def _made(op: Operation, steps: parametric_activations.Steps) -> Lowered:
    made: list[KerasTensor | PendingNode] = [op.tensor]
    for spec, reads in steps:
        made.append(PendingNode(spec, tuple(made[number] for number in reads)))
    return MultipleOutputs(made[-1:])


def _celu(op: Operation) -> Lowered:
    alpha = _number(op, 1, "alpha", 1.0, 0.0)
    if not alpha:
        raise op.refused("alpha above 0", alpha)
    return _made(op, parametric_activations.celu(alpha))


def _soft_shrink(op: Operation) -> Lowered:
    return _made(op, parametric_activations.soft_shrink(_number(op, 1, "threshold", 0.5, 0.0)))


def _hard_shrink(op: Operation) -> Lowered:
    return _made(
        op, parametric_activations.hard_shrink(_number(op, 1, "threshold", 0.5, -math.inf))
    )


def _threshold(op: Operation) -> Lowered:
    edge = _number(op, 1, "threshold", math.nan, -math.inf)
    return _made(
        op,
        parametric_activations.threshold(
            edge, _number(op, 2, "default_value", math.nan, -math.inf)
        ),
    )


def _squareplus(op: Operation) -> Lowered:
    return _made(op, parametric_activations.squareplus(_number(op, 1, "b", 4.0, 0.0)))


def _glu(op: Operation) -> Lowered:
    """Returns the first half of an axis times the sigmoid of the second."""
    axis = op.axis(op.argument(1, "axis", default=-1))
    size = op.shape[axis]
    if not size or size % 2:
        raise op.refused("an axis of a known, even size", f"{size}")
    first, second = L.Slice(axis, None, size // 2), L.Slice(axis, size // 2, None)
    gate = chain(op.tensor, second, L.Activation("sigmoid"))
    return MultipleOutputs([PendingNode(L.Merge("multiply"), (chain(op.tensor, first), gate))])


PLAIN = (
    "relu sigmoid tanh elu selu softplus softsign silu gelu leaky_relu relu6 hard_sigmoid "
    "log_sigmoid tanh_shrink hard_tanh hard_silu sparse_plus sparse_sigmoid"
).split()

NUMBERED: dict[str, Callable[[Operation], Lowered]] = {
    "celu": _celu,
    "soft_shrink": _soft_shrink,
    "hard_shrink": _hard_shrink,
    "threshold": _threshold,
    "squareplus": _squareplus,
}
"""Activations with a number -> the reader of their calls."""

ACTIVATIONS: dict[str, Callable[[Operation], Lowered]] = {
    **dict.fromkeys((*PLAIN, "log_softmax"), _activation),
    **NUMBERED,
    "softmax": _softmax,
    "glu": _glu,
}
"""Name of an operation -> the reader of its calls."""

EACH_NUMBER = frozenset((*PLAIN, *NUMBERED))
"""Activations that work on every number alone."""
