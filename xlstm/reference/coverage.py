"""What the inputs of a comparison reached: an error in a piece nobody reached cannot be seen."""

from __future__ import annotations

import numpy as np

from xlstm.model import Array
from xlstm.reference.activations import PIECES, UNSATURATED


def _piece(edges: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"below {edges[0]:+g}"
    if number == len(edges):
        return f"above {edges[-1]:+g}"
    return f"from {edges[number - 1]:+g} to {edges[number]:+g}"


class Coverage:
    """Counts, per layer and use of a piecewise activation, how often each piece was reached.

    >>> coverage = Coverage()
    >>> coverage.see("lstm", "gates", "hard_sigmoid", np.array([0.0, 4.0]))
    >>> coverage.unexercised()
    ['hard_sigmoid below -3 of lstm (gates): not exercised']
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], Array] = {}

    def see(self, layer: str, use: str, activation: str, x: Array) -> None:
        """Records the arguments `x` that an activation of a layer was called with."""
        edges = PIECES.get(activation) or UNSATURATED.get(activation)
        if edges is None:
            return
        key = (layer, use, activation)
        pieces = np.searchsorted(edges, x[np.isfinite(x)].ravel())
        counts = np.bincount(pieces, minlength=len(edges) + 1)
        self._seen[key] = self._seen.get(key, np.zeros_like(counts)) + counts

    def unexercised(self) -> list[str]:
        """One line for each piece that was never reached."""
        return [
            f"{activation} {_piece(_edges(activation), number)} of {layer} ({use}): not exercised"
            for (layer, use, activation), counts in self._seen.items()
            for number, count in enumerate(counts)
            if count == 0 and (activation in PIECES or number == 1)
        ]


def _edges(activation: str) -> tuple[float, ...]:
    return PIECES.get(activation) or UNSATURATED[activation]
