"""Converts functions that compare, select, sum or measure to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    x.cumsum(1)                 Along("cumsum", axis=0)
    torch.where(x > 0, x, 0.0)  Compare("greater", 0.0), Where(no=0.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xlstm.ir import layers as L

from .elementwise import Handler, merge, reduce
from .modules import elementwise
from .shape import chunk
from .values import (
    CannotTraceError,
    TracedTensor,
    TraceState,
    affine,
    axis_of,
    flat,
    is_number,
    join,
    known,
    same_order,
    without,
)


class Truth(NamedTuple):
    """True and False as 1 and 0; arithmetic with them is refused."""

    value: TracedTensor


def compare(how: str, turned: str) -> Handler:
    """Returns a handler for a comparison; `turned` compares the second with the first."""

    def compare(wiring: TraceState, a: Any, b: Any) -> Truth:
        if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
            ready = same_order(wiring, [a, b])
            edge = wiring.add(L.Compare(how), *(x.edge for x in ready))
            return Truth(ready[0]._replace(edge=edge))
        x, number = (a, b) if isinstance(a, TracedTensor) else (b, a)
        if not isinstance(x, TracedTensor) or not is_number(number):
            raise CannotTraceError("a comparison of other than tensors and numbers", "leave it out")
        return Truth(elementwise(wiring, x, L.Compare(how if x is a else turned, float(number))))

    return compare


def logical(how: str) -> Handler:
    """Returns a handler for logical and, or."""

    def logical(wiring: TraceState, a: Any, b: Any) -> Truth:
        if not isinstance(a, Truth) or not isinstance(b, Truth):
            raise CannotTraceError("logic of other than comparisons", "compare first, as in x > 0")
        return Truth(merge(how)(wiring, a.value, b.value))

    return logical


def inverted(wiring: TraceState, x: Any) -> Truth:
    """True where the input is False."""
    if not isinstance(x, Truth):
        raise CannotTraceError("~ of other than a comparison", "compare first, as in x > 0")
    return Truth(elementwise(wiring, x.value, L.Compare("equal", 0.0)))


def numbers(wiring: TraceState, x: Any) -> TracedTensor:
    """Returns 1 and 0 for True and False."""
    if not isinstance(x, Truth):
        raise CannotTraceError("a change of dtype", "leave it out: ports compute in one dtype")
    return x.value


def where(wiring: TraceState, condition: Any, yes: Any, no: Any) -> TracedTensor:
    """Returns one of two values by a condition, tensors or numbers."""
    known_ = all(isinstance(x, TracedTensor) or is_number(x) for x in (yes, no))
    if not isinstance(condition, Truth) or not known_:
        do = "choose by a comparison, between tensors and finite numbers, as -1e9"
        raise CannotTraceError("where of other things", do)
    tensors = [x for x in (yes, no) if isinstance(x, TracedTensor)]
    if not tensors:
        return affine(wiring, condition.value, float(yes) - float(no), float(no))
    given = [None if isinstance(x, TracedTensor) else float(x) for x in (yes, no)]
    ready = same_order(wiring, [condition.value, *tensors])
    edge = wiring.add(L.Where(*given), *(x.edge for x in ready))
    return ready[-1]._replace(edge=edge)


def masked_fill(wiring: TraceState, x: TracedTensor, mask: Any, value: Any) -> TracedTensor:
    """Puts a number where the mask is True."""
    return where(wiring, mask, value, x)


def along(how: str) -> Handler:
    """Returns a handler for cumulative sums or products."""

    def along(wiring: TraceState, x: TracedTensor, dim: int) -> TracedTensor:
        place = x.axes[axis_of(x, dim, how)] - 1
        return elementwise(wiring, x, L.Along(how, place))

    return along


def place_of(how: str) -> Handler:
    """Returns a handler for the index of the largest or smallest number."""

    def place_of(
        wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False
    ) -> TracedTensor:
        if dim is None or keepdim:
            raise CannotTraceError(f"{how} over all axes, or with keepdim", "name one axis")
        axis = axis_of(x, dim, how)
        edge = wiring.add(L.Along(how, x.axes[axis] - 1), x.edge)
        return TracedTensor(edge, without(x, [axis]))

    return place_of


def flip(wiring: TraceState, x: TracedTensor, *dims: Any) -> TracedTensor:
    """Reverses axes."""
    for dim in flat(dims):
        place = x.axes[axis_of(x, dim, "flip")] - 1
        x = elementwise(wiring, x, L.Slice(place, step=-1))
    return x


def roll(wiring: TraceState, x: TracedTensor, shifts: Any, dims: Any = None) -> TracedTensor:
    """Shifts numbers along axes, the last ones to the front."""
    if not isinstance(shifts, int) or not isinstance(dims, int):
        raise CannotTraceError("roll of other than one axis", "name one shift and one axis")
    axis = axis_of(x, dims, "roll")
    size = known(wiring.sizes(x)[axis])
    if size is None:
        raise CannotTraceError("roll of an axis of unknown size", "say its size", True)
    cut, place = -shifts % size, x.axes[axis] - 1
    if not cut:
        return x
    halves = L.Slice(place, cut, None), L.Slice(place, None, cut)
    return join(wiring, [elementwise(wiring, x, half) for half in halves], axis)


def spread(root: bool) -> Callable[..., TracedTensor]:
    """Returns a handler for the variance over axes, or its root."""

    def spread(
        wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False, **options: Any
    ) -> TracedTensor:
        less = options.get("correction", 1 if options.get("unbiased", True) else 0)
        mean = reduce("mean")(wiring, x, dim, True)
        apart = elementwise(wiring, merge("subtract")(wiring, x, mean), L.Function("square"))
        found = reduce("mean")(wiring, apart, dim, keepdim)
        if less:
            axes = flat((dim,))
            sizes = [known(wiring.sizes(x)[axis]) for axis in axes]
            if None in sizes:
                do = "say correction=0, or the size"
                raise CannotTraceError("the variance over an axis of unknown size", do, True)
            count = math.prod(size or 1 for size in sizes)
            if count <= less:
                raise CannotTraceError(f"the variance of {count} numbers", "say correction=0")
            found = affine(wiring, found, count / (count - less), 0.0)
        return elementwise(wiring, found, L.Function("sqrt")) if root else found

    return spread


def norm(
    wiring: TraceState,
    x: TracedTensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    **more: Any,
) -> TracedTensor:
    """Returns the norm along an axis."""
    if p not in ("fro", 2, None) or not isinstance(dim, int) or more:
        raise CannotTraceError(
            "a norm of other order than 2, or of other than one axis", "name both"
        )
    squares = elementwise(wiring, x, L.Function("square"))
    return elementwise(wiring, reduce("sum")(wiring, squares, dim, keepdim), L.Function("sqrt"))


def vector_norm(
    wiring: TraceState,
    x: TracedTensor,
    ord: Any = None,  # noqa: A002  torch calls it so
    *args: Any,
    **options: Any,
) -> TracedTensor:
    """Returns the norm along an axis, for torch.linalg.vector_norm."""
    return norm(wiring, x, ord, *args, **options)


def normalize(
    wiring: TraceState,
    x: TracedTensor,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: None = None,
) -> TracedTensor:
    """Divides by the norm along an axis."""
    if p != 2:
        raise CannotTraceError(f"normalize by the norm of order {p}", "use p=2")
    axis = axis_of(x, dim, "normalize")
    rest = [n for n in range(x.rank) if n not in (axis, x.batch)]
    return elementwise(wiring, wiring.ordered(x, [x.batch, *rest, axis]), L.UnitNorm(float(eps)))


def cosine(
    wiring: TraceState, a: TracedTensor, b: TracedTensor, dim: int = 1, eps: float = 1e-8
) -> TracedTensor:
    """Returns the cosine similarity of two tensors along an axis."""
    product = merge("multiply")(wiring, *(normalize(wiring, x, 2.0, dim, eps) for x in (a, b)))
    return reduce("sum")(wiring, product, dim)  # type: ignore[no-any-return]


def gated(wiring: TraceState, x: TracedTensor, dim: int = -1) -> TracedTensor:
    """Returns the first half times the sigmoid of the second."""
    axis = axis_of(x, dim, "glu")
    size = known(wiring.sizes(x)[axis])
    if size is not None and size % 2:
        raise CannotTraceError(f"glu of {size} numbers", "use an even number")
    first, second = chunk(wiring, x, 2, axis)
    return merge("multiply")(wiring, first, elementwise(wiring, second, L.Activation("sigmoid")))


def unbind(wiring: TraceState, x: TracedTensor, dim: int = 0) -> tuple[TracedTensor, ...]:
    """Returns the slices along an axis, one by one."""
    axis = axis_of(x, dim, "unbind")
    size = known(wiring.sizes(x)[axis])
    if size is None or size > 64:
        raise CannotTraceError(
            "unbind of an axis of unknown size, or a large one", "index it", True
        )
    return tuple(select(wiring, x, axis, n) for n in range(size))


def select(wiring: TraceState, x: TracedTensor, dim: int, index: int) -> TracedTensor:
    """Returns one slice of an axis."""
    axis = axis_of(x, dim, "select")
    edge = wiring.add(L.Slice(x.axes[axis] - 1, index, drop=True), x.edge)
    return TracedTensor(edge, without(x, [axis]))


def narrow(wiring: TraceState, x: TracedTensor, dim: int, start: int, length: int) -> TracedTensor:
    """Returns consecutive slices of an axis."""
    axis = axis_of(x, dim, "narrow")
    return elementwise(wiring, x, L.Slice(x.axes[axis] - 1, start, start + length))


COMPARISONS = {
    "gt": compare("greater", "less"),
    "lt": compare("less", "greater"),
    "ge": compare("greater_equal", "less_equal"),
    "le": compare("less_equal", "greater_equal"),
    "eq": compare("equal", "equal"),
    "ne": compare("not_equal", "not_equal"),
}

NUMBERS: dict[str, Handler] = {
    **COMPARISONS,
    "logical_and": logical("minimum"),
    "logical_or": logical("maximum"),
    "and_": logical("minimum"),
    "or_": logical("maximum"),
    "logical_not": inverted,
    "invert": inverted,
    "float": numbers,
    "where": where,
    "masked_fill": masked_fill,
    "cumsum": along("cumsum"),
    "cumprod": along("cumprod"),
    "argmax": place_of("argmax"),
    "argmin": place_of("argmin"),
    "flip": flip,
    "roll": roll,
    "var": spread(root=False),
    "std": spread(root=True),
    "norm": norm,
    "linalg_norm": vector_norm,
    "linalg_vector_norm": vector_norm,
    "normalize": normalize,
    "cosine_similarity": cosine,
    "glu": gated,
    "unbind": unbind,
    "select": select,
    "narrow": narrow,
}
"""Name -> handler that adds its specs."""
