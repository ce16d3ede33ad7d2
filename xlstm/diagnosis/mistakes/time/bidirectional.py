"""Rows of the table of mistakes: two halves read, turned and joined wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Call, masked
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called, with_options
from xlstm.ir.layers import MERGES, Bidirectional, LayerSpec
from xlstm.ir.types import Array
from xlstm.reference.context import Context
from xlstm.reference.recurrent import merge, recurrent


def whole(spec: Any) -> Any:
    """A recurrent layer, or two halves, that return every step."""
    if isinstance(spec, Bidirectional):
        return replace(spec, forward=whole(spec.forward), backward=whole(spec.backward))
    return replace(spec, return_sequences=True)


class Halves(NamedTuple):
    """Both halves' sequences in the order in which each was read, and their last states."""

    first: Array
    second: Array
    states: list[Array]


def turned(y: Array) -> Array:
    """A mask or a sequence from its other end."""
    return y[:, ::-1]


Change = Callable[[Array], Array]


def _halves(
    spec: Bidirectional,
    x: Array,
    context: Context,
    both_forwards: bool,
    mask_turned: bool,
    read: Change = np.asarray,
) -> Halves:
    backward = replace(spec.backward, go_backwards=spec.backward.go_backwards != both_forwards)
    one, other = _contexts(spec, context)
    a, *states_a = recurrent(whole(spec.forward), x, one)
    b, *states_b = recurrent(
        whole(backward), read(x), masked(other, turned) if mask_turned else other
    )
    return Halves(a, b, [*states_a, *states_b])


def _contexts(spec: Bidirectional, context: Context) -> tuple[Context, Context]:
    """The surroundings of both halves."""
    count, states = len(spec.forward.state_shapes()), context.states
    return context.half("forward_", states[:count]), context.half("backward_", states[count:])


Pick = Callable[[Bidirectional, Array, Array], tuple[Array, Array]]
"""Chooses from both sequences what is joined."""


def _joined(
    pick: Pick,
    *,
    both_forwards: bool = False,
    mask_turned: bool = False,
    read: Change = np.asarray,
    join: Callable[[Array, Array], Array] | None = None,
) -> Call:
    """Halves joined of what is picked; `read` is done to the input of the backward half.

    `join` is what is computed of both where that is no merge of a framework's.
    """

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        assert isinstance(spec, Bidirectional)
        found = _halves(spec, inputs[0], context, both_forwards, mask_turned, read)
        a, b = pick(spec, found.first, found.second)
        return [*([join(a, b)] if join else merge(spec.merge, a, b)), *found.states]

    return call


def _unturned(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (a, b) if spec.return_sequences else (a[:, -1], b[:, -1])


def _last_of_backward(_spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return a[:, -1], b[:, 0]


def _first_of_both(_spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return a[:, 0], b[:, -1]


def _swapped(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (b[:, ::-1], a) if spec.return_sequences else (b[:, -1], a[:, -1])


def _swapped_unturned(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (b, a) if spec.return_sequences else (b[:, 0], a[:, -1])


def _turned_both(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (a[:, ::-1], b) if spec.return_sequences else (a[:, 0], b[:, 0])


def _right(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (a, b[:, ::-1]) if spec.return_sequences else (a[:, -1], b[:, -1])


def _units_reversed(_spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return a, b[..., ::-1]


def _twice(number: int) -> Pick:
    return lambda spec, a, b: (_right(spec, a, b)[number],) * 2


Run = Callable[[Any, Array, Context], list[Array]]
"""Runs one half, or a layer that is none: every output in the order of reading, then states."""


def each(run: Run, backward: Run | None = None) -> Call:
    """A recurrent layer, or both halves, run in another way; the backward half in a way of its own.

    Args:
        run: for every layer and half.
        backward: for the backward half, where it is another one.
    """

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        if not isinstance(spec, Bidirectional):
            y, *states = run(whole(spec), inputs[0], context)
            return [y if own.return_sequences else y[:, -1], *states]
        one, other = _contexts(spec, context)
        a, *states = run(whole(spec.forward), inputs[0], one)
        b, *more = (backward or run)(whole(spec.backward), inputs[0], other)
        return [*merge(spec.merge, *_right(spec, a, b)), *states, *more]

    return call


def _unmasked(spec: Any, x: Array, context: Context) -> list[Array]:
    return recurrent(spec, x, replace(context, mask=None))


LAST = "Use h_n of both directions, not out[:, -1]."

JOINED: tuple[tuple[str, bool | None, Call, str, str], ...] = (
    ("unturned-backward", True, _joined(_unturned),
     "Your backward half's output is not turned round in time again.", "Flip it along time."),
    ("last-of-backward", False, _joined(_last_of_backward),
     "You take out[:, -1] for the backward half too: there it has read one step only.", LAST),
    ("last-of-backward", False, _joined(_first_of_both),
     "You take out[:, 0] for both halves: there the forward half has read one step only.", LAST),
    ("swapped-outputs", None, _joined(_swapped),
     "Your halves are joined backward first.", "Put the forward half first."),
    ("swapped-outputs", None, _joined(_swapped_unturned),
     "Your halves are joined backward first, and the backward half's output is not turned round.",
     "Flip it along time and put the forward half first."),
    ("unturned-backward", None, _joined(_turned_both),
     "The output of your forward half is turned round in time for the backward half's.",
     "Flip the backward half's output."),
    ("go-backwards", None, _joined(_unturned, both_forwards=True),
     "Your backward half reads the sequence forwards: its input is not flipped in time.",
     "Let it read from the end."),
    ("go-backwards", None, _joined(_right, both_forwards=True, read=lambda x: x[..., ::-1]),
     "The input of your backward half is flipped over its features, not over time.",
     "Flip axis 1, time."),
    ("unturned-backward", True, _joined(_units_reversed),
     "The output of your backward half is flipped over its units, not over time.",
     "Flip axis 1, time."),
    ("go-backwards", True,
     _joined(lambda spec, a, b: (a, b[:, ::-1]), both_forwards=True),
     "Your backward half reads forwards and only its output is turned round.",
     "Turn its input round as well."),
)  # fmt: skip
"""Cause, for sequences or last steps or both (None), the call, what is wrong, what to do."""


MASKED: tuple[tuple[str, Call, str, str], ...] = (
    ("go-backwards", _joined(_unturned, both_forwards=True, mask_turned=True),
     "Your backward half reads the sequence forwards, and its mask from the end.",
     "Let it read both from the end."),
    ("go-backwards", _joined(_right, both_forwards=True, mask_turned=True),
     "Your backward half reads the sequence forwards; only its mask and its output are turned.",
     "Let it read both from the end."),
    ("mask-ignored", _joined(_right, mask_turned=True),
     "Your backward half reads the mask forwards while it reads the sequence from the end.",
     "Turn the mask round as well."),
    ("mask-ignored", each(recurrent, _unmasked),
     "Your backward half does not obey the mask; your forward half does.",
     "Hold its state and its output at masked steps as well."),
    ("mask-ignored", each(_unmasked, recurrent),
     "Your forward half does not obey the mask; your backward half does.",
     "Hold its state and its output at masked steps as well."),
)  # fmt: skip
"""The same for layers with a mask."""


def _joins(cause: str) -> Mistake:
    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        spec = site.spec
        if not isinstance(spec, Bidirectional):
            return
        for own, sequences, call, text, fix in JOINED:
            if own == cause and sequences in (None, spec.return_sequences):
                yield called(site, call, text, fix)
        for own, call, text, fix in MASKED if site.node.mask is not None else ():
            if own == cause:
                yield called(site, call, text, fix)

    return Mistake(cause, alter)


def merges(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Halves joined in another way."""
    if isinstance(site.spec, Bidirectional):
        for how in MERGES:
            spec = with_options(site.spec, merge=how)
            if spec is not None and "none" not in (how, site.spec.merge):
                text = f"Your halves are joined by {how}; a joins them by {site.spec.merge}."
                fix = f"Join them by {site.spec.merge}."
                yield site.altered(text, fix, f"merge {how}", spec=spec)


def halves_twice(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """One half joined with itself; of last steps end to end `other-state` says which h is taken."""
    spec = site.spec
    if not isinstance(spec, Bidirectional) or spec.merge == "none":
        return
    if spec.merge == "concat" and not spec.return_sequences:
        return
    for number, half, other in ((0, "forward", "backward"), (1, "backward", "forward")):
        text = f"Your {half} half is joined with itself; the {other} half is left out."
        yield called(site, _joined(_twice(number)), text, "Join both halves.", rare=True)


def _of_neighbours(a: Array, b: Array) -> Array:
    both = np.concatenate([a, b], -1)
    pairs = both.reshape(*both.shape[:-1], a.shape[-1], 2)
    return np.asarray(pairs.mean(axis=-1))


OTHERS: tuple[tuple[str, Callable[[Array, Array], Array]], ...] = (
    ("the forward half alone", lambda a, _b: a),
    ("the backward half alone", lambda _a, b: b),
    ("half the product", lambda a, b: a * b / 2),
    ("the difference", lambda a, b: a - b),
    ("the larger number", np.maximum),
    ("the mean of neighbouring units, as if the view were (units, halves) for (halves, units)",
     _of_neighbours),
)  # fmt: skip
"""Other things than the merges of the hub that are written for them."""


def other_merges(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Halves joined by what is no merge of a framework's."""
    spec = site.spec
    if not isinstance(spec, Bidirectional) or spec.merge in ("concat", "none"):
        return
    for words, formula in OTHERS:
        text = f"Your halves give {words}; a joins them by {spec.merge}."
        call = _joined(_right, join=formula)
        yield called(site, call, text, f"Join them by {spec.merge}.")


ROWS = (
    _joins("unturned-backward"),
    _joins("last-of-backward"),
    _joins("swapped-outputs"),
    Mistake("merge-mode", merges),
    Mistake("merge-mode", other_merges),
    Mistake("merge-mode", halves_twice),
    _joins("go-backwards"),
    _joins("mask-ignored"),
)
