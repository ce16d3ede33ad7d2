"""Rows of the table of mistakes: another piece of (out, h_n, c_n) than the one that is meant.

A layer that gives its last step is altered to give another piece of what it computes: a cell state,
the other half's or an earlier layer's state, a mean over time, or a view that mixes samples, steps
or units.

B batch, T time, H units of one half.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Whole, in_place_of, with_input, with_output
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.bidirectional import whole
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


class Computed(NamedTuple):
    """The outputs of a layer, or of its two halves, and of the layers right before it.

    Attributes:
        out: every step, (B, T, ...).
        states: (B, H) by name: h and c of each half, those of earlier layers first.
    """

    out: Array
    states: dict[str, Array]


Pick = Callable[[Computed], Array]
"""Takes a piece."""


@dataclass
class _Runs:
    """The last run of a layer, for picks that differ in nothing but what they take of it."""

    of: tuple[Array, ...] = ()
    found: Computed | None = None


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

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """The piece, then the layer's states where it returns them."""
        own: Any = spec
        arrays = (*inputs, *context.weights.values(), *context.states)
        old = self.runs.of
        if len(old) != len(arrays) or any(a is not b for a, b in zip(old, arrays, strict=True)):
            self.runs.found = _computed(own, inputs, context)
            self.runs.of = arrays
        assert self.runs.found is not None
        found = self.runs.found
        halves = own.halves if isinstance(own, L.Bidirectional) else (own,)
        states = [*found.states.values()][-sum(half.states for half in halves) :]
        return [self.pick(found), *(states if halves[0].return_state else ())]


def _computed(own: Any, inputs: list[Array], context: Context) -> Computed:
    x, *earlier = inputs
    states: dict[str, Array] = {}
    for number, y in enumerate(earlier):
        states |= _last_of(own, number, y)
    out = forward(whole(own), [x], context)[0]
    names = [*_state_names(own)] if isinstance(own, L.Bidirectional) else "hc"[: own.states]
    return Computed(out, {**states, **dict(zip(names, context.final, strict=True))})


HALVES = ("forward", "backward")


def _state_names(own: L.Bidirectional) -> Iterator[str]:
    """Names of the states of both halves, in their order."""
    for half, spec in zip(HALVES, own.halves, strict=True):
        yield from (f"{state} of the {half} half" for state in "hc"[: spec.states])


def _last_of(own: Any, number: int, y: Array) -> dict[str, Array]:
    """Last h of an earlier layer, from its output at every step."""
    if not isinstance(own, L.Bidirectional):
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
        while isinstance(before.spec, L.Dropout):
            edge = before.inputs[0]
            before = model.node(edge.node)
        if not _stacked(before.spec, node.spec) or len(before.inputs) != 1:
            return tuple(found[::-1])
        found.append(edge)
        edge = before.inputs[0]


def _stacked(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or not one.return_sequences:
        return False
    if isinstance(one, L.Bidirectional):
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
        yield "pooled-steps", _of("out", _reduced(how, 1)), text, f"Take {wants}."


def _of(name: str, change: Callable[[Array], Array] = np.asarray) -> Pick:
    """A state by its name, the output "out", or "every h" of all layers, changed."""

    def pick(found: Computed) -> Array:
        if name == "every h":
            return change(np.stack([y for key, y in found.states.items() if key.startswith("h")]))
        return change(found.out if name == "out" else found.states[name])

    return pick


VIEWED = "is viewed in another shape where its axes had to be moved: samples are mixed."
MOVE = "Move axes with transpose, movedim or permute; view and reshape move none."


def _mixed_steps() -> Iterator[tuple[str, Pick, str, str]]:
    """One step of out viewed as (T, B, ...)."""
    text = f"Your out (batch, time, units) {VIEWED}"
    yield "mixed-samples", _of("out", lambda y: _as_time_first(y)[-1]), text, MOVE
    yield "mixed-samples", _of("out", lambda y: _as_time_first(y)[0]), text, MOVE


def _as_time_first(y: Array) -> Array:
    return y.reshape(y.shape[1], y.shape[0], *y.shape[2:])


def _of_one(spec: L.Recurrent, layers: int) -> Iterator[tuple[str, Pick, str, str]]:
    """Pieces of a layer that has no halves: cause, pick, what is wrong, what to do."""
    wants = "the last layer's h_n" if layers > 1 else "h_n"
    fix = "Take h_n[-1]."
    if spec.states > 1 and not (isinstance(spec, L.LSTM) and spec.projection):
        text = f"You take c_n, the cell state, for {wants}."
        yield "other-state", _of("c"), text, fix
    for number in range(layers - 1):
        text = f"You take h_n[{number}], the state of layer {number}, for the last layer's, as if "
        text += "the layers after it were left out."
        yield "other-state", _of(f"h of layer {number}"), text, fix
    for words, how in MEAN if layers > 1 else ():
        text = f"You take the {words} over all layers' h_n for {wants}."
        yield "other-state", _of("every h", _reduced(how, 0)), text, fix
    yield from _over_time("the last step")
    for number in range(layers) if layers > 1 else ():
        mixed = partial(_mixed_layers, number)
        yield (
            "mixed-samples",
            _of("every h", mixed),
            f"Your h_n (layers, batch, units) {VIEWED}",
            fix,
        )
    yield from _mixed_steps()


def _mixed_layers(number: int, h: Array) -> Array:
    """One layer of h_n viewed as (B, layers, H)."""
    return _as_time_first(h)[:, number]


PLAIN = ("h of the forward half", "h of the backward half")
JOIN = "Join h_n[-2] and h_n[-1], as in torch.cat([h_n[-2], h_n[-1]], -1)."


def _of_both(spec: L.Bidirectional, names: list[str]) -> Iterator[tuple[str, Pick, str, str]]:
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
    yield from _mixed_steps()


def _joined(a: str, b: str) -> Pick:
    return lambda found: np.concatenate([found.states[a], found.states[b]], -1)


def _twice(reduce: Callable[[Array], Array]) -> Pick:
    def pick(found: Computed) -> Array:
        y = reduce(np.stack([found.states[name] for name in PLAIN]))
        return np.concatenate([y, y], -1)

    return pick


def _viewed(a: str, b: str) -> Pick:
    def pick(found: Computed) -> Array:
        both = np.stack([found.states[a], found.states[b]])
        return both.reshape(both.shape[1], *both.shape[2:-1], -1)

    return pick


def _alternating(found: Computed) -> Array:
    y = np.stack([found.states[name] for name in PLAIN], -1)
    return y.reshape(*y.shape[:-2], -1)


def taken(site: SuspectLayer, cause: str) -> Iterator[AlteredLayer]:
    """Another piece for the last step of a layer, or of both halves."""
    spec = site.spec
    if not isinstance(spec, (L.Recurrent, L.Bidirectional)) or spec.return_sequences:
        return
    also = () if isinstance(spec, L.ConvLSTM) else earlier(site.model, site.node)
    if not isinstance(spec, L.Bidirectional):
        options = _of_one(spec, 1 + len(also))
    elif spec.merge == "concat" and spec.forward.width == spec.backward.width:
        names = [f"h of layer {k}'s {half} half" for k in range(len(also)) for half in HALVES]
        options = _of_both(spec, names)
    else:
        options, also = _over_time("the last step of each half"), ()
    runs = _Runs()
    for own, pick, text, fix in options:
        if own == cause:
            yield site.altered(text, fix, rare=True, call=Picked(pick, also, runs))


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

    def __call__(self, _spec: L.LayerSpec, inputs: list[Array], _context: Context) -> list[Array]:
        """The piece alone."""
        out, *states = inputs[-1 - len(self.names) :]
        return [self.pick(Computed(out, dict(zip(self.names, states, strict=True))))]


def joined_states(site: SuspectLayer, cause: str) -> Iterator[AlteredLayer]:
    """Another piece where a model joins the h of two halves itself, as PyTorch's modules do."""
    edges = site.node.inputs
    node = site.model.node(edges[0].node)
    spec = node.spec
    if not isinstance(site.spec, L.Concatenate) or not isinstance(spec, L.Bidirectional):
        return
    names = tuple(_state_names(spec))
    wanted = tuple(Edge(node.name, 1 + names.index(name)) for name in PLAIN)
    if edges != wanted or len(node.shapes) != 1 + len(names):
        return
    also = tuple(Edge(node.name, number) for number in range(1 + len(names)))
    text = "Your halves are joined backward first."
    swapped = ("swapped-outputs", _joined(*PLAIN[::-1]), text, JOIN)
    for own, pick, text, fix in (swapped, *_of_both(spec, [])):
        if own == cause:
            yield site.altered(text, fix, rare=True, call=OfStates(pick, names, also))


def over_time(spec: Any) -> bool:
    """True for a layer that pools all steps into one."""
    return isinstance(spec, L.GlobalPool) or (isinstance(spec, L.Reduce) and spec.axes == (0,))


def pooled(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """One step for a mean over time, or a mean for one step."""
    spec: Any = site.spec
    first = site.node.inputs[0]
    if len(site.model.shape(first)) != 2:
        return
    if over_time(spec) and not spec.keep:
        words = POOLED.get(spec.how, spec.how)
        wants, fix = f"the {words} over time", f"Take the {words} over time."
        for change, piece in (
            (lambda x: x[:, -1], "the last step"),
            (lambda x: x[:, 0], "the first step"),
        ):
            text, call = f"You take {piece} for {wants}.", in_place_of(change)
            yield site.altered(text, fix, piece, rare=True, call=call)
        before = site.model.node(first.node).spec
        if isinstance(before, L.Bidirectional) and before.merge == "concat":
            n = before.forward.width
            call = in_place_of(lambda x: np.concatenate([x[:, -1, :n], x[:, 0, n:]], -1))
            text = f"You take both halves' last states, h_n, for {wants}."
            yield site.altered(text, fix, "h_n", rare=True, call=call)
    elif isinstance(spec, L.Slice) and spec.axis == 0 and spec.drop:
        wants = "the last step" if spec.start == -1 else f"step {spec.start}"
    else:
        return
    for how, formula in MEAN:
        if how != POOLED.get(getattr(spec, "how", "")):
            text, call = (
                f"You take the {how} over time for {wants}.",
                in_place_of(_reduced(formula, 1)),
            )
            yield called(site, call, text, f"Take {wants}.", rare=True)


def viewed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence viewed in another shape where its first axes had to be exchanged."""
    spec = site.spec
    if not isinstance(spec, (L.Recurrent, L.Bidirectional)) or isinstance(spec, L.ConvLSTM):
        return
    yield called(site, with_input(_time_as_batch), f"Your input {VIEWED}", MOVE, rare=True)
    text = "Your input (batch, time, features) is viewed as (batch, features, time)."
    call = with_input(lambda x: x.reshape(len(x), x.shape[2], x.shape[1]).swapaxes(1, 2))
    yield called(site, call, text, MOVE, rare=True)
    if spec.return_sequences:
        yield called(site, with_output(_time_as_batch), f"Your out {VIEWED}", MOVE, rare=True)


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


Change = Callable[[Array], Array]


def _batch_as_time(y: Array) -> Array:
    """(T, B, ...) taken for (B, T, ...)."""
    return y.swapaxes(0, 1).reshape(y.shape)


def _time_as_batch(y: Array) -> Array:
    """(B, T, ...) taken for (T, B, ...), and moved to (B, T, ...)."""
    return _as_time_first(y).swapaxes(0, 1)


def _time_first(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """A layer whose steps, stacked time first, are viewed as batch first."""
    own: Any = spec
    y, *states = forward(whole(own), inputs, context)
    y = _batch_as_time(y)
    return [y if own.return_sequences else y[:, -1], *states]


def _pointwise(site: SuspectLayer) -> bool:
    """True for a Dense that every step goes through by itself."""
    return isinstance(site.spec, L.Dense) and len(site.node.shape) == 2


STACKED = (
    "Your steps (time, batch, units) are viewed as (batch, time, units): samples are mixed, and"
    " their axes had to be moved."
)


def stacks(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Steps of a layer that land in other samples."""
    spec = site.spec
    if isinstance(spec, (L.Recurrent, L.Bidirectional)) and not isinstance(spec, L.ConvLSTM):
        yield called(site, _time_first, STACKED, MOVE, rare=True)
    elif _pointwise(site):
        call = Whole(with_input(_batch_as_time))
        yield called(site, call, f"Of your input: {STACKED}", MOVE, rare=True)


def _exchanged(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    return [_time_as_batch(y) for y in forward(spec, inputs, context)]


def outputs(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """An output of the model for every step, viewed with batch and time exchanged."""
    if _pointwise(site) and Edge(site.node.name) in site.model.outputs:
        text = "Your output is viewed in the shape (time, batch, units), its first axes in the"
        text += " other order: samples are mixed."
        fix = "View it as (batch, time, units)."
        yield called(site, Whole(_exchanged), text, fix, rare=True)


def flattened(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Steps that are flattened from the last one to the first."""
    flat = isinstance(site.spec, (L.Flatten, L.Reshape)) and len(site.node.shape) == 1
    if flat and len(site.model.shape(site.node.inputs[0])) == 2:
        text = "Your steps are flattened in reverse order, turned round in time."
        call = with_input(lambda x: x[:, ::-1])
        yield called(site, call, text, "Flatten them as they are.", rare=True)


def repeats(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A vector repeated along another axis and viewed in the right shape."""
    spec = site.spec
    if not isinstance(spec, L.RepeatVector) or spec.times < 2:
        return
    times = spec.times
    changes: tuple[tuple[str, Change], ...] = (
        ("batch", lambda x: np.tile(x, (times, 1)).reshape(len(x), times, -1)),
        ("units", lambda x: np.repeat(x, times, axis=1).reshape(len(x), times, -1)),
        ("units", lambda x: np.tile(x, (1, times)).reshape(len(x), -1, times).swapaxes(1, 2)),
    )
    for number, (axis, change) in enumerate(changes):
        text = f"Your vector is repeated along the {axis} and viewed as steps: its numbers are"
        text += f" mixed with those of other {'samples' if axis == 'batch' else 'units'}."
        fix = "Repeat it along a new axis 1, time."
        yield site.altered(text, fix, f"repeat {number}", rare=True, call=in_place_of(change))


MIXED = (
    Mistake("other-repeat", repeats),
    Mistake("mixed-samples", stacks),
    Mistake("mixed-samples", outputs),
    Mistake("go-backwards", flattened),
)
