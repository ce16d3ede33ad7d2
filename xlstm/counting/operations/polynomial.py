"""Whole-number polynomials in T, the steps of a sequence, and B, the sequences of a batch.

>>> 4 * 32 * (16 + 32) * T * B
6,144 x steps x batch
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xlstm.errors import UnsupportedError

Power = tuple[int, int]
"""The exponents of T and of B."""


@dataclass(frozen=True, repr=False)
class Polynomial:
    """An exact count that depends on T and B.

    Attributes:
        terms: exponents of T and B -> the whole number before them, never 0.

    >>> (3 * T * B + 2).at(T=10, B=4)
    122
    """

    terms: Mapping[Power, int] = field(default_factory=dict)

    def __add__(self, other: Count) -> Polynomial:
        found = Counter(self.terms)
        for power, number in polynomial(other).terms.items():
            found[power] += number
        return Polynomial({power: number for power, number in found.items() if number})

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Count) -> Polynomial:
        return self + -polynomial(other)

    def __rsub__(self, other: Count) -> Polynomial:
        return polynomial(other) - self

    def __mul__(self, other: Count) -> Polynomial:
        found: Counter[Power] = Counter()
        for (t, b), number in self.terms.items():
            for (u, c), times in polynomial(other).terms.items():
                found[t + u, b + c] += number * times
        return Polynomial({power: number for power, number in found.items() if number})

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def at(self, *, T: int, B: int = 1) -> int:
        """The count for sequences of T steps in a batch of B."""
        return sum(number * T**t * B**b for (t, b), number in self.terms.items())

    def of_one(self) -> Polynomial:
        """The count for one sequence.

        >>> (6 * T * B).of_one()
        6 x steps
        """
        found = Counter[Power]()
        for (t, _), number in self.terms.items():
            found[t, 0] += number
        return Polynomial({power: number for power, number in found.items() if number})

    def to_json(self) -> list[dict[str, int]]:
        """The terms as plain data, the highest powers first.

        >>> (5 * T * B).to_json()
        [{'count': 5, 'T': 1, 'B': 1}]
        """
        return [{"count": n, "T": t, "B": b} for (t, b), n in self._ordered()]

    def _ordered(self) -> list[tuple[Power, int]]:
        return sorted(self.terms.items(), reverse=True)

    def __str__(self) -> str:
        text = ""
        for (t, b), number in self._ordered():
            sign = (" - " if text else "-") if number < 0 else " + " if text else ""
            names = (*_power("steps", t), *_power("batch", b))
            digits = [] if names and abs(number) == 1 else [f"{abs(number):,}"]
            text += sign + " x ".join([*digits, *names])
        return text or "0"

    __repr__ = __str__


Count = int | Polynomial
"""A count with or without T and B."""

Sizes = tuple[Polynomial | None, ...]
"""The sizes of the axes of an array, the batch first; None where one is unknown."""


def _power(name: str, exponent: int) -> list[str]:
    return [] if not exponent else [name if exponent == 1 else f"{name}^{exponent}"]


def polynomial(number: Count) -> Polynomial:
    """A whole number as a polynomial; a polynomial as it is."""
    if isinstance(number, Polynomial):
        return number
    return Polynomial({(0, 0): number} if number else {})


T = Polynomial({(1, 0): 1})
B = Polynomial({(0, 1): 1})
ZERO = Polynomial()


def product(sizes: Iterable[Polynomial | None]) -> Polynomial:
    """The number of elements of an array of these sizes.

    Raises:
        UnsupportedError: the size of an axis is not known.

    >>> product((B, T, polynomial(3)))
    3 x steps x batch
    """
    found = polynomial(1)
    for size in sizes:
        if size is None:
            want, got = "axes of known length beside time", "an axis without one"
            do = "count a model that was built for one size"
            raise UnsupportedError("operations", want, got, do)
        found = found * size
    return found
