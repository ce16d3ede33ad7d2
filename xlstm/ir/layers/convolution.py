"""Specs of layers that slide a window over axes: channels last, (batch, *space, channels).

>>> Conv(3, 8, (3,), strides=(1,), dilation=(1,)).output_shape((10, 3))
(8, 8)
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir.layers.base import (
    ActivationName,
    LayerSpec,
    check_last,
    check_size,
    windows,
)
from xlstm.ir.layers.fields import OneOf
from xlstm.ir.types import Shape

__all__ = ["Conv", "ConvTranspose", "DepthwiseConv"]

PADDINGS = ("valid", "same", "causal")

Sizes = tuple[int, ...]
"""A size, or a number of elements, for each axis but the channels."""


def check_sizes(where: str, **sizes: Sizes) -> None:
    """Raises UsageError for anything but whole numbers from 1 on, for the same 1 to 3 axes."""
    first = next(iter(sizes.values()))
    for name, found in sizes.items():
        if not 1 <= len(found) <= 3 or len(found) != len(first):
            want = f"{name} of as many sizes as there are axes (1 to 3)"
            raise UsageError(where, want, f"{found}", "pass one size per axis")
        check_size(where, **{f"{name}[{n}]": size for n, size in enumerate(found)})


def _check_space(spec: LayerSpec, shape: Shape, rank: int) -> None:
    """Raises UsageError for a sample that is not (*space, channels) with `rank` axes of space."""
    if len(shape) != rank + 1:
        want = f"an input with {rank} axes and channels"
        raise UsageError(spec.kind, want, f"(batch, {str(shape)[1:]}", "reshape its input")


def slide(
    spec: LayerSpec, shape: Shape, window: Sizes, strides: Sizes, how: str, dilation: Sizes = ()
) -> Shape:
    """Space of the output for a sample (*space, channels) and a window.

    Raises:
        UsageError: a sample of another rank, or smaller than the window.
    """
    _check_space(spec, shape, len(window))
    axes = zip(shape, window, strides, dilation or (1,) * len(window), strict=False)
    found = tuple(windows(n, w, s, d, how) for n, w, s, d in axes)
    if any(size is not None and size < 1 for size in found):
        want = f"an input as large as the window {window}"
        raise UsageError(spec.kind, want, f"(batch, {str(shape)[1:]}", "shrink the window")
    return found


def _check_window(spec: Conv | DepthwiseConv) -> None:
    """Raises for a window, strides, dilation or padding that a convolution cannot have."""
    check_sizes(spec.kind, window=spec.window, strides=spec.strides, dilation=spec.dilation)
    if spec.padding == "causal" and len(spec.window) > 1:
        got = f"{spec.padding!r} over {len(spec.window)} axes"
        want = "padding valid or same, or causal over one axis"
        raise UnsupportedError(spec.kind, want, got, "use one of these")


@dataclass(frozen=True)
class Conv(LayerSpec):
    """Convolution over 1, 2 or 3 axes, then an activation.

    y[p, f] = activation(b[f] + sum over window positions q and the channels c of f's group of
    x[s p + d q, c] k[q, c, f]); the kernel is not flipped. "same" pads with zeros so that ceil(size
    / stride) windows fit, as many before as after, or one more after; "causal" (over one axis)
    pads before only.

    Attributes:
        features: channels of the input.
        units: channels of the output.
        window: size of the kernel along each axis.
        groups: number of groups that the channels are split in.
    """

    kind: ClassVar[str] = "Conv"
    features: int
    units: int
    window: Sizes
    activation: ActivationName = "linear"
    _: KW_ONLY
    strides: Sizes
    padding: Annotated[str, OneOf(PADDINGS)] = "valid"
    dilation: Sizes
    groups: int = 1
    use_bias: bool = True

    def check(self) -> None:
        check_size(self.kind, features=self.features, units=self.units, groups=self.groups)
        _check_window(self)
        if self.features % self.groups or self.units % self.groups:
            want = f"channels that {self.groups} groups share evenly"
            got = f"{self.features} and {self.units}"
            raise UsageError(self.kind, want, got, "change the number of groups")

    @property
    def weight_kind(self) -> str:
        return f"Conv{len(self.window)}D"

    def sizes(self) -> dict[str, int]:
        return {
            **dict(zip("abc", self.window, strict=False)),
            "i": self.features // self.groups,
            "o": self.units,
        }

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 2, self.features)
        space = slide(self, shape, self.window, self.strides, self.padding, self.dilation)
        return (*space, self.units)


@dataclass(frozen=True)
class DepthwiseConv(LayerSpec):
    """Convolution of every channel separately, into `multiplier` channels each, then an activation.

    Output channel c m + j comes from input channel c by kernel[..., c, j], m the multiplier.
    """

    kind: ClassVar[str] = "DepthwiseConv"
    features: int
    multiplier: int
    window: Sizes
    activation: ActivationName = "linear"
    _: KW_ONLY
    strides: Sizes
    padding: Annotated[str, OneOf(PADDINGS)] = "valid"
    dilation: Sizes
    use_bias: bool = True

    def check(self) -> None:
        check_size(self.kind, features=self.features, multiplier=self.multiplier)
        _check_window(self)

    @property
    def weight_kind(self) -> str:
        return f"DepthwiseConv{len(self.window)}D"

    def sizes(self) -> dict[str, int]:
        return {
            **dict(zip("abc", self.window, strict=False)),
            "i": self.features,
            "m": self.multiplier,
        }

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 2, self.features)
        space = slide(self, shape, self.window, self.strides, self.padding, self.dilation)
        return (*space, self.features * self.multiplier)


@dataclass(frozen=True)
class ConvTranspose(LayerSpec):
    """Transposed convolution over 1, 2 or 3 axes, then an activation.

    Every position p adds x[p, c] k[q, f, c] to y[s p + d q, f], for every position q in the window,
    input channel c and output channel f; then the ends are cut by `crops`.

    Attributes:
        features: channels of the input.
        units: channels of the output.
        window: size of the kernel along each axis.
        padding: "valid" cuts nothing; "same" cuts to stride times the input's length.
        output_padding: sizes beyond (length - 1) stride + window ("valid") or + window % 2 ("same",
            which then cuts to that); None for the default of `padding`.
    """

    kind: ClassVar[str] = "ConvTranspose"
    features: int
    units: int
    window: Sizes
    activation: ActivationName = "linear"
    _: KW_ONLY
    strides: Sizes
    padding: Annotated[str, OneOf(("valid", "same"))] = "valid"
    output_padding: Sizes | None = None
    dilation: Sizes
    use_bias: bool = True

    def check(self) -> None:
        check_size(self.kind, features=self.features, units=self.units)
        check_sizes(self.kind, window=self.window, strides=self.strides, dilation=self.dilation)
        if self.output_padding is not None:
            self._check_output_padding(self.output_padding)

    def _check_output_padding(self, found: Sizes) -> None:
        tops = zip(self.strides, self.dilation, strict=True)
        if len(found) != len(self.window) or not all(
            0 <= n < max(top) for n, top in zip(found, tops, strict=True)
        ):
            want = "output_padding of whole numbers from 0 on, one for each axis, each below its"
            want += " axis's stride or dilation"
            raise UsageError(self.kind, want, f"{found}", "change output_padding")

    @property
    def weight_kind(self) -> str:
        return f"Conv{len(self.window)}DTranspose"

    @property
    def reach(self) -> Sizes:
        """Positions that a window spans along each axis."""
        return tuple((n - 1) * d + 1 for n, d in zip(self.window, self.dilation, strict=True))

    @property
    def crops(self) -> tuple[tuple[int, int], ...]:
        """Positions cut before and after each axis; a negative number adds positions of bias alone.

        The cut is shared evenly, or is one more after.
        """
        more = self.output_padding or (None,) * len(self.window)
        axes = zip(self.reach, self.strides, more, strict=True)
        totals = [_surplus(*axis, same=self.padding == "same") for axis in axes]
        return tuple((max(n, 0) // 2, n - max(n, 0) // 2) for n in totals)

    def sizes(self) -> dict[str, int]:
        return {
            **dict(zip("abc", self.window, strict=False)),
            "i": self.features,
            "o": self.units,
        }

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 2, self.features)
        _check_space(self, shape, len(self.window))
        axes = zip(shape, self.strides, self.reach, self.crops, strict=False)
        space = tuple(None if n is None else (n - 1) * s + w - sum(cut) for n, s, w, cut in axes)
        if any(size is not None and size < 1 for size in space):
            raise UsageError(self.kind, "places that are left", "none", "crop less")
        return (*space, self.units)


def _surplus(reach: int, stride: int, more: int | None, *, same: bool) -> int:
    """Number of positions that the windows of an axis reach and its output does not have."""
    if more is None:
        return reach - stride if same else min(reach - stride, 0)
    return reach - reach % 2 - more if same else -more
