"""Initial states of recurrent layers of Keras, constants among them; imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xlstm.errors import FileError, UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.layers.operations import CONSTANT_MOST

from .context import LIMITS
from .layers.options import to_first, to_last


def mapping(value: Any) -> Mapping[str, Any]:
    """Returns a config, empty if there is none."""
    return value if isinstance(value, Mapping) else {}


def only_zeros(value: Any) -> bool:
    """True if an argument consists of constants that are all zero."""
    if isinstance(value, list):
        return bool(value) and all(map(only_zeros, value))
    if isinstance(value, Mapping) and value.get("class_name") in CONSTANTS:
        return only_zeros(mapping(value.get("config")).get("value"))
    return type(value) in (int, float) and value == 0


class Fixed(NamedTuple):
    """A constant state: its numbers for each sample, and the batch size; 1 for any."""

    numbers: tuple[float, ...]
    rows: int


def fixed_starts(start: Any, where: str) -> dict[int, Fixed]:
    """Returns the constant initial states by place.

    Raises:
        UnsupportedError: constants that differ from sample to sample.
    """
    found: dict[int, Fixed] = {}
    for place, item in enumerate(start if isinstance(start, list) else [start]):
        if not isinstance(item, Mapping) or item.get("class_name") not in CONSTANTS:
            continue
        rows = mapping(item.get("config")).get("value")
        rows = rows if isinstance(rows, list) and rows and isinstance(rows[0], list) else [rows]
        row = rows[0]
        # NaN, infinity and integers beyond float64 all fail this comparison
        plain = isinstance(row, list) and all(
            type(n) in (int, float) and abs(n) < 1e308 for n in row
        )
        if not plain or any(other != row for other in rows) or len(row) > CONSTANT_MOST:
            want = f"states, or {CONSTANT_MOST} numbers at most that are the same for every sample"
            raise UnsupportedError(where, want, f"a constant ({item['class_name']})", LIMITS)
        found[place] = Fixed(tuple(map(float, row)), len(rows))
    return found


CONSTANTS = ("__numpy__", "__tensor__")
"""Classes of arrays in configs of Keras 3."""


def without(start: Any, fixed: Mapping[int, Fixed]) -> Any:
    """Returns initial states without constants."""
    if not fixed:
        return start
    items = start if isinstance(start, list) else [start]
    return [item for place, item in enumerate(items) if place not in fixed]


def shared_out(states: list[Edge], specs: Sequence[L.LayerSpec], where: str) -> list[list[Edge]]:
    """Splits the initial states among the specs; empty for all if there are none."""
    counts = [
        len(spec.state_shapes()) if isinstance(spec, (L.Recurrent, L.Bidirectional)) else 0
        for spec in specs
    ]
    if states and len(states) != sum(counts):
        want = f"{sum(counts)} initial states, or none"
        raise FileError(where, want, f"{len(states)}", "save the model again")
    left = iter(states)
    return [[next(left) for _ in range(count if states else 0)] for count in counts]


class Channels(NamedTuple):
    """A ConvLSTM, or two in both directions, whose channels come first in Keras.

    Attributes:
        core: index of the layer among the specs of the config.
        joined: True if Keras joins its two outputs along an axis of space.
        sequence: the permutation of its outputs.
        state: the same permutation of its last states.
        start: the permutation of its initial states.
    """

    core: int
    joined: bool
    sequence: L.LayerSpec
    state: L.Permute
    start: L.Permute


def channels_of(specs: Sequence[L.LayerSpec]) -> Channels | None:
    """Returns the permutations of the channels of a layer's states; None if there are none.

    >>> spec = L.ConvLSTM(2, 3, space=(5,), window=(2,), strides=(1,), dilation=(1,))
    >>> channels_of([L.Permute((1, 3, 2)), spec, L.Permute((2, 1))]).core
    1
    """
    if not isinstance(unwrap_time_distributed(specs[-1]), L.Permute):
        return None
    for place, spec in enumerate(specs):
        own = unwrap_time_distributed(spec)
        core = own.forward if isinstance(own, L.Bidirectional) else own
        if isinstance(core, L.ConvLSTM):
            rank = len(core.space)
            joined = any(isinstance(spec, L.Concatenate) for spec in specs)
            return Channels(place, joined, specs[-1], to_first(rank), to_last(rank))
    return None


def main_of(specs: Sequence[L.LayerSpec]) -> L.LayerSpec:
    """Returns the spec that decides the mask of the output: the last that is no move of axes."""
    found = channels_of(specs)
    return specs[found.core] if found else specs[-1]
