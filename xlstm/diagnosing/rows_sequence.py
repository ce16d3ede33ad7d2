"""Rows of the table of causes: sequences read, turned, joined, masked or started wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosing.altered import Call
from xlstm.diagnosing.hypothesis import Altered, Row, Site, pieces
from xlstm.diagnosing.rows_function import optioned, with_options
from xlstm.model import Array, Bidirectional, Recurrent
from xlstm.reference.context import Context
from xlstm.reference.layers import forward
from xlstm.reference.recurrent import merge, recurrent
from xlstm.specs import MERGES, Slice, Spec


class Halves(NamedTuple):
    """Both halves' sequences in the order in which each was read, and their last states."""

    first: Array
    second: Array
    states: list[Array]


def _whole(spec: Any) -> Any:
    return replace(spec, return_sequences=True)


def _mask_turned(context: Context) -> Context:
    """The same surroundings, the mask read from its other end."""
    mask = context.mask
    return context if mask is None else replace(context, mask=mask[:, ::-1])


def _halves(
    spec: Bidirectional, x: Array, context: Context, both_forwards: bool, turned: bool
) -> Halves:
    count = len(spec.forward.state_shapes())
    backward = replace(spec.backward, go_backwards=spec.backward.go_backwards != both_forwards)
    one = context.half("forward_", context.states[:count])
    other = context.half("backward_", context.states[count:])
    a, *states_a = recurrent(_whole(spec.forward), x, one)
    b, *states_b = recurrent(_whole(backward), x, _mask_turned(other) if turned else other)
    return Halves(a, b, [*states_a, *states_b])


Pick = Callable[[Bidirectional, Array, Array], tuple[Array, Array]]
"""Chooses from both sequences what is joined."""


def _joined(pick: Pick, *, both_forwards: bool = False, mask_turned: bool = False) -> Call:
    def call(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
        assert isinstance(spec, Bidirectional)
        found = _halves(spec, inputs[0], context, both_forwards, mask_turned)
        a, b = pick(spec, found.first, found.second)
        return [*merge(spec.merge, a, b), *found.states]

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
     "Your backward half reads the sequence forwards.", "Let it read from the end."),
    ("go-backwards", True,
     _joined(lambda spec, a, b: (a, b[:, ::-1]), both_forwards=True),
     "Your backward half reads forwards and only its output is turned round.",
     "Turn its input round as well."),
)  # fmt: skip
"""Cause, for sequences or last steps or both (None), the call, what is wrong, what to do."""


def _right(spec: Bidirectional, a: Array, b: Array) -> tuple[Array, Array]:
    return (a, b[:, ::-1]) if spec.return_sequences else (a[:, -1], b[:, -1])


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
)  # fmt: skip
"""The same for layers with a mask."""


def masked_joins(site: Site) -> Iterator[tuple[str, Altered]]:
    """Halves that read sequence and mask from different ends."""
    if site.node.mask is not None and isinstance(site.spec, Bidirectional):
        for cause, call, text, fix in MASKED:
            yield cause, _called(site, call, text, fix)


def _called(site: Site, call: Call, text: str, fix: str) -> Altered:
    return Altered(replace(site.layer, call=call), site.said(text, fix), text)


def _joins(cause: str) -> Row:
    def alter(site: Site) -> Iterator[Altered]:
        spec = site.spec
        for own, sequences, call, text, fix in JOINED:
            fits = isinstance(spec, Bidirectional) and sequences in (None, spec.return_sequences)
            if own == cause and fits:
                yield _called(site, call, text, fix)
        yield from (altered for own, altered in masked_joins(site) if own == cause)

    return Row(cause, alter)


def merges(site: Site) -> Iterator[Altered]:
    """Halves joined in another way."""
    if isinstance(site.spec, Bidirectional):
        for how in MERGES:
            if how != site.spec.merge and "none" not in (how, site.spec.merge):
                text = f"Your halves are joined by {how}; a joins them by {site.spec.merge}."
                spec = with_options(site.spec, merge=how)
                fix = f"Join them by {site.spec.merge}."
                if spec is not None:
                    layer = replace(site.layer, spec=spec)
                    yield Altered(layer, site.said(text, fix), f"merge {how}")


def _turned(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
    """A layer whose sequence is turned round in time."""
    first, *states = forward(spec, inputs, context)
    return [first[:, ::-1], *states]


def directions(site: Site) -> Iterator[Altered]:
    """A recurrent layer that reads in the other direction; its output turned round."""
    spec = site.spec
    if not isinstance(spec, Recurrent):
        return
    reads = "forwards" if spec.go_backwards else "backwards"
    other = replace(site.layer, spec=replace(spec, go_backwards=not spec.go_backwards))
    text = f"Your layer reads the sequence {reads}."
    fix = f"Set go_backwards={spec.go_backwards}."
    yield Altered(other, site.said(text, fix), "go-backwards")
    if spec.return_sequences and site.layer.call is forward:
        both = "Your layer reads the sequence {} and its output is turned round in time."
        for layer, how in ((other, reads), (site.layer, "rightly")):
            turned = replace(layer, call=_turned)
            yield Altered(turned, site.said(both.format(how), fix), f"turned {how}")


def _step(number: int) -> Call:
    """One step of the sequence for the last one."""

    def call(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
        whole, *states = forward(_whole(spec), inputs, context)
        return [whole[:, number], *states]

    return call


def steps(site: Site) -> Iterator[Altered]:
    """Another step for the last one."""
    spec = site.spec
    if isinstance(spec, Recurrent) and not spec.return_sequences:
        text = "You take the first step's output, out[:, 0], for the last one's."
        yield _called(site, _step(0), text, "Take out[:, -1].")
        text = "You take the last step's output but one, out[:, -2]."
        yield _called(site, _step(-2), text, "Take out[:, -1].")
    if isinstance(spec, Slice) and spec.drop and spec.start in (0, -1):
        layer = replace(site.layer, spec=replace(spec, start=-1 - spec.start))
        text = f"You take place {-1 - spec.start} of an axis for place {spec.start}."
        yield Altered(layer, site.said(text, f"Take {spec.start}."), "step")


def _with_batch_as_time(last_axis: int) -> Call:
    def call(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        x = inputs[0].swapaxes(0, 1)
        mask = None if context.mask is None else context.mask.swapaxes(0, 1)
        around = replace(context, mask=mask)
        if own.return_sequences:
            first, *states = forward(spec, [x], around)
            return [first.swapaxes(0, 1), *states]
        if last_axis == 0:
            return forward(spec, [x], around)
        if isinstance(spec, Bidirectional):
            halves = (_whole(half) for half in spec.halves)
            whole, *states = forward(replace(spec, forward=next(halves), backward=next(halves)),
                                     [x], around)  # fmt: skip
        else:
            whole, *states = forward(_whole(spec), [x], around)
        return [whole.swapaxes(0, 1)[:, -1], *states]

    return call


BATCH_AS_TIME = (_with_batch_as_time(1), _with_batch_as_time(0))


def batch_first(site: Site) -> Iterator[Altered]:
    """A layer that takes the batch for time and time for the batch."""
    if isinstance(site.spec, (Recurrent, Bidirectional)) and not site.node.states:
        text = "Your layer takes axis 0, the batch, for time: batch_first is False."
        fix = "Set batch_first=True, or transpose its input and output."
        for number, call in enumerate(BATCH_AS_TIME[: 1 if site.spec.return_sequences else 2]):
            layer = replace(site.layer, call=call)
            yield Altered(layer, site.said(text, fix), f"batch-first {number}")


def _swapped_states(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
    return forward(spec, inputs, replace(context, states=[*context.states][::-1]))


def initial_states(site: Site) -> Iterator[Altered]:
    """Zeros where a state is given; h and c in each other's place."""
    if site.node.states and site.layer.started:
        text = "Your layer starts from zeros, not from the state that it is given."
        layer = replace(site.layer, started=False)
        yield Altered(layer, site.said(text, "Pass the initial state."), "initial-state")
        if len(site.node.states) > 1:
            text = "Your initial states are in the other order (h is taken for c)."
            yield _called(site, _swapped_states, text, "Pass h first, then c.")


def masks_ignored(site: Site) -> Iterator[Altered]:
    """A mask that is not obeyed."""
    if site.node.mask is not None and site.layer.masked:
        layer = replace(site.layer, masked=False)
        text = "Your layer does not obey the mask: padded steps count."
        fix = "Hold the state and the output at masked steps."
        yield Altered(layer, site.said(text, fix), "mask-ignored")


def _running_on(whole: bool) -> Call:
    """States run on at masked steps; zeros there, or only before the first step that counts."""

    def call(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        found = forward(spec, inputs, replace(context, mask=None))
        if context.mask is None or not own.return_sequences:
            return found
        backwards = isinstance(spec, Recurrent) and spec.go_backwards
        mask = context.mask[:, ::-1] if backwards else context.mask
        mask = mask if whole else np.logical_or.accumulate(mask, axis=1)
        keep = mask.reshape(*mask.shape, *(1,) * (found[0].ndim - 2))
        return [np.where(keep, found[0], 0), *found[1:]]

    return call


RUNNING_ON = (
    (_running_on(True), "Your masked steps give zeros, but the state runs on over them."),
    (
        _running_on(False),
        "Your state runs on over masked steps; only those at the start give zeros.",
    ),
)


def _other_end(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
    return forward(spec, inputs, _mask_turned(context))


def masks_half_obeyed(site: Site) -> Iterator[Altered]:
    """A mask that the output obeys and the state does not; a mask from the other end."""
    if site.node.mask is None or not isinstance(site.spec, (Recurrent, Bidirectional)):
        return
    for call, text in RUNNING_ON:
        yield _called(site, call, text, "Hold the state at masked steps.")
    text = "Your layer reads the mask from its other end."
    yield _called(site, _other_end, text, "Turn the mask round in time.")
    if isinstance(site.spec, Recurrent):
        spec = replace(site.spec, go_backwards=not site.spec.go_backwards)
        text = "Your layer reads the sequence, but not the mask, in the other direction."
        layer = replace(site.layer, spec=spec, call=_other_end)
        yield Altered(layer, site.said(text, "Turn both or neither."), text)


def _turned_mask(spec: Spec, inputs: list[Array], context: Context) -> list[Array]:
    mask = None if context.mask is None else ~context.mask
    return forward(spec, inputs, replace(context, mask=mask))


def masks_zeroed(site: Site) -> Iterator[Altered]:
    """Zeros at masked steps where the output is held, and the reverse."""
    if site.node.mask is None or not site.layer.masked:
        return
    specs = [s for s in pieces(site.spec)[0].specs if isinstance(s, Recurrent)]
    if specs:
        zero = not specs[0].zero_output_for_mask
        gives = "zeros (as packed sequences do)" if zero else "the output before them"
        wants = "the output before them" if zero else "zeros"
        text = f"Your masked steps give {gives}; a's give {wants}"
        yield from optioned(site, text, f"Let them give {wants}.", zero_output_for_mask=zero)
    text = "Your mask has the other sense: True where a step is padding."
    turned = replace(site.layer, call=_turned_mask)
    yield Altered(turned, site.said(text, "Negate it."), "mask-turned")


ROWS = (
    _joins("unturned-backward"),
    _joins("last-of-backward"),
    _joins("swapped-outputs"),
    Row("merge-mode", merges),
    Row("go-backwards", directions),
    _joins("go-backwards"),
    Row("first-step", steps),
    Row("mask-ignored", masks_ignored),
    _joins("mask-ignored"),
    Row("mask-ignored", masks_half_obeyed),
    Row("mask-zeroed", masks_zeroed),
    Row("batch-first", batch_first),
    Row("initial-state", initial_states),
)
