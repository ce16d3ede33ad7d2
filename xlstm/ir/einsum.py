"""Equations of products, with a letter for each axis of a sample; imports no framework.

In: shapes of samples, or several terms. Out: equations for `Einsum` specs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlstm.ir.types import Shape

LETTERS = "cdefghijklmnopqrstuvwxyz"


def matmul(first: Shape, second: Shape, turned: Sequence[bool]) -> str:
    """The equation of a product of matrices; sizes of 1 stretch, vectors have one axis.

    >>> matmul((5, 4), (4, 3), (False, False)), matmul((2, 5, 4), (1, 4, 3), (False, False))
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


def steps(terms: Sequence[str], out: str) -> Iterator[str]:
    """Equations that multiply operands one after the other, each with the product so far.

    >>> list(steps(["cd", "de", "ef"], "cf"))
    ['cd,de->ce', 'ce,ef->cf']
    """
    left = terms[0]
    for number, term in enumerate(terms[1:], start=2):
        rest = {*out, *"".join(terms[number:])}
        both = dict.fromkeys(left + term)
        after = out if number == len(terms) else "".join(c for c in both if c in rest)
        yield f"{left},{term}->{after}"
        left = after
