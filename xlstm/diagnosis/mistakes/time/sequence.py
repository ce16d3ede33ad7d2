"""Rows of the table of causes: sequences read, cut, transposed or started wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.bidirectional import each, mask_turned, whole
from xlstm.ir.layers import Bidirectional, LayerSpec, Recurrent, Reverse, Slice
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.recurrent import recurrent


def _turned(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """A layer whose sequence is turned round in time."""
    first, *states = forward(spec, inputs, context)
    return [first[:, ::-1], *states]


def directions(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A recurrent layer that reads in the other direction; its output turned round."""
    spec = site.spec
    turns = isinstance(spec, Slice) and spec.axis == 0 and (spec.step or 1) < 0
    if isinstance(spec, Reverse) or turns:
        text = "Your model does not turn the sequence round in time."
        yield called(site, lambda _s, inputs, _c: [inputs[0]], text, "Flip it along time.")
    if not isinstance(spec, Recurrent):
        return
    reads = "forwards" if spec.go_backwards else "backwards"
    other = replace(site.layer, spec=replace(spec, go_backwards=not spec.go_backwards))
    text = f"Your layer reads the sequence {reads}."
    fix = f"Set go_backwards={spec.go_backwards}."
    yield AlteredLayer(other, site.said(text, fix), "go-backwards")
    if spec.return_sequences and site.layer.call is forward:
        both = "Your layer reads the sequence {} and its output is turned round in time."
        for layer, how in ((other, reads), (site.layer, "rightly")):
            turned = replace(layer, call=_turned)
            yield AlteredLayer(turned, site.said(both.format(how), fix), f"turned {how}")


def _step(number: int) -> Call:
    """One step of the sequence for the last one."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        every, *states = forward(whole(spec), inputs, context)
        return [every[:, number], *states]

    return call


def steps(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another step for the last one."""
    spec = site.spec
    if isinstance(spec, Recurrent) and not spec.return_sequences:
        text = "You take the first step's output, out[:, 0], for the last one's."
        yield called(site, _step(0), text, "Take out[:, -1].")
        text = (
            "You take the last step's output but one: out[:, -2], or an h before its last update."
        )
        yield called(site, _step(-2), text, "Take out[:, -1].")
    if isinstance(spec, Slice) and spec.drop and spec.start in (0, -1):
        layer = replace(site.layer, spec=replace(spec, start=-1 - spec.start))
        text = f"You take place {-1 - spec.start} of an axis for place {spec.start}."
        yield AlteredLayer(layer, site.said(text, f"Take {spec.start}."), "step")


def _transposed(context: Context) -> Context:
    mask = context.mask
    return context if mask is None else replace(context, mask=mask.swapaxes(0, 1))


def _scanning_the_batch(last_axis: int) -> Call:
    """A layer that walks along the batch; its last step is taken from either axis."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        x, around = inputs[0].swapaxes(0, 1), _transposed(context)
        if last_axis == 0 and not own.return_sequences:
            return forward(spec, [x], around)
        if isinstance(spec, Bidirectional):
            own = replace(spec, forward=whole(spec.forward), backward=whole(spec.backward))
        found = forward(whole(spec) if own is spec else own, [x], around)
        sequences = 2 if isinstance(spec, Bidirectional) and spec.merge == "none" else 1
        turned = [y.swapaxes(0, 1) for y in found[:sequences]]
        last = not getattr(spec, "return_sequences", True)
        return [*([y[:, -1] for y in turned] if last else turned), *found[sequences:]]

    return call


def _half_scanning(spec: Recurrent, x: Array, context: Context) -> tuple[Array, list[Array]]:
    """A half whose input is turned along time before it walks along the batch."""
    turned = spec.go_backwards
    x, around = (x[:, ::-1] if turned else x), mask_turned(context) if turned else context
    own = replace(whole(spec), go_backwards=False)
    first, *states = recurrent(own, x.swapaxes(0, 1), _transposed(around))
    return first.swapaxes(0, 1), states


def _scanning(spec: Any, x: Array, context: Context) -> list[Array]:
    y, states = _half_scanning(spec, x, context)
    return [y, *states]


ONE_HALF = (("forward", each(_scanning, recurrent)), ("backward", each(recurrent, _scanning)))


def batch_first(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that takes the batch for time and time for the batch."""
    spec = site.spec
    if not isinstance(spec, (Recurrent, Bidirectional)):
        return
    text = "Your layer takes axis 0, the batch, for time: batch_first is False."
    fix = "Set batch_first=True, or transpose its input and output."
    calls = [_scanning_the_batch(1)]
    calls += [] if spec.return_sequences else [_scanning_the_batch(0)]
    turned = isinstance(spec, Bidirectional) or spec.go_backwards
    calls += [each(_scanning)] if turned else []
    for number, call in enumerate(calls):
        layer = replace(site.layer, call=call)
        yield AlteredLayer(layer, site.said(text, fix), f"batch-first {number}")
    for half, call in ONE_HALF if isinstance(spec, Bidirectional) else ():
        text = f"Your {half} half takes axis 0, the batch, for time: its batch_first is False."
        yield called(site, call, text, fix)


def _swapped_states(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    return forward(spec, inputs, replace(context, states=[*context.states][::-1]))


def initial_states(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Zeros where a state is given; h and c in each other's place."""
    if site.node.states and site.layer.started:
        text = "Your layer starts from zeros, not from the state that it is given."
        layer = replace(site.layer, started=False)
        yield AlteredLayer(layer, site.said(text, "Pass the initial state."), "initial-state")
        if len(site.node.states) > 1:
            text = "Your initial states are in the other order (h is taken for c)."
            yield called(site, _swapped_states, text, "Pass h first, then c.")


ROWS = (
    Mistake("go-backwards", directions),
    Mistake("first-step", steps),
    Mistake("batch-first", batch_first),
    Mistake("initial-state", initial_states),
)
