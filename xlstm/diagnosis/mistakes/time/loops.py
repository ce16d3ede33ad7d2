"""Rows of the table of causes: what loops over time written by hand get wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    pieces,
)
from xlstm.diagnosis.mistakes.time.bidirectional import Run, each
from xlstm.ir.layers import LSTM, Bidirectional, ConvLSTM, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.context import Context
from xlstm.reference.recurrent import recurrent

States = list[Array]
Carry = Callable[[States, States], States]
"""(states at the start, states after a step) -> states that the next step begins with."""


def _start(spec: Recurrent, x: Array, context: Context) -> States:
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
            held = np.zeros_like(y) if spec.zero_output_for_mask else y if apart else states[0]
            y = new[:, 0] if mask is None else np.where(mask, new[:, 0], held)
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
"""What is handed on, whether it takes an LSTM, what is wrong, what to do."""


REVERSED = (
    "So would this loop and the one before it with their outputs stacked in reverse order: out[:, "
    "-1] is then the step that is read first."
)


def _follows_loop(site: SuspectLayer) -> bool:
    """True for a layer that gives its last step and reads every step of another loop."""
    spec: Any = site.spec
    before: Any = site.model.node(site.node.inputs[0].node).spec
    alike = isinstance(spec, Recurrent) and isinstance(before, Recurrent)
    return alike and not spec.return_sequences and bool(before.return_sequences)


def carried(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """States that a loop does not hand on."""
    specs = pieces(site.spec)[0].specs
    if not all(isinstance(s, Recurrent) and not isinstance(s, ConvLSTM) for s in specs):
        return
    for number, (carry, cells, text, fix) in enumerate(CARRIED):
        if not cells or all(isinstance(s, LSTM) for s in specs):
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
    both = isinstance(spec, Bidirectional)
    whole = spec.return_sequences if isinstance(spec, (Recurrent, Bidirectional)) else False
    if (both or whole) and not isinstance(pieces(spec)[0].specs[0], ConvLSTM):
        for shift, text, fix in SHIFTS[: None if whole else 1]:
            yield called(site, each(_shifted(shift)), text, fix)


ROWS = (
    Mistake("state-lost", carried),
    Mistake("shifted-output", shifted),
)
