"""Rows of the table of mistakes: loops over time, and cells in them, that are written by hand.

In: a recurrent layer. Out: the layer with a state that is lost, outputs that are one step late, or
another formula of its cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import Call
from xlstm.diagnosis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    first_spec,
    pieces,
)
from xlstm.diagnosis.mistakes.layers.activations import HARD, words
from xlstm.diagnosis.mistakes.time.bidirectional import Run, each
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.context import Context
from xlstm.reference.recurrent import STEPS, MaskedStep, Step, masked_step, recurrent

States = list[Array]
Carry = Callable[[States, States], States]
"""(states at the start, states after a step) -> states that the next step begins with."""


def _start(spec: L.Recurrent, x: Array, context: Context) -> States:
    """The values that the states start from."""
    shapes: Any = spec.state_shapes()
    return list(context.states) or [np.zeros((len(x), *shape), x.dtype) for shape in shapes]


def _loop(carry: Carry, apart: bool) -> Run:
    """A loop that hands on other states than those after the step.

    At masked steps it gives the output before them, kept apart, or the state that the step began
    with.
    """

    def run(spec: Any, x: Array, context: Context) -> list[Array]:
        start = states = after = _start(spec, x, context)
        one = replace(spec, return_state=True, go_backwards=False)
        y, found = np.zeros_like(start[0]), []
        for t in range(x.shape[1])[:: -1 if spec.go_backwards else 1]:
            mask = None if context.mask is None else context.mask[:, t : t + 1]
            around = replace(context, mask=mask, states=states)
            (new, *after) = recurrent(one, x[:, t : t + 1], around)
            masked_output = (
                np.zeros_like(y) if spec.zero_output_for_mask else y if apart else states[0]
            )
            y = new[:, 0] if mask is None else np.where(mask, new[:, 0], masked_output)
            states = carry(start, after)
            found.append(y)
        return [np.stack(found, 1), *(after if spec.return_state else ())]

    return run


CARRIED: tuple[tuple[Carry, bool, str, str], ...] = (
    (lambda start, _after: start, False,
     "Your loop carries no state: every step starts from zeros again.",
     "Hand the state after each step on to the next one."),
    (lambda start, after: [after[0], *start[1:]], True,
     "Your loop carries h and not c: every step starts with a cell state of zeros.",
     "Hand c on to the next step as well."),
    (lambda start, after: [start[0], *after[1:]], True,
     "Your loop carries c and not h: every step starts with an h of zeros.",
     "Hand h on to the next step as well."),
)  # fmt: skip
"""States that are handed on, whether it takes an LSTM, what is wrong, what to do."""


REVERSED = (
    "So would this loop and the one before it with their outputs stacked in reverse order: out[:, "
    "-1] is then the step that is read first."
)


def _follows_loop(site: SuspectLayer) -> bool:
    """True for a layer that gives its last step and reads every step of another loop."""
    spec: Any = site.spec
    before: Any = site.model.node(site.node.inputs[0].node).spec
    alike = isinstance(spec, L.Recurrent) and isinstance(before, L.Recurrent)
    return alike and not spec.return_sequences and bool(before.return_sequences)


def carried(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """States that a loop does not hand on."""
    specs = pieces(site.spec)[0].specs
    if not all(isinstance(s, L.Recurrent) and not isinstance(s, L.ConvLSTM) for s in specs):
        return
    for number, (carry, cells, text, fix) in enumerate(CARRIED):
        if not cells or all(isinstance(s, L.LSTM) for s in specs):
            said = text.replace("zeros", "the initial one") if site.node.states else text
            if number == 0 and _follows_loop(site):
                said = f"{said} {REVERSED}"
            for apart in (False, True)[: 1 + (site.node.mask is not None)]:
                yield called(site, each(_loop(carry, apart)), said, fix)


Shift = Callable[[Array, Array], Array]
"""(h at the start, outputs of every step) -> the outputs shifted."""


def _shifted(shift: Shift) -> Run:
    def run(spec: Any, x: Array, context: Context) -> list[Array]:
        y, *states = recurrent(spec, x, context)
        return [shift(_start(spec, x, context)[0][:, None], y), *states]

    return run


LATE = "Your outputs are one step late: step t gives a's of step t - 1"
EARLY = "Your outputs are one step early: step t gives a's of step t + 1"

SHIFTS: tuple[tuple[Shift, str, str], ...] = (
    (lambda h, y: np.concatenate([h, y[:, :-1]], 1),
     f"{LATE}, and the first one the state before any step.",
     "Keep h after the step has updated it."),
    (lambda _h, y: np.roll(y, 1, 1), f"{LATE}, and the first one the last.", "Do not shift them."),
    (lambda _h, y: np.roll(y, -1, 1), f"{EARLY}, and the last one the first.",
     "Do not shift them."),
    (lambda _h, y: np.concatenate([y[:, 1:], y[:, -1:]], 1), f"{EARLY}, and the last one its own.",
     "Do not shift them."),
    (lambda h, y: np.concatenate([y[:, 1:], 0 * h], 1), f"{EARLY}, and the last one zeros.",
     "Do not shift them."),
)  # fmt: skip


def shifted(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Outputs that are kept one step late or early."""
    spec: Any = site.spec
    both = isinstance(spec, L.Bidirectional)
    whole = spec.return_sequences if isinstance(spec, (L.Recurrent, L.Bidirectional)) else False
    if (both or whole) and not isinstance(first_spec(spec), L.ConvLSTM):
        for shift, text, fix in SHIFTS[: None if whole else 1]:
            yield called(site, each(_shifted(shift)), text, fix)


ROWS = (
    Mistake("state-lost", carried),
    Mistake("shifted-output", shifted),
)


Build = Callable[[Any, Context], Step]
"""(spec, weights and surroundings) -> one step of a cell."""


def _stepped(build: Build) -> Call:
    """A layer, or both halves, whose cell takes another step."""

    def run(spec: Any, x: Array, context: Context) -> list[Array]:
        return recurrent(spec, x, context, steps={type(spec): build})

    return each(run)


Cell = Callable[[Array, Array, Array, Array], Array]
"""(input gate, forget gate, candidate, old cell state) -> cell state."""

Output = Callable[[Array, Array, Array], Array]
"""(output gate, activated cell state, activated old cell state) -> h."""


def _cell(i: Array, f: Array, g: Array, c: Array) -> Array:
    return np.asarray(f * c + i * g)


def _output(o: Array, new: Array, _old: Array) -> Array:
    return np.asarray(o * new)


def _lstm(cell: Cell = _cell, output: Output = _output, seen: str = "") -> Build:
    """An LSTM of another cell state or output; `seen` are gates that see the cell state too."""

    def build(spec: L.LSTM, context: Context) -> Step:
        u_GHH = context.weights["recurrent"]

        def gate(y: Array, name: str, c: Array) -> Array:
            y = y + c if name in seen else y
            return context.activate(spec.gate_activation, y, "gates")

        def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
            h, old = states
            i, f, g, o = xw_GBH + h @ u_GHH
            candidate = context.activate(spec.activation, g, "candidate")
            new = cell(gate(i, "i", old), gate(f, "f", old), candidate, old)
            new_and_old = [context.activate(spec.activation, c, "cell") for c in (new, old)]
            h = output(gate(o, "o", old if "old" in seen else new), *new_and_old)
            return [h @ context.weights["projection"] if spec.projection else h, new]

        return step

    return build


def _clipped(limit: float) -> Cell:
    return lambda i, f, g, c: np.clip(_cell(i, f, g, c), -limit, limit)


A_CELL = "a computes c = f c' + i g, with c' the old one"
CELLS: tuple[tuple[Build, str, str], ...] = (
    (_lstm(lambda i, f, g, c: c + i * g),
     f"Your cell state lacks the forget gate: c = c' + i g; {A_CELL}.",
     "Multiply the old cell state by the forget gate."),
    (_lstm(lambda i, f, g, c: f * c + g),
     f"Your cell state lacks the input gate: c = f c' + g; {A_CELL}.",
     "Multiply the candidate by the input gate."),
    (_lstm(lambda i, f, g, c: f * c + (1 - f) * g),
     f"Your LSTM couples its gates: c = f c' + (1 - f) g, without the input gate; {A_CELL}.",
     "Multiply the candidate by the input gate."),
    (_lstm(lambda i, f, g, c: (1 - i) * c + i * g),
     f"Your LSTM couples its gates: c = (1 - i) c' + i g, without the forget gate; {A_CELL}.",
     "Multiply the old cell state by the forget gate."),
    (_lstm(lambda i, f, g, c: f * c - i * g),
     f"Your cell state has the candidate with the other sign: c = f c' - i g; {A_CELL}.",
     "Add the candidate."),
    (_lstm(lambda i, f, g, c: i * g),
     f"Your cell state is not carried from step to step: c = i g; {A_CELL}.",
     "Add the old cell state times the forget gate."),
    (_lstm(lambda i, f, g, c: f * c + i),
     f"Your cell state lacks the candidate: c = f c' + i; {A_CELL}.",
     "Multiply the input gate by the candidate."),
    (_lstm(lambda i, f, g, c: f * (c + i * g)),
     f"Your forget gate acts on the candidate too: c = f (c' + i g); {A_CELL}.",
     "Multiply the old cell state alone by the forget gate."),
    (_lstm(output=lambda o, new, _old: new),
     "Your output lacks the output gate: h = tanh(c); a computes h = o tanh(c).",
     "Multiply by the output gate."),
    (_lstm(output=lambda o, _new, old: o * old),
     "Your output is of the old cell state, the one before the step; a's is of the new one.",
     "Update c first, then compute h of it."),
    *((_lstm(seen=seen), f"Your {words}; a's gates see none.",
       f"Compute the {'gates' if 'peepholes' in words else 'gate'} without the cell state.")
      for seen, words in (
          ("o", "output gate sees the cell state (a peephole)"),
          ("o old", "output gate sees the old cell state (a peephole)"),
          ("i", "input gate sees the cell state (a peephole)"),
          ("f", "forget gate sees the cell state (a peephole)"),
          ("if", "input and forget gates see the cell state (peepholes)"),
          ("ifo", "gates see the cell state (peepholes)"),
      )),
    *((_lstm(_clipped(limit)), f"Your cell state is clipped to -{limit:g} ... {limit:g}; a's is "
       "not.", "Do not clip it.") for limit in (0.5, 1, 2, 3, 5, 10)),
)  # fmt: skip
"""A step of an LSTM, what is wrong, what to do."""

Candidate = Callable[[Array, Array, Array], Array]
"""(input's part, recurrent part, reset gate) -> candidate, before its activation."""

Mix = Callable[[Array, Array, Array], Array]
"""(update gate, candidate, old h) -> h."""


def _gru(candidate: Candidate | None = None, mix: Mix | None = None) -> Build:
    """A GRU of another candidate, or mixed otherwise."""

    def build(spec: L.GRU, context: Context) -> Step:
        u_r, u_z, u_n = context.weights["recurrent"]
        bias_SGH = context.weights.get("bias")
        c_r, c_z, c_n = bias_SGH[1] if bias_SGH is not None and len(bias_SGH) == 2 else (0, 0, 0)

        def inner(n: Array, h: Array, r: Array) -> Array:
            if candidate is not None:
                return candidate(n, h @ u_n + c_n, r)
            if spec.reset_after:
                return np.asarray(n + r * (h @ u_n + c_n))
            return np.asarray(n + (r * h) @ u_n + c_n)

        def step(xw_GBH: Array, states: list[Array]) -> list[Array]:
            (h,) = states
            r, z, n = xw_GBH
            r = context.activate(spec.gate_activation, r + h @ u_r + c_r, "gates")
            z = context.activate(spec.gate_activation, z + h @ u_z + c_z, "gates")
            n = context.activate(spec.activation, inner(n, h, r), "candidate")
            return [mix(z, n, h) if mix else (1 - z) * n + z * h]

        return step

    return build


A_MIX = "a computes h = (1 - z) n + z h'"
GRUS: tuple[tuple[Build, str, str], ...] = (
    (_gru(mix=lambda z, n, h: n),
     f"Your new state lacks the update gate z: h = n; {A_MIX}.", "Mix both by z."),
    (_gru(mix=lambda z, n, h: z * h + n),
     f"Your candidate lacks the factor 1 - z of the update gate: h = n + z h'; {A_MIX}.",
     "Multiply the candidate by 1 - z."),
    (_gru(mix=lambda z, n, h: (1 - z) * n + h),
     f"Your old state lacks the factor z of the update gate: h = (1 - z) n + h'; {A_MIX}.",
     "Multiply the old state by z."),
    (_gru(mix=lambda z, n, h: (1 - z) * n),
     f"Your new state lacks the old one: h = (1 - z) n; {A_MIX}.", "Add z times the old state."),
    (_gru(mix=lambda z, n, h: z * n),
     f"Your new state lacks the old one: h = z n; {A_MIX}.", "Mix both by z."),
    (_gru(mix=lambda z, n, h: (1 - z) * h + z * n),
     f"Your update gate z is exchanged with 1 - z: h = z n + (1 - z) h'; {A_MIX}.",
     "Swap z and 1 - z."),
    (_gru(lambda n, hu, r: n + hu),
     "Your candidate lacks the reset gate r.", "Multiply the recurrent part by r."),
    (_gru(lambda n, hu, r: r * (n + hu)),
     "Your reset gate multiplies the whole candidate, the input's part too; a's the recurrent part "
     "alone.", "Multiply the recurrent part alone."),
    (_gru(lambda n, hu, r: r * n + hu),
     "Your reset gate multiplies the input's part of the candidate; a's the recurrent part.",
     "Multiply the recurrent part."),
    (_gru(lambda n, hu, r: n + (1 - r) * hu),
     "Your reset gate r is exchanged with 1 - r.", "Multiply the recurrent part by r."),
    (_gru(lambda n, hu, r: n),
     "Your candidate lacks its recurrent part.", "Add the recurrent part."),
)  # fmt: skip
"""A step of a GRU, what is wrong, what to do."""


def _exchanged(before: bool) -> Build:
    """A cell that is given the states in each other's place, or whose states are taken so."""

    def build(spec: Any, context: Context) -> Step:
        own = STEPS[type(spec)](spec, context)
        if before:
            return lambda xw, states: own(xw, states[::-1])
        return lambda xw, states: own(xw, states)[::-1]

    return build


EXCHANGED = (
    (_exchanged(before=True),
     "Your loop gives the cell its states in each other's place: c for h, and h for c.",
     "Give it h first, then c, as it takes them."),
    (_exchanged(before=False),
     "Your loop takes the cell's states in each other's place: c for h, and h for c.",
     "Take h first, then c, as it gives them."),
)  # fmt: skip


GATE_WORDS = {"i": "input", "f": "forget", "o": "output", "r": "reset", "z": "update"}


class _OneGate:
    """Surroundings in which one of a cell's gates has another activation.

    A step asks for its gates in one order; the number of calls tells which one it is.
    """

    def __init__(self, number: int, count: int, name: str) -> None:
        self.number, self.count, self.name = number, count, name

    def __call__(self, spec: Any, context: Context) -> Step:
        """One step of the cell."""
        own = copy(context)
        calls = itertools.count()

        def activate(activation: str, x: Array, use: str = "output") -> Array:
            if use == "gates" and next(calls) % self.count == self.number:
                return FUNCTIONS[self.name](x)
            return context.activate(activation, x, use)

        own.activate = activate  # type: ignore[method-assign]
        return STEPS[type(spec)](spec, own)


ONE_GATE = ("tanh", "linear", "sigmoid", *HARD, "relu")


def one_gate(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another activation of a single gate."""
    specs = _specs(site)
    for kind, gates in ((L.LSTM, "ifo"), (L.GRU, "rz")):
        for number, gate in enumerate(gates):
            for name in ONE_GATE if all(isinstance(spec, kind) for spec in specs) else ():
                old: Any = specs[0]
                if name != old.gate_activation:
                    text = f"Your {GATE_WORDS[gate]} gate's activation is {words(name)}; "
                    text += f"a's gates have {words(old.gate_activation)}."
                    call = _stepped(_OneGate(number, len(gates), name))
                    fix = f"Use {words(old.gate_activation)} there."
                    yield called(site, call, text, fix, rare=True)


def _giving_c(spec: Any, x: Array, context: Context) -> list[Array]:
    def hold(*args: Any) -> tuple[Array, list[Array]]:
        _, states = masked_step(*args)
        return states[1], states

    return recurrent(spec, x, context, masked=hold)


def other_state(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Cell states in place of outputs."""
    if all(isinstance(spec, L.LSTM) and not spec.projection for spec in _specs(site)):
        text = "Your layer gives its cell state c for h at each step."
        yield called(site, each(_giving_c), text, "Keep h of each step.", rare=True)


def _specs(site: SuspectLayer) -> list[L.LayerSpec]:
    """The layer itself, or both halves."""
    return [*pieces(site.spec)[0].specs]


def formulas(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A cell of another formula."""
    specs = _specs(site)
    for kind, rows in ((L.LSTM, CELLS), (L.GRU, GRUS)):
        if all(isinstance(spec, kind) and not getattr(spec, "peepholes", False) for spec in specs):
            for build, text, fix in rows:
                yield called(site, _stepped(build), text, fix, rare=True)


def exchanged(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """States that a loop exchanges at each step."""
    if all(isinstance(spec, L.LSTM) and not spec.projection for spec in _specs(site)):
        for build, text, fix in EXCHANGED:
            yield called(site, _stepped(build), text, fix, rare=True)


def _holding(which: tuple[int, ...], zero: bool, shown: bool) -> Call:
    """A layer some of whose states are not kept at masked steps: run on, or set to zeros.

    Args:
        which: numbers of these states.
        zero: whether they are zeros there.
        shown: whether the output is the first state at masked steps too.
    """

    def hold(
        spec: Any,
        mask: Array | None,
        t: int,
        before: tuple[Array, list[Array]],
        after: list[Array],
    ) -> tuple[Array, list[Array]]:
        y, states = masked_step(spec, mask, t, before, after)
        if mask is None:
            return y, states
        keep = mask[:, t].reshape(-1, *(1,) * (y.ndim - 1))
        for number in which:
            states[number] = np.where(keep, after[number], 0) if zero else after[number]
        return (states[0] if shown else y), states

    def run(spec: Any, x: Array, context: Context) -> list[Array]:
        own: MaskedStep = hold
        return recurrent(spec, x, context, masked=own)

    return each(run)


HELD: tuple[tuple[tuple[int, ...], bool, str, str], ...] = (
    ((1,), False, "Your mask keeps h and not c: the cell state runs on over masked steps.",
     "Hold c at masked steps as well."),
    ((0,), False, "Your mask keeps c and not h: h runs on over masked steps.",
     "Hold h at masked steps as well."),
    ((0, 1), True, "Your mask sets h and c to zeros at masked steps; a's keeps them.",
     "Keep the states of the step before."),
    ((0,), True, "Your mask sets h to zeros at masked steps; a's keeps it.",
     "Keep h of the step before."),
    ((1,), True, "Your mask sets c to zeros at masked steps; a's keeps it.",
     "Keep c of the step before."),
)  # fmt: skip
"""States that are not kept, whether they are zeros, what is wrong, what to do."""

ONE_HELD: tuple[tuple[tuple[int, ...], bool, str, str], ...] = (
    ((0,), True, "Your mask sets the state to zeros at masked steps; a's keeps it.",
     "Keep the state of the step before."),
)  # fmt: skip
"""The same for layers of one state."""


class _Raw:
    """A layer that reads what a Masking before it is given: masked steps are no zeros there.

    Attributes:
        call: the layer's.
        also: what the Masking reads.
    """

    def __init__(self, call: Call, edge: Edge) -> None:
        self.call, self.also = call, (edge,)

    def __call__(self, spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the layer itself."""
        return self.call(spec, [inputs[-1]], context)


def unheld(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that some of the states obey, or that sets them to zeros."""
    specs = [
        s for s in _specs(site) if isinstance(s, L.Recurrent) and not isinstance(s, L.ConvLSTM)
    ]
    if site.node.mask is None or not specs:
        return
    states = min(spec.states for spec in specs)
    first = site.model.node(site.node.inputs[0].node)
    raw = first.inputs[0] if isinstance(first.spec, L.Masking) else None
    for which, zero, text, fix in HELD if states > 1 else ONE_HELD:
        call = _holding(which, zero, 0 in which)
        yield called(site, call, text, fix, rare=True)
        if raw is not None and not zero:
            yield called(site, _Raw(call, raw), text, fix, rare=True, rule=f"raw {text}")


CELL_ROWS = (
    Mistake("cell-formula", formulas),
    Mistake("initial-state", exchanged),
    Mistake("other-state", other_state),
    Mistake("gate-activation", one_gate),
    Mistake("mask-ignored", unheld),
)
