"""An encoder and a step decoder out of a training graph: how such models are used once trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xlstm.errors import UsageError
from xlstm.model import Bidirectional, Builder, Edge, Input, Model, Node, Recurrent
from xlstm.porting import load


def split(source: Any, at: str | Sequence[str]) -> tuple[Model, Model]:
    """Cuts a training graph where a decoder's states start.

    The encoder computes the states that the layers `at` start from, and whatever else of it the
    rest of the model reads. The decoder takes these as inputs after the model's own, and returns
    the states of the layers `at` after the model's own outputs, so that it can be called step by
    step: feed the states of one call into the next. Its time axes may have any length.

    Args:
        source: anything that `load` takes.
        at: name of the recurrent layer of the decoder, or names of several.

    Returns:
        The encoder and the decoder, to port, save or count like any model.

    Raises:
        UsageError: a layer that does not exist, or whose states start from nothing that an encoder
            computes.
    """
    model = load(source)
    names = [at] if isinstance(at, str) else list(at)
    nodes = [_decoder_node(model, name) for name in names]
    encoder = _before(model, [edge for node in nodes for edge in node.states])
    cut = _crossing(model, encoder)
    return _part(model, cut, "encoder"), _decoder(model, encoder, cut, names)


def _decoder_node(model: Model, name: str) -> Node:
    known = {node.name: node for node in model.layers}
    node = known.get(name)
    if node is None or not isinstance(node.spec, (Recurrent, Bidirectional)) or not node.states:
        starts = [other.name for other in model.layers if other.states]
        want = f"a layer whose states start elsewhere ({', '.join(starts) or 'there is none'})"
        raise UsageError("split", want, repr(name), "name the decoder's recurrent layer")
    return node


def _before(model: Model, edges: Iterable[Edge]) -> set[str]:
    """Names of the nodes that edges depend on, model inputs included."""
    found, todo = set[str](), [edge.node for edge in edges]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [edge.node for edge in model.node(name).reads]
    return found


def _crossing(model: Model, encoder: set[str]) -> list[Edge]:
    """What the rest of the model reads of the encoder's layers, in order."""
    rest = [node for node in model.nodes if node.name not in encoder]
    read = [edge for node in rest for edge in node.reads if edge.node in encoder]
    found = dict.fromkeys(edge for edge in read if edge.node not in model.inputs)
    if not found or any(edge.node in encoder for edge in model.outputs):
        want = "an encoder that the decoder reads, and outputs of the decoder"
        raise UsageError("split", want, "another graph", "name the decoder's recurrent layer")
    return list(found)


def _part(model: Model, outputs: Sequence[Edge], name: str) -> Model:
    """The part of a model that some edges depend on."""
    needed = _before(model, outputs)
    nodes = [node for node in model.nodes if node.name in needed]
    return _built(model, nodes, outputs, {}, name)


def _decoder(model: Model, encoder: set[str], cut: Sequence[Edge], at: Sequence[str]) -> Model:
    """The rest of a model, the cut edges as inputs, the states of `at` as further outputs."""
    needed = _before(model, model.outputs) - (encoder - set(model.inputs))
    rest = [node for node in model.nodes if node.name in needed]
    read = {edge.node for node in rest for edge in node.reads}
    kept = [n for n in rest if n.name in read or n.name not in model.inputs]
    nodes = [_stepping(node, at, model.inputs) for node in kept]
    places = dict[Edge, Edge]()
    for number, edge in enumerate(cut):
        name = f"state_{number}"
        while name in needed:
            name += "_"
        nodes.insert(number, Node(name, Input(model.shape(edge))))
        places[edge] = Edge(name)
    nodes.sort(key=lambda node: not isinstance(node.spec, Input))
    own = [node for node in nodes if node.name in model.inputs]
    given = [node for node in nodes if isinstance(node.spec, Input) and node not in own]
    layers = [node for node in nodes if not isinstance(node.spec, Input)]
    outputs = [*model.outputs]
    for node in layers:
        if node.name in at:
            spec: Any = node.spec
            first = len(spec.output_shapes(model.shape(node.inputs[0]))) - len(spec.state_shapes())
            states = [Edge(node.name, first + n) for n in range(len(spec.state_shapes()))]
            outputs += [edge for edge in states if edge not in outputs]
    return _built(model, [*own, *given, *layers], outputs, places, "decoder")


def _stepping(node: Node, at: Sequence[str], inputs: Sequence[str]) -> Node:
    """A decoder's node as it is called step by step."""
    if node.name in inputs and isinstance(node.spec, Input) and node.spec.shape:
        return replace(node, spec=replace(node.spec, shape=(None, *node.spec.shape[1:])))
    if node.name in at and isinstance(node.spec, Recurrent):
        return replace(node, spec=replace(node.spec, return_state=True))
    if node.name in at and isinstance(node.spec, Bidirectional):
        halves = [replace(half, return_state=True) for half in node.spec.halves]
        return replace(node, spec=replace(node.spec, forward=halves[0], backward=halves[1]))
    return node


def _built(
    model: Model,
    nodes: Sequence[Node],
    outputs: Sequence[Edge],
    places: Mapping[Edge, Edge],
    name: str,
) -> Model:
    """A graph of some nodes; a layer whose first call is elsewhere becomes its own."""
    graph, owners, weights = Builder(), dict[str, str](), {}
    for node in nodes:
        owner = owners.setdefault(node.owner, node.name)
        graph.add(
            node.name,
            node.spec,
            [places.get(edge, edge) for edge in node.inputs],
            mask=None if node.mask is None else places.get(node.mask, node.mask),
            states=[places.get(edge, edge) for edge in node.states],
            trainable=node.trainable,
            layer="" if owner == node.name else owner,
        )
        if node.owner in model.weights:
            weights[owner] = model.weights[node.owner]
    inputs = tuple(node.name for node in nodes if isinstance(node.spec, Input))
    full = f"{model.name}_{name}"
    return Model(full, graph.nodes, inputs, tuple(outputs), weights, model.source)
