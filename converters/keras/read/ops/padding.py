"""Reads paddings of tensors between layers as specs; imports no framework.

In: a call of an operation. Out: specs.

    keras.ops.pad(x, [[0, 0], [1, 1], [0, 0]])    Pad(before=(1,), after=(1,))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import starmap
from typing import Any

from xlstm.ir import layers as L

from ..inbound_nodes import KerasTensor
from .call import Lowered, MultipleOutputs, Operation, PendingNode, chain

Pairs = list[tuple[int, int]]
"""Numbers of places before and after each axis of a sample."""


def _pad(op: Operation) -> Lowered:
    """Pads with a constant, or with mirrored numbers of the tensor."""
    mode = str(op.argument(2, "mode", default="constant")).lower()
    value = op.argument(3, "constant_values", default=0)
    pairs = _pairs(op, op.argument(1, "pad_width", "paddings"))
    if mode in MIRRORS:
        return MultipleOutputs([_mirrored(op, pairs, MIRRORS[mode])])
    plain = type(value) in (int, float) and math.isfinite(value)
    if mode != "constant" or not plain or len(pairs) > 3:
        want = "one finite number around 1 to 3 axes, or reflect or symmetric"
        raise op.refused(want, f"{mode} {value} {pairs}")
    around = _zeros(pairs)
    if not value:
        return (op.tensor,), around
    there = chain(op.tensor, L.Function("ones_like"), *around)
    return MultipleOutputs(
        [PendingNode(L.Where(no=float(value)), (there, chain(op.tensor, *around)))]
    )


def _pairs(op: Operation, given: Any) -> Pairs:
    known = isinstance(given, list) and len(given) == len(op.shape) + 1 and given[0] == [0, 0]
    pairs = given[1:] if known else []
    for pair in pairs:
        known &= isinstance(pair, list) and len(pair) == 2
        known &= known and all(type(n) is int and n >= 0 for n in pair)
    if not known or not pairs:
        raise op.refused("places before and after every axis, none for the batch", given)
    return list(starmap(lambda before, after: (before, after), pairs))


def _zeros(pairs: Pairs) -> list[L.LayerSpec]:
    before, after = zip(*pairs, strict=True)
    if not before[-1] and not after[-1] and len(before) > 1:
        return [L.Pad(before[:-1], after[:-1])]
    rank = len(pairs)
    return [L.ExpandDims(rank), L.Pad(before, after), L.Squeeze(rank)]


MIRRORS = {"reflect": 1, "symmetric": 0}
"""Mode -> number of places at each end that are not repeated."""


def _mirrored(op: Operation, pairs: Pairs, skip: int) -> KerasTensor | PendingNode:
    x: KerasTensor | PendingNode = op.tensor
    for axis, (before, after) in enumerate(pairs):
        if not before and not after:
            continue
        size = op.shape[axis]
        if size is None or max(before, after) > size - skip:
            got = "any size" if size is None else f"size {size}"
            raise op.refused(f"an axis with {max(before, after)} places to repeat", got)
        turned = L.Reverse() if axis == 0 else L.Slice(axis, step=-1)
        parts = [x]
        if before:
            parts.insert(0, chain(x, L.Slice(axis, skip or None, skip + before), turned))
        if after:
            end = size - skip
            parts.append(chain(x, L.Slice(axis, end - after, end), turned))
        x = PendingNode(L.Concatenate(axis), tuple(parts))
    return x


PADS: dict[str, Callable[[Operation], Lowered]] = {"pad": _pad}
"""Name of an operation -> the reader of its calls."""
