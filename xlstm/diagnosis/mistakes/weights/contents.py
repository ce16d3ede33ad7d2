"""Rows of the table of causes: numbers of a tensor that are a's, but for one plain change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    Part,
    Say,
    SuspectLayer,
    parts,
    with_made,
)
from xlstm.diagnosis.pairing.names import Naming, Said
from xlstm.ir.types import Array

AXES = {"i": "input", "h": "unit", "j": "hidden unit", "o": "unit", "v": "row number"}
"""Hub axis -> the word for its places in sentences."""


class Change(NamedTuple):
    """A plain change of a tensor's numbers: what is done, in words, and its undoing."""

    act: Callable[[Array], Array]
    text: str
    fix: str


def _row(cause: str, changes: Callable[[Part, str], Iterator[Change]]) -> Mistake:
    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        for part in parts(site.spec):
            for tensor in part.kind.tensors:
                hub = site.layer.weights.get(part.before + tensor)
                if hub is None or not hub.any():
                    continue
                for change in changes(part, tensor):
                    name = part.before + tensor
                    layer = with_made(site.layer, {name: partial(change.act, hub)})
                    say, rule = _say(site, part, tensor, change), f"{tensor} {change.text}"
                    yield AlteredLayer(layer, say, rule, (name,), rare=True)

    return Mistake(cause, alter)


def _say(site: SuspectLayer, part: Part, tensor: str, change: Change) -> Say:
    def say(naming: Naming) -> Said:
        called = naming.called(site.node, part.before, tensor)
        return Said(f"Your {called}: {change.text}.", change.fix, called.replace("`", ""))

    return say


def _negated(_part: Part, _tensor: str) -> Iterator[Change]:
    yield Change(np.negative, "the numbers are negated, a's times -1", "Leave out the minus.")


def _lost(part: Part, tensor: str) -> Iterator[Change]:
    text = "all numbers are zero, as if they were not loaded"
    yield Change(np.zeros_like, text, "Copy them.")
    for axis, letter in _named(part, tensor):
        for place, which in ((0, "first"), (-1, "last")):
            text = f"the numbers of the {which} {AXES[letter]} are lost (zeros)"
            yield Change(partial(_without, axis=axis, place=place), text, "Copy them.")


def _scaled(_part: Part, _tensor: str) -> Iterator[Change]:
    for factor, text in ((2.0, "twice a's numbers"), (0.5, "half of a's numbers")):
        yield Change(partial(np.multiply, factor), text, "Leave out the factor.")


def _reordered(part: Part, tensor: str) -> Iterator[Change]:
    axes = part.kind.tensors[tensor]
    for axis, letter in _named(part, tensor):
        order = f"the order of the {AXES[letter]}s is reversed"
        yield Change(partial(np.flip, axis=axis), order, "Leave them in a's order.")
        for shift in (1, -1):
            text = f"the {AXES[letter]}s are shifted by one place"
            yield Change(partial(np.roll, shift=shift, axis=axis), text, "Leave them in place.")
    if "g" in axes and "h" in axes:
        both = (axes.index("g"), axes.index("h"))
        text = "the order of all gates and units is reversed"
        yield Change(partial(np.flip, axis=both), text, "Leave them in a's order.")


def _rounded(_part: Part, _tensor: str) -> Iterator[Change]:
    for decimals in range(5):
        text = f"the numbers are rounded to {decimals} decimal{'s' * (decimals != 1)}"
        yield Change(partial(_to, decimals=decimals), text, "Copy them as they are.")


def _to(hub: Array, decimals: int) -> Array:
    return hub.round(decimals)


def _named(part: Part, tensor: str) -> Iterator[tuple[int, str]]:
    """The axes of a tensor that have a name for what lies along them, and places to exchange."""
    sizes = part.kind.axis_sizes(part.spec.sizes())
    for axis, letter in enumerate(part.kind.tensors[tensor]):
        if letter in AXES and sizes.get(letter, 1) > 1:
            yield axis, letter


def _without(hub: Array, axis: int, place: int) -> Array:
    found = hub.copy()
    np.moveaxis(found, axis, 0)[place] = 0
    return found


def likeness(mine: Array, other: Array) -> str:
    """A sentence on what numbers that no row explains have in common with a's; "" for nothing."""
    a, b = mine.astype(np.float64), other.astype(np.float64)
    top = float(np.abs(a).max(initial=0))
    if not top or not np.isfinite(b).all():
        return ""
    factor = float((a * b).sum() / (a * a).sum())
    if factor and np.allclose(b, factor * a, rtol=0, atol=1e-6 * abs(factor) * top):
        return f" They are a's times {factor:.6g}."
    zero = (b == 0) & (a != 0)
    if zero.any() and np.array_equal(a[~zero], b[~zero]):
        return " All that differ are zero."
    if np.allclose(np.sort(a, None), np.sort(b, None), rtol=0, atol=1e-6 * top):
        return " They are a's in another order."
    return ""


ROWS = (
    _row("negated-weights", _negated),
    _row("lost-weights", _lost),
    _row("scaled-weights", _scaled),
    _row("reordered-weights", _reordered),
    _row("rounded-weights", _rounded),
)
