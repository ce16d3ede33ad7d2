"""The result of every file reader: configs as data, weights as handles that load on demand.

The readers of `xlstm.files` fill a `Description`; the adapter of Keras converts it to a Model.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.hashes import in_background
from xlstm.ir.source import Optimizer
from xlstm.ir.types import Array

MAX_RANK, MAX_ELEMENTS = 32, 2**60
"""Most axes of an array, and most elements, axes of size 0 left out."""

UNMARKED = "unmarked bfloat16"
"""Dtype of two opaque bytes that old HDF5 files do not call bfloat16; the config must."""


Digest = Callable[[], str]
"""Returns the SHA-256 of a file or a folder, and reads all of its bytes."""


@dataclass(frozen=True)
class Stored:
    """One stored array: its shape is known before anything is allocated for it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Array] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.shape) > MAX_RANK or math.prod(n for n in self.shape if n) >= MAX_ELEMENTS:
            got = f"shape {self.shape}"
            raise FileError(self.name, "a shape that an array can have", got, "check the file")

    def zeros(self) -> Array:
        """An array of this shape and dtype that needs no memory: all elements are one zero."""
        wide = "float32" if "bfloat16" in self.dtype else self.dtype
        return np.broadcast_to(np.zeros((), wide), self.shape)


@dataclass(frozen=True)
class Architecture:
    """An architecture from another file than the weights.

    Attributes:
        config: as in Description.
        file: its name without folders.
        container: type of the file, in words.
        version: version of the Keras that wrote it, "" if unknown.
        backend: of that Keras, "" if unknown.
    """

    config: Mapping[str, Any]
    file: str
    container: str
    version: str
    backend: str


@dataclass(frozen=True)
class Description:
    """A model file of any container.

    Attributes:
        framework: that wrote it ("keras").
        version: version of the Keras that wrote the config, "" if unknown.
        container: type of the file, in words.
        file: its name without folders.
        digest: computes the SHA-256 of its bytes; see `sha256`.
        config: the architecture of the file as plain data; empty for weights alone.
        weights: layer key -> its arrays, in the file's order. The key is the layer's name in old
            HDF5 files and the path below `layers/` in new ones.
        by_name: True if the keys of `weights` are layer names.
        step: increment of the number in a path for a layer with weights; 2 in Keras 2.12.
        backend: of the Keras that wrote the file, "" if unknown.
        optimizer: kind and shapes of an optimizer in the file, None if it has none.
        ignored: members that were not read.
        architecture: the file of the config, if it is another one.
        weights_version: the version in the file of the weights, if it is another one.
        alone: True for an architecture without weights, if none are needed.
        opened: files to close after the weights are read.
        budget: rest of the cost limit; one for a whole load, its config and graph included.
        lazy: True if weights are read when they are used, while the file is open.
    """

    framework: str
    version: str
    container: str
    file: str
    digest: Digest
    config: Mapping[str, Any]
    weights: Mapping[str, tuple[Stored, ...]]
    by_name: bool
    step: int = 1
    backend: str = ""
    optimizer: Optimizer | None = None
    ignored: tuple[str, ...] = ()
    architecture: Architecture | None = None
    weights_version: str = ""
    alone: bool = False
    opened: ExitStack = field(default_factory=ExitStack, repr=False)
    budget: Budget = field(default_factory=Budget, repr=False)
    lazy: bool = False

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes; the file must be open at the first access."""
        return self.digest()

    def hashed_ahead(self) -> Description:
        """The same, its SHA-256 computed in a thread from now on, while the weights are read."""
        if not hasattr(os, "pread"):  # both would move the file's position
            return self
        digest = in_background(self.digest)

        def wait() -> None:
            with contextlib.suppress(Exception):  # the thread must not read a closed file
                digest()

        self.opened.callback(wait)
        return replace(self, digest=digest)

    def without_numbers(self) -> Description:
        """The same with zeros for weights, which need no memory, and without the SHA-256.

        For callers that need only shapes: no byte of the weights is read.
        """
        zeros = {
            key: tuple(replace(array, load=array.zeros) for array in arrays)
            for key, arrays in self.weights.items()
        }
        return replace(self, weights=zeros, digest=str)

    def close(self) -> None:
        """Closes the file; weights that are not read yet cannot be read after it."""
        self.opened.close()


@dataclass(frozen=True)
class LayerOutline:
    """One layer, or one group of weights without an architecture.

    Attributes:
        name: the layer's own name, or the group's path.
        kind: its class, with the layer that it wraps; "" for a group of weights.
        options: its options in words.
        arrays: (name, shape, dtype) of each array.
        proven: the layer that the shapes prove, for a group of weights.
    """

    name: str
    kind: str
    options: str
    arrays: tuple[tuple[str, tuple[int, ...], str], ...]
    proven: str


@dataclass(frozen=True)
class Outline:
    """A whole file: container, writer, layers, members that were not read, and warnings.

    `nonfinite` are the warnings about arrays with NaN or infinity.
    """

    file: str
    container: str
    writer: str
    backend: str
    layers: tuple[LayerOutline, ...]
    ignored: tuple[str, ...]
    warnings: tuple[str, ...]
    nonfinite: tuple[str, ...]
