"""Arrays whose long sums are added up one block after the other, as in some frameworks.

In: the weights and inputs of a run. Out: the same numbers as `OrderedArray`; the reference then
adds up every product and sum of them in blocks, from the first to the last or back.

A float32 sum of 40,000 products depends on the order of its terms. numpy adds in pairs and in wide
lanes, an order with small errors; other kernels have one running sum. The error of a running sum
grows with the number of its terms, and no change of the inputs by one rounding shows it.

    run(model, [ordered(x) for x in inputs], np.float32)   # another valid float32 result
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.types import Array, Shape

LONG = 64
"""Terms up to which the order of a sum is ignored: the factor of the bound covers it."""

BLOCK = 8
"""Terms that are added at once; between blocks there is one running sum."""


class OrderedArray(np.ndarray):  # type: ignore[type-arg]
    """An array that numpy's own functions add up in blocks.

    Attributes:
        backward: True if the last block comes first.
    """

    backward: bool = False

    def __array_finalize__(self, obj: Any) -> None:
        self.backward = getattr(obj, "backward", False)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        arrays = [plain(x) for x in inputs]
        if out is not None:
            options["out"] = tuple(plain(x) for x in out)
        if ufunc is np.matmul and out is None and _is_long_product(*arrays):
            found = self.ordered_product(*arrays)
        elif ufunc is np.add and method == "reduce" and _is_long_sum(arrays[0], options):
            found = self._sum(arrays[0], options)
        else:
            found = getattr(ufunc, method)(*arrays, **options)
        if out is not None:
            return out[0] if len(out) == 1 else out
        if isinstance(found, tuple):
            return tuple(self._wrapped(x) for x in found)
        return self._wrapped(found)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.dot and np.ndim(args[0]) > 1 and np.ndim(args[1]) == 2:
            return args[0] @ args[1]
        if func is np.tensordot:
            return self._tensordot(*args, **kwargs)
        if func is np.einsum and not kwargs and len(args) == 3:
            return self._wrapped(self._einsum(args[0], *map(plain, args[1:])))
        return super().__array_function__(func, types, args, kwargs)

    def _wrapped(self, found: Any) -> Any:
        return ordered(found, self.backward) if isinstance(found, np.ndarray) else found

    def _blocks(self, terms: int) -> Iterator[slice]:
        starts = range(0, terms, BLOCK)
        return (slice(k, k + BLOCK) for k in (reversed(starts) if self.backward else starts))

    def ordered_product(self, a: Array, b: Array) -> Any:
        """The product of two plain arrays, added up in the order of this one."""
        size = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.shape[-2]
        if size * b.shape[-2] * b.shape[-1] <= AT_ONCE:
            return _sum_of_products(a, b, self.backward)
        if a.ndim > 2 and b.ndim > 2:
            parts = (a[..., block] @ b[..., block, :] for block in self._blocks(a.shape[-1]))
            return _running_sum(parts)
        if b.ndim > 2:
            return np.stack([self.ordered_product(a, each) for each in b])
        rows, y = a.reshape(-1, a.shape[-1]), np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
        flat, count = y.reshape(-1, b.shape[-1]), max(CACHED // b.shape[-1], 1)
        for start in range(0, len(rows), count):
            part, total = rows[start : start + count], flat[start : start + count]
            total[...] = 0
            for block in self._blocks(a.shape[-1]):
                total += part[:, block] @ b[block]
        return y

    def _sum(self, x: Array, options: dict[str, Any]) -> Any:
        axes = _axes(x, options)
        rows = np.moveaxis(x, axes, range(len(axes)))
        rows = rows.reshape(-1, *rows.shape[len(axes) :])
        total = _running_sum(rows[block].sum(axis=0) for block in self._blocks(len(rows)))
        return np.expand_dims(total, axes) if options.get("keepdims") else total

    def _tensordot(self, a: Array, b: Array, axes: Any = 2) -> Any:
        count = isinstance(axes, int)
        first, second = (range(-axes, 0), range(axes)) if count else map(np.atleast_1d, axes)
        places = range(len(first))
        a, b = (
            np.moveaxis(a, first, [p - len(first) for p in places]),
            np.moveaxis(b, second, places),
        )
        kept, own = a.shape[: a.ndim - len(first)], b.shape[len(first) :]
        terms = math.prod(b.shape[: len(first)])
        return (a.reshape(-1, terms) @ b.reshape(terms, -1)).reshape((*kept, *own))

    def _einsum(self, equation: str, a: Array, b: Array) -> Any:
        letters, _, kept = equation.replace(" ", "").partition("->")
        first, _, second = letters.partition(",")
        summed = [c for c in first if c in second and c not in kept and c.isalpha()]
        sizes = {c: a.shape[first.index(c)] for c in summed if "." not in first}
        if "." in second or max(sizes.values(), default=0) <= LONG:
            return np.einsum(equation, a, b)
        letter = max(sizes, key=lambda c: sizes[c])
        rows_a = np.moveaxis(a, first.index(letter), 0)
        rows_b = np.moveaxis(b, second.index(letter), 0)
        moved = f"{letter}{first.replace(letter, '')},{letter}{second.replace(letter, '')}->{kept}"
        blocks = self._blocks(sizes[letter])
        return _running_sum(np.einsum(moved, rows_a[block], rows_b[block]) for block in blocks)


def ordered(x: Array, backward: bool = False) -> OrderedArray:
    """The same numbers, added up in blocks from now on.

    Args:
        x: any array; it is not copied.
        backward: True to begin with the last block.

    Example:
        >>> x = np.full(2**14, 0.1, np.float32)
        >>> float(abs(x.sum() - 1638.4)) < float(abs(ordered(x).sum() - 1638.4))
        True
    """
    view: OrderedArray = plain(x).view(OrderedArray)
    view.backward = backward
    return view


def ordered_like(outputs: list[Array], sources: Sequence[Array]) -> list[Array]:
    """The outputs of a layer, in the order of its inputs or weights where one of them has one."""
    own = next((x for x in sources if isinstance(x, OrderedArray)), None)
    return outputs if own is None else [ordered(y, own.backward) for y in outputs]


FEW = (
    *(L.Embedding, L.Dropout, L.Masking, L.Reverse, L.Relu, L.PRelu, L.Elu, L.Affine, L.Function),
    *(L.NotEqual, L.TrainingOnly, L.Augmentation, L.Merge, L.Concatenate, L.BatchNorm, L.Clip),
    *(L.Pool, L.Pad, L.Crop, L.UpSample, L.Flatten, L.Reshape, L.Permute, L.RepeatVector),
    *(L.Slice, L.ExpandDims, L.Squeeze),
)
"""Layers that add up no axis."""


def adds_many(model: Model) -> bool:
    """True if a layer may add up more than `LONG` numbers, whose order then matters."""
    return any(_adds_many(node.spec, node.shape[-1:]) for node in model.layers)


def _adds_many(spec: L.LayerSpec, units: Shape) -> bool:
    """As `adds_many`, for a layer whose outputs have so many units."""
    if isinstance(spec, (L.Bidirectional, L.TimeDistributed)):
        parts = spec.halves if isinstance(spec, L.Bidirectional) else (spec.layer,)
        return any(_adds_many(part, units) for part in parts)
    if isinstance(spec, (L.Dense, L.LSTM, L.GRU, L.SimpleRNN)):
        return max(spec.features, spec.units) > LONG
    if isinstance(spec, L.Conv):
        sums = math.prod(spec.window) * spec.features // spec.groups
        return max(sums, spec.units) > LONG
    if isinstance(spec, L.Activation):
        return not units or ((units[0] or LONG + 1) > LONG and "softmax" in spec.activation)
    return not isinstance(spec, FEW)


def has_long_sums(*arrays: Array) -> bool:
    """True if some axis, or all axes but the last together, have more than `LONG` terms."""
    return any(x.ndim > 0 and max(*x.shape, x.size // max(x.shape[-1], 1)) > LONG for x in arrays)


AT_ONCE = 2**19
"""Products that are added up at once: their sums of `BLOCK` then stay in the cache."""

CACHED = 2**15
"""Sums that are added up together, of more products: they stay in the cache, too."""


def _sum_of_products(a: Array, b: Array, backward: bool) -> Array:
    """The product a @ b, added up block by block of terms, from the last one if `backward`."""
    rank, terms = max(a.ndim, b.ndim), a.shape[-1]
    a, b = (x.reshape(*(1,) * (rank - x.ndim), *x.shape) for x in (a, b))
    whole = terms - terms % BLOCK
    left = np.moveaxis(a[..., :whole].reshape(*a.shape[:-1], -1, BLOCK), -2, 0)
    right = np.moveaxis(b[..., :whole, :].reshape(*b.shape[:-2], -1, BLOCK, b.shape[-1]), -3, 0)
    parts = [left[::-1] @ right[::-1]] if backward else [left @ right]
    if whole < terms:
        rest = (a[..., whole:] @ b[..., whole:, :])[None]
        parts = [rest, *parts] if backward else [*parts, rest]
    # numpy adds up whole arrays in their order; of single numbers it would add up pairs
    blocks = np.concatenate(parts) if len(parts) > 1 else parts[0]
    found = np.add.reduce(blocks, axis=0) if blocks[0].size > 1 else _running_sum(iter(blocks))
    return np.asarray(found)


def plain(x: Any) -> Any:
    """The same numbers without an order of their sums."""
    return x.view(np.ndarray) if isinstance(x, OrderedArray) else x


def times(h: Array, kernel: Array) -> Array:
    """The product h @ kernel in the order of its sums; a plain array if `h` is one."""
    if not isinstance(kernel, OrderedArray) or isinstance(h, OrderedArray):
        return np.asanyarray(h @ kernel)
    if kernel.shape[-2] <= LONG:
        return np.asarray(h @ plain(kernel))
    return np.asarray(kernel.ordered_product(h, plain(kernel)))


def _running_sum(parts: Iterator[Array]) -> Any:
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _is_long_product(a: Any, b: Any) -> bool:
    matrices = min(np.ndim(a), np.ndim(b)) > 1
    return matrices and a.shape[-1] > LONG and a.dtype.kind == b.dtype.kind == "f"


def _is_long_sum(x: Any, options: dict[str, Any]) -> bool:
    usual = options.get("where", True) is True and options.get("dtype") in (None, x.dtype)
    if not usual or options.get("out") is not None or x.dtype.kind != "f":
        return False
    return int(np.prod([x.shape[axis] for axis in _axes(x, options)])) > LONG


def _axes(x: Array, options: dict[str, Any]) -> tuple[int, ...]:
    axis = options.get("axis", 0)
    if axis is None:
        return tuple(range(x.ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(number % x.ndim for number in axes)
