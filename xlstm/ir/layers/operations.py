"""Specs of operations between layers: clipping, comparisons, where, cumulative sums, products.

>>> Einsum("cde,cef->cdf").output_shapes((2, 3, 4), (2, 4, 5))
((2, 3, 5),)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec
from xlstm.ir.layers.elementwise import REDUCTIONS
from xlstm.ir.layers.fields import Like, OneOf
from xlstm.ir.layers.merge import broadcast
from xlstm.ir.types import Shape

__all__ = ["Across", "Along", "Clip", "Compare", "Constant", "Einsum", "Where"]

COMPARISONS = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")

SO_FAR = ("cumsum", "cumprod")

ALONG = (*SO_FAR, "argmax", "argmin")

CONSTANT_MOST = 1024
"""The most numbers of a constant in a graph."""


def _of_one_rank(spec: LayerSpec, shapes: tuple[Shape, ...], count: int) -> tuple[Shape, ...]:
    """The shape of inputs of one rank after broadcasting."""
    if len(shapes) != count or len({*map(len, shapes)}) > 1:
        want, got = f"{count} inputs of one rank", " and ".join(map(str, shapes))
        raise UsageError(spec.kind, want, got, "pass inputs like that")
    return (broadcast(spec, *shapes),)


@dataclass(frozen=True)
class Clip(LayerSpec):
    """Numbers no smaller than `low` and no larger than `high`; None is no bound."""

    kind: ClassVar[str] = "Clip"
    low: float | None = None
    high: float | None = None

    def check(self) -> None:
        both = self.low is not None and self.high is not None
        if (both and self.low > self.high) or self.low is self.high is None:  # type: ignore[operator]
            got = f"{self.low} to {self.high}"
            raise UsageError("Clip", "bounds, the lower one first", got, "change the bounds")


@dataclass(frozen=True)
class Compare(LayerSpec):
    """1 where the first input compared with the second, or with `value`, is true, else 0."""

    kind: ClassVar[str] = "Compare"
    arity: ClassVar[tuple[int, int]] = (1, 2)
    how: Annotated[str, OneOf(COMPARISONS)]
    value: float | None = None

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return _of_one_rank(self, shapes, 2 if self.value is None else 1)


@dataclass(frozen=True)
class Where(LayerSpec):
    """The second input where the first is not 0, else the third.

    `yes` or `no` is a number in place of the second or the third; at least one is an input.
    """

    kind: ClassVar[str] = "Where"
    arity: ClassVar[tuple[int, int]] = (2, 3)
    yes: float | None = None
    no: float | None = None

    def check(self) -> None:
        if self.yes is not None and self.no is not None:
            raise UsageError("Where", "a case that is an input", "two numbers", "use an Affine")

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return _of_one_rank(self, shapes, 1 + (self.yes is None) + (self.no is None))


@dataclass(frozen=True)
class Along(LayerSpec):
    """Cumulative sum or product along an axis of a sample, or the first argmax or argmin.

    An argmax is a number from 0 on; its axis is dropped.
    """

    kind: ClassVar[str] = "Along"
    how: Annotated[str, OneOf(ALONG)]
    axis: int

    def check(self) -> None:
        if self.axis < 0:
            raise UsageError("Along.axis", "an axis from 0 on", repr(self.axis), "change the axis")

    def output_shape(self, shape: Shape) -> Shape:
        if self.axis >= len(shape):
            want = f"an axis of the {len(shape)} there are"
            raise UsageError("Along", want, f"{self.axis}", "change the axis")
        rest = (*shape[: self.axis], *shape[self.axis + 1 :])
        return shape if self.how in SO_FAR else rest


ARITHMETIC = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


@dataclass(frozen=True)
class Constant(LayerSpec):
    """The input combined with fixed numbers of `shape`, which are broadcast as samples are.

    Attributes:
        how: an operation of arithmetic, or a comparison, which gives 1 or 0.
        values: the numbers in C order, CONSTANT_MOST at most.
        shape: of the numbers, the batch axis left out; no more axes than a sample has.
        first: True if the numbers are the first operand.
    """

    kind: ClassVar[str] = "Constant"
    how: Annotated[str, OneOf((*ARITHMETIC, *COMPARISONS))]
    values: tuple[float, ...]
    shape: tuple[int, ...]
    first: bool = False

    def check(self) -> None:
        count = 1
        for size in self.shape:
            count *= size
        if not self.shape or not 0 < count <= CONSTANT_MOST or count != len(self.values):
            want = f"1 to {CONSTANT_MOST} numbers that fill {self.shape}"
            raise UsageError("Constant", want, f"{len(self.values)}", "keep it in a layer")

    def output_shape(self, shape: Shape) -> Shape:
        if len(self.shape) > len(shape):
            want = f"numbers of {len(shape)} axes at most"
            raise UsageError("Constant", want, f"{self.shape}", "use fewer axes")
        return broadcast(self, shape, self.shape)


@dataclass(frozen=True)
class Across(LayerSpec):
    """A reduction over all samples and over `axes` of them, which get size 1.

    Every sample gets the same result: the batch axis keeps its size.
    """

    kind: ClassVar[str] = "Across"
    how: Annotated[str, OneOf(REDUCTIONS)]
    axes: tuple[int, ...] = ()

    def check(self) -> None:
        if any(axis < 0 for axis in self.axes) or len({*self.axes}) < len(self.axes):
            raise UsageError("Across.axes", "axes of a sample", f"{self.axes}", "change the axes")

    def output_shape(self, shape: Shape) -> Shape:
        if any(axis >= len(shape) for axis in self.axes):
            want = f"axes of the {len(shape)} there are"
            raise UsageError("Across", want, f"{self.axes}", "change the axes")
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(shape))


EQUATION = Like("an equation like cd,de->ce", "[c-z]*,[c-z]*->[c-z]*")


@dataclass(frozen=True)
class Einsum(LayerSpec):
    """The products of two inputs, sample by sample, summed over axes.

    Attributes:
        equation: a letter, c to z, for each axis of a sample of the first input, of the second, and
            of the output, as in "cde,cef->cdf"; letters that the output lacks are summed over.
    """

    kind: ClassVar[str] = "Einsum"
    arity: ClassVar[tuple[int, int]] = (2, 2)
    equation: Annotated[str, EQUATION]

    def check(self) -> None:
        *terms, out = self.letters
        once = all(len({*term}) == len(term) for term in (*terms, out))
        if not once or {*out} - {*"".join(terms)}:
            want = "an equation like cd,de->ce, each letter once in a term"
            raise UsageError("Einsum", want, repr(self.equation), "change the equation")

    @property
    def letters(self) -> tuple[str, str, str]:
        """Those of the first input, of the second, and of the output."""
        first, _, rest = self.equation.partition(",")
        second, _, out = rest.partition("->")
        return first, second, out

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        *terms, out = self.letters
        sizes: dict[str, int | None] = {}
        for term, shape in zip(terms, shapes, strict=True):
            pairs = [*zip(term, shape, strict=False)]
            fits = all(len({sizes.get(c), n} - {None}) < 2 for c, n in pairs)
            if len(term) != len(shape) or not fits:
                got = " and ".join(f"(batch, {str(shape)[1:]}" for shape in shapes)
                raise UsageError("Einsum", f"inputs of {self.equation}", got, "change the sizes")
            sizes |= {c: sizes.get(c) or n for c, n in pairs}
        return (tuple(sizes[c] for c in out),)
