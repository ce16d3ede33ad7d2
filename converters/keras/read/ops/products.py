"""Reads products of tensors between layers as specs; imports no framework.

In: a call of an operation. Out: specs.

    keras.ops.einsum("bij,bkj->bik", x, x)    Einsum("cd,ed->ce"), for each sample
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.einsum import LETTERS, matmul, steps

from ..inbound_nodes import KerasTensor
from ..layers.options import array_of
from .call import Lowered, MultipleOutputs, Operation, PendingNode, chain


def _matmul(op: Operation) -> Lowered:
    """Multiplies the matrices of each sample; a constant array is the same for all of them."""
    a, b = op.argument(0, "x1", "a"), op.argument(1, "x2", "b")
    given = {k: v for k, v in op.call.options.items() if v not in (None, False)}
    turned = [bool(given.get(key)) for key in ("transpose_a", "transpose_b")]
    unknown = given.keys() - {*"x1 x2 a b transpose_a transpose_b name function".split()}
    if unknown - {"trainable", "dtype"}:
        raise op.refused("matmul of one form", ", ".join(sorted(unknown)))
    if isinstance(a, KerasTensor) and isinstance(b, KerasTensor):
        first, second = op.shapes[a], op.shapes[b]
        if len(first) != len(second) or len(first) < 2:
            want = "two tensors (batch, ..., rows, columns) of one rank"
            raise op.refused(want, f"samples {first} and {second}")
        if len(first) == 2:
            return (a, b), (L.Dot((1 if turned[0] else 2, 2 if turned[1] else 1)),)
        reads: tuple[KerasTensor | PendingNode, ...] = (a, b)
    else:
        reads, first, second = _with_constant(op, a, b)
    equation = matmul(first, second, turned)
    return MultipleOutputs([PendingNode(L.Einsum(equation), reads)])


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
    held = op.held(array, tensor, axes)
    shape = op.shapes[tensor]
    if tensor is a:
        return (tensor, held), shape, found[1]
    return (held, tensor), found[1], shape


def _dot(op: Operation) -> Lowered:
    """Reads numpy's dot, which multiplies every sample with every sample of another tensor."""
    a, b = op.argument(0, "x1", "a"), op.argument(1, "x2", "b")
    if not isinstance(a, KerasTensor) or isinstance(b, KerasTensor):
        got = "two tensors, whose samples it multiplies with one another; use matmul or einsum"
        raise op.refused("dot of a tensor with a constant after it", got)
    return _matmul(op)


def _einsum(op: Operation) -> Lowered:
    """Reads sums of products; every term must start with the batch."""
    items = [item for item in op.call.arguments if not isinstance(item, str)]
    texts = [item for item in op.call.arguments if isinstance(item, str)]
    equation = op.argument(-1, "subscripts", "equation", default=(texts or [""])[0])
    items = items[0] if len(items) == 1 and isinstance(items[0], list) else items
    first, *_ = (item for item in items if isinstance(item, KerasTensor))
    terms, out = _terms(op, str(equation), items)
    reads = [
        x if isinstance(x, KerasTensor) else op.held(x, first, len(t))
        for x, t in zip(items, terms, strict=True)
    ]
    return MultipleOutputs([_contracted(op, reads, terms, out)])


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
    if len(names) > len(LETTERS):
        raise op.refused(f"{len(LETTERS)} letters at most", equation)
    new = str.maketrans(dict(zip(names, LETTERS, strict=False)) | {batch: ""})
    return [t.translate(new) for t in full], out.translate(new)


def _rank(op: Operation, item: Any) -> int:
    if isinstance(item, KerasTensor):
        return len(op.shapes[item]) + 1
    found = array_of(item)
    if found is None:
        raise op.refused("tensors and constant arrays", item)
    return len(found[1])


def _contracted(
    op: Operation, reads: list[Any], terms: list[str], out: str
) -> KerasTensor | PendingNode:
    """Multiplies the operands from the first to the last."""
    if {*out} - {*"".join(terms)}:
        raise op.refused("letters of the output that an operand has", out)
    made, left = reads[0], terms[0]
    for equation, read in zip(steps(terms, out), reads[1:], strict=True):
        made, left = PendingNode(L.Einsum(equation), (made, read)), equation.partition("->")[2]
    if left == out:
        return made  # type: ignore[no-any-return]
    lost = tuple(n for n, c in enumerate(left) if c not in out)
    specs: list[L.LayerSpec] = [L.Reduce("sum", lost)] if lost else []
    kept = [c for c in left if c in out]
    order = tuple(kept.index(c) + 1 for c in out)
    specs += [L.Permute(order)] if list(order) != sorted(order) else []
    return chain(made, *specs)


PRODUCTS: dict[str, Callable[[Operation], Lowered]] = {
    "matmul": _matmul,
    "dot": _dot,
    "einsum": _einsum,
}
"""Name of an operation -> the reader of its calls."""
