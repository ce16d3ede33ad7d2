"""Readers of single options in configs of Keras layers; no framework."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir.layers import LayerSpec, Permute, Reshape
from xlstm.ir.types import Shape

from ..context import Config, ReadContext


def keys(text: str) -> frozenset[str]:
    """Returns the names of options in a text."""
    return frozenset(text.split())


def features(shape: Shape, where: str) -> int:
    """Returns the number of features of a sample, its last size."""
    if not shape or shape[-1] is None:
        raise UnsupportedError(where, "a known number of features", f"{shape}", "name input_shape")
    return shape[-1]


def flag(config: Config, key: str) -> bool:
    """Reads a truth value.

    Raises:
        ValueError: something else.
    """
    if not isinstance(config[key], (bool, int)) or config[key] not in (0, 1):
        raise ValueError(f"{key}={config[key]!r}")
    return bool(config[key])


def number(config: Config, key: str) -> float:
    """Reads a number, or the arrays that tf.keras writes for it.

    Raises:
        TypeError: something else.
    """
    value = config[key]
    if isinstance(value, dict) and value.get("type") == "ndarray":
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{key} is no number")
    return float(value)


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


def to_last(rank: int) -> Permute:
    """Returns the move of channels from the first place to the last, for `rank` axes of space."""
    return Permute((*range(2, rank + 2), 1))


def to_first(rank: int) -> Permute:
    """Returns the move of channels from the last place to the first."""
    return Permute((rank + 1, *range(1, rank + 1)))


def place(axis: Any, rank: int) -> int:
    """Returns an axis of a sample of `rank` axes, from 0 on, for one counted with the batch.

    Raises:
        ValueError: the batch axis, or an axis that does not exist.
    """
    if type(axis) is not int or not -rank <= axis <= rank or axis == 0:
        raise ValueError(f"axis={axis!r}")
    return axis - 1 if axis > 0 else axis + rank


def swapped(axis: int, rank: int) -> tuple[Permute, Permute] | None:
    """Returns the moves of an axis to the last place and back; None if it is there."""
    if axis == rank - 1:
        return None
    there = [n for n in range(rank) if n != axis] + [axis]
    back = [there.index(n) for n in range(rank)]
    return Permute(tuple(n + 1 for n in there)), Permute(tuple(n + 1 for n in back))


def said_where(reader: ReadContext, config: Config) -> str:
    """Returns the name of the layer in errors."""
    return reader.where(config.get("name"))


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
) -> tuple[list[LayerSpec], int, list[LayerSpec]] | None:
    """Returns specs that join axes of a sample as the last one, its length, and specs back.

    None if a size that this needs is unknown.
    """
    rest = [n for n in range(len(shape)) if n not in axes]
    order = [*rest, *sorted(axes)]
    sizes = tuple(shape[n] for n in order)
    count = math.prod(shape[n] or 0 for n in axes)
    if not count or sizes.count(None) > 1:
        return None
    there: list[LayerSpec] = []
    back: list[LayerSpec] = []
    if order != sorted(order):
        there.append(Permute(tuple(n + 1 for n in order)))
        back.append(Permute(tuple(order.index(n) + 1 for n in range(len(shape)))))
    if len(axes) == 1:
        return there, count, back
    return [*there, Reshape((*sizes[: len(rest)], count))], count, [Reshape(sizes), *back]
