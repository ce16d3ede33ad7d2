"""Rows of the table of causes: states that are handed over half, swapped, or made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.time.returned_piece import earlier
from xlstm.ir.graph import Edge
from xlstm.ir.layers import Bidirectional, ConvLSTM, LayerSpec, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

States = list[Array]


def _from(change: Callable[[States], States]) -> Call:
    """A layer that starts from other states than those that it is given."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        return forward(spec, inputs, replace(context, states=change(list(context.states))))

    return call


def _zeroed(*kept: int) -> Callable[[States], States]:
    return lambda states: [s if n in kept else np.zeros_like(s) for n, s in enumerate(states)]


def _ordered(*order: int) -> Callable[[States], States]:
    return lambda states: [states[number] for number in order]


def handed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Some of the states that a layer is given; states in each other's place."""
    count = len(site.node.states) if site.layer.started else 0
    if count == 2 and not isinstance(site.spec, Bidirectional):
        pairs = (("h", "c", 0), ("c", "h", 1))
        for some, other, number in pairs:
            text = (
                f"Your layer starts from the {some} that it is given, and from a {other} of zeros."
            )
            yield called(site, _from(_zeroed(number)), text, f"Pass {other} as well.")
        for some, other, number in pairs:
            text = f"Your layer starts from the {some} that it is given, for {other} too."
            yield called(site, _from(_ordered(number, number)), text, "Pass h, then c.")
    elif isinstance(site.spec, Bidirectional) and count:
        yield from _of_halves(site, count)


def _filled(value: float) -> Callable[[States], States]:
    return lambda states: [np.full_like(s, value) for s in states]


def _turned(states: States) -> States:
    return [s[::-1] for s in states]


def others(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Constants for the states that a layer is given; states of other samples."""
    if not site.node.states or not site.layer.started:
        return
    for value in (1.0, 0.5, 0.1, -1.0):
        text = f"Your layer starts from a constant, {value:g}, for the states that it is given."
        yield called(site, _from(_filled(value)), text, "Pass the states.")._replace(rare=True)
    text = "Your layer starts from the states of other samples: their order is reversed."
    yield called(site, _from(_turned), text, "Leave the samples in order.")._replace(rare=True)


def _of_halves(site: SuspectLayer, count: int) -> Iterator[AlteredLayer]:
    """The same for two halves, whose states are the forward half's first."""
    half, every = count // 2, (*range(count),)
    first, last = every[:half], every[half:]
    text = "Your halves start from each other's states."
    yield called(site, _from(_ordered(*last, *first)), text, "Pass the forward half's first.")
    for name, own, other in (("forward", first, "backward"), ("backward", last, "forward")):
        text = f"Only your {name} half starts from its state; the {other} half starts from zeros."
        yield called(site, _from(_zeroed(*own)), text, f"Pass the {other} half's as well.")
        text = f"Both your halves start from the {name} half's state."
        yield called(site, _from(_ordered(*own, *own)), text, "Pass each half its own.")
    if half == 2:
        text = "Your initial states are in the other order in each half (h is taken for c)."
        yield called(site, _from(_ordered(1, 0, 3, 2)), text, "Pass h first, then c.")
        text = (
            "Your initial states lie as h, h, c, c; a's lie as h, c of one half, then of the other."
        )
        yield called(
            site, _from(_ordered(0, 2, 1, 3)), text, "Pass h and c of one half, then the other."
        )
        for name, kept in (("h", (0, 2)), ("c", (1, 3))):
            text = f"Your halves start from the {name} that they are given, and else from zeros."
            yield called(site, _from(_zeroed(*kept)), text, "Pass h and c of each half.")


def _ones(which: tuple[int, ...]) -> Call:
    """A layer some of whose states start from ones."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        x = inputs[0]
        halves = own.halves if isinstance(own, Bidirectional) else (own,)
        states = [
            np.full((len(x), *shape), float(number in which), x.dtype)
            for half in halves
            for number, shape in enumerate(half.state_shapes())
        ]
        return forward(spec, inputs, replace(context, states=states))

    return call


class _Following:
    """A layer that starts from the last output of the layer before it, its cell state from zeros.

    Attributes:
        also: every step of that layer.
    """

    def __init__(self, edge: Edge) -> None:
        self.also = (edge,)

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the layer itself."""
        own: Any = spec
        *inputs, before = inputs
        h = before[:, -1]
        states = [h, *(np.zeros_like(h) for _ in range(own.states - 1))]
        return forward(spec, inputs, replace(context, states=states))


def constant(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer without initial states that starts from some."""
    spec = site.spec
    if site.node.states or not isinstance(spec, (Recurrent, Bidirectional)):
        return
    if isinstance(spec, ConvLSTM) or site.layer.call is not forward:
        return
    halves = spec.halves if isinstance(spec, Bidirectional) else (spec,)
    choices: list[tuple[tuple[int, ...], str]] = [
        ((0, 1), "h and c" if halves[0].states > 1 else "h")
    ]
    choices += [((0,), "h"), ((1,), "c")] if halves[0].states > 1 else []
    for which, words in choices:
        text = f"Your layer starts from ones ({words}); a starts from zeros."
        yield called(site, _ones(which), text, "Start from zeros.")._replace(rare=True)
    if not isinstance(spec, Bidirectional) and spec.width == spec.state_shapes()[-1][-1]:
        for edge in earlier(site.model, site.node)[-1:]:
            text = "Your layer starts from the last state of the layer before it; a from zeros."
            yield called(site, _Following(edge), text, "Start each layer from zeros.")


ROWS = (
    Mistake("initial-state", handed),
    Mistake("initial-state", constant),
    Mistake("initial-state", others),
)
