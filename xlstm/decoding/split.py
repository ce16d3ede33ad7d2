"""Splits a training graph into an encoder and a step decoder, for use after training.

In: a model, and the names of the decoder's recurrent layers. Out: two models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

from xlstm.decoding.timeline import Timeline
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks.random_state import unmoved
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model, Node
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.types import Array, Shape
from xlstm.reading.load import load


@unmoved
def split(source: Any, at: str | Sequence[str]) -> tuple[Model, Model]:
    """Cuts a training graph where a decoder's states start.

    The encoder returns the initial states of every recurrent layer of the decoder, then all other
    values that the decoder reads. The decoder takes the model's own inputs, then these, in this
    order. It returns the model's own outputs, then the states, in the same order. Called step by
    step with the states of the last call, it computes the same as the training graph on all steps::

        *states, memory = encoder(source)                          # one memory: attention
        y, *states = decoder(target[:, t : t + 1], *states, memory)

    States are those of the layers `at`, then those of other recurrent layers along the decoder's
    steps (zeros without initial states). A layer with a mask has its last output as one more state,
    which masked steps repeat. Outputs of the last step alone are those of the last step so far. A
    call may have several steps, unless they come from a RepeatVector.

    Args:
        source: anything that `load` takes.
        at: name of the recurrent layer of the decoder, or names of several.

    Returns:
        The encoder and the decoder, to port, save or count like any model.

    Raises:
        UsageError: a layer that does not exist, or without initial states from an encoder.
        UnsupportedError: a layer of the decoder that needs other steps than the current one and has
            no state: one that goes backwards, a causal convolution, attention among steps.
    """
    model = load(source)
    names = [at] if isinstance(at, str) else list(at)
    nodes = [_decoder_node(model, name) for name in names]
    while True:
        encoder = _before(model, [edge for node in nodes for edge in node.states])
        rest = _rest(model, encoder, nodes)
        timeline = Timeline(model, rest, [node.name for node in nodes])
        kept = [node for node in rest if node.name in timeline.kept and node not in nodes]
        started = [node for node in kept if node.states]
        if not started:
            break
        nodes += started
    cut = _Cut(model, encoder, rest, timeline, [*nodes, *kept])
    return cut.encoder(), cut.decoder()


def _decoder_node(model: Model, name: str) -> Node:
    known = {node.name: node for node in model.layers}
    node = known.get(name)
    if node is None or not isinstance(node.spec, (L.Recurrent, L.Bidirectional)) or not node.states:
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


def _rest(model: Model, encoder: set[str], at: Sequence[Node]) -> list[Node]:
    """The nodes of the decoder, in order: those that its outputs need, without the encoder's."""
    layers = encoder - set(model.inputs)
    names = {node.name for node in at}
    if not layers or layers & ({edge.node for edge in model.outputs} | names):
        want = "an encoder that the decoder reads, and outputs of the decoder"
        raise UsageError("split", want, "another graph", "name the decoder's recurrent layer")
    found, todo = set[str](), [*names, *(edge.node for edge in model.outputs)]
    while todo:
        name = todo.pop()
        if name not in found and name not in layers:
            found.add(name)
            node = model.node(name)
            states = () if name in names else node.states
            todo += [edge.node for edge in (*node.inputs, *states)]
            todo += [node.mask.node] if node.mask else []
    return [node for node in model.nodes if node.name in found]


@dataclass(frozen=True)
class _Cut:
    """The place where a model is cut in two.

    Attributes:
        model: the training graph.
        before: names of the encoder's nodes.
        rest: the decoder's nodes.
        timeline: axes of their steps.
        kept: the decoder's recurrent layers with states, in the order of the states.
    """

    model: Model
    before: set[str]
    rest: Sequence[Node]
    timeline: Timeline
    kept: Sequence[Node]

    @cached_property
    def memory(self) -> list[Edge]:
        """Outputs of the encoder's layers that the decoder reads beside states, in order."""
        layers = self.before - set(self.model.inputs)
        read = [edge for node in self.rest for edge in self._reads(node) if edge.node in layers]
        return list(dict.fromkeys(read))

    def _reads(self, node: Node) -> tuple[Edge, ...]:
        return replace(node, states=()).reads if node in self.kept else node.reads

    def repeats(self, node: Node) -> bool:
        """True if masked steps of a layer repeat an output that another layer or the user reads."""
        spec: Any = node.spec
        read = {edge for other in self.rest for edge in other.reads} | {*self.model.outputs}
        return node.mask is not None and not spec.zero_output_for_mask and Edge(node.name) in read

    def encoder(self) -> Model:
        """The model that returns the initial states, then the memory."""
        starts = [edge for node in self.kept for edge in node.states]
        needed = _before(self.model, [*starts, *self.memory])
        part = _Part(self.model)
        for node in self.model.nodes:
            if node.name in needed:
                part.add(node, node.spec)
        found: list[Edge] = []
        for node in self.kept:
            spec: Any = node.spec
            shapes = spec.state_shapes()
            found += node.states or [part.zeros(starts[0], shape) for shape in shapes]
            found += [part.zeros(starts[0], shapes[0])] * self.repeats(node)
        inputs = [name for name in self.model.inputs if name in needed]
        return part.model("encoder", inputs, [*found, *self.memory])

    def decoder(self) -> Model:
        """The rest of a model, one or more steps at a time."""
        part = _Part(self.model)
        own = [name for name in self.model.inputs if self.model.node(name) in self.rest]
        for name in own:
            part.add(self.model.node(name), self._stepping(self.model.node(name)))
        inputs, states = [*own], dict[str, list[Edge]]()
        for node in self.kept:
            spec: Any = node.spec
            shapes = spec.state_shapes()
            wanted = [*shapes, *shapes[:1] * self.repeats(node)]
            states[node.name] = [part.input("state", shape, "float32") for shape in wanted]
            inputs += [edge.node for edge in states[node.name]]
        for edge in self.memory:
            dtype = "bool" if _is_mask(self.model, edge) else "float32"
            part.places[edge] = part.input("memory", self.model.shape(edge), dtype)
            inputs.append(part.places[edge].node)
        for node in self.rest:
            if node.name in states:
                states[node.name] = self._walking(part, node, states[node.name])
            elif node.name not in own:
                part.add(node, self._stepping(node))
        own_outputs = [part.places.get(edge, edge) for edge in self.model.outputs]
        after = [edge for node in self.kept for edge in states[node.name]]
        return part.model("decoder", inputs, [*own_outputs, *after])

    @property
    def _length(self) -> int | None:
        """Number of steps of one call, None for any."""
        return 1 if self.timeline.repeats else None

    def _stepping(self, node: Node) -> L.LayerSpec:
        """The spec of a layer for calls step by step."""
        spec, axis = node.spec, self.timeline.axes[Edge(node.name)]
        if isinstance(spec, L.Input) and node.name in self.timeline.fed:
            return replace(spec, shape=(self._length, *spec.shape[1:]))
        if isinstance(spec, L.RepeatVector) and node.name in self.timeline.repeats:
            return replace(spec, times=1)
        if isinstance(spec, L.Reshape) and axis is not None and axis >= 0:
            return replace(spec, shape=(*node.shape[:axis], self._length, *node.shape[axis + 1 :]))
        return spec

    def _walking(self, part: _Part, node: Node, states: Sequence[Edge]) -> list[Edge]:
        """Adds a recurrent layer with initial states; returns its states after the steps."""
        spec: Any = node.spec
        count, repeats = len(spec.state_shapes()), self.repeats(node)
        sequences = spec.return_sequences or repeats
        spec = replace(spec, return_state=True, return_sequences=sequences, stateful=False)
        part.add(node, spec, states[:count])
        after = [Edge(node.name, 1 + n) for n in range(count)]
        if not repeats:
            return after
        assert node.mask is not None
        mask = part.places.get(node.mask, node.mask)
        y, last = part.repeating(Edge(node.name), mask, states[count])
        part.places[Edge(node.name)] = y if node.spec.return_sequences else last  # type: ignore[attr-defined]
        return [*after, last]


class _Part:
    """A graph of some of a model's nodes, and of new ones."""

    def __init__(self, whole: Model) -> None:
        self._whole, self._graph = whole, Builder()
        self._owners: dict[tuple[str, L.LayerSpec], str] = {}
        self._weights: dict[str, Mapping[str, Array]] = {}
        self._zeros: dict[Shape, Edge] = {}
        self.places: dict[Edge, Edge] = {}

    def add(self, node: Node, spec: L.LayerSpec, states: Sequence[Edge] = ()) -> None:
        """Adds a node of the model; a shared layer without its first call gets its own copy."""
        owner = self._owners.setdefault((node.owner, unwrap_time_distributed(spec)), node.name)
        self._graph.add(
            node.name,
            spec,
            [self.places.get(edge, edge) for edge in node.inputs],
            mask=None if node.mask is None else self.places.get(node.mask, node.mask),
            states=states or [self.places.get(edge, edge) for edge in node.states],
            trainable=node.trainable,
            layer="" if owner == node.name else owner,
        )
        if node.owner in self._whole.weights:
            self._weights[owner] = self._whole.weights[node.owner]

    def input(self, base: str, shape: Shape, dtype: str) -> Edge:
        """Adds an input whose name starts with `base`."""
        return self._new(base, L.Input(shape, dtype), numbered=True)

    def _new(self, base: str, spec: L.LayerSpec, *inputs: Edge, numbered: bool = False) -> Edge:
        tries = (f"{base}_{n}" if n or numbered else base for n in count())
        taken = self._whole.names
        name = next(name for name in tries if name not in taken and name not in self._graph)
        return self._graph.add(name, spec, inputs)

    def repeating(self, y: Edge, mask: Edge, before: Edge) -> tuple[Edge, Edge]:
        """Outputs (time, ...) in which masked steps repeat the one before, and the last of them."""
        base, rank = y.node, len(self._graph.shape(y))
        seen = self._new(f"{base}_seen", L.Along("cumsum", 0), mask)
        for axis in range(1, rank):
            seen = self._new(f"{base}_seen", L.ExpandDims(axis), seen)
        row = self._new(f"{base}_held", L.ExpandDims(0), before)
        y = self._new(f"{base}_output", L.Where(), seen, y, row)
        return y, self._new(f"{base}_last", L.Slice(0, -1, drop=True), y)

    def zeros(self, like: Edge, shape: Shape) -> Edge:
        """Zeros of `shape` for every sample of `like`."""
        if shape not in self._zeros:
            self._zeros[shape] = self._made_zeros(like, shape)
        return self._zeros[shape]

    def _made_zeros(self, like: Edge, shape: Shape) -> Edge:
        if None in shape:
            want, got = "a state of known sizes", f"(batch, {str(shape)[1:]}"
            raise UnsupportedError("split", want, got, "build the model for one size of its input")
        size, (first, *more) = math.prod(n or 1 for n in shape), self._graph.shape(like)
        if self._graph.shape(like) == shape:
            return self._new("zeros", L.Function("zeros_like"), like)
        if more:
            like = self._new("zeros", L.Reduce("max", tuple(range(len(more)))), like)
            first = more[-1]
        enough = len(shape) == 1 and size <= (first or 0)
        like = self._new("zeros", L.Slice(0, None, size if enough else 1), like)
        found = self._new("zeros", L.Function("zeros_like"), like)
        if enough:
            return found
        found = self._new("zeros", L.RepeatVector(size), found)
        return self._new("zeros", L.Reshape(shape), found)

    def model(self, name: str, inputs: Sequence[str], outputs: Sequence[Edge]) -> Model:
        """The model of all nodes."""
        nodes = sorted(self._graph.nodes, key=lambda node: not isinstance(node.spec, L.Input))
        full = f"{self._whole.name}_{name}"
        made = (full, tuple(nodes), tuple(inputs), tuple(outputs), self._weights)
        return Model(*made, self._whole.source)


MOVES = (
    L.Concatenate,
    L.ExpandDims,
    L.Flatten,
    L.Permute,
    L.RepeatVector,
    L.Reshape,
    L.Reverse,
    L.Slice,
    L.Squeeze,
)


def _is_mask(model: Model, edge: Edge) -> bool:
    """True if an edge carries a mask, an array of bools."""
    node = model.node(edge.node)
    spec = unwrap_time_distributed(node.spec)
    if isinstance(spec, L.Input):
        return spec.dtype == "bool"
    if isinstance(spec, (L.Masking, L.Embedding)):
        return edge.output == 1
    moved = isinstance(spec, MOVES) and all(_is_mask(model, before) for before in node.inputs)
    return moved or isinstance(spec, L.NotEqual)
