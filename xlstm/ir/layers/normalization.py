"""Specs of normalisations.

>>> LayerNorm(4).sizes()
{'o': 4}
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec, check_last, check_size
from xlstm.ir.layers.elementwise import check_not_negative
from xlstm.ir.types import Shape

__all__ = ["BatchNorm", "LayerNorm", "Norm", "Normalization", "RMSNorm", "UnitNorm"]


@dataclass(frozen=True)
class Norm(LayerSpec):
    """Base of the normalisations with numbers for each feature, which is the last axis."""

    features: int

    def check(self) -> None:
        check_size(self.kind, features=self.features)
        check_not_negative(self.kind, epsilon=getattr(self, "epsilon", 0.0))

    def sizes(self) -> dict[str, int]:
        return {"o": self.features}

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 1, self.features)
        return shape


@dataclass(frozen=True)
class BatchNorm(Norm):
    """Gamma (x - mean) / sqrt(variance + epsilon) + beta along the last axis.

    Ioffe & Szegedy 2015. Evaluation uses stored mean and variance. Training updates them by mean =
    momentum * mean + (1 - momentum) * batch's mean (PyTorch's momentum is 1 - momentum).
    """

    kind: ClassVar[str] = "BatchNorm"
    epsilon: float = 1e-3
    momentum: float = 0.99
    _: KW_ONLY
    scale: bool = True
    center: bool = True


@dataclass(frozen=True)
class LayerNorm(Norm):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis (Ba et al. 2016).

    With `groups` mean and variance are those of each group of channels over all axes but the batch
    (GroupNormalization, Wu & He 2018); 0 for the last axis at every position separately.
    """

    kind: ClassVar[str] = "LayerNorm"
    epsilon: float = 1e-3
    _: KW_ONLY
    scale: bool = True
    center: bool = True
    groups: int = 0

    @property
    def title(self) -> str:
        """The name of its kind in texts for people."""
        return "GroupNorm" if self.groups else self.kind

    def check(self) -> None:
        super().check()
        if self.groups < 0 or (self.groups and self.features % self.groups):
            want = f"groups that share {self.features} channels evenly"
            raise UsageError("LayerNorm", want, f"{self.groups}", "change the number of groups")

    def sizes(self) -> dict[str, int]:
        return {"o": self.features} if self.scale or self.center else {}


@dataclass(frozen=True)
class RMSNorm(Norm):
    """gamma x / sqrt(mean(x^2) + epsilon) over the last axis (Zhang & Sennrich 2019)."""

    kind: ClassVar[str] = "RMSNorm"
    epsilon: float = 1e-6
    _: KW_ONLY
    scale: bool = True

    def sizes(self) -> dict[str, int]:
        return {"o": self.features} if self.scale else {}

    def missing_tensors(self) -> frozenset[str]:
        return frozenset({"beta"} if self.scale else {"gamma", "beta"})


@dataclass(frozen=True)
class UnitNorm(LayerSpec):
    """Numbers along the last axis divided by their norm, or by `floor` where that is larger.

    The norm is sqrt(sum of squares). Keras's floor is 1e-12 from 3.6 on and 1e-6 before.
    """

    kind: ClassVar[str] = "UnitNorm"
    floor: float = 1e-12

    def check(self) -> None:
        check_not_negative("UnitNorm", floor=self.floor)

    def output_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise UsageError("UnitNorm", "an input with an axis", "(batch,)", "reshape it")
        return shape


@dataclass(frozen=True)
class Normalization(Norm):
    """(x - mean) / max(sqrt(variance), 1e-7) along the last axis, with mean and variance of data.

    `invert` is the reverse: mean + x max(sqrt(variance), 1e-7).
    """

    kind: ClassVar[str] = "Normalization"
    invert: bool = False

    def missing_tensors(self) -> frozenset[str]:
        return frozenset({"count"})  # number of samples: stored by Keras, used in no computation
