"""Values in a walk through a traced graph, and the canonical graph that it builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import fx, nn

from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.lowering import Steps, build
from xlstm.ir.types import Array, Shape
from xlstm.slots import unpack

from ..live.arrays import to_numpy
from ..slots import TABLES

OPERATIONS = L.Functions[str]()
"""Name of a function or a method of tensors -> handler (TraceState, arguments) -> result."""

MODULES = L.Functions[type[nn.Module]]()
"""Class of a leaf module, exact match -> handler of its ModuleCall."""

MARKER = 10**14
"""Sizes from here on stand for unknown ones: no tensor is as long."""


class CannotTraceError(Exception):
    """Something without an exact form; raised by the current node. `do` tells the user what to do.

    `open` is True where it may have one once sizes are known.
    """

    def __init__(self, got: str, do: str = "remove it", open: bool = False) -> None:  # noqa: A002
        super().__init__(got)
        self.got = got
        self.do = do
        self.open = open


class SizeSolvedError(Exception):
    """A size of an input was solved: the graph must be walked again with it."""

    def __init__(self, marker: int, size: int) -> None:
        super().__init__(marker, size)
        self.marker = marker
        self.size = size


class Symbol:
    """A number that is known only when the module runs."""

    def __init__(self, name: str) -> None:
        self.name = name


class Sizes(Symbol):
    """A product of sizes, the batch size or a length among them."""

    def __init__(self, factors: Sequence[Any]) -> None:
        super().__init__("a product of sizes")
        self.factors = tuple(factors)


BATCH, LENGTH = Symbol("the batch size"), Symbol("a length")


@dataclass(frozen=True)
class Probe(L.LayerSpec):
    """Placeholder of a Reshape while sizes are unknown."""

    kind: ClassVar[str] = "Probe"
    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape


class TracedTensor(NamedTuple):
    """A tensor: an edge of the canonical graph, whose axes PyTorch may have in another order.

    Attributes:
        edge: in the canonical graph, batch first.
        axes: for each axis that PyTorch sees, its index in the edge; 0 is the batch.
    """

    edge: Edge
    axes: tuple[int, ...]

    @property
    def batch(self) -> int:
        """Index of the batch axis as PyTorch sees it."""
        return self.axes.index(0)

    @property
    def rank(self) -> int:
        """Number of axes, the batch's among them."""
        return len(self.axes)


class ZeroState(NamedTuple):
    """Zeros made by the module: only states may start from them."""

    shape: tuple[Any, ...]


@dataclass(frozen=True)
class States:
    """The last states of all layers of a recurrent module: PyTorch's h or c, (layers, B, H).

    Attributes:
        path: path of the module.
        which: 0 for h, 1 for c.
        edges: by layer and direction; None for a state without a reader on the first walk.
        directions: number of directions of each layer.
    """

    path: str
    which: int
    edges: tuple[Edge | None, ...]
    directions: int = 1

    def take(self, wiring: TraceState, number: int) -> Edge:
        """Returns one of them, and notes that it is read."""
        if not -len(self.edges) <= number < len(self.edges):
            raise CannotTraceError(f"state {number} of {len(self.edges)}", "use another number")
        number %= len(self.edges)
        wiring.wanted.add((self.path, number // self.directions, self.which))
        return self.edges[number] or Edge("", 0)


class RecurrentResult(NamedTuple):
    """Result of a recurrent module: the sequence and its states."""

    path: str
    sequence: TracedTensor
    states: Any


@dataclass
class TraceState:
    """The canonical graph during a walk.

    Attributes:
        root: the module.
        wanted: states and sequences of recurrent modules that something reads: (path, layer or -1
            for the sequence, 0 for h or 1 for c). The first walk fills it, the last one uses it.
        probing: True for a walk that only finds sizes and readers.
    """

    root: nn.Module
    wanted: set[tuple[str, int, int]]
    probing: bool
    graph: Builder = field(default_factory=lambda: Builder(most_places=None))
    weights: dict[str, dict[str, Array]] = field(default_factory=dict)
    called: dict[str, list[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    moved: dict[tuple[Edge, tuple[int, ...]], Edge] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    node: fx.Node | None = None

    def fresh(self, name: str) -> str:
        """Returns a node name that is not taken."""
        base, number = name.replace(".", "_"), 1
        found = base
        while found in self.taken:
            number += 1
            found = f"{base}_{number}"
        self.taken.add(found)
        return found

    def add(self, spec: L.LayerSpec, *inputs: Edge, before: str = "") -> Edge:
        """Adds a node for the current operation."""
        name = self.node.name if self.node else spec.kind.lower()
        return self.graph.add(self.fresh(before + name), spec, inputs)

    def apply(self, x: TracedTensor, *specs: L.LayerSpec) -> TracedTensor:
        """Adds specs that leave the axes as they are, one after the other."""
        for spec in specs:
            x = x._replace(edge=self.add(spec, x.edge))
        return x

    def build(self, steps: Steps, x: TracedTensor) -> TracedTensor:
        """Adds steps that leave the axes as they are."""
        return x._replace(edge=build(steps, self.add, x.edge))

    def sizes(self, value: TracedTensor) -> tuple[Any, ...]:
        """Returns sizes as PyTorch sees them: BATCH, numbers, None for any length."""
        shape = (BATCH, *self.graph.shape(value.edge))
        return tuple(shape[axis] for axis in value.axes)

    def ordered(self, value: TracedTensor, order: Sequence[int]) -> TracedTensor:
        """Returns the tensor with its edge's axes in this order of PyTorch's, batch first."""
        physical = tuple(value.axes[axis] for axis in order)
        if physical == tuple(range(value.rank)):
            return value
        key = value.edge, physical
        if key not in self.moved:
            name = self.fresh(f"permute_{value.edge.node}")
            self.moved[key] = self.graph.add(name, L.Permute(physical[1:]), [value.edge])
        axes = tuple(order.index(axis) for axis in range(value.rank))
        return TracedTensor(self.moved[key], axes)

    def plain(self, value: TracedTensor) -> TracedTensor:
        """Returns the tensor with its edge in PyTorch's order, but the batch first."""
        rest = [axis for axis in range(value.rank) if axis != value.batch]
        return self.ordered(value, [value.batch, *rest])

    def channels_last(self, value: TracedTensor) -> TracedTensor:
        """Returns a tensor (batch, channels, ...) with the edge's channels last."""
        if value.batch:
            raise CannotTraceError("the batch is not the first axis", "permute it to the front")
        return self.ordered(value, [0, *range(2, value.rank), 1])

    def features_last(self, value: TracedTensor) -> TracedTensor:
        """Returns a tensor whose last axis is the edge's last one, the others in any order."""
        if value.rank < 2 or value.axes[-1] == 0:
            raise CannotTraceError("no features on the last axis", "give it (batch, ..., features)")
        return value if value.axes[-1] == value.rank - 1 else self.plain(value)

    def demand(self, size: Any, wanted: int, what: str) -> None:
        """Raises unless a size is the one that a layer needs; an unknown one is solved for."""
        if size == wanted:
            return
        if not isinstance(size, int) or size < MARKER:
            got = "any number" if size is None else str(size)
            raise CannotTraceError(f"{what} {got}, not {wanted}", "change the sizes in the module")
        marker, times, rest = solve(size)
        if not marker or (wanted - rest) % times or wanted <= rest:
            got = f"sizes of an input that {wanted} {what.split(',')[0]} do not determine"
            do = "fix all of them: x = x.reshape(x.shape[0], 3, 32, 32) first in forward, or in "
            do += "front of a Sequential nn.Unflatten(1, (3, 32, 32)); ports take them end to end"
            raise CannotTraceError(got, do, open=True)
        raise SizeSolvedError(marker, (wanted - rest) // times)


def marker(number: int) -> int:
    """Returns a number for the n-th unknown size; sums of a few of them differ.

    >>> marker(0) != marker(1), solve(3 * marker(7) - 2) == (marker(7), 3, -2)
    (True, True)
    """
    return MARKER * 3 + (number + 1) * 7_927_139_041_913 % MARKER


def solve(size: int) -> tuple[int, int, int]:
    """Returns (marker, times, rest) of a size with one marker; (0, 1, 0) for other sizes."""
    for number in range(32):
        own = marker(number)
        times = max((size + own // 2) // own, 1)
        rest = size - times * own
        if abs(rest) < 10**6 and times < 10**6:
            return own, times, rest
    return 0, 1, 0


def known(size: int | None) -> int | None:
    """Returns a size, None for one that is unknown."""
    return None if size is None or size >= MARKER else size


def same_order(wiring: TraceState, values: Sequence[TracedTensor]) -> list[TracedTensor]:
    """Returns tensors of one rank with the axes of all edges in one order.

    Raises:
        RefusalError: tensors of several ranks, or with the batch on different axes.
    """
    if len({(value.rank, value.batch) for value in values}) > 1:
        ranks = " and ".join(str(value.rank) for value in values)
        raise CannotTraceError(
            f"tensors of {ranks} axes", "give them equal axes, the batch on the same"
        )
    if len({value.axes for value in values}) == 1:
        return list(values)
    return [wiring.plain(value) for value in values]


def join(wiring: TraceState, values: Sequence[TracedTensor], axis: int) -> TracedTensor:
    """Joins tensors along an axis of PyTorch."""
    ready = same_order(wiring, values)
    place = ready[0].axes[axis]
    if not place:
        raise CannotTraceError("tensors joined along the batch", "join them along another axis")
    spec = L.Concatenate(place - ready[0].rank)
    edge = wiring.add(spec, *(value.edge for value in ready))
    return ready[0]._replace(edge=edge)


def shape_text(shape: Shape) -> str:
    """A shape for an error or a note.

    >>> shape_text((None, 3))
    '(batch, any, 3)'
    """
    return f"({', '.join(['batch', *('any' if n is None else str(n) for n in shape)])})"


class ModuleCall(NamedTuple):
    """A call of a leaf module, which `path` names, in a traced graph."""

    wiring: TraceState
    module: Any
    path: str
    args: tuple[Any, ...]

    @property
    def x(self) -> TracedTensor:
        """The only tensor that the module is called with."""
        if len(self.args) != 1 or not isinstance(self.args[0], TracedTensor):
            raise CannotTraceError("a call with other than one tensor", "call it with one tensor")
        return self.args[0]

    def add(self, spec: L.LayerSpec, x: TracedTensor, table: str) -> TracedTensor:
        """Adds the node of a layer with the weights of this table."""
        module, wiring = self.module, self.wiring
        flags = {p.requires_grad for p in module.parameters(recurse=False)}
        edge = call_layer(wiring, self.path, spec, [x.edge], trainable=flags != {False})
        if edge.node == wiring.called[self.path][0] and not wiring.probing:
            slots = TABLES[table].present_slots(spec.missing_tensors())
            arrays = {slot.name: to_numpy(getattr(module, slot.name)) for slot in slots}
            if hasattr(module, "normalized_shape"):  # several axes, joined as one
                arrays = {name: array.reshape(-1) for name, array in arrays.items()}
            wiring.weights[edge.node] = unpack(
                TABLES[table], arrays, spec.sizes(), spec.missing_tensors(), f"torch {self.path}"
            )
        return x._replace(edge=edge)


def call_layer(
    wiring: TraceState, path: str, spec: L.LayerSpec, inputs: list[Edge], **options: Any
) -> Edge:
    """Adds a node of a module's layer; the first call owns the weights, later ones share them."""
    own = wiring.called.setdefault(path, [])
    name = wiring.fresh(path)
    edge = wiring.graph.add(name, spec, inputs, layer=own[0] if own else "", **options)
    own.append(name)
    return edge


def without(x: TracedTensor, gone: Sequence[int]) -> tuple[int, ...]:
    """Returns the axes of a tensor without these axes of PyTorch."""
    lost = {x.axes[axis] for axis in gone}
    left = [place for place in x.axes if place not in lost]
    return tuple(place - sum(other < place for other in lost) for place in left)


def axis_of(x: TracedTensor, axis: Any, what: str) -> int:
    """Returns an axis of PyTorch from 0 on, which must not be the batch's."""
    if not isinstance(axis, int) or not -x.rank <= axis < x.rank:
        raise CannotTraceError(f"{what} over axis {axis} of {x.rank}", "name one axis")
    if axis % x.rank == x.batch:
        raise CannotTraceError(f"{what} over the batch", "work on each sample alone")
    return axis % x.rank


def is_number(x: Any) -> bool:
    """True for a plain number, not an unknown size."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < MARKER


def flat(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns sizes from separate arguments or from one tuple."""
    return tuple(sizes[0]) if sizes and isinstance(sizes[0], (tuple, list)) else sizes
