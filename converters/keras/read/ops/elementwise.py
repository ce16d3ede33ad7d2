"""Reads arithmetic, comparisons and activations of tensors as specs; imports no framework.

In: a call of an operation. Out: its output, or a list of them, as pending nodes.

    x * 2 + 1                  Affine(2.0, 0.0), Affine(1.0, 1.0)
    keras.ops.where(x > 0, x, 0)    Compare("greater", 0.0), Where(no=0.0)
"""

from __future__ import annotations

import math
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir import lowering
from xlstm.ir.layers.elementwise import FUNCTIONS
from xlstm.ir.layers.operations import ARITHMETIC, COMPARISONS

from ...activations import FROM_KERAS
from ..inbound_nodes import KerasTensor
from ..layers.config import LAMBDAS
from ..layers.options import array_of
from .call import OPERATIONS, Operation, Pending, chain, node

MERGES = ("add", "subtract", "multiply", "maximum", "minimum")


@OPERATIONS.of(*MERGES, "divide", "power")
def _arithmetic(op: Operation) -> Pending:
    """Reads an operation on two tensors, or on a tensor and a number."""
    a, b = op.argument(0, "x", "x1", "a"), op.argument(1, "y", "x2", "b")
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        x, y = op.level(a, b)
        if {a, b} <= op.flags and op.name in ("add", "subtract"):
            raise op.refused("arithmetic of numbers", "two tensors of True and False")
        if op.name == "divide":
            return node(L.Merge("multiply"), x, node(L.Function("reciprocal"), y))
        if op.name not in MERGES:
            raise op.refused("a tensor and a number", "two tensors")
        return node(L.Merge(op.name), x, y)
    if (result := _with_array(op, a, b)) is not None:
        return result
    tensor, number = (a, b) if isinstance(a, KerasTensor) else (b, a)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise op.refused("tensors and numbers", number)
    if not isinstance(tensor, KerasTensor):
        raise op.refused("a tensor", tensor)
    specs = lowering.with_number(op.name, float(number), first=tensor is a)
    if not specs:
        raise op.refused("arithmetic with an exact form", f"{op.name} with {float(number)}")
    return chain(tensor, *specs)


def _with_array(op: Operation, a: Any, b: Any) -> Pending | None:
    """Joins a tensor and a constant array; None without an array."""
    array, tensor = (array_of(b), a) if isinstance(a, KerasTensor) else (array_of(a), b)
    if array is None or not isinstance(tensor, KerasTensor):
        return None
    values, shape = array
    if len(shape) == len(op.shapes[tensor]) + 1 and shape[0] == 1:
        shape = shape[1:]
    known = op.name in (*ARITHMETIC, *COMPARISONS)
    if not known or not shape or len(shape) > len(op.shapes[tensor]):
        raise op.refused("an array that samples of a tensor fit", f"{op.name} with {shape}")
    op.check_few(values)
    return node(L.Constant(op.name, values, shape, tensor is b), tensor)


@OPERATIONS.of(*FUNCTIONS)
def _function(op: Operation) -> Pending:
    return op.apply(L.Function(op.name))


@OPERATIONS.of("rsqrt")
def _rsqrt(op: Operation) -> Pending:
    return op.apply(*lowering.RSQRT)


@OPERATIONS.of("identity")
def _identity(op: Operation) -> Pending:
    return op.apply(L.Activation("linear"))


def _number(value: Any) -> float | None:
    plain = type(value) in (int, float) and math.isfinite(value)
    return float(value) if plain else None


@OPERATIONS.of(*COMPARISONS)
def _compare(op: Operation) -> Pending:
    a, b = op.argument(0, "x1", "x", "a"), op.argument(1, "x2", "y", "b")
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        return node(L.Compare(op.name), *op.level(a, b))
    if (result := _with_array(op, a, b)) is not None:
        return result
    tensor, number = (a, _number(b)) if isinstance(a, KerasTensor) else (b, _number(a))
    if not isinstance(tensor, KerasTensor) or number is None:
        raise op.refused("a tensor and a number", f"{a} and {b}")
    return node(lowering.compare(op.name, number, first=tensor is a), tensor)


def truth(op: Operation, x: Pending) -> Pending:
    """Returns 1 where a tensor is not 0."""
    return x if x in op.flags else node(lowering.TRUTH, x)


@OPERATIONS.of("logical_and", "logical_or", "logical_xor", "logical_not")
def _logical(op: Operation) -> Pending:
    if op.name == "logical_not":
        return op.apply(lowering.NOT)
    pair = op.argument(0, "x1", "x"), op.argument(1, "x2", "y")
    first, *_ = tensors = [x for x in pair if isinstance(x, KerasTensor)]
    rank = max(len(op.shapes[tensor]) for tensor in tensors)
    a, b = op.level(*op.tensors(pair, first, rank))
    spec = lowering.LOGIC.get(op.name, L.Compare("not_equal"))
    return node(spec, truth(op, a), truth(op, b))


@OPERATIONS.of("where")
def _where(op: Operation) -> Pending:
    condition = op.argument(0, "condition")
    cases = op.argument(1, "x1", "x"), op.argument(2, "x2", "y")
    tensors = [x for x in (condition, *cases) if isinstance(x, KerasTensor)]
    rank = max(len(op.shapes[tensor]) for tensor in tensors)
    yes, no = numbers = [_number(case) for case in cases]
    given = [x for x, number in zip(cases, numbers, strict=True) if number is None]
    asked, *rest = op.level(*op.tensors((condition, *given), tensors[0], rank))
    return node(lowering.where(yes, no), asked if rest else truth(op, asked), *rest)


FLOATS, INTS = ("float32", "float64"), ("int32", "int64")


@OPERATIONS.of("cast")
def _cast(op: Operation) -> Pending:
    """Reads a cast: ports compute in one dtype, so only fractions and truth values change."""
    dtype = op.argument(1, "dtype")
    dtype = dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype
    if dtype == "bool":
        return truth(op, op.tensor)
    if dtype not in (*FLOATS, *INTS):
        raise op.refused(f"one of {', '.join((*FLOATS, *INTS))}, bool", dtype)
    whole = dtype in INTS and op.tensor not in op.flags
    return op.apply(*[L.Function("trunc")] * whole)


@OPERATIONS.of("convert_to_tensor", "copy", "stop_gradient")
def _same(op: Operation) -> Pending:
    """Returns the tensor unchanged, unless the call names another dtype."""
    return _cast(op) if op.argument(1, "dtype") else op.tensor


@OPERATIONS.of("clip")
def _clip(op: Operation) -> Pending:
    low = _number(op.argument(1, "x_min", "clip_value_min", "min_value"))
    high = _number(op.argument(2, "x_max", "clip_value_max", "max_value"))
    if low is None or high is None or low > high:
        raise op.refused("two finite numbers, the lower one first", f"{low}, {high}")
    return op.apply(L.Clip(low, high))


@OPERATIONS.of("softmax")
def _softmax(op: Operation) -> Pending:
    axis = op.argument(1, "axis", default=-1)
    if axis == -1 or axis == len(op.shape):
        return op.apply(L.Activation("softmax"))
    return op.apply(L.Softmax(op.axis(axis)))


PLAIN = (
    "relu sigmoid tanh elu selu softplus softsign silu gelu leaky_relu relu6 hard_sigmoid "
    "log_sigmoid tanh_shrink hard_tanh hard_silu sparse_plus sparse_sigmoid"
).split()


@OPERATIONS.of(*PLAIN, "log_softmax")
def _activation(op: Operation) -> Pending:
    """Reads an activation; the slope or the scale of some is an argument."""
    if op.name == "log_softmax":
        axis = op.argument(1, "axis", default=-1)
        if axis not in (-1, len(op.shape)):
            raise op.refused("log_softmax over the last axis", f"axis {axis}")
        return op.apply(L.Activation(op.name))
    slope = op.argument(1, "negative_slope", "alpha", default=None)
    if op.name == "leaky_relu" and slope not in (None, 0.2):
        return op.apply(L.Relu(slope=slope))
    if op.name == "elu" and slope not in (None, 1.0):
        return op.apply(L.Elu(slope))
    if op.name == "gelu":
        # the default of Keras's operation and layer is the approximation; that of tf.keras is not
        approximate = op.argument(1, "approximate", default=op.call.kind not in LAMBDAS)
        return op.apply(L.Activation("gelu_tanh" if approximate else "gelu"))
    others = {"name", "axis", "negative_slope", "alpha", "trainable", "dtype", "function"}
    unknown = [k for k, v in op.call.options.items() if k not in others and v is not None]
    if unknown or (slope is not None and op.name not in ("leaky_relu", "elu")):
        raise op.refused(f"{op.name} of one form", ", ".join(unknown) or f"{slope}")
    return op.apply(L.Activation(FROM_KERAS[3][op.name]))


def _finite(op: Operation, place: int, name: str, default: float, least: float) -> float:
    """Returns an argument that is a finite number from `least` on."""
    found = op.argument(place, name, default=default)
    if type(found) not in (int, float) or not math.isfinite(found) or found < least:
        want = "a finite number" if least == -math.inf else f"a number from {least:g} on"
        raise op.refused(f"{name} as {want}", found)
    return float(found)


NUMBERED = ("celu", "soft_shrink", "hard_shrink", "threshold", "squareplus")


@OPERATIONS.of(*NUMBERED)
def _with_parameter(op: Operation) -> Pending:
    """Reads an activation with a number."""
    if op.name == "celu":
        alpha = _finite(op, 1, "alpha", 1.0, 0.0)
        if not alpha:
            raise op.refused("alpha above 0", alpha)
        steps = lowering.celu(alpha)
    elif op.name == "soft_shrink":
        steps = lowering.soft_shrink(_finite(op, 1, "threshold", 0.5, 0.0))
    elif op.name == "hard_shrink":
        steps = lowering.hard_shrink(_finite(op, 1, "threshold", 0.5, -math.inf))
    elif op.name == "threshold":
        edge = _finite(op, 1, "threshold", math.nan, -math.inf)
        other = _finite(op, 2, "default_value", math.nan, -math.inf)
        steps = lowering.threshold(edge, other)
    else:
        steps = lowering.squareplus(_finite(op, 1, "b", 4.0, 0.0))
    return op.build(steps)


@OPERATIONS.of("glu")
def _glu(op: Operation) -> Pending:
    """Returns the first half of an axis times the sigmoid of the second."""
    axis = op.axis(op.argument(1, "axis", default=-1))
    size = op.shape[axis]
    if not size or size % 2:
        raise op.refused("an axis of a known, even size", f"{size}")
    first, second = L.Slice(axis, None, size // 2), L.Slice(axis, size // 2, None)
    return op.build(lowering.glu(first, second))


LOGICAL = ("logical_and", "logical_or", "logical_xor", "logical_not")

BY_NUMBER = frozenset((*PLAIN, *NUMBERED, *MERGES, *FUNCTIONS, *COMPARISONS, *LOGICAL))
BY_NUMBER |= {"divide", "power", "where", "cast", "clip", "identity", "rsqrt"}
"""Operations that work number by number, whatever the axes."""

FLAGGED = frozenset((*COMPARISONS, *LOGICAL, "any", "all"))
"""Operations that give True and False."""
