"""Reads operations that compare, select, join, split or sum as specs; imports no framework.

In: a call of an operation. Out: specs.

    keras.ops.mean(x, axis=1)      Reduce("mean", axes=(0,)): axes of a sample, without the batch
    keras.ops.cumsum(x, axis=1)    Along("cumsum", axis=0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.layers.operations import ALONG, ARITHMETIC, COMPARISONS, CONSTANT_MOST, SO_FAR

from ..inbound_nodes import KerasTensor
from ..layers.options import array_of
from .call import Lowered, MultipleOutputs, Operation, PendingNode, chain

MOST = 64
"""Most parts of one operation."""


def _number(value: Any) -> float | None:
    plain = type(value) in (int, float) and math.isfinite(value)
    return float(value) if plain else None


def combined(op: Operation, a: Any, b: Any) -> Lowered | None:
    """Joins a tensor and a constant array; None without an array."""
    held, tensor = (array_of(b), a) if isinstance(a, KerasTensor) else (array_of(a), b)
    if held is None or not isinstance(tensor, KerasTensor):
        return None
    values, shape = held
    if len(shape) == len(op.shapes[tensor]) + 1 and shape[0] == 1:
        shape = shape[1:]
    known = op.name in (*ARITHMETIC, *COMPARISONS)
    if not known or not shape or len(shape) > len(op.shapes[tensor]):
        raise op.refused("an array that samples of a tensor fit", f"{op.name} with {shape}")
    op.check_few(values)
    return (tensor,), (L.Constant(op.name, values, shape, tensor is b),)


TURNED = {"greater": "less", "less": "greater"}


def _compare(op: Operation) -> Lowered:
    a, b = op.argument(0, "x1", "x", "a"), op.argument(1, "x2", "y", "b")
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        return MultipleOutputs([PendingNode(L.Compare(op.name), op.level(a, b))])
    if (held := combined(op, a, b)) is not None:
        return held
    tensor, number = (a, _number(b)) if isinstance(a, KerasTensor) else (b, _number(a))
    if not isinstance(tensor, KerasTensor) or number is None:
        raise op.refused("a tensor and a number", f"{a} and {b}")
    name = op.name
    if tensor is b:
        first, *rest = name.split("_")
        name = "_".join([TURNED.get(first, first), *rest])
    return (tensor,), (L.Compare(name, number),)


def _truth(op: Operation, x: KerasTensor | PendingNode) -> KerasTensor | PendingNode:
    """Returns 1 where a tensor is not 0."""
    return x if x in op.flags else PendingNode(L.Compare("not_equal", 0.0), (x,))


def _logical(op: Operation) -> Lowered:
    if op.name == "logical_not":
        return (op.tensor,), (L.Compare("equal", 0.0),)
    pair = op.argument(0, "x1", "x"), op.argument(1, "x2", "y")
    first, *_ = tensors = [x for x in pair if isinstance(x, KerasTensor)]
    rank = max(len(op.shapes[tensor]) for tensor in tensors)
    a, b = op.level(*(x if isinstance(x, KerasTensor) else op.held(x, first, rank) for x in pair))
    if op.name == "logical_xor":
        return MultipleOutputs(
            [PendingNode(L.Compare("not_equal"), (_truth(op, a), _truth(op, b)))]
        )
    how = "minimum" if op.name == "logical_and" else "maximum"
    return MultipleOutputs([PendingNode(L.Merge(how), (_truth(op, a), _truth(op, b)))])


def _any_or_all(op: Operation) -> Lowered:
    specs = reductions(op, "max" if op.name == "any" else "min")
    return MultipleOutputs([chain(_truth(op, op.tensor), *specs)])


def _where(op: Operation) -> Lowered:
    condition = op.argument(0, "condition")
    cases = op.argument(1, "x1", "x"), op.argument(2, "x2", "y")
    tensors = [x for x in (condition, *cases) if isinstance(x, KerasTensor)]
    rank = max(len(op.shapes[tensor]) for tensor in tensors)
    yes, no = numbers = [_number(case) for case in cases]
    given = [x for x, number in zip(cases, numbers, strict=True) if number is None]
    asked, *rest = op.level(
        *(
            x if isinstance(x, KerasTensor) else op.held(x, tensors[0], rank)
            for x in (condition, *given)
        )
    )
    if yes is not None and no is not None:
        return MultipleOutputs([chain(_truth(op, asked), L.Affine(yes - no, no))])
    return MultipleOutputs([PendingNode(L.Where(yes, no), (asked, *rest))])


FLOATS, INTS = ("float32", "float64"), ("int32", "int64")


def _cast(op: Operation) -> Lowered:
    """Reads a cast: ports compute in one dtype, so only fractions and truth values change."""
    dtype = op.argument(1, "dtype")
    dtype = dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype
    if dtype == "bool":
        return MultipleOutputs([_truth(op, op.tensor)])
    if dtype not in (*FLOATS, *INTS):
        raise op.refused(f"one of {', '.join((*FLOATS, *INTS))}, bool", dtype)
    whole = dtype in INTS and op.tensor not in op.flags
    return (op.tensor,), (L.Function("trunc"),) if whole else ()


def _clip(op: Operation) -> Lowered:
    low = _number(op.argument(1, "x_min", "clip_value_min", "min_value"))
    high = _number(op.argument(2, "x_max", "clip_value_max", "max_value"))
    if low is None or high is None or low > high:
        raise op.refused("two finite numbers, the lower one first", f"{low}, {high}")
    return (op.tensor,), (L.Clip(low, high),)


def _stack(op: Operation) -> Lowered:
    tensors, rank = listed_tensors(op, "x", "values", "arrays")
    axis = op.axis(op.argument(1, "axis", default=0), rank + 1)
    return MultipleOutputs(
        [PendingNode(L.Concatenate(axis), tuple(chain(t, L.ExpandDims(axis)) for t in tensors))]
    )


def listed_tensors(op: Operation, *names: str) -> tuple[tuple[KerasTensor | PendingNode, ...], int]:
    """Returns the tensors of a list, constant arrays among them, and the rank of a sample."""
    items = op.argument(0, *names)
    items = items if isinstance(items, list) else [items]
    first, *_ = tensors = [item for item in items if isinstance(item, KerasTensor)]
    rank = len(op.shapes[first])
    made = (x if isinstance(x, KerasTensor) else op.held(x, first, rank, whole=True) for x in items)
    op.level(*tensors)
    return tuple(made), rank


def _size(op: Operation, axis: int) -> int:
    size = op.shape[axis]
    if size is None:
        raise op.refused("an axis of known size", f"axis {axis + 1} of any length")
    return size


def _few(op: Operation, count: int) -> int:
    if not 0 < count <= MOST:
        raise op.refused(f"1 to {MOST} parts", f"{count}")
    return count


def _split(op: Operation) -> Lowered:
    axis = op.axis(op.argument(2, "axis", default=0))
    places = op.argument(1, "indices_or_sections", "num_or_size_splits")
    size = _size(op, axis)
    tf_sizes = "num_or_size_splits" in op.call.options
    if type(places) is int and places > 0 and not size % places:
        ends = [size // places * n for n in range(1, _few(op, places))]
    elif isinstance(places, list) and all(type(n) is int and n > 0 for n in places):
        ends = [sum(places[: n + 1]) for n in range(len(places) - 1)] if tf_sizes else places
    else:
        raise op.refused(f"parts of the {size} places", places)
    edges = [0, *ends, size]
    if edges != sorted({*edges}):
        raise op.refused(f"parts of the {size} places", places)
    pairs = pairwise(edges)
    return MultipleOutputs(
        [PendingNode(L.Slice(axis, a or None, b), (op.tensor,)) for a, b in pairs]
    )


def _unstack(op: Operation) -> Lowered:
    axis = op.axis(op.argument(2, "axis", default=0))
    count = _few(op, _size(op, axis))
    return MultipleOutputs(
        [PendingNode(L.Slice(axis, n, drop=True), (op.tensor,)) for n in range(count)]
    )


def _tile(op: Operation) -> Lowered:
    times = op.argument(1, "repeats", "multiples")
    rank = len(op.shape)
    known = isinstance(times, list) and all(type(n) is int and n > 0 for n in times)
    if not known or len(times) > rank + 1 or (len(times) == rank + 1 and times[0] != 1):
        raise op.refused("how often each axis after the batch is repeated", times)
    x: KerasTensor | PendingNode = op.tensor
    for axis, count in enumerate(times[-rank:], start=max(rank - len(times), 0)):
        x = PendingNode(L.Concatenate(axis), (x,) * _few(op, count)) if count > 1 else x
    return MultipleOutputs([x])


def _repeat(op: Operation) -> Lowered:
    """Repeats places: a new axis is repeated, and joined with the old one."""
    times, axis = op.argument(1, "repeats"), op.argument(2, "axis")
    if type(times) is not int:
        raise op.refused("one number of repeats", times)
    place = op.axis(axis)
    parts = _few(op, _size(op, place)) * _few(op, times)
    ones = [PendingNode(L.Slice(place, n, n + 1), (op.tensor,)) for n in range(parts // times)]
    repeated = tuple(one for one in ones for _ in range(times))
    return MultipleOutputs([PendingNode(L.Concatenate(place), repeated)])


def _take(op: Operation) -> Lowered:
    axis, places = op.argument(2, "axis"), op.argument(1, "indices")
    place = op.axis(axis)
    if type(places) is int:
        return (op.tensor,), (L.Slice(place, places, drop=True),)
    if not isinstance(places, list) or not all(type(n) is int and n >= 0 for n in places):
        raise op.refused("places that are known, from 0 on", places)
    _few(op, len(places))
    ones = tuple(PendingNode(L.Slice(place, n, n + 1), (op.tensor,)) for n in places)
    return MultipleOutputs([PendingNode(L.Concatenate(place), ones)])


def _roll(op: Operation) -> Lowered:
    shift, axis = op.argument(1, "shift"), op.argument(2, "axis")
    place = op.axis(axis)
    size = _size(op, place)
    if type(shift) is not int:
        raise op.refused("one number of places", shift)
    cut = -shift % size
    if not cut:
        return (op.tensor,), ()
    halves = L.Slice(place, cut, None), L.Slice(place, None, cut)
    return MultipleOutputs(
        [PendingNode(L.Concatenate(place), tuple(PendingNode(s, (op.tensor,)) for s in halves))]
    )


def reductions(op: Operation, how: str, keep: bool | None = None) -> list[L.LayerSpec]:
    """Returns specs that reduce a tensor over the axes of an operation, perhaps the batch."""
    axes, rank = op.argument(1, "axis"), len(op.shape)
    axes = [*range(rank + 1)] if axes is None else axes if isinstance(axes, list) else [axes]
    keep = bool(op.argument(2, "keepdims", default=False)) if keep is None else keep
    found = tuple(op.axis(axis) for axis in axes if axis not in (0, -rank - 1))
    if len(found) == len(axes):
        return [L.Reduce(how, found, keep)]
    if op.call.wraps:
        raise op.refused("axes to reduce, not the batch, inside TimeDistributed", axes)
    left = [] if keep else [L.Squeeze(axis) for axis in sorted(found, reverse=True)]
    return [L.Across(how, found), *left]


def _spread(op: Operation) -> Lowered:
    """Reads variance and standard deviation."""
    mean = chain(op.tensor, *reductions(op, "mean", keep=True))
    apart = PendingNode(L.Merge("subtract"), (op.tensor, mean))
    last = [L.Function("sqrt")] if op.name == "std" else []
    return MultipleOutputs([chain(apart, L.Function("square"), *reductions(op, "mean"), *last)])


def _norm(op: Operation) -> Lowered:
    order, axes = op.argument(1, "ord"), op.argument(2, "axis")
    if type(axes) is not int or order not in (None, 1, 2, "euclidean"):
        raise op.refused("a length along one axis, of order 1 or 2", f"{order} along {axes}")
    total = L.Reduce("sum", (op.axis(axes),), bool(op.argument(3, "keepdims", default=False)))
    specs: tuple[L.LayerSpec, ...] = (L.Function("square"), total, L.Function("sqrt"))
    return (op.tensor,), (L.Function("abs"), total) if order == 1 else specs


def _along(op: Operation) -> Lowered:
    axis = op.axis(op.argument(1, "axis"))
    others = [key for key in ("exclusive", "reverse") if op.call.options.get(key)]
    if others:
        raise op.refused("sums and products up to each place", others[0])
    keep = op.name not in SO_FAR and op.argument(2, "keepdims", default=False) is True
    return (op.tensor,), (L.Along(op.name, axis), *([L.ExpandDims(axis)] if keep else []))


def _one_hot(op: Operation) -> Lowered:
    classes, axis = op.argument(1, "num_classes", "depth"), op.argument(2, "axis", default=-1)
    other = [key for key in ("on_value", "off_value", "sparse") if op.call.options.get(key)]
    if type(classes) is not int or not 0 < classes <= CONSTANT_MOST or axis != -1 or other:
        want = f"1 to {CONSTANT_MOST} classes along a new last axis"
        raise op.refused(want, f"{classes} along {axis} {' '.join(other)}")
    numbers = tuple(map(float, range(classes)))
    equal = L.Constant("equal", numbers, (classes,))
    return (op.tensor,), (L.Function("trunc"), L.ExpandDims(len(op.shape)), equal)


def _rsqrt(op: Operation) -> Lowered:
    return (op.tensor,), (L.Function("sqrt"), L.Function("reciprocal"))


FORMS: dict[str, Callable[[Operation], Lowered]] = {
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor", "logical_not"), _logical),
    **dict.fromkeys(("any", "all"), _any_or_all),
    **dict.fromkeys(("var", "std"), _spread),
    **dict.fromkeys(ALONG, _along),
    "where": _where,
    "cast": _cast,
    "clip": _clip,
    "stack": _stack,
    "split": _split,
    "unstack": _unstack,
    "tile": _tile,
    "repeat": _repeat,
    "take": _take,
    "roll": _roll,
    "norm": _norm,
    "one_hot": _one_hot,
    "rsqrt": _rsqrt,
}
"""Name of an operation -> the reader of its calls."""

FLAGGED = frozenset((*COMPARISONS, "logical_and", "logical_or", "logical_xor", "logical_not"))
FLAGGED |= {"any", "all"}
"""Operations that give True and False."""
