"""What a file holds, as `xlstm inspect` prints it; filled by the adapter of who wrote the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerOutline:
    """One layer, or one group of weights without an architecture.

    Attributes:
        name: the layer's own name, or the group's path.
        kind: its class, with what it wraps; "" for a group of weights.
        options: its options in words.
        arrays: (name, shape, dtype) of each array.
        proven: what the shapes alone prove, for a group of weights.
    """

    name: str
    kind: str
    options: str
    arrays: tuple[tuple[str, tuple[int, ...], str], ...]
    proven: str


@dataclass(frozen=True)
class Outline:
    """A whole file: container, writer, layers, members that were not read, and warnings.

    `nonfinite` are the warnings about arrays that hold NaN or infinity.
    """

    file: str
    container: str
    writer: str
    backend: str
    layers: tuple[LayerOutline, ...]
    ignored: tuple[str, ...]
    warnings: tuple[str, ...]
    nonfinite: tuple[str, ...]
