"""Operations of a whole model: layer by layer, in every framework.

The equations of a layer are counted once. Of a framework come the biases that it adds, the bytes of
the tensors that it stores, and the layers that it refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xlstm.counting.operations.basic import formula_of
from xlstm.counting.operations.formula import OPERATIONS, OperationCount, ShapedCall
from xlstm.counting.operations.polynomial import ZERO, Polynomial, Sizes, product
from xlstm.counting.operations.symbolic_shapes import open_axes, symbolic_shapes, timed_inputs
from xlstm.counting.operations.weights import (
    bias_numbers,
    placed_numbers,
    read_bytes,
    state_bytes,
    steps_of,
    weight_bytes,
)
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import refusals
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.rendering.tables import kind_text

EQUATIONS = "equations"
"""The name of the layer's equations beside those of the frameworks."""


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one layer in one framework, for a batch of whole sequences.

    Attributes:
        products: multiply-adds of matrix products and convolutions.
        elementwise: additions, multiplications, comparisons, selects and the like.
        calls: name of a transcendental function -> its calls.
        weight_bytes: bytes of weights read at a step; once a call by a layer without steps.
        weights_read: bytes of weights read in the whole call.
        state_bytes: bytes of the states of all sequences.
    """

    products: Polynomial = ZERO
    elementwise: Polynomial = ZERO
    calls: tuple[tuple[str, Polynomial], ...] = ()
    weight_bytes: int = 0
    weights_read: Polynomial = ZERO
    state_bytes: Polynomial = ZERO

    def __add__(self, other: Work) -> Work:
        calls = dict(self.calls)
        for name, count in other.calls:
            calls[name] = calls.get(name, ZERO) + count
        return Work(
            self.products + other.products,
            self.elementwise + other.elementwise,
            tuple(calls.items()),
            self.weight_bytes + other.weight_bytes,
            self.weights_read + other.weights_read,
            self.state_bytes + other.state_bytes,
        )

    def to_json(self) -> dict[str, Any]:
        """The work as plain data; a count is a list of terms."""
        return {
            "multiply_adds": self.products.to_json(),
            "elementwise": self.elementwise.to_json(),
            "calls": {name: count.to_json() for name, count in self.calls},
            "weight_bytes_per_step": self.weight_bytes,
            "weight_bytes_read": self.weights_read.to_json(),
            "state_bytes": self.state_bytes.to_json(),
        }


@dataclass(frozen=True)
class LayerWork:
    """One call of a layer.

    Attributes:
        path: name of the call.
        kind: of the layer.
        work: framework, or "equations" -> its work; a framework that refuses the layer is left out.
        reason: the reason why nothing is counted, "" if it is.
    """

    path: str
    kind: str
    work: Mapping[str, Work]
    reason: str = ""


@dataclass(frozen=True)
class ModelOperations:
    """The operations of every layer of a model.

    Attributes:
        frameworks: in the order of the columns.
        layers: every call of a layer, in order; a layer that is called twice works twice.
        itemsize: bytes of a number.
        notes: other facts: inputs that share T.

    >>> import xlstm
    >>> found = xlstm.count(xlstm.demo.path(), operations=True).operations
    >>> found.total("torch").products.at(T=10, B=2)
    68000
    """

    frameworks: tuple[str, ...]
    layers: tuple[LayerWork, ...]
    itemsize: int
    notes: tuple[str, ...] = ()

    def total(self, framework: str) -> Work | None:
        """The work of all layers; None where a layer is refused or not counted."""
        if any(framework not in layer.work for layer in self.layers):
            return None
        return sum((layer.work[framework] for layer in self.layers), Work())

    def to_json(self) -> dict[str, Any]:
        """The operations as plain data, as `xlstm count --flops --json` prints."""
        totals = {name: self.total(name) for name in (*self.frameworks, EQUATIONS)}
        return {
            "bytes_per_number": self.itemsize,
            "notes": list(self.notes),
            "layers": [
                {
                    "path": layer.path,
                    "kind": layer.kind,
                    "reason": layer.reason,
                    "work": {name: found.to_json() for name, found in layer.work.items()},
                }
                for layer in self.layers
            ],
            "totals": {n: None if w is None else w.to_json() for n, w in totals.items()},
        }


def count_operations(model: Model, frameworks: Iterable[str]) -> ModelOperations:
    """The operations of a Model in each framework.

    Args:
        model: the model; of its weights only shapes and dtypes are used.
        frameworks: names; adapters without tables are left out.
    """
    adapters = {name: registry.adapter(name) for name in frameworks}
    adapters = {name: adapter for name, adapter in adapters.items() if adapter.tables}
    refused = {name: refusals(model, adapter) for name, adapter in adapters.items()}
    shapes, itemsize = symbolic_shapes(model), model.compute_dtype().itemsize
    layers = []
    for node in model.layers:
        own = {n: a for n, a in adapters.items() if node.owner not in refused[n]}
        layers.append(_layer(model, node, shapes, own, itemsize))
    timed = timed_inputs(model)
    notes = (
        (f"inputs {', '.join(timed)}: all of the same number of steps",) if len(timed) > 1 else ()
    )
    return ModelOperations(tuple(adapters), tuple(layers), itemsize, notes)


def _layer(
    model: Model,
    node: Node,
    shapes: Mapping[Edge, Sizes],
    adapters: Mapping[str, Adapter],
    itemsize: int,
) -> LayerWork:
    kind = kind_text(node)
    core = unwrap_time_distributed(node.spec)
    if type(core) not in OPERATIONS:
        return LayerWork(node.name, kind, {}, f"there is no formula of {core.title}")
    edges = [*node.inputs, *(Edge(node.name, number) for number in range(len(node.shapes)))]
    if any(edge not in shapes for edge in edges):
        return LayerWork(node.name, kind, {}, _unknown(model, node))
    sizes, count = [shapes[edge] for edge in edges], len(node.inputs)
    call = ShapedCall(tuple(sizes[:count]), tuple(sizes[count:]), node.mask is not None)
    try:
        found = formula_of(node.spec, call)
        samples = product(call.inputs[0][: 1 if core is node.spec else 2])
        states = samples * state_bytes(core, itemsize)
        steps = steps_of(node, shapes)
    except UnsupportedError:
        return LayerWork(node.name, kind, {}, _unknown(model, node))
    equations = {before: bias_numbers(part) for before, part in node.spec.weighted_parts}
    work = {EQUATIONS: _work(found, equations, weight_bytes(node.spec, itemsize), steps, states)}
    for name, adapter in adapters.items():
        biases, size = _biases(node, adapter), read_bytes(node, adapter, itemsize)
        work[name] = _work(found, biases, size, steps, states)
    return LayerWork(node.name, kind, work)


def _biases(node: Node, adapter: Adapter) -> dict[str, int]:
    """Prefix of each part of a layer -> numbers of its biases in a framework."""
    found: Counter[str] = Counter()
    for before, tensor, size in placed_numbers(node, adapter):
        found[before] += size * int(tensor == "bias")
    return found


def _work(
    found: OperationCount,
    biases: Mapping[str, int],
    size: int,
    steps: Polynomial,
    states: Polynomial,
) -> Work:
    more = (times * biases.get(before, 0) for before, times in found.bias.items())
    calls = tuple((name, count) for name, count in found.calls.items() if count)
    total = sum(more, found.elementwise)
    return Work(found.products, total, calls, size, size * steps, states)


def _unknown(model: Model, node: Node) -> str:
    """The reason why the shape of a layer is unknown, by the input that leaves it open."""
    axes = [
        f"axis {number} of input {name}"
        for name, numbers in open_axes(model).items()
        for number in numbers
    ]
    if axes:
        return f"{' and '.join(axes)} has no length: only time may be open, axis 1"
    return "its steps are no whole multiple of T: a layer before it strides over time"
