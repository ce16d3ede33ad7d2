"""Converts recurrent modules to specs in a traced graph: layer by layer, with shared states.

In: a call in a traced module. Out: nodes of the graph.

    nn.LSTM(4, 5)    LSTM(features=4, units=5, return_sequences=True), if the sequence is read
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from xlstm.ir.graph import Edge
from xlstm.ir.layers import Bidirectional, Dropout, LayerSpec

from .native_modules import stack
from .shape import getitem
from .values import (
    MODULES,
    CannotTraceError,
    ModuleCall,
    RecurrentResult,
    States,
    TracedTensor,
    TraceState,
    ZeroState,
    call_layer,
)


def _states_in(
    wiring: TraceState, args: tuple[Any, ...], module: nn.RNNBase
) -> list[tuple[Edge, ...]] | None:
    """Returns the initial states of a recurrent module: those of another one; None for zeros."""
    states = args[1] if len(args) > 1 else None
    kinds = 2 if isinstance(module, nn.LSTM) else 1
    several = isinstance(states, (tuple, list)) and not isinstance(
        states, (TracedTensor, ZeroState)
    )
    parts: list[Any] = [*states] if several else [states]  # type: ignore[misc]
    if all(part is None or isinstance(part, ZeroState) for part in parts):
        return None
    count = module.num_layers * (1 + module.bidirectional)
    found = [_state(wiring, part, n, count) for n, part in enumerate(parts)]
    if len(parts) != kinds or not all(found):
        raise CannotTraceError(
            "initial states that are neither zeros nor tensors (layers, batch, n)",
            "remove them, or pass tensors, as in h.unsqueeze(0) or what another module returned",
        )
    return found


def _state(wiring: TraceState, part: Any, which: int, count: int) -> tuple[Edge, ...]:
    """Returns the edges of a state, one per layer and direction; empty for other forms."""
    if isinstance(part, States):
        same = part.which == which and len(part.edges) == count
        return tuple(part.take(wiring, n) for n in range(count)) if same else ()
    if not isinstance(part, TracedTensor) or part.rank != 3 or part.batch != 1:
        return ()
    wiring.demand(wiring.sizes(part)[0], count, "layers, got")
    rows = (getitem(wiring, part, n) for n in range(count))
    return tuple(wiring.plain(row).edge for row in rows)


class _Stack:
    """Layers of a recurrent module in one call."""

    def __init__(self, wiring: TraceState, module: nn.RNNBase, path: str) -> None:
        self.wiring = wiring
        self.path = path
        self.directions = 1 + module.bidirectional
        self.found = stack(module)
        self.kinds = 2 if isinstance(module, nn.LSTM) else 1
        self.states: list[list[Edge | None]] = [[], []]

    def needed(self, layer: int) -> tuple[bool, bool, bool]:
        """True for each of sequence, h and c of a layer that something reads."""
        wanted, last = self.wiring.wanted, layer == len(self.recurrent) - 1
        if self.wiring.probing:
            return True, True, True
        sequence = not last or (self.path, -1, 0) in wanted
        h, c = ((self.path, layer, which) in wanted for which in (0, 1))
        return sequence, h, c

    @property
    def recurrent(self) -> list[tuple[str, LayerSpec, bool]]:
        """Returns the layers, without the dropout between them."""
        return [layer for layer in self.found.layers if not isinstance(layer[1], Dropout)]

    def name(self, own: str) -> str:
        """Returns a layer's name in the graph, from its name in the module alone."""
        end = own.rpartition("_l")[2] if "_l" in own else ""
        kind = "_dropout" if own.startswith("dropout") else ""
        return f"{self.path}{kind}" + (f"_l{end}" if end else "")

    def walk(self, x: Edge, starts: list[tuple[Edge, ...]] | None) -> Edge:
        """Adds the layers; returns the last one's sequence."""
        number = 0
        for own, spec, trainable in self.found.layers:
            name = self.name(own)
            if isinstance(spec, Dropout):
                x = call_layer(self.wiring, name, spec, [x])
                continue
            x = self._layer(name, own, spec, trainable, x, starts, number)
            number += 1
        return x

    def _layer(
        self,
        name: str,
        own: str,
        spec: Any,
        trainable: bool,
        x: Edge,
        starts: list[tuple[Edge, ...]] | None,
        number: int,
    ) -> Edge:
        sequence, h, c = self.needed(number)
        both = isinstance(spec, Bidirectional)
        options = {"return_sequences": sequence, "return_state": c or (h and (sequence or both))}
        halves = [replace(half, **options) for half in (spec.halves if both else (spec,))]
        spec = Bidirectional(*halves) if both else halves[0]
        mine = range(number * self.directions, (number + 1) * self.directions)
        states = [part[n] for n in mine for part in starts] if starts else []
        edge = call_layer(self.wiring, name, spec, [x], states=states, trainable=trainable)
        if edge.node == self.wiring.called[name][0] and not self.wiring.probing:
            self.wiring.weights[edge.node] = self.found.weights[own]
        for half in range(self.directions):
            for which in range(self.kinds):
                place = 1 + half * self.kinds + which if options["return_state"] else 0
                there = (h, c)[which]
                self.states[which].append(Edge(edge.node, place) if there else None)
        return edge


@MODULES.of(nn.LSTM, nn.GRU, nn.RNN)
def recurrent(call: ModuleCall) -> RecurrentResult:
    """Adds a recurrent module that is called once."""
    wiring, module, path, args = call
    x = call._replace(args=args[:1]).x
    batch = 0 if module.batch_first else 1
    if x.rank != 3 or x.batch != batch:
        axes = "(batch, time, features)" if module.batch_first else "(time, batch, features)"
        first = f"batch_first={module.batch_first}"
        got = f"with {first} a tensor of {x.rank} axes, the batch being axis {x.batch}"
        raise CannotTraceError(got, f"give it {axes}")
    wiring.demand(wiring.sizes(x)[2], module.input_size, "features, got")
    starts = _states_in(wiring, args, module)
    stack = _Stack(wiring, module, path)
    y = TracedTensor(
        stack.walk(wiring.plain(x).edge, starts), (0, 1, 2) if not batch else (1, 0, 2)
    )
    h, c = (
        States(path, which, tuple(edges), stack.directions)
        for which, edges in enumerate(stack.states)
    )
    return RecurrentResult(path, y, (h, c) if isinstance(module, nn.LSTM) else h)
