"""Specs of elementwise layers, of softmax and reductions, and of layers for training only.

>>> Relu(top=6.0)
Relu(top=6.0, slope=0.0, threshold=0.0)
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec, check_size
from xlstm.ir.layers.fields import AnyText, OneOf
from xlstm.ir.python_source import steady
from xlstm.ir.types import Shape

__all__ = [
    "Affine",
    "Augmentation",
    "Elu",
    "Function",
    "NotEqual",
    "PRelu",
    "Reduce",
    "Relu",
    "Softmax",
    "TrainingOnly",
]


def check_not_negative(where: str, **numbers: float | None) -> None:
    """Raises UsageError for a number below 0."""
    for name, number in numbers.items():
        if number is not None and number < 0:
            raise UsageError(f"{where}.{name}", "a number from 0 on", repr(number), "change it")


@dataclass(frozen=True)
class Relu(LayerSpec):
    """min(x, `top`) where x is above `threshold`, else slope (x - threshold).

    None for `top` means no limit. Keras's ReLU, LeakyReLU (slope) and ThresholdedReLU (threshold)
    are read as this spec. All of them return 0, not the threshold, where x equals it.
    """

    kind: ClassVar[str] = "Relu"
    top: float | None = None
    slope: float = 0.0
    threshold: float = 0.0

    def check(self) -> None:
        check_not_negative("Relu", top=self.top, threshold=self.threshold)


@dataclass(frozen=True)
class PRelu(LayerSpec):
    """A x below zero, x above; the slopes A are weights, stretched to the sample's shape.

    `shape` is that of the slopes: 1 for an axis that shares them.
    """

    kind: ClassVar[str] = "PRelu"
    shape: Shape

    def check(self) -> None:
        if not 1 <= len(self.shape) <= 4 or None in self.shape:
            want = "slopes of 1 to 4 axes of known size"
            raise UsageError("PRelu", want, f"{self.shape}", "share the axes of any length")
        check_size("PRelu", **{f"shape[{n}]": size or 0 for n, size in enumerate(self.shape)})

    @property
    def weight_kind(self) -> str:
        return f"PRelu{len(self.shape)}D"

    def sizes(self) -> dict[str, int]:
        return {axis: size or 1 for axis, size in zip("abcd", self.shape, strict=False)}

    def output_shape(self, shape: Shape) -> Shape:
        pairs = zip(shape, self.shape, strict=False)
        if len(shape) != len(self.shape) or any(own not in (1, size) for size, own in pairs):
            want, got = f"an input that slopes {self.shape} fit", f"(batch, {str(shape)[1:]}"
            raise UsageError("PRelu", want, got, "change the slopes' shape")
        return shape


@dataclass(frozen=True)
class Elu(LayerSpec):
    """A (e^x - 1) below zero, x above."""

    kind: ClassVar[str] = "Elu"
    alpha: float = 1.0


@dataclass(frozen=True)
class Softmax(LayerSpec):
    """Softmax over one axis of a sample (0 is the first after the batch, -1 the last)."""

    kind: ClassVar[str] = "Softmax"
    axis: int = -1

    def output_shape(self, shape: Shape) -> Shape:
        if not -len(shape) <= self.axis < len(shape):
            want = f"an axis of the {len(shape)} there are"
            raise UsageError("Softmax", want, f"{self.axis}", "change the axis")
        return shape


@dataclass(frozen=True)
class Affine(LayerSpec):
    """`scale` x + `offset` with fixed numbers: Keras's Rescaling, and arithmetic with constants."""

    kind: ClassVar[str] = "Affine"
    scale: float = 1.0
    offset: float = 0.0


FUNCTIONS = tuple(
    "reciprocal square sqrt exp log abs negative sin cos sign floor ceil round trunc log1p expm1 "
    "zeros_like ones_like".split()
)


@dataclass(frozen=True)
class Function(LayerSpec):
    """A function without options of every number."""

    kind: ClassVar[str] = "Function"
    name: Annotated[str, OneOf(FUNCTIONS)]


REDUCTIONS = ("sum", "mean", "max", "min", "prod")


@dataclass(frozen=True)
class Reduce(LayerSpec):
    """Sum, mean, extremes or product over axes of a sample (0 is the first after the batch)."""

    kind: ClassVar[str] = "Reduce"
    how: Annotated[str, OneOf(REDUCTIONS)]
    axes: tuple[int, ...]
    keep: bool = False

    def check(self) -> None:
        if not self.axes or len({*self.axes}) != len(self.axes):
            raise UsageError("Reduce.axes", "axes that differ", f"{self.axes}", "change the axes")

    def output_shape(self, shape: Shape) -> Shape:
        if any(not 0 <= axis < len(shape) for axis in self.axes):
            want = f"axes of the {len(shape)} there are"
            raise UsageError("Reduce", want, f"{self.axes}", "change the axes")
        sizes = enumerate(shape)
        if self.keep:
            return tuple(1 if axis in self.axes else size for axis, size in sizes)
        return tuple(size for axis, size in sizes if axis not in self.axes)


@dataclass(frozen=True)
class NotEqual(LayerSpec):
    """A mask: True for every number that differs from `value`."""

    kind: ClassVar[str] = "NotEqual"
    value: float = 0.0


@dataclass(frozen=True)
class TrainingOnly(LayerSpec):
    """A layer of Keras that acts in training only, called `layer` there, with its number `rate`."""

    KNOWN: ClassVar[tuple[str, ...]] = (
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "GaussianNoise",
        "GaussianDropout",
        "AlphaDropout",
        "ActivityRegularization",
    )

    kind: ClassVar[str] = "TrainingOnly"
    layer: Annotated[str, OneOf(KNOWN)]
    rate: float = 0.0

    def check(self) -> None:
        check_not_negative("TrainingOnly", rate=self.rate)


AUGMENTATIONS = tuple(
    "RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale "
    "RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
    "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom "
    "RandAugment AugMix CutMix MixUp Solarization".split()
)
"""Layers of Keras 3 that alter images in training only."""


@dataclass(frozen=True)
class Augmentation(LayerSpec):
    """A layer of Keras that alters images in training only, called `layer` there.

    `options` are keywords of its constructor as source writes them; numbers, pairs of numbers and
    the words of `WORDS` alone are allowed.

    >>> Augmentation("RandomFlip", ("mode='horizontal'",)).options
    ("mode='horizontal'",)
    """

    kind: ClassVar[str] = "Augmentation"
    layer: Annotated[str, OneOf(AUGMENTATIONS)]
    options: tuple[Annotated[str, AnyText()], ...] = ()  # `check` holds them against lists

    NAMES: ClassVar[frozenset[str]] = frozenset(
        "factor mode height_factor width_factor x_factor y_factor value_range fill_mode fill_value "
        "interpolation data_format height width scale alpha kernel_size sigma num_ops num_chains "
        "chain_depth all_ops brightness_factor contrast_factor saturation_factor hue_factor "
        "addition_factor threshold_factor".split()
    )

    WORDS: ClassVar[frozenset[str]] = frozenset(
        "horizontal vertical horizontal_and_vertical reflect wrap constant nearest bilinear "
        "bicubic lanczos3 lanczos5 channels_first channels_last".split()
    )

    def check(self) -> None:
        for option in self.options:
            if not self._is_plain(option):
                want = "options as name=value, of numbers and known words"
                raise UsageError("Augmentation", want, repr(option)[:80], "remove this option")

    def arguments(self) -> dict[str, object]:
        """The options as keyword -> value.

        Raises:
            UsageError: an option that `check` would refuse.
        """
        self.check()
        pairs = (option.partition("=")[::2] for option in self.options)
        return {name: steady(partial(ast.literal_eval, text)) for name, text in pairs}

    def _is_plain(self, option: object) -> bool:
        """True for a keyword of such a layer and a value, written as Python writes it."""
        name, sign, text = option.partition("=") if isinstance(option, str) else ("", "", "")
        if not sign or name not in self.NAMES or len(text) > 80:
            return False
        try:
            value = steady(partial(ast.literal_eval, text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return False
        items = value if isinstance(value, tuple) else (value,)
        known = all(
            item in self.WORDS if isinstance(item, str) else _is_plain(item) for item in items
        )
        return known and repr(value) == text


def _is_plain(value: object) -> bool:
    """True for None, a truth value and a finite number."""
    number = isinstance(value, (int, float)) and math.isfinite(value)
    return value is None or number
