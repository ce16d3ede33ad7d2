"""Rows of the table of causes: another piece of (out, h_n, c_n) than the one that is meant.

A layer that gives its last step is altered to give another piece of what it computes: a cell state,
the other half's or an earlier layer's state, a mean over time, or a view that mixes samples.

B batch, T time, H units of one half.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer
from xlstm.diagnosis.mistakes.time.bidirectional import whole
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    ConvLSTM,
    Dropout,
    GlobalPool,
    LayerSpec,
    Recurrent,
    Reduce,
    Slice,
)
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


class Held(NamedTuple):
    """The outputs of a layer, or of its two halves, and of the layers right before it.

    Attributes:
        out: every step, (B, T, ...).
        states: (B, H) by name: h and c of each half, those of earlier layers first.
    """

    out: Array
    states: dict[str, Array]


Pick = Callable[[Held], Array]
"""Takes a piece."""


@dataclass
class _Runs:
    """The last run of a layer, for picks that differ in nothing but what they take of it."""

    of: tuple[Array, ...] = ()
    found: Held | None = None


@dataclass(frozen=True)
class Picked:
    """Calls a recurrent layer, and gives a piece of all that it computes.

    Attributes:
        pick: takes the piece.
        also: outputs of earlier layers that it reads, after its own inputs.
        runs: shared by the picks of one layer.
    """

    pick: Pick
    also: tuple[Edge, ...] = ()
    runs: _Runs = field(default_factory=_Runs, compare=False)

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """The piece, then the layer's states where it returns them."""
        own: Any = spec
        arrays = (*inputs, *context.weights.values(), *context.states)
        old = self.runs.of
        if len(old) != len(arrays) or any(a is not b for a, b in zip(old, arrays, strict=True)):
            self.runs.found = _held(own, inputs, context)
            self.runs.of = arrays
        assert self.runs.found is not None
        found = self.runs.found
        halves = own.halves if isinstance(own, Bidirectional) else (own,)
        states = [*found.states.values()][-sum(half.states for half in halves) :]
        return [self.pick(found), *(states if halves[0].return_state else ())]


def _held(own: Any, inputs: list[Array], context: Context) -> Held:
    x, *earlier = inputs
    states: dict[str, Array] = {}
    for number, y in enumerate(earlier):
        states |= _last_of(own, number, y)
    if isinstance(own, Bidirectional):
        spec: LayerSpec = replace(own, forward=whole(own.forward), backward=whole(own.backward))
        names = [f"{s} of the {half} half" for half, one in _sides(own) for s in "hc"[: one.states]]
    else:
        spec, names = whole(own), [*"hc"[: own.states]]
    out = forward(spec, [x], context)[0]
    return Held(out, {**states, **dict(zip(names, context.final, strict=True))})


def _sides(own: Bidirectional) -> Iterator[tuple[str, Recurrent]]:
    yield from zip(("forward", "backward"), own.halves, strict=True)


def _last_of(own: Any, number: int, y: Array) -> dict[str, Array]:
    """Last h of an earlier layer, from its output at every step."""
    if not isinstance(own, Bidirectional):
        return {f"h of layer {number}": y[:, -1]}
    size = own.forward.width
    forward_, backward = y[:, -1, ..., :size], y[:, 0, ..., size:]
    return {
        f"h of layer {number}'s forward half": forward_,
        f"h of layer {number}'s backward half": backward,
    }


def earlier(model: Model, node: Node) -> tuple[Edge, ...]:
    """Outputs of the layers of the same form and width right before a layer, the first one first.

    They are one module in PyTorch: `num_layers`.
    """
    found: list[Edge] = []
    edge = node.inputs[0]
    while True:
        before = model.node(edge.node)
        while isinstance(before.spec, Dropout):
            edge = before.inputs[0]
            before = model.node(edge.node)
        if not _stacked(before.spec, node.spec) or len(before.inputs) != 1:
            return tuple(found[::-1])
        found.append(edge)
        edge = before.inputs[0]


def _stacked(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or not one.return_sequences:
        return False
    if isinstance(one, Bidirectional):
        widths = {half.width for half in (*one.halves, *other.halves)}
        return one.merge == other.merge == "concat" and len(widths) == 1
    return bool(one.width == other.width and one.go_backwards == other.go_backwards)


MEAN: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("mean", np.mean),
    ("maximum", np.max),
    ("sum", np.sum),
    ("minimum", np.min),
)
"""Ways to make one step of several."""

POOLED = {"mean": "mean", "average": "mean", "max": "maximum", "min": "minimum", "sum": "sum"}
"""Option of a pool or a reduction -> its word in MEAN."""


def _reduced(how: Callable[..., Any], axis: int) -> Callable[[Array], Array]:
    def reduce(y: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(how(y, axis=axis))

    return reduce


def _over_time(wants: str) -> Iterator[tuple[str, Pick, str, str]]:
    for words, how in MEAN:
        text = f"You take the {words} over time for {wants}."
        yield "pooled-steps", _of(lambda held: held.out, _reduced(how, 1)), text, f"Take {wants}."


def _of(what: Pick, change: Callable[[Array], Array]) -> Pick:
    return lambda held: change(what(held))


def _state(name: str) -> Pick:
    return lambda held: held.states[name]


VIEWED = "is viewed in another shape where its axes had to be moved: samples are mixed."
MOVE = "Move axes with transpose, movedim or permute; view and reshape move none."


def _mixed_steps(number: int) -> Pick:
    """One step of out viewed as (T, B, ...)."""
    return lambda held: _as_time_first(held.out)[number]


def _as_time_first(y: Array) -> Array:
    return y.reshape(y.shape[1], y.shape[0], *y.shape[2:])


def _of_one(spec: Recurrent, layers: int) -> Iterator[tuple[str, Pick, str, str]]:
    """Pieces of a layer that has no halves: cause, pick, what is wrong, what to do."""
    wants = "the last layer's h_n" if layers > 1 else "h_n"
    fix = "Take h_n[-1]."
    if spec.states > 1 and not (isinstance(spec, LSTM) and spec.projection):
        text = f"You take c_n, the cell state, for {wants}."
        yield "other-state", _state("c"), text, fix
    for number in range(layers - 1):
        text = (
            f"You take h_n[{number}], the state of layer {number}, for the last layer's, as if the "
        )
        text += "layers after it were left out."
        yield "other-state", _state(f"h of layer {number}"), text, fix
    for words, how in MEAN if layers > 1 else ():
        text = f"You take the {words} over all layers' h_n for {wants}."
        yield "other-state", _of(_every_h, _reduced(how, 0)), text, fix
    yield from _over_time("the last step")
    for number in range(layers) if layers > 1 else ():

        def mixed(held: Held, number: int = number) -> Array:
            h = _every_h(held)
            return h.reshape(h.shape[1], h.shape[0], *h.shape[2:])[:, number]

        yield "mixed-samples", mixed, f"Your h_n (layers, batch, units) {VIEWED}", fix
    for number in (-1, 0):
        text = f"Your out (batch, time, units) {VIEWED}"
        yield "mixed-samples", _mixed_steps(number), text, MOVE


def _every_h(held: Held) -> Array:
    """(L, B, H): h of all layers."""
    return np.stack([array for name, array in held.states.items() if name.startswith("h")])


PLAIN = ("h of the forward half", "h of the backward half")
JOIN = "Join h_n[-2] and h_n[-1], as in torch.cat([h_n[-2], h_n[-1]], -1)."


def _of_both(spec: Bidirectional, names: list[str]) -> Iterator[tuple[str, Pick, str, str]]:
    """Pieces of two halves that are joined, as `_of_one`."""
    known = (PLAIN, PLAIN[::-1])
    cells = [name for name in PLAIN if spec.forward.states > 1 and spec.backward.states > 1]
    cells = [name.replace("h of", "c of") for name in cells]
    pairs = [(a, b) for a, b in itertools.product([*PLAIN, *cells, *names], repeat=2)]
    for a, b in (pair for pair in pairs if pair not in known):
        both = f"{a} twice" if a == b else f"{a} and {b}"
        text = f"You join {both}; a joins h of the forward and of the backward half."
        yield "other-state", _joined(a, b), text, JOIN
    for words, how in MEAN[:3]:
        text = f"You take the {words} over both halves' h_n, twice; a joins the two."
        yield "other-state", _twice(_reduced(how, 0)), text, JOIN
    yield from _over_time("the last step of each half")
    for pair in (PLAIN, *([tuple(cells)] if cells else [])):
        piece = f"{pair[0][0]}_n (halves, batch, units)"
        yield "mixed-samples", _viewed(*pair), f"Your {piece} {VIEWED}", JOIN
    text = "The units of your halves are interleaved; a has all of the forward half's first."
    yield "other-state", _alternating, text, JOIN
    for number in (-1, 0):
        text = f"Your out (batch, time, units) {VIEWED}"
        yield "mixed-samples", _mixed_steps(number), text, MOVE


def _joined(a: str, b: str) -> Pick:
    return lambda held: np.concatenate([held.states[a], held.states[b]], -1)


def _twice(reduce: Callable[[Array], Array]) -> Pick:
    def pick(held: Held) -> Array:
        y = reduce(np.stack([held.states[name] for name in PLAIN]))
        return np.concatenate([y, y], -1)

    return pick


def _viewed(a: str, b: str) -> Pick:
    def pick(held: Held) -> Array:
        both = np.stack([held.states[a], held.states[b]])
        return both.reshape(both.shape[1], *both.shape[2:-1], -1)

    return pick


def _alternating(held: Held) -> Array:
    y = np.stack([held.states[name] for name in PLAIN], -1)
    return y.reshape(*y.shape[:-2], -1)


def taken(site: SuspectLayer, cause: str) -> Iterator[AlteredLayer]:
    """Another piece for the last step of a layer, or of both halves."""
    spec = site.spec
    if not isinstance(spec, (Recurrent, Bidirectional)) or spec.return_sequences:
        return
    also = () if isinstance(spec, ConvLSTM) else earlier(site.model, site.node)
    if not isinstance(spec, Bidirectional):
        options = _of_one(spec, 1 + len(also))
    elif spec.merge == "concat" and spec.forward.width == spec.backward.width:
        names = [
            f"h of layer {k}'s {half} half" for k in range(len(also)) for half, _ in _sides(spec)
        ]
        options = _of_both(spec, names)
    else:
        options, also = _over_time("the last step of each half"), ()
    runs = _Runs()
    for own, pick, text, fix in options:
        if own == cause:
            layer = replace(site.layer, call=Picked(pick, also, runs))
            yield AlteredLayer(layer, site.said(text, fix), text, rare=True)


@dataclass(frozen=True)
class OfStates:
    """Takes another piece of the states that a model joins itself.

    Attributes:
        pick: takes the piece.
        names: of the states.
        also: the output of the layer with two halves, then its states.
    """

    pick: Pick
    names: tuple[str, ...]
    also: tuple[Edge, ...]

    def __call__(self, _spec: LayerSpec, inputs: list[Array], _context: Context) -> list[Array]:
        """The piece alone."""
        out, *states = inputs[-1 - len(self.names) :]
        return [self.pick(Held(out, dict(zip(self.names, states, strict=True))))]


def joined_states(site: SuspectLayer, cause: str) -> Iterator[AlteredLayer]:
    """Another piece where a model joins the h of two halves itself, as PyTorch's modules do."""
    edges = site.node.inputs
    node = site.model.node(edges[0].node)
    spec = node.spec
    if not isinstance(site.spec, Concatenate) or not isinstance(spec, Bidirectional):
        return
    names = tuple(
        f"{s} of the {half} half" for half, one in _sides(spec) for s in "hc"[: one.states]
    )
    wanted = tuple(Edge(node.name, 1 + names.index(name)) for name in PLAIN)
    if edges != wanted or len(node.shapes) != 1 + len(names):
        return
    also = tuple(Edge(node.name, number) for number in range(1 + len(names)))
    swapped = (
        "swapped-outputs",
        _joined(*PLAIN[::-1]),
        "Your halves are joined backward first.",
        JOIN,
    )
    for own, pick, text, fix in (swapped, *_of_both(spec, [])):
        if own == cause:
            layer = replace(site.layer, call=OfStates(pick, names, also))
            yield AlteredLayer(layer, site.said(text, fix), text, rare=True)


def _instead(change: Callable[[Array], Array]) -> Call:
    """A function of a layer's input in the layer's place."""
    return lambda _spec, inputs, _context: [change(inputs[0])]


def _step(number: int) -> Callable[[Array], Array]:
    return lambda x: x[:, number]


def pooled(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """One step for a mean over time, or a mean for one step."""
    spec: Any = site.spec
    first = site.node.inputs[0]
    if len(site.model.shape(first)) != 2:
        return
    over_time = isinstance(spec, GlobalPool) or (isinstance(spec, Reduce) and spec.axes == (0,))
    if over_time and not spec.keep:
        words = POOLED.get(spec.how, spec.how)
        wants, fix = f"the {words} over time", f"Take the {words} over time."
        for number, piece in ((-1, "the last step"), (0, "the first step")):
            layer = replace(site.layer, call=_instead(_step(number)))
            yield AlteredLayer(
                layer, site.said(f"You take {piece} for {wants}.", fix), piece, rare=True
            )
        before = site.model.node(first.node).spec
        if isinstance(before, Bidirectional) and before.merge == "concat":
            n = before.forward.width
            call = _instead(lambda x: np.concatenate([x[:, -1, :n], x[:, 0, n:]], -1))
            text = f"You take both halves' last states, h_n, for {wants}."
            yield AlteredLayer(
                replace(site.layer, call=call), site.said(text, fix), "h_n", rare=True
            )
    elif isinstance(spec, Slice) and spec.axis == 0 and spec.drop:
        wants = "the last step" if spec.start == -1 else f"step {spec.start}"
    else:
        return
    for how, formula in MEAN:
        if how != POOLED.get(getattr(spec, "how", "")):
            layer = replace(site.layer, call=_instead(_reduced(formula, 1)))
            text = f"You take the {how} over time for {wants}."
            yield AlteredLayer(layer, site.said(text, f"Take {wants}."), text, rare=True)


def _reading(change: Callable[[Array], Array]) -> Call:
    """A layer whose input is changed first."""
    return lambda spec, inputs, context: forward(spec, [change(inputs[0]), *inputs[1:]], context)


def viewed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence viewed in another shape where its first axes had to be exchanged."""
    spec = site.spec
    if not isinstance(spec, (Recurrent, Bidirectional)) or isinstance(spec, ConvLSTM):
        return
    text = f"Your input {VIEWED}"
    change = _reading(lambda x: _as_time_first(x).swapaxes(0, 1))
    yield AlteredLayer(replace(site.layer, call=change), site.said(text, MOVE), "in", rare=True)
    text = "Your input (batch, time, features) is viewed as (batch, features, time)."
    change = _reading(lambda x: x.reshape(len(x), x.shape[2], x.shape[1]).swapaxes(1, 2))
    yield AlteredLayer(
        replace(site.layer, call=change), site.said(text, MOVE), "features", rare=True
    )
    if spec.return_sequences:

        def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
            y, *more = forward(spec, inputs, context)
            return [_as_time_first(y).swapaxes(0, 1), *more]

        text = f"Your out {VIEWED}"
        yield AlteredLayer(replace(site.layer, call=call), site.said(text, MOVE), "out", rare=True)


def _taken(cause: str) -> Mistake:
    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        yield from taken(site, cause)
        yield from joined_states(site, cause)

    return Mistake(cause, alter)


ROWS = (
    _taken("other-state"),
    _taken("pooled-steps"),
    Mistake("pooled-steps", pooled),
    _taken("mixed-samples"),
    _taken("swapped-outputs"),
    Mistake("mixed-samples", viewed),
)
