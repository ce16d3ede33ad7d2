"""Canonical tensors of a layer that are read when they are used, so that few are in memory.

In: a dtype and a function for each tensor. Out: a mapping from names to arrays, as any layer's
weights. Only the tensor that was used last is kept.

    layer = LazyWeights({"kernel": LazyWeight(np.dtype("float32"), load)}, Latest())
    layer["kernel"]       # calls load()
    dtypes_of(layer)      # [dtype('float32')], without a call
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlstm.ir.types import Array


@dataclass(frozen=True, eq=False)
class LazyWeight:
    """One tensor: its dtype, and the function that reads it."""

    dtype: np.dtype[Any]
    load: Callable[[], Array] = field(repr=False)


@dataclass
class Latest:
    """The tensor that was used last, of all layers of a model, and its array."""

    tensor: LazyWeight | None = None
    array: Array | None = None

    def array_of(self, tensor: LazyWeight) -> Array:
        """The array of a tensor, read unless it was the last one."""
        if self.tensor is not tensor or self.array is None:
            self.tensor = self.array = None  # freed before the next one is read
            self.array, self.tensor = tensor.load(), tensor
        return self.array


@dataclass(frozen=True)
class LazyWeights(Mapping[str, Array]):
    """Tensors by name.

    Attributes:
        tensors: name -> handle.
        latest: the last one in use; shared by all layers of a model.
    """

    tensors: Mapping[str, LazyWeight]
    latest: Latest = field(repr=False)

    def __getitem__(self, name: str) -> Array:
        return self.latest.array_of(self.tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def dtypes_of(layer: Mapping[str, Array]) -> dict[str, np.dtype[Any]]:
    """Name -> dtype of each tensor of a layer; none is read."""
    found: Mapping[str, Any] = layer.tensors if isinstance(layer, LazyWeights) else layer
    return {name: tensor.dtype for name, tensor in found.items()}


def renamed(layer: Mapping[str, Array], names: Mapping[str, str]) -> Mapping[str, Array]:
    """The tensors with these names under new ones, unread ones still unread."""
    if isinstance(layer, LazyWeights):
        return LazyWeights({new: layer.tensors[old] for old, new in names.items()}, layer.latest)
    return {new: layer[old] for old, new in names.items()}


def joined(parts: list[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The tensors of all parts of a layer; unread ones stay so if all parts are lazy."""
    lazy = [part for part in parts if isinstance(part, LazyWeights)]
    if lazy and len(lazy) == len(parts):
        tensors = {name: tensor for part in lazy for name, tensor in part.tensors.items()}
        return LazyWeights(tensors, lazy[0].latest)
    return {name: array for part in parts for name, array in part.items()}
