"""Rows of the table of mistakes: gates in another order, in all tensors or in some of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, Part, Say, SuspectLayer, groups, parts
from xlstm.diagnosis.mistakes.weights.tensors import misread
from xlstm.diagnosis.pairing.names import Naming, Said, blocks, listed, plain
from xlstm.frameworks import registry
from xlstm.ir.types import Array
from xlstm.slots import Slot


class GatedPiece(NamedTuple):
    """A canonical tensor, or one side of a bias, with its gates in another order."""

    tensor: str
    side: int | None = None


Pieces = tuple[GatedPiece, ...]


def whole_orders(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Gates of all tensors of a layer in any other order."""
    for group in groups(site.spec)[:1]:
        yield from _in_order(site, group, _choices(site, group)[:1])


def gate_orders(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Gates of some tensors in any other order, in all halves or in one."""
    for group in groups(site.spec):
        yield from _in_order(site, group, _choices(site, group))


def _choices(site: SuspectLayer, group: list[Part]) -> list[Pieces]:
    """All tensors, then fewer and fewer; of a bias with two sides also one side."""
    gated = [tensor for tensor, axes in group[0].kind.tensors.items() if "g" in axes]
    present = [tensor for tensor in gated if site.hub(group[0], tensor) is not None]
    counts = range(len(present), 0, -1)
    found = [tuple(map(GatedPiece, c)) for n in counts for c in itertools.combinations(present, n)]
    bias = site.hub(group[0], "bias") if "bias" in present else None
    if bias is not None and len(bias) == 2 and bias[0].any() and bias[1].any():
        matrices = [GatedPiece(tensor) for tensor in present if tensor != "bias"]
        for side in (0, 1):
            own = matrices[side : side + 1]
            found += [(*some, GatedPiece("bias", side)) for some in (matrices, own, [])]
    return sorted(found, key=lambda pieces: -len(pieces))


def _in_order(
    site: SuspectLayer, group: list[Part], choices: list[Pieces]
) -> Iterator[AlteredLayer]:
    """Every other order of the gates of some tensors: arrays hold gate `order`[k] at k's place."""
    gates = group[0].kind.gates
    every = ["".join(order) for order in itertools.permutations(gates)]
    moved = {order: sum(a != b for a, b in zip(order, gates, strict=True)) for order in every}
    # those that only swap two gates first
    orders = sorted((order for order in every if moved[order]), key=lambda order: moved[order])
    where = "" if len(group) == len(parts(site.spec)) else group[0].before
    for chosen, order in itertools.product(choices, orders):
        changed = {
            part.before + piece.tensor: partial(_read, part, array, piece, order)
            for part in group
            for piece in chosen
            if (array := site.hub(part, piece.tensor)) is not None
        }
        if changed:
            rule = f"{order} {[*map(tuple, chosen)]} {where}"
            yield site.with_tensors(changed, _say_order(site, group, chosen, order), rule)


def _read(part: Part, array: Array, piece: GatedPiece, order: str) -> Array:
    """A hub tensor written in one order of the gates and read in the hub's."""
    slots = [
        Slot(piece.tensor, piece.tensor, part.kind.tensors[piece.tensor], gates=gates)
        for gates in (order, part.kind.gates)
    ]
    found = misread(part.kind, array, part.spec.sizes(), *slots)
    assert found is not None, piece
    if piece.side is None:
        return found
    return np.stack([(found if side == piece.side else array)[side] for side in range(len(array))])


def _say_order(site: SuspectLayer, group: list[Part], chosen: Pieces, order: str) -> Say:
    def say(naming: Naming) -> Said:
        part, tensor = group[0], chosen[0].tensor
        written, read = _written_and_read(site, part, tensor, order, naming)
        names = [name for p in group for name in _names(site, p, chosen, naming)]
        tensors = ", ".join(dict.fromkeys(names)).replace("`", "")
        if "`" not in names[0]:
            text = f"The gates of your {listed(names)} are in the order {' '.join(written)}"
            return Said(f"{text}; a has {' '.join(read)}.", "Reorder them.", tensors)
        verb = "hold" if len(names) > 1 else "holds"
        text = f"Your {listed(names)} {verb} {' '.join(written)}"
        text += _as_written(site, part, tensor, written)
        text += f"; {_reader(site, part, tensor, naming)} {' '.join(read)}."
        return Said(text, _fix(site, part, chosen, (written, read), naming), tensors)

    return say


def _written_and_read(
    site: SuspectLayer, part: Part, tensor: str, order: str, naming: Naming
) -> tuple[str, str]:
    """The order of the gates in the suspect's arrays, and that in which they are read."""
    own = naming.order(site.node, part.before, tensor, part.kind.gates)
    moved = dict(zip(part.kind.gates, order, strict=True))
    if site.node.owner not in naming.equal:
        return "".join(moved[gate] for gate in own), own
    # the arrays are a's, so that it is the code that takes one gate for another
    back = {gate: place for place, gate in moved.items()}
    return own, "".join(back[gate] for gate in own)


LETTERS = {"g": "c", "n": "h"}
"""Gates by the hub's letters -> by those of Keras's documents."""


def _as_written(site: SuspectLayer, part: Part, tensor: str, written: str) -> str:
    """That a's framework has the gates in this order, in its own letters; "" where it has not."""
    framework = site.model.source.framework
    if framework not in registry.names() or site.node.owner not in site.model.weights:
        return ""
    own = Naming(registry.adapter(framework))
    place = own.place(site.node, part.before)
    slots = place.table.slots if place else ()
    if written not in [slot.gates for slot in slots if slot.tensor == tensor]:
        return ""
    words = [LETTERS.get(gate, gate) if framework == "keras" else gate for gate in written]
    return f", as {own.title} does ({' '.join(words)} in its letters)"


def _reader(site: SuspectLayer, part: Part, tensor: str, naming: Naming) -> str:
    """Who reads the gates of a layer, and that it does."""
    if site.node.owner in naming.equal:
        return "your code reads"
    if (site.node.owner, part.before) in naming.tables:
        slots = naming.slots(site.node, part.before, tensor)
        apart = any("g" in slot.fixed for slot, _ in slots)
        return "their names say" if apart else "its other tensors hold"
    return f"{naming.title} reads"


def _fix(
    site: SuspectLayer, part: Part, chosen: Pieces, orders: tuple[str, str], naming: Naming
) -> str:
    """The advice: rows to exchange, or the order in which to read them."""
    reorder, sizes = "", part.kind.axis_sizes(part.spec.sizes())
    for slot, _ in naming.slots(site.node, part.before, chosen[0].tensor):
        if slot.gates and not reorder:
            reorder = f"eorder {blocks(slot, sizes, *orders)}"
    reorder += " of each" if reorder and len(_names(site, part, chosen, naming)) > 1 else ""
    if site.node.owner in naming.equal:
        return f"Let your code read {' '.join(orders[0])}{'; or r' * bool(reorder)}{reorder}."
    return f"R{reorder}." if reorder else "Exchange them."


def _names(site: SuspectLayer, part: Part, chosen: Pieces, naming: Naming) -> list[str]:
    """The suspect's names of the tensors, each in backquotes."""
    found: list[str] = []
    for tensor, side in chosen:
        slots = [*naming.slots(site.node, part.before, tensor)]
        own = [name for slot, name in slots if side in (None, slot.fixed.get("s"))]
        product = "" if side is None else f" of the {('input', 'recurrent')[side]} product"
        found += [f"`{name}`" for name in own] or [f"{plain(part.before, tensor)}{product}"]
    return list(dict.fromkeys(found))


ROWS = (Mistake("gate-order", gate_orders),)
