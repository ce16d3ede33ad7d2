"""Describes a wrong tensor: the numbers that it holds instead of a's, and the first wrong place.

In: hub tensors of both. Out: words, about nothing but numbers that were found to be equal.

>>> import numpy as np
>>> a = np.arange(6.0).reshape(2, 3) + 1
>>> reordered(a, a[:, ::-1], "ih")
" They are a's, its units in another order."
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xlstm.diagnosis.hypothesis.hypothesis import Part, parts
from xlstm.diagnosis.pairing.names import Naming
from xlstm.errors import XlstmError
from xlstm.ir.graph import Model, Node
from xlstm.ir.types import Array
from xlstm.slots import Table, pack

AXES = {"g": "gates", "i": "inputs", "h": "units", "j": "units", "o": "units", "s": "sides"}
"""Hub axes in words; those of windows are windows."""


def place(naming: Naming, node: Node, part: Part, tensor: str, wrong: Array) -> str:
    """The first wrong number, by the suspect's own name and indices; "" where they are unknown.

    Args:
        naming: the suspect's names.
        node: the layer.
        part: the part of it.
        tensor: a hub tensor of the part.
        wrong: where the hub tensor is wrong.
    """
    for slot, name in naming.slots(node, part.before, tensor):
        table, mark = Table(part.kind, (slot,)), {tensor: wrong.astype(np.float64)}
        try:
            own = pack(table, mark, part.spec.sizes())[slot.name]
        except (XlstmError, ValueError, LookupError):
            continue
        if own.any():
            return f"{name.split('.')[-1]}[{', '.join(str(int(n)) for n in np.argwhere(own)[0])}]"
    return ""


def describe(model: Model, naming: Naming, mine: Array, other: Array, axes: str) -> str:
    """A sentence about numbers that are a's in another order, or another tensor's; "" for none.

    Args:
        model: the truth.
        naming: the suspect's names.
        mine: the truth's hub tensor.
        other: the suspect's.
        axes: letters of its axes.
    """
    if words := reordered(mine, other, axes) or _likeness(mine, other):
        return words
    for name, array in _others(model, naming, mine) if other.any() else ():
        if _equal(array, other):
            return f" They are the numbers of a's {name}."
        if array.size == other.size and _equal(np.sort(array, None), np.sort(other, None)):
            return f" They are the numbers of a's {name}, in another order."
    return ""


def _likeness(mine: Array, other: Array) -> str:
    """A sentence on what numbers that no row explains have in common with a's; "" for nothing."""
    a, b = mine.astype(np.float64), other.astype(np.float64)
    top = float(np.abs(a).max(initial=0))
    if not top or not np.isfinite(b).all():
        return ""
    factor = float((a * b).sum() / (a * a).sum())
    if factor and np.allclose(b, factor * a, rtol=0, atol=1e-6 * abs(factor) * top):
        return f" They are a's times {factor:.6g}."
    zero = (b == 0) & (a != 0)
    if zero.any() and np.array_equal(a[~zero], b[~zero]):
        return " All that differ are zero."
    if np.allclose(np.sort(a, None), np.sort(b, None), rtol=0, atol=1e-6 * top):
        return " They are a's in another order."
    return ""


def _equal(a: Array, b: Array) -> bool:
    """True if two arrays are the same numbers in the lower of their precisions."""
    if a.shape != b.shape:
        return False
    low = np.float64 if a.dtype == b.dtype == np.float64 else np.float32
    with np.errstate(over="ignore"):
        return np.array_equal(a.astype(low), b.astype(low))


def reordered(mine: Array, other: Array, axes: str) -> str:
    """A sentence about numbers that lie in another order along one axis; "" where they do not."""
    if mine.shape != other.shape or _equal(mine, other):
        return ""
    for axis, letter in enumerate(axes):
        if mine.shape[axis] > 1 and _equal(_in_order(mine, axis), _in_order(other, axis)):
            return f" They are a's, its {AXES.get(letter, 'windows')} in another order."
    return ""


def _in_order(array: Array, axis: int) -> Array:
    """The slices along an axis in the order of their numbers."""
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


def _others(model: Model, naming: Naming, mine: Array) -> Iterator[tuple[str, Array]]:
    """The truth's other tensors, by the suspect's names where they are known."""
    for node in model.layers:
        own = model.weights.get(node.name, {}) if not node.layer else {}
        for part in parts(node.spec) if own else ():
            for tensor in part.kind.tensors:
                array = own.get(part.before + tensor)
                if array is not None and array is not mine and array.size > 1:
                    name = naming.called(node, part.before, tensor)
                    yield name if "`" in name else f"{node.name} {name}", array
