"""Forward pass of the operations between layers; specs name them as numpy does."""

from __future__ import annotations

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context


@FORWARD.of(L.Clip)
def clip(spec: L.Clip, x: Array, context: Context) -> list[Array]:
    """Between bounds."""
    bounds = tuple(bound for bound in (spec.low, spec.high) if bound is not None)
    if context.coverage is not None:
        edges = tuple(sorted({*bounds}))
        context.coverage.see_pieces(context.name, "output", spec.kind, edges, x)
    y = x if spec.low is None else np.maximum(x, x.dtype.type(spec.low))
    return [y if spec.high is None else np.minimum(y, x.dtype.type(spec.high))]


@FORWARD.of(L.Compare)
def compare(spec: L.Compare, x: Array, *rest: Array | Context) -> list[Array]:
    """1 or 0."""
    other = x.dtype.type(spec.value) if spec.value is not None else rest[0]
    return [getattr(np, spec.how)(x, other).astype(x.dtype)]


@FORWARD.of(L.Where)
def where(spec: L.Where, condition: Array, *rest: Array | Context) -> list[Array]:
    """One of two."""
    cases = iter([x for x in rest if isinstance(x, np.ndarray)])
    yes = next(cases) if spec.yes is None else condition.dtype.type(spec.yes)
    no = next(cases) if spec.no is None else condition.dtype.type(spec.no)
    return [np.where(condition != 0, yes, no)]


@FORWARD.of(L.Along)
def along(spec: L.Along, x: Array, _context: Context) -> list[Array]:
    """Cumulative sums or products, or argmax and argmin."""
    return [getattr(np, spec.how)(x, axis=spec.axis + 1).astype(x.dtype)]


@FORWARD.of(L.Constant)
def constant(spec: L.Constant, x: Array, _context: Context) -> list[Array]:
    """With fixed numbers."""
    values = np.asanyarray(spec.values, x.dtype).reshape(spec.shape)
    a, b = (values, x) if spec.first else (x, values)
    with np.errstate(all="ignore"):
        return [np.asanyarray(getattr(np, spec.how)(a, b)).astype(x.dtype)]


@FORWARD.of(L.Across)
def across(spec: L.Across, x: Array, _context: Context) -> list[Array]:
    """Over all samples, for each of them."""
    axes = (0, *(axis + 1 for axis in spec.axes))
    found = getattr(np, spec.how)(x, axis=axes, keepdims=True)
    return [np.repeat(found, len(x), axis=0)]


@FORWARD.of(L.Einsum)
def einsum(spec: L.Einsum, a: Array, b: Array, _context: Context) -> list[Array]:
    """Products summed, sample by sample."""
    pairs = zip(a, b, strict=True)
    return [np.stack([np.asanyarray(np.einsum(spec.equation, x, y)) for x, y in pairs])]
