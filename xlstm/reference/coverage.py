"""Counts the pieces of activations that a comparison reached: errors in others stay unseen.

In: the arguments of activations during a run. Out: lines about pieces that were not reached.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xlstm.ir.types import Array
from xlstm.reference.activations import FLAT, PIECES, UNSATURATED


def _piece(edges: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"below {edges[0]:+g}"
    if number == len(edges):
        return f"above {edges[-1]:+g}"
    return f"from {edges[number - 1]:+g} to {edges[number]:+g}"


class Use(NamedTuple):
    """One use of a function in a layer, with the edges of its pieces.

    `all` is True if a comparison must reach every piece.
    """

    layer: str
    use: str
    function: str
    edges: tuple[float, ...]
    all: bool = True
    flat: tuple[int, ...] = ()

    def lines(self, counts: Array, alive: Array, every: bool = False) -> list[str]:
        """Lines about pieces that were never reached, and units that were on flat pieces only."""
        here, wanted = f"{self.layer} ({self.use})", every or self.all
        unseen = [n for n, count in enumerate(counts) if count == 0 and (wanted or n == 1)]
        found = [f"{self.function} {_piece(self.edges, n)} of {here}: not reached" for n in unseen]
        dead = int((~alive).sum())
        if 0 < dead < len(alive):
            units = f"where it is not flat, for {dead} of {len(alive)} units"
            found.append(f"{self.function} of {here} {units}: not reached")
        return found


WAITING = 2**18
"""Arguments of one use that are kept until they are counted together."""


class Coverage:
    """Counts, per layer and use of a piecewise activation, the arguments on each piece.

    Also records the units that leave the flat pieces: an error in the weights of other units cannot
    be seen.

    >>> coverage = Coverage()
    >>> coverage.see("lstm", "gates", "hard_sigmoid", np.array([[0.0], [4.0]]))
    >>> coverage.unexercised()
    ['hard_sigmoid below -3 of lstm (gates): not reached']
    """

    def __init__(self) -> None:
        self._seen: dict[Use, Array] = {}
        self._alive: dict[Use, Array] = {}
        self._signs: dict[str, tuple[bool, bool]] = {}
        self._waiting: dict[Use, list[Array]] = {}

    def see(self, layer: str, use: str, activation: str, x: Array) -> None:
        """Records the arguments `x` of an activation of a layer."""
        flat = FLAT.get(activation, ())
        if activation in PIECES:
            self._count(Use(layer, use, activation, PIECES[activation], flat=flat), x)
        elif activation in UNSATURATED:
            self._count(Use(layer, use, activation, UNSATURATED[activation], False, flat), x)

    def see_pieces(
        self, layer: str, use: str, function: str, edges: tuple[float, ...], x: Array
    ) -> None:
        """As `see`, for a function whose pieces meet at `edges`."""
        self._count(Use(layer, use, function, edges), x)

    def see_sign(self, layer: str, y: Array) -> None:
        """Records the signs of outputs of a layer that may have either sign."""
        low, high = self._signs.get(layer, (False, False))
        self._signs[layer] = (low or bool((y < 0).any()), high or bool((y > 0).any()))

    def _count(self, use: Use, x: Array) -> None:
        """Counts the arguments of one step of a loop together with those of other steps."""
        parts = self._waiting.setdefault(use, [])
        parts.append(np.asarray(x).reshape(-1, x.shape[-1] if x.ndim else 1))
        if len(parts) * parts[-1].size > WAITING:
            self._count_all(use, self._waiting.pop(use))

    def _count_all(self, use: Use, parts: list[Array]) -> None:
        x = np.concatenate(parts) if len(parts) > 1 else parts[0]
        above = [~(x <= edge) for edge in use.edges]  # NaN is above all
        finite = np.isfinite(x)
        ends = [int(finite.sum()), *(int((part & finite).sum()) for part in above), 0]
        counts = -np.diff(ends)
        self._seen[use] = self._seen.get(use, np.zeros_like(counts)) + counts
        if use.flat:
            curved = np.zeros(x.shape, bool)
            for piece in set(range(len(counts))) - set(use.flat):
                inside = above[piece - 1] if piece else np.ones(x.shape, bool)
                curved |= inside & ~above[piece] if piece < len(above) else inside
            self._alive[use] = self._alive.get(use, np.zeros(x.shape[1], bool)) | curved.any(0)

    def unexercised(self, every: bool = False) -> list[str]:
        """One line for each piece that was not reached, and for units on flat pieces only.

        Also for layers whose outputs all have one sign: a later layer that leaves such numbers
        unchanged cannot be seen.

        Args:
            every: True if the flat ends of smooth activations count as pieces.
        """
        for use in list(self._waiting):
            self._count_all(use, self._waiting.pop(use))
        all_alive = np.ones(0, bool)
        lines = (
            use.lines(counts, self._alive.get(use, all_alive), every)
            for use, counts in self._seen.items()
        )
        signs = (
            f"outputs {side} zero of {layer} (all units): not reached"
            for layer, seen in self._signs.items()
            for side, reached in zip(("below", "above"), seen, strict=True)
            if not reached
        )
        return [*(line for found in lines for line in found), *signs]
