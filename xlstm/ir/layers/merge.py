"""Specs of layers that join several inputs.

>>> Merge("add").output_shapes((9, 3), (3,))
((9, 3),)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec
from xlstm.ir.layers.elementwise import check_not_negative
from xlstm.ir.layers.fields import OneOf
from xlstm.ir.types import Shape

__all__ = ["Concatenate", "Dot", "Merge"]

MANY = 2**16

MERGES = ("add", "subtract", "multiply", "average", "maximum", "minimum")


def _clash(spec: LayerSpec, want: str, shapes: tuple[Shape, ...]) -> UsageError:
    got = " and ".join(f"(batch, {str(shape)[1:]}" for shape in shapes)
    return UsageError(spec.kind, want, got, "change the shapes of its inputs")


def broadcast(spec: LayerSpec, *shapes: Shape) -> Shape:
    """The shape of several samples after broadcasting, from the last axis on."""
    rank = max(map(len, shapes))
    wide = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    found: list[int | None] = []
    for sizes in zip(*wide, strict=True):
        known = {size for size in sizes if size not in (1, None)}
        if len(known) > 1:
            raise _clash(spec, "inputs of shapes that fit", shapes)
        found.append(known.pop() if known else None if None in sizes else 1)
    return tuple(found)


@dataclass(frozen=True)
class Merge(LayerSpec):
    """Add, subtract, multiply, average, maximum or minimum of its inputs, element by element.

    Axes of size 1 are broadcast. Missing axes of a sample of lower rank are added in front, as in
    Keras.
    """

    kind: ClassVar[str] = "Merge"
    arity: ClassVar[tuple[int, int]] = (1, MANY)
    how: Annotated[str, OneOf(MERGES)]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        if self.how == "subtract" and len(shapes) != 2:
            raise _clash(self, "two inputs to subtract", shapes)
        return (broadcast(self, *shapes),)


@dataclass(frozen=True)
class Concatenate(LayerSpec):
    """The inputs laid end to end along `axis` of a sample (0 is the first after the batch)."""

    kind: ClassVar[str] = "Concatenate"
    arity: ClassVar[tuple[int, int]] = (1, MANY)
    axis: int = -1

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        rank = len(shapes[0])
        axis = self.axis + rank if self.axis < 0 else self.axis
        rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        sizes = [shape[axis] for shape in shapes if len(shape) == rank and axis < rank]
        if len(sizes) != len(shapes) or not axis >= 0:
            raise _clash(self, f"inputs of one rank, with an axis {self.axis}", shapes)
        if len(rest) > 1 and not _alike(rest):
            raise _clash(self, f"inputs that differ along axis {self.axis} only", shapes)
        total = None if None in sizes else sum(size or 0 for size in sizes)
        return ((*shapes[0][:axis], total, *shapes[0][axis + 1 :]),)


def _alike(shapes: set[Shape]) -> bool:
    """True if shapes are equal as far as their sizes are known."""
    axes = zip(*shapes, strict=True)
    return all(len({size for size in sizes if size is not None}) <= 1 for sizes in axes)


@dataclass(frozen=True)
class Dot(LayerSpec):
    """The products of two inputs summed over one axis of each (`axes`, 1 is the first after batch).

    The output has the other axes of the first, then those of the second; the batch axis is shared.
    `normalize` first divides each by its norm along the axis (cosine), or by `floor` if that is
    larger: 1e-7 in Keras 3 (from 3.0.5 on), 1e-6 in Keras 2.
    """

    kind: ClassVar[str] = "Dot"
    arity: ClassVar[tuple[int, int]] = (2, 2)
    axes: tuple[int, ...]
    normalize: bool = False
    floor: float = 1e-7

    def check(self) -> None:
        if len(self.axes) != 2 or any(n < 1 for n in self.axes):
            raise UsageError("Dot", "an axis from 1 on of each input", f"{self.axes}", "fix them")
        check_not_negative("Dot", floor=self.floor)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        a, b = (n - 1 for n in self.axes)
        first, second = shapes
        fits = a < len(first) and b < len(second)
        if not fits or len({first[a], second[b]} - {None}) > 1:
            raise _clash(self, f"inputs of one size along axes {self.axes}", shapes)
        left = (*first[:a], *first[a + 1 :], *second[:b], *second[b + 1 :])
        return (left or (1,),)
