"""The slot engine: the only place that permutes, transposes, splits or merges weights.

A `Slot` maps one framework tensor to a canonical tensor. Tables of slots are data; the functions
here run them: `pack` writes (canonical -> framework), `unpack` reads (framework -> canonical),
`shape` counts. No inverse is written by hand.

Axis letters: s bias side, g gate, i input, h hidden, j hidden before the step, o output, a b c the
axes of a window.

    >>> from xlstm.ir.kinds import LSTM
    >>> slot = Slot("weight_ih_l0", "kernel", "(gh)i", gates="ifgo")
    >>> shape(slot, LSTM, {"i": 3, "h": 4, "j": 4})
    (16, 3)
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from xlstm.errors import WeightsError
from xlstm.ir.kinds import Kind
from xlstm.ir.lazy_weights import dtypes_of
from xlstm.ir.types import Array

FOLD = "+"
"""Fixed index of the side axis for both sides added into one."""


@functools.cache
def _groups(axes: str) -> tuple[str, ...]:
    """Letters of each axis; cached, since files of thousands of arrays need it often."""
    return tuple(a or b for a, b in re.findall(r"\((\w*)\)|(\w)", axes))


@dataclass(frozen=True)
class Slot:
    """The place of one framework tensor in a canonical tensor.

    Attributes:
        name: the framework's own name of the tensor, below its layer.
        tensor: the canonical tensor.
        axes: the framework's axes in einops notation; axes in parentheses are merged, and () is one
            of size 1.
        gates: the framework's order of the gate axis, where it has one.
        fixed: fixed indices of canonical axes: a gate's letter for g; 0, 1 or FOLD for s.
        required: the framework has this tensor even if the layer has none; it is then zeros.
        reshape: two framework axes that are a reshape of two canonical axes, as in ("xy", "hi"):
            x is as long as i and y as h, but their elements run in the order h i.
        unfolded_gates: gates that FOLD does not add: their first side is here, another slot has
            the second.
        reversed_axes: axes whose elements run from the end (Theano's windows).
        is_buffer: True if the framework's own one-liner does not count it (buffers, batch_stats).
    """

    name: str
    tensor: str
    axes: str
    gates: str = ""
    fixed: Mapping[str, str | int] = field(default_factory=dict)
    required: bool = False
    reshape: tuple[str, str] = ("", "")
    unfolded_gates: str = ""
    reversed_axes: str = ""
    is_buffer: bool = False

    def groups(self) -> list[str]:
        """Axis letters of each axis of the framework's tensor: "(gh)i" gives ["gh", "i"]."""
        return [*_groups(self.axes)]

    @property
    def rank(self) -> int:
        """The number of axes of the framework's tensor."""
        return len(_groups(self.axes))


@dataclass(frozen=True)
class Table:
    """All tensors of one layer in one framework.

    Attributes:
        kind: the canonical form.
        slots: in the framework's own order.
        prefix: path between the layer's name and a slot's ("cell." in Flax's RNN wrappers).
        counters: names of single numbers that count steps of training; they are no weights.
    """

    kind: Kind
    slots: tuple[Slot, ...]
    prefix: str = ""
    counters: tuple[str, ...] = ()

    def present_slots(self, absent: frozenset[str]) -> tuple[Slot, ...]:
        """The slots of a layer without the canonical tensors `absent`."""
        return tuple(s for s in self.slots if s.required or s.tensor not in absent)

    @property
    def bias_sides(self) -> int:
        """The number of bias sides that this table reads."""
        both = (slot.fixed.get("s") == 1 or "s" in slot.axes for slot in self.slots)
        return 2 if any(both) else 1


def identity_table(kind: Kind) -> Table:
    """The table of a layer whose framework tensors are the canonical ones."""
    return Table(kind, tuple(Slot(name, name, axes) for name, axes in kind.tensors.items()))


def shape(slot: Slot, kind: Kind, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Shape of a slot's framework tensor for a layer with axes of `sizes`."""
    known = _axes_of(slot, kind.axis_sizes(sizes))
    return tuple(math.prod(known[axis] for axis in group) for group in slot.groups())


class Shaped(Protocol):
    """An object with a shape: an array, or a handle of one that is not read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def _axes_of(slot: Slot, known: Mapping[str, int]) -> dict[str, int]:
    """Sizes of canonical axes, and of the axes that a slot's reshape makes of them."""
    new, old = slot.reshape
    return {**known, **{axis: known[size] for axis, size in zip(new, reversed(old), strict=True)}}


def sizes_of(table: Table, arrays: Mapping[str, Shaped]) -> dict[str, int]:
    """Sizes of the canonical axes, from the shapes of framework arrays.

    Raises:
        WeightsError: an array's rank or size fits no layer, or two arrays disagree.
    """
    known = {"g": len(table.kind.gates), "s": 2}
    for slot in table.slots:
        if slot.name in arrays:
            _solve(slot, arrays[slot.name].shape, known)
    projected = "projection" in table.kind.tensors
    if "h" in known and not projected and known.setdefault("j", known["h"]) != known["h"]:
        got = f"{known['j']} hidden units in and {known['h']} out"
        raise WeightsError("weights", "as many hidden units in as out", got, "check the arrays")
    needed = {axis for axes in table.kind.tensors.values() for axis in axes} - {"s"}
    if not needed <= known.keys():
        want = ", ".join(slot.name for slot in table.slots)
        got = ", ".join(map(str, arrays)) or "none"
        raise WeightsError("weights", want, got, "name all arrays as the framework does")
    return {axis: size for axis, size in known.items() if axis not in "gs"}


def _solve(slot: Slot, got: tuple[int, ...], known: dict[str, int]) -> None:
    names = str.maketrans(slot.reshape[0], slot.reshape[1][::-1])
    groups = [group.translate(names) for group in slot.groups()]
    fits = len(got) == len(groups)
    for group, size in zip(groups, got, strict=False):
        free = [axis for axis in group if axis not in known]
        rest = math.prod(known[axis] for axis in group if axis in known)
        if free and rest and size % rest == 0:
            known[free[0]] = size // rest
        elif free or size != rest:
            fits = False
    if not fits:
        want = f"axes {slot.axes} with {known}"
        raise WeightsError(slot.name, want, f"shape {got}", "check the layer's options and arrays")


def fold(bias: Array) -> Array:
    """Adds the two sides of a bias (2, ...) into one (1, ...); exact where one side is zero.

    Adding a side of zeros does not change a bit of the other, -0.0 included.

        >>> fold(np.array([[-0.0, 1.0], [0.0, 0.0]]))
        array([[-0.,  1.]])
    """
    for side, other in ((0, 1), (1, 0)):
        if not bias[other].any():
            return bias[side : side + 1]
    return bias[:1] + bias[1:]


def folds(bias: Array | None) -> bool:
    """True if folding this canonical bias (S, ...) adds two non-zero sides, which may round."""
    return bias is not None and len(bias) == 2 and bool(bias[0].any() and bias[1].any())


def split_bias_sides(kind: Kind, bias: Array) -> Array:
    """A canonical bias (S, ...) as (2, ...), its sides added where that keeps the function."""
    two = bias if len(bias) == 2 else np.concatenate([bias, np.zeros_like(bias)])
    found = np.concatenate([fold(two), np.zeros_like(two[:1])])
    for gate in kind.apart:
        number = kind.gates.index(gate)
        found[:, number] = two[:, number]
    return found


def _pick(slot: Slot, kind: Kind, array: Array, axes: str) -> tuple[Array, str]:
    """Applies the fixed indices and the gate order of a slot: views wherever possible."""
    for axis, index in slot.fixed.items():
        at = axes.index(axis)
        if axis == "s" and index == FOLD:
            _check_fold(slot, kind, array, axes)
            array, index = _fold(slot, kind, array, axes), 0
        number = kind.gates.index(str(index)) if axis == "g" else int(index)
        array = np.moveaxis(array, at, 0)
        array = array[number] if number < len(array) else np.zeros_like(array[0])
        axes = axes.replace(axis, "")
    if "s" in slot.axes and len(array) == 1:
        array = np.concatenate([array, np.zeros_like(array)])
    if slot.gates and slot.gates != kind.gates:
        array = array.take([kind.gates.index(gate) for gate in slot.gates], axes.index("g"))
    return _turn(slot, array, axes), axes


def _turn(slot: Slot, array: Array, axes: str) -> Array:
    """Reverses the axes that a slot stores in reverse; its own inverse."""
    turned = tuple(n for n, axis in enumerate(axes) if axis in slot.reversed_axes)
    return np.flip(array, turned) if turned else array


def _fold(slot: Slot, kind: Kind, bias: Array, axes: str) -> Array:
    """A bias of one side: both added, except for gates whose second side is in another slot."""
    if len(bias) < 2:
        return bias
    folded = fold(bias)
    if slot.unfolded_gates:
        own = np.isin(list(kind.gates), list(slot.unfolded_gates))
        own = own.reshape([-1 if axis == "g" else 1 for axis in axes])
        folded = np.where(own, bias[:1], folded)
    return folded


def _check_fold(slot: Slot, kind: Kind, bias: Array, axes: str) -> None:
    """Raises WeightsError where adding the two sides of `bias` would change the function."""
    gates = slot.fixed.get("g", slot.gates)
    apart = [gate for gate in kind.apart if gate in str(gates) and gate not in slot.unfolded_gates]
    if len(bias) < 2 or not apart:
        return
    numbers = [kind.gates.index(gate) for gate in apart]
    second = bias[1].take(numbers, axes.index("g") - 1) if "g" in axes else bias[1]
    if second.any():
        want = f"a bias of gate {kind.apart} on the recurrent product that is zero"
        do = "port the layer: its own cell keeps both biases"
        raise WeightsError(slot.name, want, "numbers that no single bias can stand for", do)


def _recut(
    slot: Slot, array: Array, axes: str, known: Mapping[str, int], new: str, old: str
) -> tuple[Array, str]:
    """Merges the axes `old` of an array and splits the result into the axes `new`."""
    if not new:
        return array, axes
    every = _axes_of(slot, known)
    rest = "".join(axis for axis in axes if axis not in old)
    array = array.transpose([axes.index(axis) for axis in rest + old])
    return array.reshape([every[axis] for axis in rest + new]), rest + new


def pack(
    table: Table,
    weights: Mapping[str, Array],
    sizes: Mapping[str, int],
    absent: frozenset[str] = frozenset(),
) -> dict[str, Array]:
    """Writes canonical tensors as one framework's tensors; the inputs are not changed.

    Args:
        table: the framework's layer.
        weights: canonical tensors of the layer.
        sizes: sizes of the canonical axes.
        absent: canonical tensors that the layer does not have.

    Returns:
        The framework's tensors by slot name, C-contiguous, in the dtype of `weights`.
    """
    return {
        slot.name: np.ascontiguousarray(array).reshape(array.shape)  # it makes () to (1,)
        for slot in table.present_slots(absent)
        for array in [pack_slot(slot, table.kind, weights, sizes, absent)]
    }


def pack_slot(
    slot: Slot,
    kind: Kind,
    weights: Mapping[str, Array],
    sizes: Mapping[str, int],
    absent: frozenset[str] = frozenset(),
) -> Array:
    """One framework tensor of `pack`, as a view of the canonical one if its layout allows it."""
    want = shape(slot, kind, sizes)
    if slot.tensor in absent:
        return np.zeros(want, np.result_type(*dtypes_of(weights).values()))
    part, axes = _pick(slot, kind, weights[slot.tensor], kind.tensors[slot.tensor])
    part, axes = _recut(slot, part, axes, kind.axis_sizes(sizes), *slot.reshape)
    return part.transpose([axes.index(axis) for axis in "".join(slot.groups())]).reshape(want)


def check(
    table: Table,
    arrays: Mapping[str, Shaped],
    sizes: Mapping[str, int],
    absent: frozenset[str],
    where: str,
) -> None:
    """Checks that each slot gets one array of its shape, and that each array is used once.

    Raises:
        WeightsError: names all tensors that are missing, left over, or of a wrong shape.
    """
    wanted = {slot.name: shape(slot, table.kind, sizes) for slot in table.present_slots(absent)}
    wrong = [f"no {name} {want}" for name, want in wanted.items() if name not in arrays]
    wrong += [f"{name} {a.shape} left over" for name, a in arrays.items() if name not in wanted]
    wrong += [
        f"{name} {arrays[name].shape} for {want}"
        for name, want in wanted.items()
        if name in arrays and arrays[name].shape != want
    ]
    if wrong:
        want = ", ".join(f"{name} {size}" for name, size in wanted.items())
        raise WeightsError(where, want, "; ".join(wrong), "check the layer's options and weights")


def unpack(
    table: Table,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
    absent: frozenset[str] = frozenset(),
    where: str = "weights",
) -> dict[str, Array]:
    """Reads one framework's tensors as canonical tensors, by the same table that writes them.

    Args:
        table: the framework's layer.
        arrays: the framework's tensors by slot name.
        sizes: sizes of the canonical axes.
        absent: canonical tensors that the layer does not have.
        where: name of the layer in errors.

    Returns:
        Canonical tensors; views of `arrays` where the layouts allow it.

    Raises:
        WeightsError: as `check`.
    """
    check(table, arrays, sizes, absent, where)
    _check_zero(table, arrays, absent, where)
    return {
        tensor: gather(table, tensor, slots, arrays, sizes)
        for tensor, slots in slots_by_tensor(table, absent).items()
    }


def slots_by_tensor(table: Table, absent: frozenset[str]) -> dict[str, list[Slot]]:
    """Canonical tensor -> its slots, for each tensor that a layer without `absent` has."""
    found: dict[str, list[Slot]] = {name: [] for name in table.kind.tensors if name not in absent}
    for slot in table.present_slots(absent):
        if slot.tensor in found:
            found[slot.tensor].append(slot)
    return {tensor: slots for tensor, slots in found.items() if slots}


def _check_zero(
    table: Table, arrays: Mapping[str, Array], absent: frozenset[str], where: str
) -> None:
    """Raises WeightsError if the tensor of a missing bias or the like is not zero."""
    for slot in table.present_slots(absent):
        if slot.tensor in absent and arrays[slot.name].any():
            want, do = f"zeros in {slot.name}: the layer has no {slot.tensor}", "set use_bias=True"
            raise WeightsError(where, want, "other numbers", do)


def gather(
    table: Table,
    tensor: str,
    slots: Sequence[Slot],
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
) -> Array:
    """One canonical tensor from the framework tensors that are parts of it."""
    kind = table.kind
    axes = kind.tensors[tensor]
    known = {**kind.axis_sizes(sizes), "s": table.bias_sides}
    parts = [_spread(slot, kind, axes, known, arrays[slot.name]) for slot in slots]
    if len(parts) == 1:
        return parts[0]
    array = np.zeros([known[axis] for axis in axes], np.result_type(*parts))
    for slot, part in zip(slots, parts, strict=True):
        array[_index(slot, kind, axes)] = part
    return array


def _spread(slot: Slot, kind: Kind, axes: str, known: Mapping[str, int], array: Array) -> Array:
    """A framework tensor with its axes split and in canonical order; fixed axes have length 1."""
    letters = "".join(slot.groups())
    array = array.reshape([_axes_of(slot, known)[axis] for axis in letters])
    array, letters = _recut(slot, array, letters, known, *reversed(slot.reshape))
    array = array.transpose([letters.index(axis) for axis in axes if axis in letters])
    for position, axis in enumerate(axes):
        if axis not in letters:
            array = np.expand_dims(array, position)
    if slot.gates and slot.gates != kind.gates:
        array = array.take([slot.gates.index(gate) for gate in kind.gates], axes.index("g"))
    return _turn(slot, array, axes)


def _index(slot: Slot, kind: Kind, axes: str) -> tuple[slice, ...]:
    """The part of the canonical tensor that a slot's fixed indices select."""
    index = []
    for axis in axes:
        fixed = slot.fixed.get(axis)
        start = kind.gates.index(str(fixed)) if axis == "g" and fixed is not None else fixed
        start = 0 if start == FOLD else start
        index.append(slice(None) if start is None else slice(int(start), int(start) + 1))
    return tuple(index)
