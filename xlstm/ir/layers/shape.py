"""Specs of layers that only move numbers: no arithmetic, rows in C order, channels last.

>>> Flatten().output_shape((4, 5))
(20,)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec, check_size
from xlstm.ir.types import Shape

__all__ = ["ExpandDims", "Flatten", "Permute", "RepeatVector", "Reshape", "Slice", "Squeeze"]


def _product(shape: Shape) -> int | None:
    return None if None in shape else math.prod(size or 1 for size in shape)


@dataclass(frozen=True)
class Flatten(LayerSpec):
    """All axes of a sample laid end to end."""

    kind: ClassVar[str] = "Flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (_product(shape),) if shape else (1,)


@dataclass(frozen=True)
class Reshape(LayerSpec):
    """The numbers of a sample in another shape; one size may be None and is computed."""

    kind: ClassVar[str] = "Reshape"
    shape: Shape

    def check(self) -> None:
        if self.shape.count(None) > 1:
            want = "sizes, at most one of them left open"
            raise UsageError("Reshape", want, f"{self.shape}", "name all sizes but one")
        known = [size for size in self.shape if size is not None]
        check_size("Reshape", **{f"shape[{n}]": size for n, size in enumerate(known)})

    def output_shape(self, shape: Shape) -> Shape:
        known = math.prod(size for size in self.shape if size is not None)
        whole = _product(shape)
        if whole is None:
            return self.shape
        if whole % known if None in self.shape else whole != known:
            want = f"a sample of {known} numbers" + (
                " times a whole number" if None in self.shape else ""
            )
            raise UsageError("Reshape", want, f"(batch, {str(shape)[1:]}", "change its shape")
        return tuple(whole // known if size is None else size for size in self.shape)


@dataclass(frozen=True)
class Permute(LayerSpec):
    """The axes of a sample in another order: output axis n is input axis order[n], from 1 on."""

    kind: ClassVar[str] = "Permute"
    order: tuple[int, ...]

    def check(self) -> None:
        places = range(1, len(self.order) + 1)
        if not places or {*self.order} != {*places}:
            want = "the numbers 1 to how many axes there are, each once"
            raise UsageError("Permute", want, f"{self.order}", "change the order")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.order):
            want = f"an input with {len(self.order)} axes"
            raise UsageError("Permute", want, f"(batch, {str(shape)[1:]}", "change the order")
        return tuple(shape[n - 1] for n in self.order)


@dataclass(frozen=True)
class RepeatVector(LayerSpec):
    """A vector as `times` equal time steps."""

    kind: ClassVar[str] = "RepeatVector"
    times: int

    def check(self) -> None:
        check_size("RepeatVector", times=self.times)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            want, got = "an input (batch, features)", f"(batch, {str(shape)[1:]}"
            raise UsageError("RepeatVector", want, got, "reshape its input")
        return (self.times, *shape)


@dataclass(frozen=True)
class Slice(LayerSpec):
    """A part along one axis, as a slice of Python; `drop` removes the axis.

    Attributes:
        axis: of a sample, from 0 on (the batch axis does not count).
        start: first index, from the end if negative; None for the first.
        stop: the index after the last one; None for the end.
        step: 1 or more, or -1 for all in reversed order.
        drop: True if the axis is dropped; the part is then the index `start` alone.
    """

    kind: ClassVar[str] = "Slice"
    axis: int
    start: int | None = None
    stop: int | None = None
    step: int = 1
    drop: bool = False

    def check(self) -> None:
        whole = self.start is None and self.stop is None
        if self.axis < 0 or not (self.step > 0 or (self.step == -1 and whole)):
            got = f"axis {self.axis}, step {self.step}"
            raise UsageError("Slice", "an axis from 0 on, a step from 1 on or -1", got, "fix them")
        if self.drop and (self.start is None or self.stop is not None or self.step != 1):
            got = f"start {self.start}, stop {self.stop}, step {self.step}"
            raise UsageError("Slice", "one place to take, start alone", got, "set start only")

    def output_shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape):
            want = f"an input with an axis {self.axis}"
            raise UsageError("Slice", want, f"(batch, {str(shape)[1:]}", "change the axis")
        size, before, after = shape[self.axis], shape[: self.axis], shape[self.axis + 1 :]
        if size is not None:
            places = range(size)[self.start : self.stop : self.step]
            fits = -size <= (self.start or 0) < size if self.drop else bool(places)
            if not fits:
                want, got = f"a part of the {size} places", f"{self.start}:{self.stop}"
                raise UsageError("Slice", want, got, "choose places inside the axis")
            size = len(places)
        return (*before, *(() if self.drop else (size,)), *after)


@dataclass(frozen=True)
class ExpandDims(LayerSpec):
    """A new axis of size 1 at index `axis` of a sample."""

    kind: ClassVar[str] = "ExpandDims"
    axis: int

    def output_shape(self, shape: Shape) -> Shape:
        if not 0 <= self.axis <= len(shape):
            want = f"an axis from 0 to {len(shape)}"
            raise UsageError("ExpandDims", want, f"{self.axis}", "change the axis")
        return (*shape[: self.axis], 1, *shape[self.axis :])


@dataclass(frozen=True)
class Squeeze(LayerSpec):
    """Removes an axis of size 1 of a sample."""

    kind: ClassVar[str] = "Squeeze"
    axis: int

    def output_shape(self, shape: Shape) -> Shape:
        if not 0 <= self.axis < len(shape) or shape[self.axis] != 1:
            want, got = f"size 1 on axis {self.axis}", f"(batch, {str(shape)[1:]}"
            raise UsageError("Squeeze", want, got, "change the axis")
        return (*shape[: self.axis], *shape[self.axis + 1 :])


RESHAPING = (Reshape, Permute, Slice, ExpandDims, Squeeze, Flatten, RepeatVector)
"""Specs whose outputs are numbers of their input, unchanged."""
