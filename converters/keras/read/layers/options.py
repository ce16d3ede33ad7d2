"""Rules that read the configs of Keras layers, and what they read of single options; no framework.

@rule("LeakyReLU", "alpha negative_slope", arguments="inputs")
def _leaky(layer): ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.types import Shape

from ..context import LIMITS, CallContext, Config, LayerRule, ReadContext

Specs = L.LayerSpec | Sequence[L.LayerSpec]
"""The spec of a layer, or several, one after the other."""


@dataclass(frozen=True)
class LayerConfig:
    """The config of a layer that is called.

    Attributes:
        kind: today's name of its class.
        config: its options, by their names today.
        given: inputs and options of the call.
        reader: the context of reading.
    """

    kind: str
    config: Config
    given: CallContext
    reader: ReadContext

    @property
    def where(self) -> str:
        """The layer in errors."""
        return self.reader.where(self.config.get("name"))

    @property
    def shape(self) -> Shape:
        """Shape of one sample of the first input."""
        return self.given.shapes[0]

    @property
    def rank(self) -> int:
        """Number of axes of space in the class's name: 2 for Conv2D."""
        return next(int(char) for char in self.kind if char.isdigit())

    @property
    def is_first(self) -> bool:
        """True if channels come first."""
        return is_first(self.config)

    def refused(self, want: str, got: object) -> UnsupportedError:
        """Returns the error for an option without an exact form."""
        return UnsupportedError(self.where, want, f"{got}", LIMITS)

    def features(self, shape: Shape | None = None) -> int:
        """Returns the last size of a sample; of the first input if no shape is passed."""
        shape = self.shape if shape is None else shape
        if not shape or shape[-1] is None:
            want, do = "a known number of features", "name input_shape"
            raise UnsupportedError(self.where, want, f"{shape}", do)
        return shape[-1]

    def activation(self, key: str = "activation") -> str:
        """Returns the canonical name of an activation."""
        return self.reader.activation(self.config[key], self.where)

    def flag(self, key: str, *default: bool) -> bool:
        """Reads a truth value.

        Raises:
            ValueError: something else.
        """
        value = self.config.get(key, *default) if default else self.config[key]
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError(f"{key}={value!r}")
        return bool(value)

    def flags(self, *keys: str) -> dict[str, bool]:
        """Reads several truth values."""
        return {key: self.flag(key) for key in keys}

    def number(self, key: str, *default: float) -> float:
        """Reads a number, or the arrays that tf.keras writes for it.

        Raises:
            TypeError: something else.
        """
        value = self.config.get(key, *default) if default else self.config[key]
        if isinstance(value, dict) and value.get("type") == "ndarray":
            value = value.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{key} is no number")
        return float(value)

    def axes(self, value: Any) -> set[int]:
        """Returns one axis, or several, of the first input's samples, from 0 on."""
        listed = value if isinstance(value, (list, tuple)) else [value]
        return {place(axis, len(self.shape)) for axis in listed}


Build = TypeVar("Build", bound=Callable[[LayerConfig], Specs])

RULES: dict[str, LayerRule] = {}
"""Keras class name -> the rule that reads its config."""


def rule(
    names: str,
    reads: str = "",
    harmless: str = "",
    only: Mapping[str, Any] | None = None,
    arguments: str = "inputs training",
    *,
    joins: bool = False,
) -> Callable[[Build], Build]:
    """Returns the decorator that registers a function as the rule of classes.

    The arguments are fields of LayerRule; names in a text are separated by spaces.
    """

    def register(build: Build) -> Build:
        keys = frozenset(reads.split()), frozenset(harmless.split())
        own = LayerRule(build, *keys, only, tuple(arguments.split()), joins)
        RULES.update(dict.fromkeys(names.split(), own))
        return build

    return register


def sizes(value: Any, rank: int) -> tuple[int, ...]:
    """Reads one size for all axes, or one for each.

    Raises:
        TypeError: no integers, or a wrong number of them.
    """
    found = tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank
    if len(found) != rank or any(type(size) is not int for size in found):
        raise TypeError(f"{value!r} instead of {rank} whole numbers")
    return found


def is_first(config: Config) -> bool:
    """True if channels come first.

    Raises:
        ValueError: an unknown format.
    """
    value = config.get("data_format") or "channels_last"
    known = {"channels_last": False, "tf": False, "channels_first": True, "th": True}
    if value not in known:
        raise ValueError(f"data_format={value!r}")
    return known[value]


def to_last(rank: int) -> L.Permute:
    """Returns the move of channels from the first place to the last, for `rank` axes of space."""
    return L.Permute((*range(2, rank + 2), 1))


def to_first(rank: int) -> L.Permute:
    """Returns the move of channels from the last place to the first."""
    return L.Permute((rank + 1, *range(1, rank + 1)))


def place(axis: Any, rank: int) -> int:
    """Returns an axis of a sample of `rank` axes, from 0 on, for one counted with the batch.

    Raises:
        ValueError: the batch axis, or an axis that does not exist.
    """
    if type(axis) is not int or not -rank <= axis <= rank or axis == 0:
        raise ValueError(f"axis={axis!r}")
    return axis - 1 if axis > 0 else axis + rank


def swapped(axis: int, rank: int) -> tuple[L.Permute, L.Permute] | None:
    """Returns the moves of an axis to the last place and back; None if it is there."""
    if axis == rank - 1:
        return None
    there = [n for n in range(rank) if n != axis] + [axis]
    back = [there.index(n) for n in range(rank)]
    return L.Permute(tuple(n + 1 for n in there)), L.Permute(tuple(n + 1 for n in back))


def array_of(value: Any) -> tuple[tuple[float, ...], tuple[int, ...]] | None:
    """Returns the numbers of an array in a config, in C order, and its shape; None for others.

    >>> array_of([[1, 2], [3, 4]]), array_of([]), array_of(1)
    (((1.0, 2.0, 3.0, 4.0), (2, 2)), None, None)
    """
    if isinstance(value, Mapping) and value.get("class_name") in ("__numpy__", "__tensor__"):
        value = value.get("config", {}).get("value")
    if isinstance(value, Mapping) and value.get("type") == "ndarray":
        value = value.get("value")
    shape: list[int] = []
    flat: list[Any] = [value] if isinstance(value, (list, tuple)) else []
    while flat and all(isinstance(item, (list, tuple)) for item in flat):
        if len({len(item) for item in flat}) > 1 or not flat[0]:
            return None
        shape.append(len(flat[0]))
        flat = [number for item in flat for number in item]
    if not flat or not all(type(number) in (int, float, bool) for number in flat):
        return None
    return tuple(map(float, flat)), tuple(shape)


def laid_last(
    axes: Sequence[int], shape: Shape
) -> tuple[list[L.LayerSpec], int, list[L.LayerSpec]] | None:
    """Returns specs that join axes of a sample as the last one, its length, and specs back.

    None if a size that this needs is unknown.
    """
    rest = [n for n in range(len(shape)) if n not in axes]
    order = [*rest, *sorted(axes)]
    sizes = tuple(shape[n] for n in order)
    count = math.prod(shape[n] or 0 for n in axes)
    if not count or sizes.count(None) > 1:
        return None
    there: list[L.LayerSpec] = []
    back: list[L.LayerSpec] = []
    if order != sorted(order):
        there.append(L.Permute(tuple(n + 1 for n in order)))
        back.append(L.Permute(tuple(order.index(n) + 1 for n in range(len(shape)))))
    if len(axes) == 1:
        return there, count, back
    return [*there, L.Reshape((*sizes[: len(rest)], count))], count, [L.Reshape(sizes), *back]
