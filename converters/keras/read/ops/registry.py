"""Reads operations of Keras 3 and tf.keras as specs; imports no framework.

In: a call of an operation. Out: specs.

    x * 2 + 1    Affine(2.0, 0.0), Affine(1.0, 1.0)
    x[:, -1]     Slice(axis=0, start=-1, drop=True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.ir import layers as L
from xlstm.ir.layers.elementwise import FUNCTIONS, REDUCTIONS
from xlstm.ir.layers.operations import COMPARISONS

from ..inbound_nodes import ANEW, KerasTensor
from .activations import ACTIVATIONS, EACH_NUMBER
from .call import Lowered, MultipleOutputs, Operation, PendingNode, chain
from .padding import PADS
from .products import PRODUCTS
from .reductions import FORMS, combined, listed_tensors, reductions


def _arithmetic(op: Operation) -> Lowered:
    """Reads an operation on two tensors, or on a tensor and a number."""
    a, b = op.argument(0, "x", "x1", "a"), op.argument(1, "y", "x2", "b")
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        x, y = op.level(a, b)
        if {a, b} <= op.flags and op.name in ("add", "subtract"):
            raise op.refused("arithmetic of numbers", "two tensors of True and False")
        if op.name == "divide":
            return MultipleOutputs(
                [PendingNode(L.Merge("multiply"), (x, chain(y, L.Function("reciprocal"))))]
            )
        if op.name not in MERGES:
            raise op.refused("a tensor and a number", "two tensors")
        return MultipleOutputs([PendingNode(L.Merge(op.name), (x, y))])
    if (held := combined(op, a, b)) is not None:
        return held
    tensor, number = (a, b) if isinstance(a, KerasTensor) else (b, a)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise op.refused("tensors and numbers", number)
    if not isinstance(tensor, KerasTensor):
        raise op.refused("a tensor", tensor)
    return (tensor,), _with_number(op, float(number), first=tensor is a)


MERGES = ("add", "subtract", "multiply", "maximum", "minimum")


def _with_number(op: Operation, number: float, first: bool) -> Sequence[L.LayerSpec]:
    """Returns specs for a tensor and a number; `first` if the tensor comes first."""
    if op.name == "add":
        return (L.Affine(1.0, number),)
    if op.name == "subtract":
        return (L.Affine(1.0, -number) if first else L.Affine(-1.0, number),)
    if op.name == "multiply":
        return (L.Affine(number, 0.0),)
    if op.name == "divide" and not first:
        return (L.Function("reciprocal"), L.Affine(number, 0.0))
    if op.name == "divide" and number:
        return (L.Affine(1 / number, 0.0),)
    if op.name == "power" and first and number in POWERS:
        return (L.Function(POWERS[number]),)
    if op.name == "maximum":
        return (L.Clip(low=number) if number else L.Activation("relu"),)
    if op.name == "minimum":
        return (L.Clip(high=number),)
    raise op.refused("arithmetic with an exact form", f"{op.name} with {number}")


POWERS = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}


def _function(op: Operation) -> Lowered:
    return (op.tensor,), (L.Function(op.name),)


def _concatenate(op: Operation) -> Lowered:
    tensors, rank = listed_tensors(op, "values", "xs", "inputs")
    return MultipleOutputs(
        [PendingNode(L.Concatenate(op.axis(op.argument(1, "axis", default=0), rank)), tensors)]
    )


def _reshape(op: Operation) -> Lowered:
    shape = op.argument(1, "newshape", "shape")
    known = isinstance(shape, list) and all(type(n) is int or n is None for n in shape)
    if not known or not shape or shape[0] not in (-1, None):
        raise op.refused("a shape (-1, ...), the batch left open", shape)
    rest = tuple(None if n in (-1, None) else n for n in shape[1:])
    product, missing = 1, None in op.shape
    for size in op.shape:
        product *= size or 1
    wanted = 1
    for size in rest:
        wanted *= size or 1
    if None in rest or missing or product != wanted:
        raise op.refused(f"the numbers of one sample {op.shape}", shape)
    return (op.tensor,), (L.Reshape(rest),)


def _transpose(op: Operation) -> Lowered:
    axes = op.argument(1, "axes", "perm")
    if not isinstance(axes, list) or not axes or axes[0] != 0:
        raise op.refused("axes that leave the batch first", axes)
    return (op.tensor,), (L.Permute(tuple(axes[1:])),)


def _moved(op: Operation) -> Lowered:
    """Moves one axis: swapaxes exchanges it with another, moveaxis shifts those between."""
    first, second = op.argument(1, "axis1", "source"), op.argument(2, "axis2", "destination")
    a, b = op.axis(first), op.axis(second)
    order = list(range(1, len(op.shape) + 1))
    if op.name == "swapaxes":
        order[a], order[b] = order[b], order[a]
    else:
        order.insert(b, order.pop(a))
    return (op.tensor,), (L.Permute(tuple(order)),)


def _reduce(op: Operation) -> Lowered:
    return (op.tensor,), reductions(op, op.name)


def _expand(op: Operation) -> Lowered:
    axis = op.argument(1, "axis")
    return (op.tensor,), (L.ExpandDims(op.axis(axis, len(op.shape) + 1)),)


def _squeeze(op: Operation) -> Lowered:
    axis = op.argument(1, "axis")
    axes = axis if isinstance(axis, list) and axis else [axis]
    found = sorted((op.axis(a) for a in axes), reverse=True)
    return (op.tensor,), [L.Squeeze(a) for a in found]


def _flip(op: Operation) -> Lowered:
    axis = op.argument(1, "axis")
    axes = axis if isinstance(axis, list) else [axis]
    return (op.tensor,), [
        L.Reverse() if (n := op.axis(a)) == 0 else L.Slice(n, step=-1) for a in axes
    ]


def _part(op: Operation) -> Lowered:
    """Reads x[...], with slices and integers of Python, new axes and "..."."""
    index = op.argument(1, "slice_spec", "key")
    items = index if isinstance(index, list) else [index]
    dots = [n for n, item in enumerate(items) if _is_dots(item)]
    if dots:
        given = sum(item is not None for item in items) - len(dots)
        full = [slice(None)] * (len(op.shape) + 1 - given)
        items = [*items[: dots[0]], *full, *items[dots[0] + 1 :]]
    known = all(item is None or isinstance(item, slice) or type(item) is int for item in items)
    if len(dots) > 1 or not known or not items or items[0] != slice(None):
        raise op.refused("slices and numbers, the whole batch first", index)
    specs: list[L.LayerSpec] = []
    for axis, item in reversed(list(enumerate(i for i in items[1:] if i is not None))):
        if isinstance(item, int):
            specs.append(L.Slice(axis, item, drop=True))
        elif item != slice(None):
            specs += _slices(axis, item)
    kept = [item for item in items[1:] if not isinstance(item, int)]
    specs += [L.ExpandDims(axis) for axis, item in enumerate(kept) if item is None]
    return (op.tensor,), specs


def _slices(axis: int, item: slice) -> list[L.LayerSpec]:
    """Reads a slice; a negative step reverses the axis first."""
    step = 1 if item.step is None else item.step
    if step > 0 or item == slice(None, None, -1):
        return [L.Slice(axis, item.start, item.stop, step)]
    start, stop = (None if place is None else -1 - place for place in (item.start, item.stop))
    return [L.Slice(axis, step=-1), L.Slice(axis, start, stop, -step)]


def _is_dots(item: Any) -> bool:
    named = isinstance(item, Mapping) and item.get("class_name") == "__ellipsis__"
    return named or item == "..."


def _identity(op: Operation) -> Lowered:
    return (op.tensor,), (L.Activation("linear"),)


def _same(op: Operation) -> Lowered:
    """Returns the tensor unchanged, unless the call names another dtype."""
    return FORMS["cast"](op) if op.argument(1, "dtype") else ((op.tensor,), ())


HOW: dict[str, Callable[[Operation], Lowered]] = {
    **dict.fromkeys((*MERGES, "divide", "power"), _arithmetic),
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "concatenate": _concatenate,
    "reshape": _reshape,
    "transpose": _transpose,
    "swapaxes": _moved,
    "moveaxis": _moved,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "flip": _flip,
    "get_item": _part,
    "identity": _identity,
    **dict.fromkeys(("convert_to_tensor", "copy", "stop_gradient"), _same),
    **ACTIVATIONS,
    **FORMS,
    **PADS,
    **PRODUCTS,
}
"""Name of an operation -> the reader of its calls."""

BY_NUMBER = EACH_NUMBER | frozenset(
    (*MERGES, "divide", "power", *FUNCTIONS, *COMPARISONS, "where", "cast", "clip", "identity")
)
BY_NUMBER |= {"logical_and", "logical_or", "logical_xor", "logical_not", "rsqrt"}
"""Operations that work number by number, whatever the axes."""

MASKS = frozenset("not_equal any all logical_or logical_and zeros_like ones_like".split())
"""Operations with which Keras 3 computes masks."""


def read_operation(operation: Operation) -> Lowered:
    """Reads an operation as pending nodes, or as specs to apply one after the other.

    Raises:
        UnsupportedError: arguments that no spec has.
        FileError: invalid arguments.
    """
    where = f"{operation.where} ({operation.call.kind})"
    try:
        return HOW[operation.name](operation)
    except UsageError as error:
        raise FileError(where, error.expected, error.got, error.do) from None
    except XlstmError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        want, got = "arguments as Keras has them", f"{type(error).__name__} ({error})"
        raise FileError(where, want, got[:80], ANEW) from None
