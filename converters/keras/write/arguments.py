"""Common constructor arguments of Keras 3 layers, as source text; no framework."""

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
"""Argument of every layer: the default dtype policy of the process is not used."""


@dataclass(frozen=True)
class Around:
    """Context of a layer's constructor besides its spec.

    Attributes:
        parts: receives the helpers that it needs.
        rank: number of axes of its input, the batch's counted.
        masked: True if it uses a mask.
        trainable: True if training changes its weights.
    """

    parts: ModuleSource
    rank: int
    masked: bool = False
    trainable: bool = True

    def tail(self, *name: Argument) -> Arguments:
        """Returns last arguments of every layer; Keras's wrappers do not freeze their layer."""
        return (flag("trainable", self.trainable, True), DTYPE, *name)


def activation(name: str, around: Around, rank: int) -> str:
    """Returns the expression for an activation of an array with `rank` axes."""
    if name in NAMES:
        return f'"{NAMES[name]}"'
    text, helper = STOCK[name]
    around.parts.use_template(ACTIVATION_CELLS, helper)
    return text.format(rank=rank)


def option(keyword: str, name: str, default: str, around: Around, rank: int = 2) -> Argument | None:
    """Returns an activation argument, None for the default."""
    return None if name == default else (keyword, activation(name, around, rank))


def flag(keyword: str, value: bool, default: bool = False) -> Argument | None:
    """Returns a boolean argument, None for the default."""
    return None if value == default else (keyword, literal(value))


def rate_of(keyword: str, rate: float) -> Argument | None:
    """Returns a rate argument, None for 0."""
    return (keyword, literal(rate)) if rate else None


def number(value: float) -> str:
    """Returns a float as source text."""
    return literal(float(value))


def sizes(found: Sequence[int]) -> str:
    """Returns one size as a number, several as a tuple."""
    return literal(found[0] if len(found) == 1 else tuple(found))


def sharp(value: float) -> str:
    """Returns a float as source text that TensorFlow does not round in float64."""
    rounds = c_float(value).value != value
    return f"np.float64({number(value)})" if rounds else number(value)


CHANNELS_LAST = ("data_format", '"channels_last"')
"""Argument of every layer with channels: Keras's default is a setting of the machine."""
