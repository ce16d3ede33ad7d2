"""The framework-neutral model: a graph of named nodes, each a layer spec, plus canonical weights.

The axes of canonical weights are the same for every framework that they come from:

    LSTM       kernel[gate, input, hidden]  recurrent[gate, hidden_in, hidden_out]
               bias[side, gate, hidden]     gates in the order i f g o
               projection[hidden, output]   optional; recurrent is then [gate, output, hidden]
               peephole[gate, hidden]       optional, for i f o
    GRU        kernel[gate, input, hidden]  recurrent[gate, hidden_in, hidden_out]
               bias[side, gate, hidden]     gates in the order r z n
    ConvLSTM   as LSTM, the window's axes after the gate's: kernel[gate, a, b, input, hidden]
    SimpleRNN  kernel[input, hidden]        recurrent[hidden_in, hidden_out]  bias[side, hidden]
    Dense      kernel[input, output]        bias[output]

`side` is 0 for the bias added to the input product and 1 for the one added to the recurrent
product; frameworks with a single bias have one side. A Bidirectional layer has the tensors of both
halves, their names starting with forward_ and backward_.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np

from xlstm.errors import UsageError, printable
from xlstm.ir import layers as L
from xlstm.ir.layers.custom import same_layer
from xlstm.ir.layers.fields import MOST_AXES, AnyText, check_fields
from xlstm.ir.layers.shape import RESHAPING
from xlstm.ir.lazy_weights import dtypes_of
from xlstm.ir.precision import cast
from xlstm.ir.source import Source
from xlstm.ir.types import Array, Shape

__all__ = ["Builder", "Edge", "Model", "Node", "chain", "row_numbers"]

Name = Annotated[str, AnyText()]
"""The name of a model, a layer or an output in a file."""


class Edge(NamedTuple):
    """One output of a node, read by another node or returned by the model."""

    node: Name
    output: int = 0


@dataclass(frozen=True)
class Node:
    """One place in the graph.

    Attributes:
        name: unlike any other node's.
        spec: the layer.
        inputs: the edges that it reads.
        shapes: shape of one sample of each of its outputs.
        trainable: True if training changes its weights.
        mask: the mask (batch, time) that it uses, None if it has none.
        states: the edges of its initial states, in order; empty for zeros.
        layer: the node whose layer, weights included, this node calls again; "" for its own layer.
    """

    name: Name
    spec: L.LayerSpec
    inputs: tuple[Edge, ...] = ()
    shapes: tuple[Shape, ...] = ((),)
    trainable: bool = True
    mask: Edge | None = None
    states: tuple[Edge, ...] = ()
    layer: Name = ""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def owner(self) -> str:
        """Name of the node that owns the layer: this one, or the one that was called first."""
        return self.layer or self.name

    @property
    def shape(self) -> Shape:
        """Shape of one sample of the first output."""
        return self.shapes[0]

    @property
    def stateful(self) -> bool:
        """True if its states outlive a call."""
        return bool(getattr(self.spec, "stateful", False))

    @property
    def reads(self) -> tuple[Edge, ...]:
        """Every edge into this node: inputs, mask, states."""
        return (*self.inputs, *([self.mask] if self.mask else []), *self.states)


ROWS = 200
"""Layers that a text or a notebook shows."""

NAME_LENGTH = 80
"""Characters of a name that are shown."""

NAMED_KINDS = 4
"""Kinds of layers that one line names."""

HEADERS = ("layer", "kind", "output of a sample")


@dataclass(frozen=True, repr=False)
class Model:
    """A graph of layers in topological order with canonical weights, read from any framework.

    Attributes:
        name: the model's own name.
        nodes: in an order in which every node follows the nodes it reads.
        inputs: names of the L.Input nodes, in calling order.
        outputs: the edges that the model returns, in order.
        weights: node that owns a layer -> canonical tensor name -> array, in the stored dtype.
        source: the file or object that was read.
        lone: True for a bare layer, which ports to the target's bare native layer.
        keys: names of the outputs, sorted, where the model returns a dict of them; else empty.
    """

    name: Name
    nodes: tuple[Node, ...]
    inputs: tuple[Name, ...]
    outputs: tuple[Edge, ...]
    weights: Mapping[Name, Mapping[Name, Array]] = field(repr=False)
    source: Source
    lone: bool = False
    keys: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        keys, count = [*self.keys], len(self.outputs)
        if keys and (len(keys) != count or keys != sorted({*keys})):
            want = f"{count} names of outputs, sorted"
            raise UsageError("Model.keys", want, f"{keys}", "name each output once")

    def __repr__(self) -> str:
        return _line(self)

    def __str__(self) -> str:
        return _text(self)

    def _repr_html_(self) -> str:
        return _markup(self)

    @cached_property
    def layers(self) -> tuple[Node, ...]:
        """The nodes that are layers: all but the inputs."""
        starts = {*self.inputs}
        return tuple(node for node in self.nodes if node.name not in starts)

    @cached_property
    def stateful(self) -> tuple[Node, ...]:
        """The nodes whose states outlive a call."""
        return tuple(node for node in self.nodes if node.stateful)

    def node(self, name: str) -> Node:
        """The node called `name`."""
        return self._named[name]

    def calls(self, owner: str) -> tuple[Node, ...]:
        """The nodes that call the layer of the node `owner`, that node included."""
        return self._calls[owner]

    def mask_of(self, owner: str) -> Edge | None:
        """The first mask that a call of the layer of the node `owner` uses, None if none does."""
        return self._masks.get(owner)

    def readers(self, edge: Edge) -> tuple[Node, ...]:
        """The layers that read an edge, in order, each once."""
        return self._readers.get(edge, ())

    @cached_property
    def returned(self) -> frozenset[Edge]:
        """The edges that are outputs."""
        return frozenset(self.outputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in order."""
        return tuple(node.name for node in self.nodes)

    @cached_property
    def _named(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _calls(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(node.owner, []).append(node)
        return {owner: tuple(nodes) for owner, nodes in found.items()}

    @cached_property
    def _masks(self) -> dict[str, Edge]:
        found: dict[str, Edge] = {}
        for node in self.nodes:
            if node.mask is not None:
                found.setdefault(node.owner, node.mask)
        return found

    @cached_property
    def _readers(self) -> dict[Edge, tuple[Node, ...]]:
        found: dict[Edge, list[Node]] = {}
        for node in self.layers:
            for edge in dict.fromkeys(node.reads):
                found.setdefault(edge, []).append(node)
        return {edge: tuple(nodes) for edge, nodes in found.items()}

    def shape(self, edge: Edge) -> Shape:
        """Shape of one sample of an edge."""
        return self.node(edge.node).shapes[edge.output]

    def compute_dtype(self) -> np.dtype[Any]:
        """The dtype that ports compute in: the widest stored one, at least float32."""
        stored = [kind for layer in self.weights.values() for kind in dtypes_of(layer).values()]
        return np.result_type(np.float32, *stored)

    def astype(self, dtype: Any) -> Model:
        """The same model with every weight cast to `dtype`, before any table is applied.

        numpy has no bfloat16: such weights are float32 arrays of bfloat16 numbers.
        """
        weights = {
            name: {tensor: cast(array, dtype) for tensor, array in layer.items()}
            for name, layer in self.weights.items()
        }
        return replace(self, weights=weights)


def _line(model: Model) -> str:
    """Returns name, number of layers and first kinds: `<Model demo: 2 layers (...)>`."""
    kinds = [*dict.fromkeys(node.spec.title for node in model.layers)]
    more = [f"{len(kinds) - NAMED_KINDS} more"] if kinds[NAMED_KINDS:] else []
    named = ", ".join([*kinds[:NAMED_KINDS], *more])
    return f"<Model {_cut(model.name)}: {_count(model)}{f' ({named})' if named else ''}>"


def _text(model: Model) -> str:
    """Returns a line for each layer, with its kind and the shape of its output."""
    rows = [*_rows(model)]
    first, second = (max(len(row[n]) for row in (HEADERS, *rows)) for n in (0, 1))
    lines = [f"{a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in (HEADERS, *rows)]
    return "\n".join([_head(model), *lines, *_left(model)])


def _markup(model: Model) -> str:
    """Returns the same as a table of HTML."""
    heads = "".join(f"<th>{name}</th>" for name in HEADERS)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
        for row in _rows(model)
    )
    left = "".join(f"<p>{line}</p>" for line in _left(model))
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<p>{html.escape(_head(model))}</p>{table}{left}"


def _count(model: Model) -> str:
    count = len(model.layers)
    return f"{count} layer{'s' * (count != 1)}"


def _head(model: Model) -> str:
    source = " ".join(filter(None, (model.source.framework, model.source.version)))
    read = f", read from {printable(source)}" if source else ""
    return f"{_cut(model.name)}: {_count(model)}{read}"


def _rows(model: Model) -> Iterator[tuple[str, str, str]]:
    for node in model.layers[:ROWS]:
        sizes = ("any" if size is None else str(size) for size in node.shape)
        yield _cut(node.name), _cut(node.spec.title), f"({', '.join(sizes)})"


def _cut(name: str) -> str:
    """A name of a file, which may have any length, in at most 80 characters."""
    shown = printable(name[:NAME_LENGTH])[:NAME_LENGTH]
    return shown if len(name) <= len(shown) else f"{shown}..."


def _left(model: Model) -> list[str]:
    left = len(model.layers) - ROWS
    return [f"... and {left} more"] if left > 0 else []


class Builder:
    """Builds a graph node by node, and computes and checks the shapes.

    Args:
        most_places: largest size of an axis of a sample. None for no limit: a trace uses large
            numbers for sizes that it does not know yet.

    >>> graph = Builder()
    >>> x = graph.add("x", L.Input((None, 3)))
    >>> graph.add("lstm", L.LSTM(3, 4, return_state=True), [x])
    Edge(node='lstm', output=0)
    >>> graph.nodes[-1].shapes
    ((4,), (4,), (4,))
    """

    def __init__(self, most_places: int | None = L.MAX_SIZE) -> None:
        self._nodes: dict[str, Node] = {}
        self._most_places = most_places

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes so far, as a new tuple at every call."""
        return tuple(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def node(self, name: str) -> Node:
        """The node called `name`, which has been added."""
        return self._nodes[name]

    def shape(self, edge: Edge) -> Shape:
        """Shape of one sample of an edge.

        Raises:
            UsageError: an edge from a node, or an output, that does not exist.
        """
        node = self._nodes.get(edge.node)
        if node is None or not 0 <= edge.output < len(node.shapes):
            want, do = "an output of a node before it", "connect it to one"
            raise UsageError("graph", want, f"output {edge.output} of {edge.node}", do)
        return node.shapes[edge.output]

    def add(
        self,
        name: str,
        spec: L.LayerSpec,
        inputs: Sequence[Edge] = (),
        *,
        mask: Edge | None = None,
        states: Sequence[Edge] = (),
        trainable: bool = True,
        layer: str = "",
    ) -> Edge:
        """Adds a node and returns the edge of its first output.

        Raises:
            UsageError: a name twice, inputs that do not exist, shapes that do not fit, or a layer
                called again that is another one.
        """
        if name in self._nodes:
            raise UsageError(name, "layer names that differ", "two equal ones", "rename the layers")
        if layer and (layer not in self._nodes or not same_layer(self._nodes[layer].spec, spec)):
            want, do = f"the layer of a node before it: {layer}", "share a layer before it"
            raise UsageError(name, want, "another layer, or none", do)
        before = [self.shape(edge) for edge in inputs]
        fewest, most = spec.arity
        if not fewest <= len(before) <= most:
            raise UsageError(name, f"inputs for a {spec.kind}", f"{len(before)}", "change them")
        shapes = (spec.shape,) if isinstance(spec, L.Input) else spec.output_shapes(*before)
        _check_samples(name, shapes, self._most_places)
        if mask is not None:
            _check_mask(name, spec, before[0] if before else (), self.shape(mask))
        if states:
            _check_states(name, spec, [self.shape(edge) for edge in states])
        node = Node(name, spec, tuple(inputs), shapes, trainable, mask, tuple(states), layer)
        self._nodes[name] = node
        return Edge(name)


def _check_samples(name: str, shapes: Iterable[Shape], most: int | None) -> None:
    """Raises UsageError for a sample with too many axes, or with too long ones."""
    for shape in shapes:
        longest = max((size for size in shape if size is not None), default=0)
        if len(shape) < MOST_AXES and (most is None or longest <= most):
            continue
        want = f"a sample of less than {MOST_AXES} axes"
        want += f" of at most {most:,} places" if most is not None else ""
        got = f"{len(shape):,} axes" if len(shape) >= MOST_AXES else f"{shape}"
        raise UsageError(name, want, got, "make it smaller")


def _check_mask(name: str, spec: L.LayerSpec, x: Shape, mask: Shape) -> None:
    """Raises UsageError for the shape of a mask's sample if the layer takes no such mask."""
    wanted = spec.mask_shape(x) or ()
    apart = any(len({*pair} - {None}) > 1 for pair in zip(wanted, mask, strict=False))
    if not wanted or len(wanted) != len(mask) or apart:
        sizes = ", ".join("time" if size is None else str(size) for size in wanted)
        want = f"a mask (batch, {sizes})" if wanted else "no mask, which it would not obey"
        raise UsageError(f"{name} ({spec.kind})", want, f"(batch, {str(mask)[1:]}", "change it")


def _check_states(name: str, spec: L.LayerSpec, states: Sequence[Shape]) -> None:
    """Raises UsageError for shapes of initial states' samples that are not the layer's."""
    wanted = spec.state_shapes()
    if tuple(states) != wanted:
        want = f"states {', '.join(map(str, wanted)) or 'for a recurrent layer only'}"
        got = ", ".join(map(str, states))
        raise UsageError(f"{name} ({spec.kind})", want, got, "change the initial states")


def chain(
    name: str,
    layers: list[tuple[str, L.LayerSpec, bool]],
    shape: Shape,
    weights: Mapping[str, Mapping[str, Array]],
    source: Source,
    *,
    lone: bool = False,
    input_dtype: str = "float32",
    batch: int | None = None,
) -> Model:
    """A Model of one input of `shape` and `layers` (name, spec, trainable), one after the other.

    The mask of a Masking layer is used by the recurrent layers after it, by the rules of Keras.

    Raises:
        UsageError: sizes that do not chain, or two layers of one name.
    """
    taken = {layer_name for layer_name, _, _ in layers}
    if len(taken) != len(layers):
        raise UsageError(name, "layer names that differ", "two equal ones", "rename the layers")
    first = "input"
    while first in taken:
        first += "_"
    graph = Builder()
    x = graph.add(first, L.Input(shape, input_dtype, batch))
    mask: Edge | None = None
    for layer_name, spec, trainable in layers:
        recurrent = isinstance(spec, (L.Recurrent, L.Bidirectional))
        used = mask if recurrent else None
        x = graph.add(layer_name, spec, [x], mask=used, trainable=trainable)
        if isinstance(spec, L.Masking):
            mask = Edge(layer_name, 1)
        elif recurrent and not spec.return_sequences:  # type: ignore[attr-defined]
            mask = None
    return Model(name, graph.nodes, (first,), (x,), weights, source, lone)


def row_numbers(model: Model) -> dict[str, int]:
    """Inputs that are row numbers of embeddings -> the fewest rows of those embeddings."""
    found: dict[str, int] = {}
    for node in model.nodes:
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
        if isinstance(spec, L.Embedding):
            start = _start(model, node)
            found[start.name] = min(found.get(start.name, spec.rows), spec.rows)
    return found


def _start(model: Model, node: Node) -> Node:
    """The input whose numbers reach a node unchanged."""
    while node.inputs:
        node = model.node(node.inputs[0].node)
        if not isinstance(node.spec, RESHAPING):
            break
    return node
