"""Reads operations that only move numbers of tensors as specs; imports no framework.

In: a call of an operation. Out: its output, or a list of them, as pending nodes.

    x[:, -1]                                      Slice(axis=0, start=-1, drop=True)
    keras.ops.pad(x, [[0, 0], [1, 1], [0, 0]])    Pad(before=(1,), after=(1,))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir import lowering

from ..inbound_nodes import KerasTensor
from .call import OPERATIONS, Operation, Pending, chain, node

MOST = 64
"""Most parts of one operation."""


def _listed(op: Operation, *names: str) -> tuple[tuple[Pending, ...], int]:
    """Returns the tensors of a list, constant arrays among them, and the rank of a sample."""
    items = op.argument(0, *names)
    items = items if isinstance(items, list) else [items]
    first, *_ = tensors = [item for item in items if isinstance(item, KerasTensor)]
    rank = len(op.shapes[first])
    op.level(*tensors)
    return op.tensors(items, first, rank, whole=True), rank


@OPERATIONS.of("concatenate")
def _concatenate(op: Operation) -> Pending:
    tensors, rank = _listed(op, "values", "xs", "inputs")
    return node(L.Concatenate(op.axis(op.argument(1, "axis", default=0), rank)), *tensors)


@OPERATIONS.of("stack")
def _stack(op: Operation) -> Pending:
    tensors, rank = _listed(op, "x", "values", "arrays")
    axis = op.axis(op.argument(1, "axis", default=0), rank + 1)
    return node(L.Concatenate(axis), *(chain(t, L.ExpandDims(axis)) for t in tensors))


@OPERATIONS.of("reshape")
def _reshape(op: Operation) -> Pending:
    shape = op.argument(1, "newshape", "shape")
    known = isinstance(shape, list) and all(type(n) is int or n is None for n in shape)
    if not known or not shape or shape[0] not in (-1, None):
        raise op.refused("a shape (-1, ...), the batch left open", shape)
    rest = tuple(None if n in (-1, None) else n for n in shape[1:])
    product, wanted = (math.prod(size or 1 for size in sizes) for sizes in (op.shape, rest))
    if None in (*rest, *op.shape) or product != wanted:
        raise op.refused(f"the numbers of one sample {op.shape}", shape)
    return op.apply(L.Reshape(rest))


@OPERATIONS.of("transpose")
def _transpose(op: Operation) -> Pending:
    axes = op.argument(1, "axes", "perm")
    if not isinstance(axes, list) or not axes or axes[0] != 0:
        raise op.refused("axes that leave the batch first", axes)
    return op.apply(L.Permute(tuple(axes[1:])))


@OPERATIONS.of("swapaxes", "moveaxis")
def _moved(op: Operation) -> Pending:
    """Moves one axis: swapaxes exchanges it with another, moveaxis shifts those between."""
    first, second = op.argument(1, "axis1", "source"), op.argument(2, "axis2", "destination")
    a, b = op.axis(first), op.axis(second)
    order = list(range(1, len(op.shape) + 1))
    if op.name == "swapaxes":
        order[a], order[b] = order[b], order[a]
    else:
        order.insert(b, order.pop(a))
    return op.apply(L.Permute(tuple(order)))


@OPERATIONS.of("expand_dims")
def _expand(op: Operation) -> Pending:
    return op.apply(L.ExpandDims(op.axis(op.argument(1, "axis"), len(op.shape) + 1)))


@OPERATIONS.of("squeeze")
def _squeeze(op: Operation) -> Pending:
    axis = op.argument(1, "axis")
    axes = axis if isinstance(axis, list) and axis else [axis]
    return op.apply(*map(L.Squeeze, sorted((op.axis(a) for a in axes), reverse=True)))


def _reversed(axis: int) -> L.LayerSpec:
    return L.Slice(axis, step=-1) if axis else L.Reverse()


@OPERATIONS.of("flip")
def _flip(op: Operation) -> Pending:
    axis = op.argument(1, "axis")
    return op.apply(*(_reversed(op.axis(a)) for a in (axis if isinstance(axis, list) else [axis])))


@OPERATIONS.of("get_item")
def _part(op: Operation) -> Pending:
    """Reads x[...], with slices and integers of Python, new axes and "..."."""
    index = op.argument(1, "slice_spec", "key")
    items = index if isinstance(index, list) else [index]
    dots = [n for n, item in enumerate(items) if _is_dots(item)]
    if dots:
        sizes = sum(item is not None for item in items) - len(dots)
        full = [slice(None)] * (len(op.shape) + 1 - sizes)
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
    return op.apply(*specs, *(L.ExpandDims(n) for n, item in enumerate(kept) if item is None))


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


def _size(op: Operation, axis: int) -> int:
    size = op.shape[axis]
    if size is None:
        raise op.refused("an axis of known size", f"axis {axis + 1} of any length")
    return size


def _few(op: Operation, count: int) -> int:
    if not 0 < count <= MOST:
        raise op.refused(f"1 to {MOST} parts", f"{count}")
    return count


@OPERATIONS.of("split")
def _split(op: Operation) -> list[Pending]:
    axis = op.axis(op.argument(2, "axis", default=0))
    places = op.argument(1, "indices_or_sections", "num_or_size_splits")
    size = _size(op, axis)
    ends: list[int] = []
    if type(places) is int and places > 0 and not size % places:
        ends = [size // places * n for n in range(1, _few(op, places))]
        known = True
    elif known := isinstance(places, list) and all(type(n) is int and n > 0 for n in places):
        tf_sizes = "num_or_size_splits" in op.call.options
        ends = [sum(places[: n + 1]) for n in range(len(places) - 1)] if tf_sizes else places
    edges = [0, *ends, size]
    if not known or edges != sorted({*edges}):
        raise op.refused(f"parts of the {size} places", places)
    return [op.apply(L.Slice(axis, a or None, b)) for a, b in pairwise(edges)]


@OPERATIONS.of("unstack")
def _unstack(op: Operation) -> list[Pending]:
    axis = op.axis(op.argument(2, "axis", default=0))
    count = _few(op, _size(op, axis))
    return [op.apply(L.Slice(axis, n, drop=True)) for n in range(count)]


@OPERATIONS.of("tile")
def _tile(op: Operation) -> Pending:
    times = op.argument(1, "repeats", "multiples")
    rank = len(op.shape)
    known = isinstance(times, list) and all(type(n) is int and n > 0 for n in times)
    if not known or len(times) > rank + 1 or (len(times) == rank + 1 and times[0] != 1):
        raise op.refused("how often each axis after the batch is repeated", times)
    x: Pending = op.tensor
    for axis, count in enumerate(times[-rank:], start=max(rank - len(times), 0)):
        x = node(L.Concatenate(axis), *[x] * _few(op, count)) if count > 1 else x
    return x


@OPERATIONS.of("repeat")
def _repeat(op: Operation) -> Pending:
    """Repeats places: a new axis is repeated, and joined with the old one."""
    times, axis = op.argument(1, "repeats"), op.argument(2, "axis")
    if type(times) is not int:
        raise op.refused("one number of repeats", times)
    place = op.axis(axis)
    parts = _few(op, _size(op, place)) * _few(op, times)
    ones = [op.apply(L.Slice(place, n, n + 1)) for n in range(parts // times)]
    return node(L.Concatenate(place), *(one for one in ones for _ in range(times)))


@OPERATIONS.of("take")
def _take(op: Operation) -> Pending:
    axis, places = op.argument(2, "axis"), op.argument(1, "indices")
    place = op.axis(axis)
    if type(places) is int:
        return op.apply(L.Slice(place, places, drop=True))
    if not isinstance(places, list) or not all(type(n) is int and n >= 0 for n in places):
        raise op.refused("places that are known, from 0 on", places)
    _few(op, len(places))
    return node(L.Concatenate(place), *(op.apply(L.Slice(place, n, n + 1)) for n in places))


@OPERATIONS.of("roll")
def _roll(op: Operation) -> Pending:
    shift, axis = op.argument(1, "shift"), op.argument(2, "axis")
    place = op.axis(axis)
    size = _size(op, place)
    if type(shift) is not int:
        raise op.refused("one number of places", shift)
    return op.build(lowering.roll(place, shift, size, L.Concatenate(place)))


MIRRORS = {"reflect": 1, "symmetric": 0}
"""Mode of padding -> number of places at each end that are not repeated."""

Pairs = list[tuple[int, int]]
"""Numbers of places before and after each axis of a sample."""


@OPERATIONS.of("pad")
def _pad(op: Operation) -> Pending:
    """Pads with a constant, or with mirrored numbers of the tensor."""
    mode = str(op.argument(2, "mode", default="constant")).lower()
    value = op.argument(3, "constant_values", default=0)
    pairs = _pairs(op, op.argument(1, "pad_width", "paddings"))
    if mode in MIRRORS:
        return _mirrored(op, pairs, MIRRORS[mode])
    plain = type(value) in (int, float) and math.isfinite(value)
    if mode != "constant" or not plain or len(pairs) > 3:
        want = "one finite number around 1 to 3 axes, or reflect or symmetric"
        raise op.refused(want, f"{mode} {value} {pairs}")
    before, after = zip(*pairs, strict=True)
    if len(pairs) > 1 and pairs[-1] == (0, 0):
        around: list[L.LayerSpec] = [L.Pad(before[:-1], after[:-1])]
    else:
        rank = len(pairs)
        around = [L.ExpandDims(rank), L.Pad(before, after), L.Squeeze(rank)]
    if not value:
        return op.apply(*around)
    there = op.apply(L.Function("ones_like"), *around)
    return node(L.Where(no=float(value)), there, op.apply(*around))


def _pairs(op: Operation, value: Any) -> Pairs:
    known = isinstance(value, list) and len(value) == len(op.shape) + 1 and value[0] == [0, 0]
    pairs = value[1:] if known else []
    for pair in pairs:
        known &= isinstance(pair, list) and len(pair) == 2
        known &= known and all(type(n) is int and n >= 0 for n in pair)
    if not known or not pairs:
        raise op.refused("places before and after every axis, none for the batch", value)
    return [(before, after) for before, after in pairs]


def _mirrored(op: Operation, pairs: Pairs, skip: int) -> Pending:
    x: Pending = op.tensor
    for axis, (before, after) in enumerate(pairs):
        if not before and not after:
            continue
        size = op.shape[axis]
        if size is None or max(before, after) > size - skip:
            got = "any size" if size is None else f"size {size}"
            raise op.refused(f"an axis with {max(before, after)} places to repeat", got)
        parts = [x]
        if before:
            parts.insert(0, chain(x, L.Slice(axis, skip or None, skip + before), _reversed(axis)))
        if after:
            end = size - skip
            parts.append(chain(x, L.Slice(axis, end - after, end), _reversed(axis)))
        x = node(L.Concatenate(axis), *parts)
    return x
