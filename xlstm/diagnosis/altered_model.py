"""An altered copy of a model, and its run: what every hypothesis is made of.

A copy differs from the model in some of its nodes: in the spec, in canonical weights, or in the way
the layer is called. Values that no change reaches are taken from the run before it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers import Input, LayerSpec, TimeDistributed
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

Formula = Callable[[Array], Array]
Values = dict[Edge, Array]
Call = Callable[[LayerSpec, list[Array], Context], list[Array]]
"""Runs a layer: its spec, its inputs, its surroundings -> every output.

One with an attribute `also` reads these edges too, after the node's own inputs.
"""


@dataclass(frozen=True)
class Layer:
    """A node's layer as a hypothesis has it.

    Attributes:
        spec: the options.
        weights: hub tensors.
        call: runs it.
        formulas: use of an activation ("gates", "candidate", "cell", "output") -> what is computed
            there in its place.
        masked: whether the node's mask is obeyed.
        started: whether initial states are used.
    """

    spec: LayerSpec
    weights: Mapping[str, Array]
    call: Call = forward
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    masked: bool = True
    started: bool = True


@dataclass
class Surroundings(Context):
    """The context of a layer some of whose activations are other functions."""

    formulas: Mapping[str, Formula] = field(default_factory=dict)

    def activate(self, activation: str, x: Array, use: str = "output") -> Array:
        """Applies the function that stands in an activation's place."""
        return self.formulas.get(use, FUNCTIONS[activation])(x)

    def half(self, before: str, states: Sequence[Array]) -> Context:
        """As a context's half, with the same functions."""
        own = super().half(before, states)
        return _surroundings(own.name, own.weights, own.mask, own.states, self.formulas)


def with_input(change: Callable[[Array], Array], place: int = 0) -> Call:
    """A call that changes one input first, as a layer that gets other numbers.

    >>> from xlstm.model import Relu
    >>> call = with_input(lambda x: 2 * x)
    >>> call(Relu(), [np.array([[-1.0, 3.0]])], Context("relu", {}))[0].tolist()
    [[0.0, 6.0]]
    """
    return with_inputs(lambda xs: [change(x) if n == place else x for n, x in enumerate(xs)])


def with_inputs(change: Callable[[list[Array]], Sequence[Array]]) -> Call:
    """A call that changes all inputs first, or their order."""
    return lambda spec, inputs, context: forward(spec, [*change(inputs)], context)


def with_states(change: Callable[[list[Array]], Sequence[Array]]) -> Call:
    """A call that starts from other states than the layer is given."""
    return lambda spec, inputs, context: forward(
        spec, inputs, replace(context, states=[*change([*context.states])])
    )


def with_output(change: Callable[[Array], Array], around: Call = forward) -> Call:
    """A call that changes the first output afterwards."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y, *others = around(spec, inputs, context)
        return [change(y), *others]

    return call


def with_mask(change: Callable[[Array], Array]) -> Call:
    """A call that obeys a changed mask, where there is one."""
    return lambda spec, inputs, context: forward(spec, inputs, masked(context, change))


def masked(context: Context, change: Callable[[Array], Array]) -> Context:
    """The same surroundings with a changed mask, where there is one."""
    mask = context.mask
    return context if mask is None else replace(context, mask=change(mask))


def in_place_of(change: Callable[[Array], Array], place: int = 0) -> Call:
    """A function of one input in the layer's place."""
    return lambda _spec, inputs, _context: [change(inputs[place])]


def times(factor: float) -> Callable[[Array], Array]:
    """Multiplies an array with a number of its own dtype."""
    return lambda x: x * x.dtype.type(factor)


def _surroundings(
    name: str,
    weights: Mapping[str, Array],
    mask: Array | None,
    states: Sequence[Array],
    formulas: Mapping[str, Formula],
) -> Context:
    if not formulas:
        return Context(name, weights, None, mask, states)
    return Surroundings(name, weights, None, mask, states, formulas=formulas)


Layers = Mapping[str, Layer]
"""Name of the node that owns a layer -> the layer."""


def layers_of(model: Model) -> dict[str, Layer]:
    """A model's own layers, nothing altered; weights are float64."""
    return {
        node.name: Layer(
            node.spec,
            {n: a.astype(np.float64) for n, a in model.weights.get(node.name, {}).items()},
        )
        for node in model.layers
        if not node.layer
    }


def start(model: Model, inputs: Sequence[Array], dtype: Any = np.float64) -> Values:
    """The values that a run begins with: those of the inputs."""
    found = {}
    for name, x in zip(model.inputs, inputs, strict=True):
        spec = model.node(name).spec
        mask = isinstance(spec, Input) and spec.dtype == "bool"
        found[Edge(name)] = x != 0 if mask else np.asarray(x).astype(dtype)
    return found


def run_node(node: Node, layer: Layer, values: Values, dtype: Any = np.float64) -> list[Array]:
    """Every output of one node, for the values that it reads."""
    weights = {n: a.astype(dtype, copy=False) for n, a in layer.weights.items()}
    mask = values[node.mask] if node.mask is not None and layer.masked else None
    states = [values[edge] for edge in node.states] if layer.started else []
    context = _surroundings(node.name, weights, mask, states, layer.formulas)
    with np.errstate(all="ignore"):
        edges = (*node.inputs, *getattr(layer.call, "also", ()))
        return layer.call(layer.spec, [values[edge] for edge in edges], context)


def run(
    model: Model,
    layers: Layers,
    values: Values,
    dtype: Any = np.float64,
    wanted: Container[str] | None = None,
) -> Values:
    """Values of the nodes `wanted` (all if not given), for those that are known already.

    Args:
        model: the graph.
        layers: as they are altered.
        values: of the inputs, and of nodes that need not be run.
        dtype: to compute in.
        wanted: names of nodes to run.
    """
    found = dict(values)
    for node in model.layers:
        if Edge(node.name) in found or (wanted is not None and node.name not in wanted):
            continue
        outputs = run_node(node, layers[node.owner], found, dtype)
        found |= {Edge(node.name, number): y for number, y in enumerate(outputs)}
    return found


def before(model: Model, edges: Iterable[Edge], known: Container[str]) -> frozenset[str]:
    """Names of the nodes that `edges` depend on, walking back as far as nodes that are known."""
    found: set[str] = set()
    left = [edge.node for edge in edges]
    while left:
        name = left.pop()
        if name in found or name in known or name in model.inputs:
            continue
        found.add(name)
        left += [edge.node for edge in model.node(name).reads]
    return frozenset(found)


def untouched(model: Model, values: Values, changed: Container[str]) -> Values:
    """The values that do not depend on layers that are changed."""
    dirty: set[str] = set()
    for node in model.layers:
        if node.owner in changed or any(edge.node in dirty for edge in node.reads):
            dirty.add(node.name)
    return {edge: y for edge, y in values.items() if edge.node not in dirty}


@dataclass(frozen=True)
class Timed:
    """Calls a layer in an altered way for every time step.

    Attributes:
        call: the altered way.
    """

    call: Call

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the reference does it: each step of each sample is a sample."""
        assert isinstance(spec, TimeDistributed)
        (x,) = inputs
        size = x.shape[:2]
        flat = [x.reshape(-1, *x.shape[2:])]
        mask = context.mask
        mask = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        found = self.call(spec.layer, flat, replace(context, mask=mask))
        return [y.reshape(*size, *y.shape[1:]) for y in found]


@dataclass(frozen=True)
class Whole:
    """Calls a layer in an altered way; one that is wrapped, with its wrapper, for all its steps.

    Attributes:
        call: the altered way.
    """

    call: Call

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the altered way does it."""
        return self.call(spec, inputs, context)


def inside(layer: Layer) -> Layer:
    """The layer that is wrapped; the layer itself where none is."""
    if not isinstance(layer.spec, TimeDistributed):
        return layer
    call: Call = layer.call if isinstance(layer.call, Whole) else forward
    call = layer.call.call if isinstance(layer.call, Timed) else call
    return replace(layer, spec=layer.spec.layer, call=call)


def around(layer: Layer, outer: Layer) -> Layer:
    """An altered inner layer, wrapped as `outer` is."""
    if not isinstance(outer.spec, TimeDistributed):
        return layer
    call = outer.call if layer.call is forward else Timed(layer.call)
    call = layer.call if isinstance(layer.call, Whole) else call
    return replace(layer, spec=replace(outer.spec, layer=layer.spec), call=call)
