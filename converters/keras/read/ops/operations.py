"""Reads sums, norms and products of tensors as specs; imports no framework.

In: a call of an operation. Out: its output, as a pending node.

    keras.ops.mean(x, axis=1)                   Reduce("mean", axes=(0,)): axes of a sample
    keras.ops.cumsum(x, axis=1)                 Along("cumsum", axis=0)
    keras.ops.einsum("bij,bkj->bik", x, x)      Einsum("cd,ed->ce"), for each sample
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir import lowering
from xlstm.ir.layers.elementwise import REDUCTIONS
from xlstm.ir.layers.operations import ALONG, CONSTANT_MOST, SO_FAR

from ..inbound_nodes import KerasTensor
from ..layers.options import array_of
from .call import OPERATIONS, Operation, Pending, chain, node
from .elementwise import truth


def _reductions(op: Operation, how: str, keep: bool | None = None) -> list[L.LayerSpec]:
    """Returns specs that reduce a tensor over the axes of an operation, perhaps the batch."""
    axes, rank = op.argument(1, "axis"), len(op.shape)
    axes = [*range(rank + 1)] if axes is None else axes if isinstance(axes, list) else [axes]
    keep = bool(op.argument(2, "keepdims", default=False)) if keep is None else keep
    found = tuple(op.axis(axis) for axis in axes if axis not in (0, -rank - 1))
    if len(found) == len(axes):
        return [L.Reduce(how, found, keep)]
    if op.call.wraps:
        raise op.refused("axes to reduce, not the batch, inside TimeDistributed", axes)
    left = [] if keep else [L.Squeeze(axis) for axis in sorted(found, reverse=True)]
    return [L.Across(how, found), *left]


@OPERATIONS.of(*REDUCTIONS)
def _reduce(op: Operation) -> Pending:
    return op.apply(*_reductions(op, op.name))


@OPERATIONS.of("any", "all")
def _any_or_all(op: Operation) -> Pending:
    return chain(truth(op, op.tensor), *_reductions(op, "max" if op.name == "any" else "min"))


@OPERATIONS.of("var", "std")
def _spread(op: Operation) -> Pending:
    """Reads variance and standard deviation."""
    last = [L.Function("sqrt")] if op.name == "std" else []
    centre, mean = _reductions(op, "mean", keep=True), _reductions(op, "mean")
    return op.build(lowering.variance(centre, *mean, *last))


@OPERATIONS.of("norm")
def _norm(op: Operation) -> Pending:
    order, axes = op.argument(1, "ord"), op.argument(2, "axis")
    if type(axes) is not int or order not in (None, 1, 2, "euclidean"):
        raise op.refused("a length along one axis, of order 1 or 2", f"{order} along {axes}")
    total = L.Reduce("sum", (op.axis(axes),), bool(op.argument(3, "keepdims", default=False)))
    return op.apply(*lowering.norm(total, 1 if order == 1 else 2))


@OPERATIONS.of(*ALONG)
def _along(op: Operation) -> Pending:
    axis = op.axis(op.argument(1, "axis"))
    others = [key for key in ("exclusive", "reverse") if op.option(key)]
    if others:
        raise op.refused("sums and products up to each place", others[0])
    keep = op.name not in SO_FAR and op.argument(2, "keepdims", default=False) is True
    return op.apply(L.Along(op.name, axis), *[L.ExpandDims(axis)] * keep)


@OPERATIONS.of("one_hot")
def _one_hot(op: Operation) -> Pending:
    classes, axis = op.argument(1, "num_classes", "depth"), op.argument(2, "axis", default=-1)
    other = [key for key in ("on_value", "off_value", "sparse") if op.option(key)]
    if type(classes) is not int or not 0 < classes <= CONSTANT_MOST or axis != -1 or other:
        want = f"1 to {CONSTANT_MOST} classes along a new last axis"
        raise op.refused(want, f"{classes} along {axis} {' '.join(other)}")
    numbers = tuple(map(float, range(classes)))
    equal = L.Constant("equal", numbers, (classes,))
    return op.apply(L.Function("trunc"), L.ExpandDims(len(op.shape)), equal)


@OPERATIONS.of("matmul")
def _matmul(op: Operation) -> Pending:
    """Multiplies the matrices of each sample; a constant array is the same for all of them."""
    a, b = op.argument(0, "x1", "a"), op.argument(1, "x2", "b")
    turned = [bool(op.option(key)) for key in ("transpose_a", "transpose_b")]
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        first, second = op.shapes[a], op.shapes[b]
        if len(first) != len(second) or len(first) < 2:
            want = "two tensors (batch, ..., rows, columns) of one rank"
            raise op.refused(want, f"samples {first} and {second}")
        if len(first) == 2:
            return node(L.Dot((1 if turned[0] else 2, 2 if turned[1] else 1)), a, b)
        reads: tuple[Pending, ...] = (a, b)
    else:
        reads, first, second = _with_constant(op, a, b)
    return node(L.Einsum(lowering.matmul(first, second, turned)), *reads)


def _with_constant(op: Operation, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Returns a tensor and a constant, and the shapes of a sample of each."""
    tensor, array = (a, b) if isinstance(a, KerasTensor) else (b, a)
    found, rank = array_of(array), len(op.shapes[tensor])
    axes = len(found[1]) if found else 0
    # a constant before vectors is multiplied with the batch
    if not 0 < axes < 3 or rank < (1 if tensor is a else 2):
        want = "a constant matrix, beside samples that are matrices or followed by it"
        raise op.refused(want, f"axes {axes}, samples of {rank}")
    assert found
    (constant,) = op.tensors([array], tensor, axes)
    shape = op.shapes[tensor]
    if tensor is a:
        return (tensor, constant), shape, found[1]
    return (constant, tensor), found[1], shape


@OPERATIONS.of("dot")
def _dot(op: Operation) -> Pending:
    """Reads numpy's dot, which multiplies every sample with every sample of another tensor."""
    a, b = op.argument(0, "x1", "a"), op.argument(1, "x2", "b")
    if not isinstance(a, KerasTensor) or isinstance(b, KerasTensor):
        got = "two tensors, whose samples it multiplies with one another; use matmul or einsum"
        raise op.refused("dot of a tensor with a constant after it", got)
    return _matmul(op)


@OPERATIONS.of("einsum")
def _einsum(op: Operation) -> Pending:
    """Reads sums of products; every term must start with the batch."""
    items = [item for item in op.call.arguments if not isinstance(item, str)]
    texts = [item for item in op.call.arguments if isinstance(item, str)]
    equation = op.argument(-1, "subscripts", "equation", default=(texts or [""])[0])
    items = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    first, *_ = (item for item in items if isinstance(item, KerasTensor))
    terms, out = _terms(op, str(equation), items)
    pairs = zip(items, terms, strict=True)
    reads = [read for x, term in pairs for read in op.tensors([x], first, len(term))]
    if {*out} - {*"".join(terms)}:
        raise op.refused("letters of the output that an operand has", out)
    steps, left = lowering.contraction(terms, out)
    order = tuple(left.index(c) + 1 for c in out)
    turned = [L.Permute(order)] if list(order) != sorted(order) else []
    return chain(lowering.build(steps, node, *reads), *turned)


def _terms(op: Operation, equation: str, items: Sequence[Any]) -> tuple[list[str], str]:
    """Returns the letters of each operand and of the output without the batch, as c, d, e..."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms, ranks = left.split(","), [_rank(op, item) for item in items]
    plain = all(c.isalpha() and c.isascii() for c in equation if c not in " ,.->")
    if not arrow or not plain or len(terms) != len(items):
        raise op.refused("an equation like bij,bjk->bik, with an arrow", equation)
    spare = [n - len(t.replace("...", "")) for t, n in zip(terms, ranks, strict=True)]
    dots = [f"{n}" for n in range(max([0, *spare]))]  # names that are no letters
    full = [
        t.replace("...", "".join(dots[len(dots) - max(n, 0) :]))
        for t, n in zip(terms, spare, strict=True)
    ]
    out = out.replace("...", "".join(dots))
    batch, own = out[:1], [*zip(full, items, ranks, strict=True)]
    fits = all(len(t) == rank == len({*t}) for t, _, rank in own) and len(out) == len({*out})
    apart = all(t[:1] == batch if isinstance(x, KerasTensor) else True for t, x, _ in own)
    if not fits or not apart or any(batch in t[1:] for t in full) or not batch:
        want = "an equation that leaves samples apart: the batch first, each letter once in a term"
        raise op.refused(want, equation)
    names = [*dict.fromkeys("".join([*full, out]).replace(batch, ""))]
    if len(names) > len(lowering.LETTERS):
        raise op.refused(f"{len(lowering.LETTERS)} letters at most", equation)
    new = str.maketrans(dict(zip(names, lowering.LETTERS, strict=False)) | {batch: ""})
    return [t.translate(new) for t in full], out.translate(new)


def _rank(op: Operation, item: Any) -> int:
    if isinstance(item, KerasTensor):
        return len(op.shapes[item]) + 1
    found = array_of(item)
    if found is None:
        raise op.refused("tensors and constant arrays", item)
    return len(found[1])
