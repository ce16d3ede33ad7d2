"""What the inputs of a comparison reached: an error in a piece nobody reached cannot be seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xlstm.model import Array
from xlstm.reference.activations import PIECES, UNSATURATED


def _piece(edges: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"below {edges[0]:+g}"
    if number == len(edges):
        return f"above {edges[-1]:+g}"
    return f"from {edges[number - 1]:+g} to {edges[number]:+g}"


class Use(NamedTuple):
    """One use of a function in a layer: where its pieces meet, and whether all have to be seen."""

    layer: str
    use: str
    function: str
    edges: tuple[float, ...]
    all: bool = True


class Coverage:
    """Counts, per layer and use of a piecewise activation, how often each piece was reached.

    >>> coverage = Coverage()
    >>> coverage.see("lstm", "gates", "hard_sigmoid", np.array([0.0, 4.0]))
    >>> coverage.unexercised()
    ['hard_sigmoid below -3 of lstm (gates): not exercised']
    """

    def __init__(self) -> None:
        self._seen: dict[Use, Array] = {}

    def see(self, layer: str, use: str, activation: str, x: Array) -> None:
        """Records the arguments `x` that an activation of a layer was called with."""
        if activation in PIECES:
            self.see_pieces(layer, use, activation, PIECES[activation], x)
        elif activation in UNSATURATED:
            self._count(Use(layer, use, activation, UNSATURATED[activation], all=False), x)

    def see_pieces(
        self, layer: str, use: str, function: str, edges: tuple[float, ...], x: Array
    ) -> None:
        """As `see`, for a function whose pieces meet at `edges`."""
        self._count(Use(layer, use, function, edges), x)

    def _count(self, use: Use, x: Array) -> None:
        pieces = np.searchsorted(use.edges, x[np.isfinite(x)].ravel())
        counts = np.bincount(pieces, minlength=len(use.edges) + 1)
        self._seen[use] = self._seen.get(use, np.zeros_like(counts)) + counts

    def unexercised(self) -> list[str]:
        """One line for each piece that was never reached."""
        return [
            f"{use.function} {_piece(use.edges, number)} of {use.layer} ({use.use}): not exercised"
            for use, counts in self._seen.items()
            for number, count in enumerate(counts)
            if count == 0 and (use.all or number == 1)
        ]
