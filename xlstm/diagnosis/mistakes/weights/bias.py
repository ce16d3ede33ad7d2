"""Rows of the table of causes: biases lost, doubled, misplaced; other single numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    Part,
    SuspectLayer,
    groups,
    parts,
    with_tensors,
)
from xlstm.ir.kinds import Kind
from xlstm.ir.types import Array
from xlstm.slots import Slot, Table, pack, unpack

Change = Callable[[Array], Array]


def _sides(first: float, second: float) -> Change:
    """Multiplies the two sides of a bias."""

    def change(bias: Array) -> Array:
        scales = np.array([first, second][: len(bias)]).reshape(-1, *(1,) * (bias.ndim - 1))
        return np.asarray(bias * scales)

    return change


def _both(bias: Array) -> Array:
    return bias if len(bias) == 2 else np.concatenate([bias, np.zeros_like(bias)])


def _swapped(bias: Array) -> Array:
    return _both(bias)[::-1]


def _on(side: int) -> Change:
    """Both sides added up on one."""

    def change(bias: Array) -> Array:
        whole = _both(bias).sum(axis=0)
        return np.stack([whole, np.zeros_like(whole)][:: 1 if side == 0 else -1])

    return change


def _twice(side: int) -> Change:
    """One side in place of both."""
    return lambda bias: np.stack([_both(bias)[side]] * 2)


ALONE = ", and zeros on the other"
APART = "Keep them apart: the reset gate acts on the recurrent one"
INPUT, RECURRENT = "bias of the input product", "bias of the recurrent product"

BiasRow = tuple[str, str, str, Change]
"""Cause, what the bias does, what to do, and the change."""

WHOLE: tuple[BiasRow, ...] = (
    ("lost-bias", "is lost (zeros)", "Copy it", _sides(0, 0)),
    ("doubled-bias", "is added twice", "Put it into one of the two biases, zeros elsewhere",
     _sides(2, 2)),
)  # fmt: skip
"""Changes of a bias as a whole: those of one side are the same."""

LOST: tuple[BiasRow, ...] = (
    ("lost-bias", f"lacks the {RECURRENT}", "Copy that side as well", _sides(1, 0)),
    ("lost-bias", f"lacks the {INPUT}", "Copy that side as well", _sides(0, 1)),
)
SWAPPED: BiasRow = (
    "misplaced-bias",
    "has its two sides in each other's place",
    "Swap them",
    _swapped,
)
SUMMED: tuple[BiasRow, ...] = (
    ("misplaced-bias", f"has the sum of both sides on the input product{ALONE}", APART, _on(0)),
    ("misplaced-bias", f"has the sum of both sides on the recurrent product{ALONE}", APART, _on(1)),
    ("doubled-bias", f"has the {INPUT} on both products", "Put each where it belongs", _twice(0)),
    ("doubled-bias", f"has the {RECURRENT} on both products", "Put each where it belongs",
     _twice(1)),
    ("doubled-bias", "has the sum of both sides on both products", "Put each where it belongs",
     lambda bias: np.stack([_both(bias).sum(axis=0)] * 2)),
)  # fmt: skip
TWICE: tuple[BiasRow, ...] = (
    ("doubled-bias", f"has the {INPUT} twice", "Add it once", _sides(2, 1)),
    ("doubled-bias", f"has the {RECURRENT} twice", "Add it once", _sides(1, 2)),
)

SIDED = (*WHOLE, *LOST, SWAPPED, *SUMMED, *TWICE)
"""Mistakes in biases with two sides."""

PLAIN: tuple[BiasRow, ...] = (
    ("lost-bias", "is lost (zeros)", "Copy it", lambda bias: 0 * bias),
    ("doubled-bias", "is added twice", "Add it once", lambda bias: 2 * bias),
    ("other-weights", "has the other sign", "Copy it as it is", lambda bias: -bias),
)

ONES: tuple[BiasRow, ...] = (("other-weights", "is lost (ones)", "Copy it", np.ones_like),)


def _biases(cause: str) -> Mistake:
    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        for group in groups(site.spec):
            yield from _altered(site, group, cause)

    return Mistake(cause, alter)


def _altered(site: SuspectLayer, group: list[Part], cause: str) -> Iterator[AlteredLayer]:
    every = len(group) == len(parts(site.spec))
    for tensor in group[0].kind.tensors:
        names = [p.before + tensor for p in group if p.before + tensor in site.layer.weights]
        if not names:
            continue
        sides = len(np.atleast_1d(site.layer.weights[names[0]]))
        for own, text, fix, change in _changes(group[0].kind, tensor, sides):
            found = {name: change(site.layer.weights[name]) for name in names}
            same = all(_equal(found[n], site.layer.weights[n]) for n in names)
            if own == cause and not same:
                called = " and ".join(
                    site.naming.called(site.node, p.before, tensor) for p in group
                )
                whose = f"The bias in {called}" if "`" in called else f"Your {called}"
                say = site.said(f"{whose} {text}.", f"{fix}.", _bare(called))
                rule = f"{cause} {tensor} {text} {'' if every else group[0].before}"
                yield AlteredLayer(with_tensors(site.layer, found), say, rule, tuple(found))


def _bare(called: str) -> str:
    return called.replace("`", "").replace(" and ", ", ")


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(a, b)


def _sided(kind: Kind, sides: int) -> tuple[BiasRow, ...]:
    """The rows that are different functions: where both sides are added up, few are."""
    if not kind.apart:
        return WHOLE if sides == 1 else (*WHOLE, *LOST, *TWICE)
    return (*WHOLE, SWAPPED) if sides == 1 else SIDED


def _changes(kind: Kind, tensor: str, sides: int) -> tuple[BiasRow, ...]:
    axes = kind.tensors[tensor]
    if "s" in axes:
        return _sided(kind, sides)
    if tensor in ("gamma", "scale", "variance"):
        return ONES
    return PLAIN if tensor == "beta" or tensor.endswith("bias") else ()


def _own_slots(cause: str, times: int, text: str, fix: str) -> Mistake:
    """Biases as the suspect's framework keeps them, each by itself and all that were folded."""

    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        for part in parts(site.spec):
            found_slots, name = (
                [*site.naming.slots(site.node, part.before, "bias")],
                part.before + "bias",
            )
            hub = site.layer.weights.get(name)
            if not found_slots or hub is None:
                continue
            called = {slot.name: own for slot, own in found_slots}
            slots = [slot for slot, _ in found_slots]
            every = [slot for slot in slots if slot.fixed.get("s") != 1]
            for chosen in (*([slot] for slot in slots), every):
                found = _multiplied(slots, chosen, hub, part, times)
                if found is None:
                    continue
                names = [called[slot.name] for slot in chosen]
                said = " and ".join(f"`{n}`" for n in names)
                say = site.said(f"Your {said} {text}.", fix, ", ".join(names))
                layer = with_tensors(site.layer, {name: found})
                yield AlteredLayer(layer, say, f"{cause} {names}", (name,), rare=True)

    return Mistake(cause, alter)


def _multiplied(
    slots: list[Slot], chosen: list[Slot], hub: Array, part: Part, times: int
) -> Array | None:
    """A hub bias some of whose framework's tensors are multiplied; None where nothing changes."""
    own = Table(part.kind, tuple(slots))
    sizes = part.spec.sizes()
    arrays = pack(own, {"bias": hub}, sizes)
    changed = {n: a * times if n in {s.name for s in chosen} else a for n, a in arrays.items()}
    if not chosen or all(np.array_equal(changed[n], arrays[n]) for n in arrays):
        return None
    return unpack(own, changed, sizes)["bias"]


def gates_lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The bias of one gate lost, on one side or on both."""
    for group in groups(site.spec):
        gates = group[0].kind.gates
        names = [p.before + "bias" for p in group if p.before + "bias" in site.layer.weights]
        for number, gate in enumerate(gates if names else ""):
            for side in (slice(None), 0, 1):
                found = {n: _without(site.layer.weights[n], side, number) for n in names}
                if all(np.array_equal(found[n], site.layer.weights[n]) for n in names):
                    continue
                called = " and ".join(
                    site.naming.called(site.node, p.before, "bias") for p in group
                )
                whose = f"in {called}" if "`" in called else f"of {site.node.name}"
                text = f"The bias of gate {gate} {whose} is lost (zeros)."
                rule = f"lost {gate} {side} {'' if len(group) == len(parts(site.spec)) else names}"
                say = site.said(text, "Copy it.", _bare(called))
                layer = with_tensors(site.layer, found)
                yield AlteredLayer(layer, say, rule, tuple(found), rare=True)


def _without(bias: Array, side: slice | int, gate: int) -> Array:
    if isinstance(side, int) and side >= len(bias):
        return bias
    bias = bias.copy()
    bias[side, gate] = 0
    return bias


def forget(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """1 more, or less, in the bias of the forget gate."""
    for group in groups(site.spec):
        gated = [p for p in group if "f" in p.kind.gates]
        if not gated or not all(p.spec.use_bias for p in gated):  # type: ignore[attr-defined]
            continue
        for more in (1.0, -1.0):
            found = {}
            for part in gated:
                bias = site.layer.weights[part.before + "bias"].copy()
                bias[0, part.kind.gates.index("f")] += more
                found[part.before + "bias"] = bias
            word = "added to" if more > 0 else "taken from"
            text = f"1 is {word} the bias of the forget gate, which holds what training left there."
            fix = "Set the forget bias that is added at run time to 0, or copy the bias as it is."
            rule = f"forget-bias {more} {'' if len(group) == len(gated) else group[0].before}"
            names = " ".join(found)
            yield AlteredLayer(
                with_tensors(site.layer, found), site.said(text, fix, names), rule, tuple(found)
            )


def rounded(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """All tensors rounded to float16, bfloat16, or whole steps of 8-bit numbers."""
    for name, change in PRECISIONS.items():
        found = {n: change(a) for n, a in site.layer.weights.items()}
        if any(not np.array_equal(found[n], a) for n, a in site.layer.weights.items()):
            say = site.said(f"The weights were rounded to {name}.", "Copy them in full precision.")
            layer = with_tensors(site.layer, found)
            yield AlteredLayer(layer, say, f"rounded-weights {name}", tuple(found))


def bfloat16(x: Array) -> Array:
    """Rounded to the eight bits of bfloat16, to nearest and to even between two, as float64.

    >>> bfloat16(np.array([1.0, 1.005])).tolist()
    [1.0, 1.0078125]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.int64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(np.float64).reshape(x.shape)


def _float16(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float64)


PRECISIONS: dict[str, Change] = {"float16": _float16, "bfloat16": bfloat16}
"""Lower precisions that weights are rounded to."""

ROWS = (
    _biases("lost-bias"),
    _biases("doubled-bias"),
    _biases("misplaced-bias"),
    Mistake("lost-bias", gates_lost),
    _own_slots("lost-bias", 0, "lost its numbers (zeros)", "Copy it."),
    _own_slots("doubled-bias", 2, "has its numbers twice", "Add them once."),
    Mistake("forget-bias", forget),
    Mistake("rounded-weights", rounded),
    _biases("other-weights"),
)
