"""What the constructors of Keras 3 layers have in common, as source text; no framework."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_float
from dataclasses import dataclass

from xlstm.ir.literals import literal

from ...codegen.source import Argument, ModuleSource
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import NAMES, STOCK

CELLS = "keras/templates/layers.py"

Arguments = tuple[Argument | None, ...]

DTYPE = ("dtype", "dtype")
"""Every layer is told the dtype: a policy set for the process is none of ours."""


@dataclass(frozen=True)
class Around:
    """What the constructor of a layer depends on besides its spec.

    Attributes:
        parts: takes the helpers that it needs.
        rank: number of axes of its input, the batch's counted.
        masked: whether it obeys a mask.
        trainable: whether training changes its weights.
    """

    parts: ModuleSource
    rank: int
    masked: bool = False
    trainable: bool = True

    def tail(self, *name: Argument) -> Arguments:
        """Last arguments of every layer; Keras's wrappers do not freeze what they wrap."""
        return (flag("trainable", self.trainable, True), DTYPE, *name)


def activation(name: str, around: Around, rank: int) -> str:
    """Expression for an activation of an array with `rank` axes."""
    if name in NAMES:
        return f'"{NAMES[name]}"'
    text, helper = STOCK[name]
    around.parts.use_template(ACTIVATION_CELLS, helper)
    return text.format(rank=rank)


def option(keyword: str, name: str, default: str, around: Around, rank: int = 2) -> Argument | None:
    """An activation, told where it is not the default."""
    return None if name == default else (keyword, activation(name, around, rank))


def flag(keyword: str, value: bool, default: bool = False) -> Argument | None:
    """A switch, told where it is not the default."""
    return None if value == default else (keyword, literal(value))


def rate_of(keyword: str, rate: float) -> Argument | None:
    """A rate, told where it is not 0."""
    return (keyword, literal(rate)) if rate else None


def number(value: float) -> str:
    """A float as source text."""
    return literal(float(value))


def sizes(found: Sequence[int]) -> str:
    """One size as a number, several as a tuple."""
    return literal(found[0] if len(found) == 1 else tuple(found))


def sharp(value: float) -> str:
    """A float as source text that TensorFlow does not round where it computes in float64."""
    rounds = c_float(value).value != value
    return f"np.float64({number(value)})" if rounds else number(value)


CHANNELS_LAST = ("data_format", '"channels_last"')
"""Told to every layer that has channels: Keras's own default is a setting of the machine."""
