"""Rows of the table of causes: numbers in the wrong place. All of it runs through the slot engine.

A tensor that holds its numbers in another form than the suspect reads is written with one slot and
read with another; nothing here permutes or transposes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    Part,
    Say,
    SuspectLayer,
    groups,
    parts,
    with_made,
    with_tensors,
)
from xlstm.diagnosis.pairing.names import Naming, Said
from xlstm.ir.kinds import Kind
from xlstm.ir.layers import Bidirectional
from xlstm.ir.types import Array
from xlstm.slots import Slot, Table, pack, shape, unpack

Sizes = Mapping[str, int]


def misread(kind: Kind, hub: Array, sizes: Sizes, written: Slot, read: Slot) -> Array | None:
    """A hub tensor written with one slot and read with another, None where the shapes differ."""
    one, other = Table(kind, (written,)), Table(kind, (read,))
    try:
        array = pack(one, {written.tensor: hub}, sizes)[written.name]
        want = shape(read, kind, sizes)
        if array.shape != want and array.size != np.prod(want):
            return None
        array = array.reshape(want)
        return _plain_sides(kind, hub, unpack(other, {read.name: array}, sizes)[read.tensor])
    except (ValueError, KeyError):
        return None


def _plain_sides(kind: Kind, hub: Array, found: Array) -> Array:
    """A bias of as many sides as it had."""
    return found[: len(hub)] if found.ndim == hub.ndim and kind.gates else found


def axis_sizes(part: Part) -> dict[str, int]:
    """Length of each hub axis of a part's tensors."""
    return part.kind.axis_sizes(part.spec.sizes())


def hub_of(site: SuspectLayer, part: Part, tensor: str) -> Array | None:
    """A part's hub tensor, None where it has none."""
    return site.layer.weights.get(part.before + tensor)


TRANSPOSED = (("j", "h"), ("i", "h"), ("i", "o"), ("a", "b"))
"""Pairs of hub axes that a matrix may have the other way round."""


def transposed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Matrices whose two axes are as long as each other and changed places."""
    for group in groups(site.spec):
        for tensor, axes in group[0].kind.tensors.items():
            for a, b in TRANSPOSED:
                if a in axes and b in axes:
                    turned = axes.translate(str.maketrans(a + b, b + a))
                    yield from _other_axes(site, group, tensor, turned, axes, "transposed")


LAYOUTS: tuple[str, ...] = (
    "i(gh)",
    "(gh)i",
    "j(gh)",
    "(gh)j",
    "i(hg)",
    "(hg)i",
    "j(hg)",
    "(hg)j",
    "io",
    "oi",
)
LAYOUTS += ("ih", "hi", "jh", "hj", "(hg)", "(gh)", "aio", "oia", "abio", "oiab", "bao", "baio")
"""Forms in which a framework may keep a tensor, to be taken for each other."""


def reshaped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Arrays reshaped where they had to be transposed, and gates interleaved with units."""
    for group in groups(site.spec):
        for tensor, axes in group[0].kind.tensors.items():
            letters = "".join(sorted(axes.replace("s", "")))
            fitting = [layout for layout in LAYOUTS if _same(layout, letters)]
            for written, read in itertools.permutations(fitting, 2):
                yield from _other_axes(site, group, tensor, written, read, "reshaped")


def _same(layout: str, letters: str) -> bool:
    return "".join(sorted(layout.replace("(", "").replace(")", ""))) == letters


def _other_axes(
    site: SuspectLayer, group: list[Part], tensor: str, written: str, read: str, cause: str
) -> Iterator[AlteredLayer]:
    changed = {}
    for part in group:
        hub = hub_of(site, part, tensor)
        if hub is None:
            continue
        make = partial(_sided, part, hub, tensor, written, read)
        found = make()
        if found is not None and not np.array_equal(found, hub):
            changed[part.before + tensor] = cast("Callable[[], Array]", make)
    if changed:
        layer = with_made(site.layer, changed)
        say = _say_axes(site, [*changed], group, tensor, cause)
        where = "" if len(group) == len(parts(site.spec)) else group[0].before
        yield AlteredLayer(layer, say, f"{cause} {tensor} {written} {read} {where}", tuple(changed))


def _sided(part: Part, hub: Array, tensor: str, written: str, read: str) -> Array | None:
    """As `misread`; a bias side by side."""
    axes = part.kind.tensors[tensor]
    slots = [Slot(tensor, tensor, form, gates=part.kind.gates) for form in (written, read)]
    if "s" not in axes or "s" in read:
        return misread(part.kind, hub, part.spec.sizes(), *slots)
    sides = []
    for side in range(len(hub)):
        at = [replace(slot, fixed={"s": 0}) for slot in slots]
        found = misread(part.kind, hub[side : side + 1], part.spec.sizes(), *at)
        if found is None:
            return None
        sides.append(found[:1])
    return np.concatenate(sides)


def _say_axes(
    site: SuspectLayer, names: list[str], group: list[Part], tensor: str, cause: str
) -> Say:
    def say(naming: Naming) -> Said:
        called = [naming.called(site.node, part.before, tensor) for part in group]
        what = {"transposed": "transposed", "reshaped": "reshaped where it had to be transposed"}
        verb, axes = "is" if len(names) == 1 else "are", group[0].kind.tensors[tensor]
        text = f"Your {' and '.join(called)} {verb} {what[cause]}."
        if cause == "transposed" and "g" in axes:
            size = axis_sizes(group[0])[axes[-1]]
            block = f"each gate's {size} x {size} block is transposed"
            text = f"In your {' and '.join(called)} {block}."
        fix = "Transpose it once more." if cause == "transposed" else "Transpose it instead."
        return Said(text, fix, " ".join(called).replace("`", ""))

    return say


def swapped_tensors(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Two tensors of a part that have equal shapes and changed places."""
    for part in parts(site.spec):
        every = {tensor: hub_of(site, part, tensor) for tensor in part.kind.tensors}
        held = {tensor: array for tensor, array in every.items() if array is not None}
        for a, b in itertools.combinations(held, 2):
            if held[a].shape == held[b].shape and held[a].ndim:
                changed = {part.before + a: held[b], part.before + b: held[a]}
                called = site.naming.called(site.node, part.before, a, b)
                text = f"Your {called} have each other's numbers."
                say = site.said(text, "Swap them.", called.replace("`", ""))
                layer = with_tensors(site.layer, changed)
                yield AlteredLayer(layer, say, f"swapped-tensors {a} {b}", tuple(changed))


def swapped_halves(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The forward half with the backward half's weights, and the reverse."""
    if not isinstance(site.spec, Bidirectional) or len(parts(site.spec)) != 2:
        return
    f, b = parts(site.spec)
    names = [t for t in f.kind.tensors if f.before + t in site.layer.weights]
    if f.spec.sizes() != b.spec.sizes() or f.spec.weight_kind != b.spec.weight_kind:
        return
    held = site.layer.weights
    changed = {f.before + t: held[b.before + t] for t in names}
    changed |= {b.before + t: held[f.before + t] for t in names}
    text = "The forward half has the backward half's weights, and the other way round."
    say = site.said(text, "Swap the weights of the halves.")
    yield AlteredLayer(with_tensors(site.layer, changed), say, "swapped-halves", tuple(changed))
    for to, source in (("forward", "backward"), ("backward", "forward")):
        own = {name: array for name, array in changed.items() if name.startswith(to)}
        say = site.said(f"Both halves have the {source} half's weights.", f"Copy the {to} half's.")
        yield AlteredLayer(with_tensors(site.layer, own), say, f"copied {source}", tuple(own))


def flipped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Windows of convolutions that run from their end (Theano's)."""
    for part in parts(site.spec):
        hub = hub_of(site, part, "kernel")
        axes = part.kind.tensors.get("kernel", "")
        turned = "".join(axis for axis in axes if axis in "abc")
        if hub is None or not turned:
            continue
        written = Slot("kernel", "kernel", axes, reversed_axes=turned)
        found = misread(
            part.kind, hub, part.spec.sizes(), written, replace(written, reversed_axes="")
        )
        if found is None or np.array_equal(found, hub):
            continue
        name = part.before + "kernel"
        called = site.naming.called(site.node, part.before, "kernel")
        say = site.said(f"The windows of your {called} run from their end.", "Flip them.")
        yield AlteredLayer(with_tensors(site.layer, {name: found}), say, "flipped-kernel", (name,))


ROWS = (
    Mistake("swapped-halves", swapped_halves),
    Mistake("transposed", transposed),
    Mistake("swapped-tensors", swapped_tensors),
    Mistake("flipped-kernel", flipped),
    Mistake("reshaped", reshaped),
)
