"""Converts products of tensors to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    torch.einsum("bij,bkj->bik", x, x)    Einsum("cd,ed->ce"), for each sample
"""

from __future__ import annotations

from typing import Any

from xlstm.ir.einsum import LETTERS, matmul, steps
from xlstm.ir.layers import Dot, Einsum, Reduce

from .values import CannotTraceError, TracedTensor, TraceState, known


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
        return first._replace(edge=wiring.add(Dot((2, 1)), first.edge, second.edge))
    shapes = [tuple(map(known, wiring.graph.shape(x.edge))) for x in (first, second)]
    equation = matmul(shapes[0], shapes[1], (False, False))
    return first._replace(edge=wiring.add(Einsum(equation), first.edge, second.edge))


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
    if batch not in out or len({*"".join(terms)}) > len(LETTERS):
        raise CannotTraceError(f"einsum {text[:40]} over the batch", "keep the batch")
    return _contracted(wiring, values, terms, batch, out)


def _contracted(
    wiring: TraceState, values: tuple[TracedTensor, ...], terms: list[str], batch: str, out: str
) -> TracedTensor:
    """Multiplies operands one after the other; letters are in the order of their edges' axes."""
    names = [*dict.fromkeys("".join([*terms, out]).replace(batch, ""))]
    letters = dict(zip(names, LETTERS, strict=False))
    own = []
    for term, x in zip(terms, values, strict=True):
        order = sorted(range(x.rank), key=x.axes.__getitem__)[1:]
        own.append("".join(letters[term[axis]] for axis in order))
    left = "".join(letters[c] for c in out if c != batch)
    edge, rest = values[0].edge, own[0]
    for equation, x in zip(steps(own, left), values[1:], strict=True):
        edge, rest = wiring.add(Einsum(equation), edge, x.edge), equation.partition("->")[2]
    lost = tuple(n for n, c in enumerate(rest) if c not in left)
    edge = wiring.add(Reduce("sum", lost), edge) if lost else edge
    kept = [c for c in rest if c in left]
    return TracedTensor(edge, tuple(0 if c == batch else kept.index(letters[c]) + 1 for c in out))
