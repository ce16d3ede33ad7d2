"""Rows of the table of mistakes: numbers in the wrong place, by way of the slot engine.

A tensor that holds its numbers in another form than the suspect reads is written with one slot and
read with another; nothing here permutes or transposes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, Part, SuspectLayer, groups, parts
from xlstm.ir.kinds import Kind
from xlstm.ir.layers import Bidirectional
from xlstm.ir.types import Array
from xlstm.slots import Slot, Table, pack, shape, unpack


def misread(
    kind: Kind, hub: Array, sizes: Mapping[str, int], written: Slot, read: Slot
) -> Array | None:
    """A hub tensor written with one slot and read with another, None where the shapes differ."""
    try:
        array = pack(Table(kind, (written,)), {written.tensor: hub}, sizes)[written.name]
        want = shape(read, kind, sizes)
        if array.shape != want and array.size != np.prod(want):
            return None
        array = array.reshape(want)
        found = unpack(Table(kind, (read,)), {read.name: array}, sizes)[read.tensor]
    except (ValueError, KeyError):
        return None
    # a bias of as many sides as it had
    return found[: len(hub)] if found.ndim == hub.ndim and kind.gates else found


TRANSPOSED = (("j", "h"), ("i", "h"), ("i", "o"), ("a", "b"))
"""Pairs of hub axes that a matrix may have the other way round."""

LAYOUTS = "i(gh) (gh)i j(gh) (gh)j i(hg) (hg)i j(hg) (hg)j io oi ih hi jh hj (hg) (gh) aio oia"
LAYOUTS += " abio oiab bao baio"
"""Forms in which a framework may keep a tensor, to be taken for each other."""


def transposed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Matrices whose two axes are as long as each other and changed places."""
    for group in groups(site.spec):
        for tensor, axes in group[0].kind.tensors.items():
            for a, b in TRANSPOSED:
                if a in axes and b in axes:
                    turned = axes.translate(str.maketrans(a + b, b + a))
                    yield from _other_axes(site, group, tensor, turned, axes, "transposed")


def reshaped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Arrays reshaped where they had to be transposed, and gates interleaved with units."""
    for group in groups(site.spec):
        for tensor, axes in group[0].kind.tensors.items():
            letters = sorted(axes.replace("s", ""))
            fitting = [f for f in LAYOUTS.split() if sorted(set(f) - {*"()"}) == letters]
            for written, read in itertools.permutations(fitting, 2):
                yield from _other_axes(site, group, tensor, written, read, "reshaped")


def _other_axes(
    site: SuspectLayer, group: list[Part], tensor: str, written: str, read: str, cause: str
) -> Iterator[AlteredLayer]:
    """A tensor of some parts written with some axes and read with others."""
    changed = {}
    for part in group:
        array = site.hub(part, tensor)
        if array is None:
            continue
        make = partial(_sided, part, array, tensor, written, read)
        found = make()
        if found is not None and not np.array_equal(found, array):
            changed[part.before + tensor] = make
    if not changed:
        return
    axes, called = group[0].kind.tensors[tensor], site.names(group, tensor)
    turned, verb = cause == "transposed", "is" if len(changed) == 1 else "are"
    text = f"Your {called} {verb} {cause}{'' if turned else ' where it had to be transposed'}."
    if turned and "g" in axes:
        size = group[0].kind.axis_sizes(group[0].spec.sizes())[axes[-1]]
        text = f"In your {called} each gate's {size} x {size} block is transposed."
    fix = "Transpose it once more." if turned else "Transpose it instead."
    where = "" if len(group) == len(parts(site.spec)) else group[0].before
    every = (site.names([part], tensor) for part in group)
    say = site.said(text, fix, " ".join(every).replace("`", ""))
    yield site.with_tensors(changed, say, f"{tensor} {written} {read} {where}")


def _sided(part: Part, array: Array, tensor: str, written: str, read: str) -> Array | None:
    """As `misread`; a bias side by side."""
    sizes = part.spec.sizes()
    slots = [Slot(tensor, tensor, form, gates=part.kind.gates) for form in (written, read)]
    if "s" not in part.kind.tensors[tensor] or "s" in read:
        return misread(part.kind, array, sizes, *slots)
    at = [replace(slot, fixed={"s": 0}) for slot in slots]
    sides = [misread(part.kind, array[n : n + 1], sizes, *at) for n in range(len(array))]
    found = [side[:1] for side in sides if side is not None]
    return np.concatenate(found) if len(found) == len(sides) else None


def swapped_tensors(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Two tensors of a part that have equal shapes and changed places."""
    for part in parts(site.spec):
        every = {tensor: site.hub(part, tensor) for tensor in part.kind.tensors}
        own = {tensor: array for tensor, array in every.items() if array is not None}
        for a, b in itertools.combinations(own, 2):
            if own[a].shape == own[b].shape and own[a].ndim:
                called = site.naming.called(site.node, part.before, a, b)
                text = f"Your {called} have each other's numbers."
                say = site.said(text, "Swap them.", called.replace("`", ""))
                changed = {part.before + a: own[b], part.before + b: own[a]}
                yield site.with_tensors(changed, say, f"{a} {b}")


def swapped_halves(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The forward half with the backward half's weights, and the reverse."""
    if not isinstance(site.spec, Bidirectional) or len(parts(site.spec)) != 2:
        return
    f, b = parts(site.spec)
    if f.spec.sizes() != b.spec.sizes() or f.spec.weight_kind != b.spec.weight_kind:
        return
    own = site.layer.weights
    names = [t for t in f.kind.tensors if f.before + t in own]
    changed = {f.before + t: own[b.before + t] for t in names}
    changed |= {b.before + t: own[f.before + t] for t in names}
    text = "The forward half has the backward half's weights, and the other way round."
    say = site.said(text, "Swap the weights of the halves.")
    yield site.with_tensors(changed, say, "swapped-halves")
    for to, source in (("forward", "backward"), ("backward", "forward")):
        say = site.said(f"Both halves have the {source} half's weights.", f"Copy the {to} half's.")
        one = {name: array for name, array in changed.items() if name.startswith(to)}
        yield site.with_tensors(one, say, f"copied {source}")


def flipped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Windows of convolutions that run from their end (Theano's)."""
    for part in parts(site.spec):
        array = site.hub(part, "kernel")
        axes = part.kind.tensors.get("kernel", "")
        turned = "".join(axis for axis in axes if axis in "abc")
        if array is None or not turned:
            continue
        written = Slot("kernel", "kernel", axes, reversed_axes=turned)
        found = misread(
            part.kind, array, part.spec.sizes(), written, replace(written, reversed_axes="")
        )
        if found is not None and not np.array_equal(found, array):
            called = site.naming.called(site.node, part.before, "kernel")
            say = site.said(f"The windows of your {called} run from their end.", "Flip them.")
            yield site.with_tensors({part.before + "kernel": found}, say, "flipped-kernel")


ROWS = (
    Mistake("swapped-halves", swapped_halves),
    Mistake("transposed", transposed),
    Mistake("swapped-tensors", swapped_tensors),
    Mistake("flipped-kernel", flipped),
    Mistake("reshaped", reshaped),
)
