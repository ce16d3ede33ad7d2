"""Converts sums, norms and products of tensors to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    x.mean(1)                             Reduce("mean", axes=(0,)): axes of a sample
    x.cumsum(1)                           Along("cumsum", axis=0)
    torch.einsum("bij,bkj->bik", x, x)    Einsum("cd,ed->ce"), for each sample
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from xlstm.ir import layers as L
from xlstm.ir import lowering

from .elementwise import merge
from .values import (
    MODULES,
    OPERATIONS,
    CannotTraceError,
    ModuleCall,
    Symbol,
    TracedTensor,
    TraceState,
    axis_of,
    flat,
    known,
    without,
)


def _reduction(
    x: TracedTensor, how: str, dim: Any, keepdim: bool
) -> tuple[L.Reduce, tuple[int, ...]]:
    """Returns the spec of a reduction, and the axes of its result."""
    if dim is None:
        raise CannotTraceError(f"{how} over all axes, the batch's among them", "name the axes")
    axes = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = [axis_of(x, axis, how) for axis in axes]
    spec = L.Reduce(how, tuple(x.axes[axis] - 1 for axis in dims), bool(keepdim))
    return spec, x.axes if keepdim else without(x, dims)


def reduce(how: str) -> Callable[..., TracedTensor]:
    """Returns a handler for the sum, mean, maximum or minimum over axes."""

    def reduce(
        wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False
    ) -> TracedTensor:
        spec, axes = _reduction(x, how, dim, keepdim)
        return wiring.apply(x, spec)._replace(axes=axes)

    return reduce


OPERATIONS.update({how: reduce(how) for how in ("sum", "mean", "prod")})
OPERATIONS.update(amax=reduce("max"), amin=reduce("min"))


def extreme(how: str) -> Callable[..., Any]:
    """Returns a handler for the maximum or minimum: over an axis, or of two tensors."""

    def extreme(wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, TracedTensor):
            return merge(f"{how}imum")(wiring, x, dim)
        return reduce(how)(wiring, x, dim, keepdim), Symbol(f"the places of the {how}ima")

    return extreme


def along(how: str) -> Callable[..., TracedTensor]:
    """Returns a handler for cumulative sums or products."""

    def along(wiring: TraceState, x: TracedTensor, dim: int) -> TracedTensor:
        return wiring.apply(x, L.Along(how, x.axes[axis_of(x, dim, how)] - 1))

    return along


def place_of(how: str) -> Callable[..., TracedTensor]:
    """Returns a handler for the index of the largest or smallest number."""

    def place_of(
        wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False
    ) -> TracedTensor:
        if dim is None or keepdim:
            raise CannotTraceError(f"{how} over all axes, or with keepdim", "name one axis")
        axis = axis_of(x, dim, how)
        found = wiring.apply(x, L.Along(how, x.axes[axis] - 1))
        return found._replace(axes=without(x, [axis]))

    return place_of


def spread(root: bool) -> Callable[..., TracedTensor]:
    """Returns a handler for the variance over axes, or its root."""

    def spread(
        wiring: TraceState,
        x: TracedTensor,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> TracedTensor:
        # torch's own order: var(dim, unbiased, keepdim); var(False) is over all numbers
        if isinstance(dim, bool):
            raise CannotTraceError("the variance over all numbers", "name the axes")
        less = int(unbiased) if correction is None else correction
        mean, axes = _reduction(x, "mean", dim, keepdim)
        after: list[L.LayerSpec] = []
        if less:
            sizes = [known(wiring.sizes(x)[axis]) for axis in flat((dim,))]
            if None in sizes:
                do = "pass correction=0, or fix the size"
                raise CannotTraceError("the variance over an axis of unknown size", do, True)
            count = math.prod(size or 1 for size in sizes)
            if count <= less:
                raise CannotTraceError(f"the variance of {count} numbers", "pass correction=0")
            after.append(L.Affine(count / (count - less), 0.0))
        after += [L.Function("sqrt")] * root
        steps = lowering.variance([replace(mean, keep=True)], mean, *after)
        return wiring.build(steps, x)._replace(axes=axes)

    return spread


OPERATIONS.update(var=spread(root=False), std=spread(root=True))
OPERATIONS.update(max=extreme("max"), min=extreme("min"))
OPERATIONS.update(cumsum=along("cumsum"), cumprod=along("cumprod"))
OPERATIONS.update(argmax=place_of("argmax"), argmin=place_of("argmin"))


@OPERATIONS.of("norm")
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
    total, axes = _reduction(x, "sum", dim, keepdim)
    return wiring.apply(x, *lowering.norm(total))._replace(axes=axes)


@OPERATIONS.of("linalg_norm", "linalg_vector_norm")
def vector_norm(
    wiring: TraceState,
    x: TracedTensor,
    ord: Any = None,  # noqa: A002  torch calls it so
    *args: Any,
    **options: Any,
) -> TracedTensor:
    """Returns the norm along an axis, for torch.linalg.vector_norm."""
    return norm(wiring, x, ord, *args, **options)


@OPERATIONS.of("normalize")
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
    return wiring.apply(wiring.ordered(x, [x.batch, *rest, axis]), L.UnitNorm(float(eps)))


@OPERATIONS.of("cosine_similarity")
def cosine(
    wiring: TraceState, a: TracedTensor, b: TracedTensor, dim: int = 1, eps: float = 1e-8
) -> TracedTensor:
    """Returns the cosine similarity of two tensors along an axis."""
    product = merge("multiply")(wiring, *(normalize(wiring, x, 2.0, dim, eps) for x in (a, b)))
    return reduce("sum")(wiring, product, dim)


@MODULES.of(nn.CosineSimilarity)
def _cosine(call: ModuleCall) -> TracedTensor:
    first, second = call.args
    return cosine(call.wiring, first, second, call.module.dim, call.module.eps)


@OPERATIONS.of("bmm", "matmul")
def product(wiring: TraceState, a: Any, b: Any) -> TracedTensor:
    """Matrix products of each sample: `@`, matmul and bmm."""
    same = (
        isinstance(a, TracedTensor)
        and isinstance(b, TracedTensor)
        and (a.rank, a.batch) == (b.rank, b.batch)
    )
    if not same or a.rank < 3 or a.batch >= a.rank - 2:
        do = "give it two tensors (batch, ..., n, m) of one rank, or use nn.Linear"
        raise CannotTraceError("a product of other than matrices of each sample", do)
    first, second = (wiring.plain(x) for x in (a, b))
    if a.rank == 3:
        return first._replace(edge=wiring.add(L.Dot((2, 1)), first.edge, second.edge))
    shapes = [tuple(map(known, wiring.graph.shape(x.edge))) for x in (first, second)]
    equation = lowering.matmul(shapes[0], shapes[1])
    return first._replace(edge=wiring.add(L.Einsum(equation), first.edge, second.edge))


@OPERATIONS.of("einsum")
def einsum(wiring: TraceState, equation: Any, *operands: Any) -> TracedTensor:
    """Sums of products by letters, with the batch in every term."""
    listed = len(operands) == 1 and not isinstance(operands[0], TracedTensor)
    values = tuple(operands[0]) if listed else operands
    text = str(equation).replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    fits = arrow and len(terms) == len(values) and all(isinstance(x, TracedTensor) for x in values)
    fits = fits and all(
        len({*term}) == len(term) == x.rank for term, x in zip(terms, values, strict=True)
    )
    batches = {term[x.batch] for term, x in zip(terms, values, strict=True)} if fits else set()
    plain = all(c.isalpha() for c in "".join([*terms, out]))
    if not plain or len(batches) != 1 or len({*out}) < len(out) or {*out} - {*"".join(terms)}:
        do = "write one like bij,bjk->bik"
        raise CannotTraceError(f"einsum {text[:40]}, which does not leave samples apart", do)
    (batch,) = batches
    if batch not in out or len({*"".join(terms)}) > len(lowering.LETTERS):
        raise CannotTraceError(f"einsum {text[:40]} over the batch", "keep the batch")
    names = [*dict.fromkeys("".join([*terms, out]).replace(batch, ""))]
    letters = dict(zip(names, lowering.LETTERS, strict=False))
    own = []  # letters in the order of the axes of the operands' edges
    for term, x in zip(terms, values, strict=True):
        order = sorted(range(x.rank), key=x.axes.__getitem__)[1:]
        own.append("".join(letters[term[axis]] for axis in order))
    steps, kept = lowering.contraction(own, "".join(letters[c] for c in out if c != batch))
    edge = lowering.build(steps, wiring.add, *(x.edge for x in values))
    return TracedTensor(edge, tuple(0 if c == batch else kept.index(letters[c]) + 1 for c in out))
