"""Arithmetic of other libraries as specs, for every front end; imports no framework.

In: an operation of Keras or PyTorch, whose arguments its reader has checked. Out: steps, each a
spec and the values that it reads. The inputs are numbered first, then the outputs of the steps.

    >>> [(spec.kind, reads) for spec, reads in hard_shrink(2.0)]
    [('Function', (0,)), ('Compare', (1,)), ('Where', (2, 0))]
    >>> hard_shrink(0.5)
    ((Activation(activation='hard_shrink'), (0,)),)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from xlstm.ir import layers as L
from xlstm.ir.types import Shape

Steps = Sequence[tuple[L.LayerSpec, tuple[int, ...]]]

Value = TypeVar("Value")


def build(steps: Steps, add: Callable[..., Value], *inputs: Value) -> Value:
    """Adds steps by `add(spec, *values)`; returns the output of the last one.

    >>> build(soft_shrink(1.0), lambda spec, *reads: (spec.kind, *reads), "x")
    ('Merge', 'x', ('Clip', 'x'))
    """
    values = [*inputs]
    for spec, reads in steps:
        values.append(add(spec, *(values[number] for number in reads)))
    return values[-1]


def in_a_row(*specs: L.LayerSpec) -> Steps:
    """Specs that each read the one before."""
    return [(spec, (number,)) for number, spec in enumerate(specs)]


POWERS = {2: "square", 0.5: "sqrt", -1: "reciprocal"}
"""Exponent -> the function of that power."""

RSQRT = (L.Function("sqrt"), L.Function("reciprocal"))


def with_number(how: str, number: float, first: bool = True) -> tuple[L.LayerSpec, ...]:
    """A tensor and a number, by the name of an operation; `first` if the tensor comes first.

    Empty where no specs compute it.

    >>> with_number("subtract", 2.0, first=False), with_number("power", 3.0)
    ((Affine(scale=-1.0, offset=2.0),), ())
    """
    found: L.LayerSpec | None = None
    if how == "add":
        found = L.Affine(1.0, number)
    elif how == "subtract":
        found = L.Affine(1.0, -number) if first else L.Affine(-1.0, number)
    elif how == "multiply":
        found = L.Affine(number, 0.0)
    elif how == "divide" and not first:
        return L.Function("reciprocal"), L.Affine(number, 0.0)
    elif how == "divide" and number:
        found = L.Affine(1 / number, 0.0)
    elif how == "power" and first and number in POWERS:
        found = L.Function(POWERS[number])
    elif how == "maximum":
        found = L.Clip(low=number) if number else L.Activation("relu")
    elif how == "minimum":
        found = L.Clip(high=number)
    return (found,) if found else ()


def compare(how: str, number: float, first: bool = True) -> L.Compare:
    """A tensor compared with a number; `first` if the tensor comes first.

    >>> compare("less_equal", 1.0, first=False)
    Compare(how='greater_equal', value=1.0)
    """
    if not first:
        start, *rest = how.split("_")
        how = "_".join([{"greater": "less", "less": "greater"}.get(start, start), *rest])
    return L.Compare(how, number)


TRUTH, NOT = L.Compare("not_equal", 0.0), L.Compare("equal", 0.0)
"""1 where a number is not 0, and where it is 0."""

LOGIC = {"logical_and": L.Merge("minimum"), "logical_or": L.Merge("maximum")}
"""Operation on 1 and 0 -> its spec."""


def where(yes: float | None, no: float | None) -> L.LayerSpec:
    """A choice by 1 and 0 between numbers, and None for tensors."""
    return L.Where(yes, no) if yes is None or no is None else L.Affine(yes - no, no)


def variance(centre: Sequence[L.LayerSpec], *mean: L.LayerSpec) -> Steps:
    """The mean of squares around a mean; `centre` computes it with its axes kept."""
    last = len(centre)
    around = (L.Merge("subtract"), (0, last)), (L.Function("square"), (last + 1,))
    rest = [(spec, (number,)) for number, spec in enumerate(mean, last + 2)]
    return [*in_a_row(*centre), *around, *rest]


def norm(total: L.LayerSpec, order: int = 2) -> tuple[L.LayerSpec, ...]:
    """The length of vectors, of order 1 or 2; `total` sums them."""
    if order == 1:
        return L.Function("abs"), total
    return L.Function("square"), total, L.Function("sqrt")


def roll(axis: int, shift: int, size: int, joined: L.Concatenate) -> Steps:
    """Numbers shifted along an axis, the last ones to the front; empty for no shift."""
    cut = -shift % size
    halves = (L.Slice(axis, cut, None), (0,)), (L.Slice(axis, None, cut), (0,))
    return (*halves, (joined, (1, 2))) if cut else ()


def glu(first: L.Slice, second: L.Slice) -> Steps:
    """The first half of an axis times the sigmoid of the second."""
    gate = (L.Activation("sigmoid"), (2,))
    return (first, (0,)), (second, (0,)), gate, (L.Merge("multiply"), (1, 3))


def celu(alpha: float) -> Steps:
    """Alpha (e^(x / alpha) - 1) below zero, x above; `alpha` is above 0."""
    if alpha == 1:
        return in_a_row(L.Activation("celu"))
    return in_a_row(L.Affine(1 / alpha), L.Elu(), L.Affine(alpha))


def soft_shrink(threshold: float) -> Steps:
    """X without its part within `threshold`, from 0 on, of zero."""
    if threshold == 0.5:
        return in_a_row(L.Activation("soft_shrink"))
    return (L.Clip(-threshold, threshold), (0,)), (L.Merge("subtract"), (0, 1))


def hard_shrink(threshold: float) -> Steps:
    """X, and zero within `threshold` of zero."""
    if threshold == 0.5:
        return ((L.Activation("hard_shrink"), (0,)),)
    outside = in_a_row(L.Function("abs"), L.Compare("greater", threshold))
    return (*outside, (L.Where(no=0.0), (2, 0)))


def threshold(edge: float, other: float) -> Steps:
    """X above `edge`, and `other` from there down."""
    return (L.Compare("greater", edge), (0,)), (L.Where(no=other), (1, 0))


def squareplus(b: float) -> Steps:
    """(x + sqrt(x^2 + b)) / 2; `b` is 0 or above."""
    if b == 4:
        return in_a_row(L.Activation("squareplus"))
    root = in_a_row(L.Function("square"), L.Affine(1.0, b), L.Function("sqrt"))
    return (*root, (L.Merge("add"), (0, 3)), (L.Affine(0.5), (4,)))


LETTERS = "cdefghijklmnopqrstuvwxyz"
"""Letters of equations: one for each axis of a sample."""


def matmul(first: Shape, second: Shape, turned: Sequence[bool] = (False, False)) -> str:
    """The equation of a product of matrices; sizes of 1 stretch, vectors have one axis.

    >>> matmul((5, 4), (4, 3)), matmul((2, 5, 4), (1, 4, 3))
    ('cd,de->ce', 'fcd,gde->fce')
    """
    letters = iter(LETTERS)
    rows, shared, columns = next(letters), next(letters), next(letters)
    lead = [next(letters) for _ in range(max(len(first), len(second)) - 2)]
    terms: list[str] = []
    for shape, other, own in ((first, second, rows + shared), (second, first, shared + columns)):
        count = max(len(shape) - 2, 0)
        stretched = [
            len(other) - 2 > n and shape[count - 1 - n] == 1 != other[len(other) - 3 - n]
            for n in range(count)
        ][::-1]
        names = lead[len(lead) - count :]
        around = [next(letters) if s else c for c, s in zip(names, stretched, strict=True)]
        matrix = own if len(shape) > 1 else shared
        terms.append("".join(around) + (matrix[::-1] if turned[len(terms)] else matrix))
    out = [*lead, rows * (len(first) > 1), columns * (len(second) > 1)]
    return f"{terms[0]},{terms[1]}->{''.join(out)}"


def equations(terms: Sequence[str], out: str) -> Iterator[str]:
    """Equations that multiply operands one after the other, each with the product so far.

    >>> list(equations(["cd", "de", "ef"], "cf"))
    ['cd,de->ce', 'ce,ef->cf']
    """
    left = terms[0]
    for number, term in enumerate(terms[1:], start=2):
        rest = {*out, *"".join(terms[number:])}
        both = dict.fromkeys(left + term)
        after = out if number == len(terms) else "".join(c for c in both if c in rest)
        yield f"{left},{term}->{after}"
        left = after


def contraction(terms: Sequence[str], out: str) -> tuple[Steps, str]:
    """Products of operands from the first to the last, summed over letters that `out` lacks.

    Returns the steps and the letters of their result, which may be in another order than `out`.

    >>> contraction(["cd"], "d")
    ([(Reduce(how='sum', axes=(0,), keep=False), (0,))], 'd')
    """
    steps: list[tuple[L.LayerSpec, tuple[int, ...]]] = []
    left, last = terms[0], 0
    for number, equation in enumerate(equations(terms, out), 1):
        steps.append((L.Einsum(equation), (last, number)))
        left, last = equation.partition("->")[2], len(terms) - 1 + len(steps)
    if lost := tuple(n for n, c in enumerate(left) if c not in out):
        steps.append((L.Reduce("sum", lost), (last,)))
    return steps, "".join(c for c in left if c in out)
