"""Adds the hidden states of recurrent layers to the outputs of a model.

In: a model. Out: a model in which every recurrent layer returns its output at every step and its
last states. Nodes that read the last output read that of the last step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model, Node
from xlstm.verification.run import output_names

STATES = {1: ("h",), 2: ("h", "c")}

JOINED = {"sum": "add", "mul": "multiply", "ave": "average"}
"""Merge mode of Bidirectional -> the operation of Merge."""


@dataclass(frozen=True)
class Revealed:
    """A model that shows its hidden states.

    Attributes:
        model: the outputs of the original, then those of each recurrent layer.
        names: of its outputs.
        own: number of outputs of the original.
        left: recurrent layers that are not shown, with the reason.
    """

    model: Model
    names: tuple[str, ...]
    own: int
    left: tuple[str, ...]


@dataclass
class _Work:
    """The graph so far, the new edge of each old one, the added outputs, and all names."""

    graph: Builder = field(default_factory=Builder)
    moved: dict[Edge, Edge] = field(default_factory=dict)
    shown: list[tuple[str, Edge]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def at(self, edge: Edge) -> Edge:
        return self.moved.get(edge, edge)

    def add(self, node: Node, spec: L.LayerSpec) -> Edge:
        """Adds the node with another spec and the same inputs."""
        mask = None if node.mask is None else self.at(node.mask)
        inputs = [self.at(edge) for edge in node.inputs]
        states = [self.at(edge) for edge in node.states]
        options: Any = {"trainable": node.trainable, "layer": node.layer}
        return self.graph.add(node.name, spec, inputs, mask=mask, states=states, **options)

    def add_free(self, name: str, spec: L.LayerSpec, inputs: list[Edge]) -> Edge:
        """Adds a new node; its name gets underscores until it is free."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return self.graph.add(name, spec, inputs)

    def last(self, edge: Edge, name: str, place: int) -> Edge:
        """Adds one step of a sequence."""
        return self.add_free(name, L.Slice(0, start=place, drop=True), [edge])


def expose_hidden_states(model: Model) -> Revealed | None:
    """A model with the outputs of every recurrent layer; None if it has no such layer."""
    work, left = _Work(taken={node.name for node in model.nodes}), []
    for node in model.nodes:
        if isinstance(node.spec, L.Recurrent):
            _one(work, node, node.spec)
        elif isinstance(node.spec, L.Bidirectional):
            _both(work, node, node.spec)
        else:
            work.add(node, node.spec)
        if isinstance(node.spec, L.TimeDistributed) and hasattr(node.spec.layer, "state_shapes"):
            left.append(f"states of {node.name}: not shown, it restarts at every step around it")
    if not work.shown:
        return None
    names, edges = zip(*work.shown, strict=True)
    outputs = (*(work.at(edge) for edge in model.outputs), *edges)
    shows = replace(model, nodes=work.graph.nodes, outputs=outputs, lone=False, keys=())
    own = len(model.outputs)
    every = output_names(model)
    # the states of stateful layers come after all outputs
    labels = (*every[:own], *names, *every[own:])
    return Revealed(shows, labels, own, tuple(left))


def _open(spec: L.Recurrent) -> L.Recurrent:
    return replace(spec, return_sequences=True, return_state=True)


def _state_names(spec: L.Recurrent) -> tuple[str, ...]:
    return STATES.get(len(spec.state_shapes()), ())


def _one(work: _Work, node: Node, spec: L.Recurrent) -> None:
    y = work.add(node, _open(spec))
    if not spec.return_sequences:
        work.moved[Edge(node.name)] = work.last(y, f"{node.name}_last", -1)
    work.shown.append((f"{node.name}, every step", y))
    for number, state in enumerate(_state_names(spec), 1):
        work.shown.append((f"{node.name}, last {state}", Edge(node.name, number)))


def _both(work: _Work, node: Node, spec: L.Bidirectional) -> None:
    forward, backward = map(_open, spec.halves)
    y = work.add(node, L.Bidirectional(forward, backward, "none"))
    halves = [y, Edge(node.name, 1)]
    for edge, side in zip(halves, SIDES, strict=True):
        work.shown.append((f"{node.name} {side}, every step", edge))
    names = [
        f"{side}, last {s}"
        for side, half in zip(SIDES, spec.halves, strict=True)
        for s in _state_names(half)
    ]
    for number, name in enumerate(names):
        work.shown.append((f"{node.name} {name}", Edge(node.name, 2 + number)))
    outputs = 2 if spec.merge == "none" else 1
    for number in range(len(names) if spec.forward.return_state else 0):
        work.moved[Edge(node.name, outputs + number)] = Edge(node.name, 2 + number)
    # the second half's sequence is reversed: its last step is the first element
    ends = halves
    if not spec.return_sequences:
        places = zip(halves, SIDES, (-1, 0), strict=True)
        ends = [work.last(edge, f"{node.name}_{side}_last", n) for edge, side, n in places]
    if spec.merge == "none":
        work.moved |= {Edge(node.name, n): edge for n, edge in enumerate(ends)}
        return
    how = L.Merge(JOINED[spec.merge]) if spec.merge in JOINED else L.Concatenate(-1)
    work.moved[Edge(node.name)] = work.add_free(f"{node.name}_joined", how, ends)


SIDES = ("forward", "backward")
