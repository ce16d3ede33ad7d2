"""Rows of the table of mistakes: sequences that are cut, reversed or started wrongly.

In: a recurrent layer, or one that takes a step of a sequence. Out: the layer that reads in the
other direction, lacks a step, takes another one, or starts from another state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import (
    Call,
    in_place_of,
    masked,
    with_input,
    with_output,
    with_states,
)
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.bidirectional import each, whole
from xlstm.diagnosis.mistakes.time.returned_piece import Computed, Picked, earlier, over_time
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.recurrent import recurrent


def directions(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A recurrent layer that reads in the other direction; its output turned round."""
    spec = site.spec
    turns = isinstance(spec, L.Slice) and spec.axis == 0 and (spec.step or 1) < 0
    if isinstance(spec, L.Reverse) or turns:
        text = "Your model does not turn the sequence round in time."
        yield called(site, in_place_of(np.asarray), text, "Flip it along time.")
    if not isinstance(spec, L.Recurrent):
        return
    reads = "forwards" if spec.go_backwards else "backwards"
    other = replace(spec, go_backwards=not spec.go_backwards)
    text, fix = f"Your layer reads the sequence {reads}", f"Set go_backwards={spec.go_backwards}."
    yield site.altered(f"{text}.", fix, "go-backwards", spec=other)
    if spec.return_sequences and site.layer.call is forward:
        turned = with_output(lambda y: y[:, ::-1])
        for own, how in ((other, reads), (spec, "rightly")):
            text = f"Your layer reads the sequence {how} and its output is turned round in time."
            yield site.altered(text, fix, spec=own, call=turned)


def _step(number: int) -> Call:
    """One step of the sequence for the last one."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        every, *states = forward(whole(spec), inputs, context)
        return [every[:, number], *states]

    return call


def steps(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another step for the last one."""
    spec = site.spec
    if isinstance(spec, L.Recurrent) and not spec.return_sequences:
        for number, text in (
            (0, "You take the first step's output, out[:, 0], for the last one's."),
            (-2, "You take the last step's output but one: out[:, -2], or an h before its last "
             "update."),
        ):  # fmt: skip
            yield called(site, _step(number), text, "Take out[:, -1].")
    if isinstance(spec, L.Slice) and spec.drop and spec.start in (0, -1):
        text = f"You take place {-1 - spec.start} of an axis for place {spec.start}."
        other = replace(spec, start=-1 - spec.start)
        yield site.altered(text, f"Take {spec.start}.", "step", spec=other)


def _transposed(x: Array) -> Array:
    """An array with batch and time exchanged."""
    return x.swapaxes(0, 1)


def _scanning_the_batch(last_axis: int) -> Call:
    """A layer that walks along the batch; its last step is taken from either axis."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        x, around = inputs[0].swapaxes(0, 1), masked(context, _transposed)
        if last_axis == 0 and not own.return_sequences:
            return forward(spec, [x], around)
        found = forward(whole(spec), [x], around)
        sequences = 2 if isinstance(spec, L.Bidirectional) and spec.merge == "none" else 1
        turned = [_transposed(y) for y in found[:sequences]]
        last = not getattr(spec, "return_sequences", True)
        return [*([y[:, -1] for y in turned] if last else turned), *found[sequences:]]

    return call


def _scanning(spec: Any, x: Array, context: Context) -> list[Array]:
    """A layer, or a half, whose input is turned along time before it walks along the batch."""
    step = -1 if spec.go_backwards else 1
    around = masked(context, lambda mask: _transposed(mask[:, ::step]))
    own = replace(whole(spec), go_backwards=False)
    first, *states = recurrent(own, _transposed(x[:, ::step]), around)
    return [_transposed(first), *states]


ONE_HALF = (("forward", each(_scanning, recurrent)), ("backward", each(recurrent, _scanning)))


def batch_first(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that takes the batch for time and time for the batch."""
    spec = site.spec
    if not isinstance(spec, (L.Recurrent, L.Bidirectional)):
        return
    text = "Your layer takes axis 0, the batch, for time: batch_first is False."
    fix = "Set batch_first=True, or transpose its input and output."
    calls = [_scanning_the_batch(1)]
    calls += [] if spec.return_sequences else [_scanning_the_batch(0)]
    turned = isinstance(spec, L.Bidirectional) or spec.go_backwards
    calls += [each(_scanning)] if turned else []
    for number, call in enumerate(calls):
        yield site.altered(text, fix, f"batch-first {number}", call=call)
    for half, call in ONE_HALF if isinstance(spec, L.Bidirectional) else ():
        text = f"Your {half} half takes axis 0, the batch, for time: its batch_first is False."
        yield called(site, call, text, fix)


def initial_states(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Zeros where a state is given; h and c in each other's place."""
    if site.node.states and site.layer.started:
        text = "Your layer starts from zeros, not from the state that it receives."
        yield site.altered(text, "Pass the initial state.", "initial-state", started=False)
        if len(site.node.states) > 1:
            text = "Your initial states are in the other order (h is taken for c)."
            call = with_states(lambda states: states[::-1])
            yield called(site, call, text, "Pass h first, then c.")


ROWS = (
    Mistake("go-backwards", directions),
    Mistake("first-step", steps),
    Mistake("batch-first", batch_first),
    Mistake("initial-state", initial_states),
)


ENDS = (("first", slice(1, None)), ("last", slice(None, -1)))
"""An end of a sequence, and the steps without it."""

LONG = 32
"""Steps of the longest sequence of which every step is tried for the last one."""

USUAL = 16
"""Steps that are tried of a sequence of any length."""


def _short(steps: slice) -> Call:
    """A layer that reads some steps of its sequence and of its mask."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        around = masked(context, lambda mask: mask[:, steps])
        return forward(spec, [inputs[0][:, steps], *inputs[1:]], around)

    return call


def _reads_input(site: SuspectLayer) -> bool:
    """True for a layer that reads a sequence which is the model's own input."""
    first = site.node.inputs[0]
    if not isinstance(site.model.node(first.node).spec, L.Input):
        return False
    axes = len(site.model.shape(first))
    plain = isinstance(site.spec, (L.Conv, L.Dense, L.Masking))
    fits = axes == 1 if isinstance(site.spec, L.Embedding) else axes == 2 and plain
    return fits and not isinstance(site.node.spec, L.TimeDistributed)


def lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence that is read without its first or its last step."""
    if site.layer.call is not forward or not site.node.inputs:
        return
    if isinstance(site.spec, (L.Recurrent, L.Bidirectional)) or _reads_input(site):
        for end, steps in ENDS:
            text = f"Your layer reads all steps but the {end} one."
            fix = "Pass the whole sequence, and let loops run over all of its steps."
            yield called(site, _short(steps), text, fix, rare=True)


def pools(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A pool over time that leaves a step out, or whose windows begin one step early."""
    spec: Any = site.spec
    if isinstance(spec, L.Pool) and len(spec.window) == 1:
        yield from _windows(site, spec)
    elif not over_time(spec):
        return
    if len(site.model.shape(site.node.inputs[0])) == 2:
        for end, steps in ENDS:
            text = f"Your pooling over time ({spec.how}) leaves out the {end} step."
            yield called(site, _short(steps), text, "Pool over all steps.", rare=True)


def _windows(site: SuspectLayer, spec: L.Pool) -> Iterator[AlteredLayer]:
    """Padding around the windows of a pool, whose numbers count for nothing or for zeros."""
    for fill, what in ((-np.inf, "one step"), (0.0, "one step of zeros")):
        if spec.how != "max" and not np.isfinite(fill):
            continue
        for ends, where in (((1, 1), "each end"), ((1, 0), "its start")):
            around = ((0, 0), ends, (0, 0))
            call = with_input(partial(np.pad, pad_width=around, constant_values=fill))
            text = f"Your pooling pads its input by {what} at {where}: the windows are shifted."
            fix = "Remove the padding: the first window begins at the first step."
            yield called(site, call, text, fix, rare=True)


@dataclass(frozen=True)
class _LostStep:
    """Takes one step of every step."""

    number: int

    def __call__(self, found: Computed) -> Array:
        return found.out[:, self.number]


def _tried(site: SuspectLayer) -> range:
    """Steps of a layer's input that may be taken for the last one, but for those at its ends."""
    steps = site.model.shape(site.node.inputs[0])[0]
    return range(1, min(steps - 2, LONG) if steps else USUAL)


def _other_step(site: SuspectLayer, number: int, **changes: Any) -> AlteredLayer:
    text = f"You take step {number}, counted from 0, for the last one: out[:, {number}], or a loop"
    text += " that ends there."
    return site.altered(text, "Take out[:, -1].", f"step {number}", rare=True, **changes)


def other_steps(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A step in the middle for the last one, of a layer or where a model takes it itself."""
    spec = site.spec
    if isinstance(spec, L.Slice) and spec.axis == 0 and spec.drop and spec.start == -1:
        for number in _tried(site):
            yield _other_step(site, number, spec=replace(spec, start=number))
    if not isinstance(spec, (L.Recurrent, L.Bidirectional)) or isinstance(spec, L.ConvLSTM):
        return
    if spec.return_sequences or site.layer.call is not forward:
        return
    if isinstance(spec, L.Bidirectional) and spec.merge == "none":
        return
    shared = Picked(_LostStep(0))
    for number in _tried(site):
        yield _other_step(site, number, call=replace(shared, pick=_LostStep(number)))


POOLS = (Mistake("pooled-steps", pools),)
"""Tried before outputs that are shifted: the maximum over shifted steps is the same."""

LOST = (
    Mistake("other-step", other_steps),
    Mistake("lost-step", lost),
)


States = list[Array]


def _zeroed(*kept: int) -> Callable[[States], States]:
    return lambda states: [s if n in kept else np.zeros_like(s) for n, s in enumerate(states)]


def _ordered(*order: int) -> Callable[[States], States]:
    return lambda states: [states[number] for number in order]


def handed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Some of the states that a layer is given; states in each other's place."""
    count = len(site.node.states) if site.layer.started else 0
    if count == 2 and not isinstance(site.spec, L.Bidirectional):
        pairs = (("h", "c", 0), ("c", "h", 1))
        for some, other, number in pairs:
            text = f"Your layer starts from the {some} that it receives, and from a {other} of "
            text += "zeros."
            yield called(site, with_states(_zeroed(number)), text, f"Pass {other} as well.")
        for some, other, number in pairs:
            text = f"Your layer starts from the {some} that it receives, for {other} too."
            yield called(site, with_states(_ordered(number, number)), text, "Pass h, then c.")
    elif isinstance(site.spec, L.Bidirectional) and count:
        yield from _of_halves(site, count)


def _filled(value: float) -> Callable[[States], States]:
    return lambda states: [np.full_like(s, value) for s in states]


def made_up(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Constants for the states that a layer is given; states of other samples."""
    if not site.node.states or not site.layer.started:
        return
    for value in (1.0, 0.5, 0.1, -1.0):
        text = f"Your layer starts from a constant, {value:g}, for the states that it receives."
        yield called(site, with_states(_filled(value)), text, "Pass the states.", rare=True)
    text = "Your layer starts from the states of other samples: their order is reversed."
    call = with_states(lambda states: [s[::-1] for s in states])
    yield called(site, call, text, "Keep the order of the samples.", rare=True)


def _of_halves(site: SuspectLayer, count: int) -> Iterator[AlteredLayer]:
    """The same for two halves, whose states are the forward half's first."""
    half, every = count // 2, (*range(count),)
    first, last = every[:half], every[half:]
    text = "Your halves start from each other's states."
    yield called(site, with_states(_ordered(*last, *first)), text, "Pass the forward half's first.")
    for name, own, other in (("forward", first, "backward"), ("backward", last, "forward")):
        text = f"Only your {name} half starts from its state; the {other} half starts from zeros."
        yield called(site, with_states(_zeroed(*own)), text, f"Pass the {other} half's as well.")
        text = f"Both your halves start from the {name} half's state."
        yield called(site, with_states(_ordered(*own, *own)), text, "Pass each half its own.")
    if half == 2:
        text = "Your initial states are in the other order in each half (h is taken for c)."
        yield called(site, with_states(_ordered(1, 0, 3, 2)), text, "Pass h first, then c.")
        call, fix = with_states(_ordered(0, 2, 1, 3)), "Pass h and c of one half, then the other."
        text = "Your initial states lie as h, h, c, c; a's lie as h, c of one half, then of the "
        yield called(site, call, f"{text}other.", fix)
        for name, kept in (("h", (0, 2)), ("c", (1, 3))):
            text = f"Your halves start from the {name} that they receive, and else from zeros."
            yield called(site, with_states(_zeroed(*kept)), text, "Pass h and c of each half.")


@dataclass(frozen=True)
class _Ones:
    """A layer some of whose states start from ones.

    Attributes:
        which: the numbers of these states in a half.
        also: every step of the layer before, whose last one is the first state instead.
    """

    which: tuple[int, ...]
    also: tuple[Edge, ...] = ()

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the layer itself."""
        own: Any = spec
        x = inputs[0]
        states = [
            np.full((len(x), *shape), float(number in self.which), x.dtype)
            for half in (own.halves if isinstance(own, L.Bidirectional) else (own,))
            for number, shape in enumerate(half.state_shapes())
        ]
        if self.also:
            *inputs, before = inputs
            states[0] = before[:, -1]
        return forward(spec, inputs, replace(context, states=states))


def constant(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer without initial states that starts from some."""
    spec = site.spec
    if site.node.states or not isinstance(spec, (L.Recurrent, L.Bidirectional)):
        return
    if isinstance(spec, L.ConvLSTM) or site.layer.call is not forward:
        return
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    choices = (((0, 1), "h and c"), ((0,), "h"), ((1,), "c"))
    for which, words in choices if halves[0].states > 1 else choices[1:2]:
        text = f"Your layer starts from ones ({words}); a starts from zeros."
        yield called(site, _Ones(which), text, "Start from zeros.", rare=True)
    if not isinstance(spec, L.Bidirectional) and spec.width == spec.state_shapes()[-1][-1]:
        for edge in earlier(site.model, site.node)[-1:]:
            text = "Your layer starts from the last state of the layer before it; a from zeros."
            yield called(site, _Ones((), (edge,)), text, "Start each layer from zeros.")


STATES = (
    Mistake("initial-state", handed),
    Mistake("initial-state", constant),
    Mistake("initial-state", made_up),
)
