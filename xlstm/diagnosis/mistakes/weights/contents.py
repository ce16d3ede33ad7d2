"""Rows of the table of mistakes: numbers of a tensor that are a's, but for one plain change.

In: a layer. Out: the changes, made for every tensor and every axis of it from the layer's kind.
Biases are changed in both halves of a layer too: lost, doubled, on the wrong product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, Part, SuspectLayer, groups, parts
from xlstm.ir.types import Array
from xlstm.slots import Table, pack, unpack

AXES = {"i": "input", "h": "unit", "j": "hidden unit", "o": "unit", "v": "row number"}
"""Hub axis -> the word for its places in sentences."""


class Change(NamedTuple):
    """A plain change of a tensor's numbers: what is done, in words, and its undoing."""

    act: Callable[[Array], Array]
    text: str
    fix: str


Changes = Callable[[Part, str, Array], Iterable[Change]]
"""(part of a layer, name of a hub tensor, its numbers) -> changes to try."""


STATISTICS = ("gamma", "scale", "variance")
"""Tensors of norms that multiply or divide: a lost one is ones."""


def _row(cause: str, changes: Changes, *, biases: bool = False) -> Mistake:
    """A row that changes one tensor; `biases` changes those of both halves together too."""

    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        every, own = parts(site.spec), site.layer.weights
        for group in groups(site.spec) if biases else [[part] for part in every]:
            for tensor in group[0].kind.tensors:
                names = [p.before + tensor for p in group if p.before + tensor in own]
                called = site.names(group, tensor) if names else ""
                bias = biases and tensor not in STATISTICS
                whose = f"The bias in {called}" if bias and "`" in called else f"Your {called}"
                for act, text, fix in changes(group[0], tensor, own[names[0]]) if names else ():
                    found = {name: partial(act, own[name]) for name in names}
                    if all(np.array_equal(make(), own[name]) for name, make in found.items()):
                        continue
                    say = site.said(f"{whose}{'' if biases else ':'} {text}.", fix, bare(called))
                    where = group[0].before if biases and len(group) < len(every) else ""
                    rule = f"{tensor} {text} {where}"
                    yield site.with_tensors(found, say, rule, rare=not biases)

    return Mistake(cause, alter)


def bare(called: str) -> str:
    """Names of tensors as a list without backquotes."""
    return called.replace("`", "").replace(" and ", ", ")


INPUT, RECURRENT = "bias of the input product", "bias of the recurrent product"
ALONE, APART = ", and zeros on the other", "the reset gate acts on the recurrent one."
PLACE = "Put each where it belongs."

Sides = tuple[tuple[int, int], tuple[int, int]]
"""For each side of the wrong bias: how often it has the first side of a's, and the second."""

SIDES: dict[str, tuple[tuple[Sides, str, str], ...]] = {
    "lost-bias": (
        (((0, 0), (0, 0)), "is lost (zeros)", "Copy it."),
        (((1, 0), (0, 0)), f"lacks the {RECURRENT}", "Copy that side as well."),
        (((0, 0), (0, 1)), f"lacks the {INPUT}", "Copy that side as well."),
    ),
    "doubled-bias": (
        (((2, 0), (0, 2)), "is added twice",
         "Put it into one of the two biases, zeros elsewhere."),
        (((1, 0), (1, 0)), f"has the {INPUT} on both products", PLACE),
        (((0, 1), (0, 1)), f"has the {RECURRENT} on both products", PLACE),
        (((1, 1), (1, 1)), "has the sum of both sides on both products", PLACE),
        (((2, 0), (0, 1)), f"has the {INPUT} twice", "Add it once."),
        (((1, 0), (0, 2)), f"has the {RECURRENT} twice", "Add it once."),
    ),
    "misplaced-bias": (
        (((0, 1), (1, 0)), "has its two sides in each other's place", "Swap them."),
        (((1, 1), (0, 0)), f"has the sum of both sides on the input product{ALONE}",
         f"Keep them apart: {APART}"),
        (((0, 0), (1, 1)), f"has the sum of both sides on the recurrent product{ALONE}",
         f"Keep them apart: {APART}"),
    ),
}  # fmt: skip
"""Cause -> what may happen to the two sides of a bias, in numbers, in words, and what to do."""

PLAIN: dict[str, tuple[Change, ...]] = {
    "lost-bias": (Change(np.zeros_like, "is lost (zeros)", "Copy it."),),
    "doubled-bias": (Change(partial(np.multiply, 2), "is added twice", "Add it once."),),
    "other-weights": (Change(np.negative, "has the other sign", "Copy it as it is."),),
}
"""The same for a bias of one side, cause by cause."""


def _of_sides(sides: Sides, bias: Array) -> Array:
    """A bias each side of which adds up sides of another one."""
    two = bias if len(bias) == 2 else np.concatenate([bias, np.zeros_like(bias)])
    found = np.tensordot(np.array(sides, bias.dtype), two, 1)
    return found if len(bias) == 2 or found[1].any() else found[:1]


def _bias(cause: str) -> Mistake:
    """A row of all that may happen to a bias under one cause, each function of it once."""

    def changes(part: Part, tensor: str, bias: Array) -> Iterator[Change]:
        if "s" in part.kind.tensors[tensor]:

            def function(sides: Sides) -> tuple[int, ...]:
                """Tells functions apart: but for the GRU's new gate both sides are added up."""
                own = np.array(sides)[:, : len(bias)]
                return tuple((own if part.kind.apart else own.sum(axis=0)).ravel().tolist())

            seen = {function(((1, 0), (0, 1)))}
            for sides, text, fix in SIDES.get(cause, ()):
                if function(sides) not in seen:
                    yield Change(partial(_of_sides, sides), text, fix)
                seen.add(function(sides))
        elif tensor in STATISTICS:
            if cause == "other-weights":
                yield Change(np.ones_like, "is lost (ones)", "Copy it.")
        elif tensor == "beta" or tensor.endswith("bias"):
            yield from PLAIN.get(cause, ())

    return _row(cause, changes, biases=True)


def _own_slots(cause: str, times: int, text: str, fix: str) -> Mistake:
    """Biases as the suspect's framework keeps them, each by itself and all that were folded."""

    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        for part in parts(site.spec):
            called = {s.name: (s, n) for s, n in site.naming.slots(site.node, part.before, "bias")}
            array = site.hub(part, "bias")
            if not called or array is None:
                continue
            slots = [slot for slot, _ in called.values()]
            own, sizes = Table(part.kind, tuple(slots)), part.spec.sizes()
            every = [slot for slot in slots if slot.fixed.get("s") != 1]
            for chosen in (*([slot] for slot in slots), every):
                arrays = pack(own, {"bias": array}, sizes)
                changed = {**arrays, **{s.name: arrays[s.name] * times for s in chosen}}
                if all(np.array_equal(changed[name], arrays[name]) for name in arrays):
                    continue
                names = [called[slot.name][1] for slot in chosen]
                said = " and ".join(f"`{n}`" for n in names)
                say = site.said(f"Your {said} {text}.", fix, ", ".join(names))
                found = {part.before + "bias": unpack(own, changed, sizes)["bias"]}
                yield site.with_tensors(found, say, f"{cause} {names}", rare=True)

    return Mistake(cause, alter)


def gates_lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The bias of one gate lost, on one side or on both."""
    own = site.layer.weights
    for group in groups(site.spec):
        names = [p.before + "bias" for p in group if p.before + "bias" in own]
        called = site.names(group, "bias") if names else ""
        whose = f"in {called}" if "`" in called else f"of {site.node.name}"
        for number, gate in enumerate(group[0].kind.gates if names else ""):
            for side in (slice(None), slice(0, 1), slice(1, 2)):
                found = {name: own[name].copy() for name in names}
                for bias in found.values():
                    bias[side, number] = 0
                if all(np.array_equal(found[n], own[n]) for n in names):
                    continue
                text = f"The bias of gate {gate} {whose} is lost (zeros)."
                rule = f"{gate} {side} {'' if len(group) == len(parts(site.spec)) else names}"
                say = site.said(text, "Copy it.", bare(called))
                yield site.with_tensors(found, say, rule, rare=True)


def forget(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """1 more, or less, in the bias of the forget gate."""
    for group in groups(site.spec):
        gated = [p for p in group if "f" in p.kind.gates]
        if not gated or not all(p.spec.use_bias for p in gated):  # type: ignore[attr-defined]
            continue
        for more, word in ((1.0, "added to"), (-1.0, "taken from")):
            found = {}
            for part in gated:
                bias = site.layer.weights[part.before + "bias"].copy()
                bias[0, part.kind.gates.index("f")] += more
                found[part.before + "bias"] = bias
            text = f"1 is {word} the bias of the forget gate, which has its trained value already."
            fix = "Set the forget bias that is added at run time to 0, or copy the bias as it is."
            rule = f"{more} {'' if len(group) == len(gated) else group[0].before}"
            yield site.with_tensors(found, site.said(text, fix, " ".join(found)), rule)


def bfloat16(x: Array) -> Array:
    """Rounded to the eight bits of bfloat16, to nearest and to even between two.

    >>> bfloat16(np.array([1.0, 1.005])).tolist()
    [1.0, 1.0078125]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.int64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(x.dtype).reshape(x.shape)


def float16(x: Array) -> Array:
    """Rounded to float16; what is too large for it is infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(x.dtype)


def decimal(decimals: int, x: Array) -> Array:
    """Rounded to a number of decimals."""
    return np.asarray(x.round(decimals))


def rounded(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """All tensors rounded to float16 or bfloat16."""
    own = site.layer.weights
    for name, change in (("float16", float16), ("bfloat16", bfloat16)):
        found = {n: change(a) for n, a in own.items()}
        if any(not np.array_equal(found[n], a) for n, a in own.items()):
            say = site.said(f"The weights were rounded to {name}.", "Copy them in full precision.")
            yield site.with_tensors(found, say, name)


BIAS = (
    *map(_bias, SIDES),
    Mistake("lost-bias", gates_lost),
    _own_slots("lost-bias", 0, "lost its numbers (zeros)", "Copy it."),
    _own_slots("doubled-bias", 2, "has its numbers twice", "Add them once."),
    Mistake("forget-bias", forget),
    Mistake("rounded-weights", rounded),
    _bias("other-weights"),
)
"""Biases, and weights in a lower precision: usual mistakes."""


def _negated(_part: Part, _tensor: str, _hub: Array) -> Iterator[Change]:
    yield Change(np.negative, "the numbers are negated, a's times -1", "Remove the minus.")


def _lost(part: Part, tensor: str, _hub: Array) -> Iterator[Change]:
    text = "all numbers are zero, as if they were not loaded"
    yield Change(np.zeros_like, text, "Copy them.")
    for axis, letter in _named(part, tensor):
        for place, which in ((0, "first"), (-1, "last")):
            text = f"the numbers of the {which} {AXES[letter]} are lost (zeros)"
            yield Change(partial(_without, axis=axis, place=place), text, "Copy them.")


def _scaled(_part: Part, _tensor: str, _hub: Array) -> Iterator[Change]:
    for factor, text in ((2.0, "twice a's numbers"), (0.5, "half of a's numbers")):
        yield Change(partial(np.multiply, factor), text, "Remove the factor.")


def _reordered(part: Part, tensor: str, _hub: Array) -> Iterator[Change]:
    axes = part.kind.tensors[tensor]
    for axis, letter in _named(part, tensor):
        order = f"the order of the {AXES[letter]}s is reversed"
        yield Change(partial(np.flip, axis=axis), order, "Keep a's order.")
        for shift in (1, -1):
            text = f"the {AXES[letter]}s are shifted by one place"
            yield Change(partial(np.roll, shift=shift, axis=axis), text, "Do not shift them.")
    if "g" in axes and "h" in axes:
        both = (axes.index("g"), axes.index("h"))
        text = "the order of all gates and units is reversed"
        yield Change(partial(np.flip, axis=both), text, "Keep a's order.")


def _decimals(_part: Part, _tensor: str, _hub: Array) -> Iterator[Change]:
    for decimals in range(5):
        text = f"the numbers are rounded to {decimals} decimal{'s' * (decimals != 1)}"
        yield Change(partial(decimal, decimals), text, "Copy them as they are.")


def _named(part: Part, tensor: str) -> Iterator[tuple[int, str]]:
    """The axes of a tensor that have a name for what lies along them, and places to exchange."""
    sizes = part.kind.axis_sizes(part.spec.sizes())
    for axis, letter in enumerate(part.kind.tensors[tensor]):
        if letter in AXES and sizes.get(letter, 1) > 1:
            yield axis, letter


def _without(array: Array, axis: int, place: int) -> Array:
    found = array.copy()
    np.moveaxis(found, axis, 0)[place] = 0
    return found


ROWS = (
    _row("negated-weights", _negated),
    _row("lost-weights", _lost),
    _row("scaled-weights", _scaled),
    _row("reordered-weights", _reordered),
    _row("rounded-weights", _decimals),
)
"""All other plain changes of any tensor."""
