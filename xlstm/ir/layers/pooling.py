"""Specs of pools, and of layers that pad, crop and repeat.

>>> Pool("max", (2,), (2,)).output_shape((10, 3))
(5, 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import (
    MAX_SIZE,
    LayerSpec,
)
from xlstm.ir.layers.convolution import Sizes, _check_space, check_sizes, slide
from xlstm.ir.layers.fields import OneOf
from xlstm.ir.types import Shape

__all__ = ["Crop", "GlobalPool", "Pad", "Pool", "UpSample"]


POOLS = ("max", "average")


@dataclass(frozen=True)
class Pool(LayerSpec):
    """The largest or the mean value of each window; padding of "same" is left out of both."""

    kind: ClassVar[str] = "Pool"
    how: Annotated[str, OneOf(POOLS)]
    window: Sizes
    strides: Sizes
    padding: Annotated[str, OneOf(("valid", "same"))] = "valid"

    def check(self) -> None:
        check_sizes(self.kind, window=self.window, strides=self.strides)

    def output_shape(self, shape: Shape) -> Shape:
        return (*slide(self, shape, self.window, self.strides, self.padding), shape[-1])


@dataclass(frozen=True)
class GlobalPool(LayerSpec):
    """The largest or the mean value over all axes but the channels.

    A node that takes the mean over one axis may have a mask edge: the mean is then over the steps
    that are not masked, NaN if all are.
    """

    kind: ClassVar[str] = "GlobalPool"
    how: Annotated[str, OneOf(POOLS)]
    keep: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            want = "an input with axes and channels"
            raise UsageError(self.kind, want, f"(batch, {str(shape)[1:]}", "reshape its input")
        return (*((1,) * (len(shape) - 1) if self.keep else ()), shape[-1])

    def mask_shape(self, x: Shape) -> Shape | None:
        return x[:1] if self.how == "average" and len(x) == 2 else None


def _check_pairs(where: str, before: Sizes, after: Sizes) -> None:
    counts = all(0 <= n <= MAX_SIZE for n in (*before, *after))
    if not counts or len(before) != len(after) or not 1 <= len(before) <= 3:
        want = "whole numbers from 0 on, before and after each of 1 to 3 axes"
        raise UsageError(where, want, f"{before} and {after}", "change them")


@dataclass(frozen=True)
class Pad(LayerSpec):
    """Zeros before and after each axis but the channels."""

    kind: ClassVar[str] = "Pad"
    before: Sizes
    after: Sizes

    def check(self) -> None:
        _check_pairs(self.kind, self.before, self.after)

    def output_shape(self, shape: Shape) -> Shape:
        return _resized(self, shape, self.before, self.after, 1)


@dataclass(frozen=True)
class Crop(LayerSpec):
    """Leaves out the first and the last positions of each axis but the channels."""

    kind: ClassVar[str] = "Crop"
    before: Sizes
    after: Sizes

    def check(self) -> None:
        _check_pairs(self.kind, self.before, self.after)

    def output_shape(self, shape: Shape) -> Shape:
        return _resized(self, shape, self.before, self.after, -1)


def _resized(spec: LayerSpec, shape: Shape, before: Sizes, after: Sizes, sign: int) -> Shape:
    _check_space(spec, shape, len(before))
    axes = zip(shape, before, after, strict=False)
    space = tuple(None if n is None else n + sign * (a + b) for n, a, b in axes)
    if any(size is not None and size < 1 for size in space):
        raise UsageError(spec.kind, "places that are left", "none", "crop less")
    return (*space, shape[-1])


@dataclass(frozen=True)
class UpSample(LayerSpec):
    """Repeats every position of each axis but the channels."""

    kind: ClassVar[str] = "UpSample"
    times: Sizes

    def check(self) -> None:
        check_sizes(self.kind, times=self.times)

    def output_shape(self, shape: Shape) -> Shape:
        _check_space(self, shape, len(self.times))
        space = zip(shape, self.times, strict=False)
        return (*(None if n is None else n * k for n, k in space), shape[-1])
