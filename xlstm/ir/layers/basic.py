"""Specs of the layers around the recurrent ones.

>>> Dense(3, 4).output_shape((None, 3))
(None, 4)
"""

from __future__ import annotations

import math
from ctypes import c_float
from dataclasses import dataclass
from typing import ClassVar

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir.layers.base import ActivationName, LayerSpec, check_last, check_rate, check_size
from xlstm.ir.layers.custom import Custom
from xlstm.ir.layers.operations import Across
from xlstm.ir.types import Shape

__all__ = ["Activation", "Dense", "Dropout", "Embedding", "Masking", "Reverse", "TimeDistributed"]


@dataclass(frozen=True)
class Dense(LayerSpec):
    """`activation(x W + b)` over the last axis."""

    kind: ClassVar[str] = "Dense"
    features: int
    units: int
    activation: ActivationName = "linear"
    use_bias: bool = True

    def check(self) -> None:
        check_size("Dense", features=self.features, units=self.units)

    def sizes(self) -> dict[str, int]:
        return {"i": self.features, "o": self.units}

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 1, self.features)
        return (*shape[:-1], self.units)


@dataclass(frozen=True)
class TimeDistributed(LayerSpec):
    """`layer` applied to every time step (axis 1) separately.

    Each output of the layer gets the time axis in front. A node of it may have a mask edge if the
    layer may have one: (batch, time, ...), the mask of the layer for every time step.
    """

    kind: ClassVar[str] = "TimeDistributed"
    layer: LayerSpec

    def check(self) -> None:
        single = self.layer.arity == (1, 1) or isinstance(self.layer, Custom)
        if not single or isinstance(self.layer, (TimeDistributed, Across)):
            got = self.layer.kind
            raise UnsupportedError(self.kind, "a layer of one input", got, "call it directly")
        if getattr(self.layer, "stateful", False):
            want, got = "a layer without a state of its own", "a stateful one"
            raise UnsupportedError(self.kind, want, got, "set stateful=False")

    @property
    def weighted_parts(self) -> tuple[tuple[str, LayerSpec], ...]:
        return self.layer.weighted_parts

    def mask_shape(self, x: Shape) -> Shape | None:
        inner = self.layer.mask_shape(x[1:])
        return None if inner is None else (*x[:1], *inner)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        shape = shapes[0]
        if len(shape) < 2:
            want = "an input with a time axis, (batch, time, ...)"
            raise UsageError(self.kind, want, f"(batch, {str(shape)[1:]}", "reshape its input")
        return tuple((shape[0], *found) for found in self.layer.output_shapes(shape[1:]))

    def output_shape(self, shape: Shape) -> Shape:
        return self.output_shapes(shape)[0]


@dataclass(frozen=True)
class Dropout(LayerSpec):
    """Zeroes a share `rate` of its input in training; does nothing in evaluation."""

    kind: ClassVar[str] = "Dropout"
    rate: float

    def check(self) -> None:
        check_rate("Dropout", self.rate)


@dataclass(frozen=True)
class Activation(LayerSpec):
    """An activation as a separate layer."""

    kind: ClassVar[str] = "Activation"
    activation: ActivationName


@dataclass(frozen=True)
class Masking(LayerSpec):
    """Marks the steps whose features all equal `value`, and puts zeros there.

    Outputs: the input with zeros at masked steps, and the mask (B, T), True at all other steps.
    `value` is rounded to float32, the dtype of the comparison.
    """

    kind: ClassVar[str] = "Masking"
    value: float = 0.0

    def check(self) -> None:
        value = c_float(self.value).value
        if not math.isfinite(value):
            want, got = "a number that float32 has", repr(self.value)
            raise UsageError("Masking.value", want, got, "mask by another number")
        object.__setattr__(self, "value", value)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        if len(shapes[0]) < 2:
            want, got = "an input (batch, time, features)", f"(batch, {str(shapes[0])[1:]}"
            raise UsageError(self.kind, want, got, "reshape its input")
        return (shapes[0], shapes[0][:-1])


@dataclass(frozen=True)
class Reverse(LayerSpec):
    """Reverses the time axis (axis 1)."""

    kind: ClassVar[str] = "Reverse"

    def output_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise UsageError(self.kind, "an input (batch, time, ...)", "(batch,)", "reshape it")
        return shape


@dataclass(frozen=True)
class Embedding(LayerSpec):
    """Row number x of a table, for each whole number x; fractions are cut off, as in Keras.

    Outputs: the rows, and with `mask_zero` the mask, True where x before the cut is not 0 (True for
    0.5, which takes row 0).
    """

    kind: ClassVar[str] = "Embedding"
    rows: int
    units: int
    mask_zero: bool = False

    def check(self) -> None:
        check_size("Embedding", rows=self.rows, units=self.units)

    def sizes(self) -> dict[str, int]:
        return {"v": self.rows, "o": self.units}

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        mask = (shapes[0],) if self.mask_zero else ()
        return ((*shapes[0], self.units), *mask)
