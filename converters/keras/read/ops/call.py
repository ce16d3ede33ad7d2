"""One call of an operation, and the nodes that it becomes; imports no framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge
from xlstm.ir.layers.operations import CONSTANT_MOST
from xlstm.ir.lowering import Steps, build, in_a_row
from xlstm.ir.types import Shape

from ..context import DTYPES, LIMITS, dtype_policy
from ..inbound_nodes import KerasTensor, LayerCall
from ..layers.options import array_of

OPERATIONS = L.Functions[str]()
"""Today's name of an operation -> the reader of its calls: its output, or a list of them."""


@dataclass(frozen=True)
class Operation:
    """One call of an operation.

    Attributes:
        call: the call, with its arguments.
        name: today's name of the operation.
        shapes: of one sample of each tensor that it reads.
        where: its name in errors.
        flags: tensors that are True or False, 1 or 0 here.
        alike: tensors without a batch axis in Keras; here they are equal for every sample.
        rows: receives the batch sizes of constants that are joined with samples.
        read: receives the names of the options that the reader has looked at.
    """

    call: LayerCall
    name: str
    shapes: Mapping[KerasTensor, Shape]
    where: str
    flags: frozenset[KerasTensor] = frozenset()
    alike: frozenset[KerasTensor] = frozenset()
    rows: set[int] = field(default_factory=set)
    read: set[str] = field(default_factory=set)

    def refused(self, want: str, got: object) -> UnsupportedError:
        """Returns the error for a call without an exact form."""
        where = f"{self.where} ({self.call.kind})"
        return UnsupportedError(where, want, str(got)[:80], LIMITS)

    def argument(self, place: int, *names: str, default: Any = None) -> Any:
        """Returns an argument by one of its names, or by its place."""
        self.read.update(names)
        for name in names:
            if self.call.options.get(name) is not None:
                return self.call.options[name]
        arguments = self.call.arguments
        return (
            arguments[place] if place < len(arguments) and arguments[place] is not None else default
        )

    def option(self, name: str) -> Any:
        """Returns an argument that the call names; None without it."""
        return self.argument(len(self.call.arguments), name)

    def check_read(self) -> None:
        """Raises UnsupportedError for an option that the reader did not look at."""
        for name, value in self.call.options.items():
            default = value is None or value is False or (name, value) in DEFAULTS.items()
            if name == "dtype":
                default = default or self.name in ANY_DTYPE or dtype_policy(value) in DTYPES
            if name not in self.read | HARMLESS and not default:
                raise self.refused("options that are known", f"{name}={value!r}")

    @property
    def tensor(self) -> KerasTensor:
        """Returns the only tensor argument."""
        found = self.argument(0, *TENSOR)
        if not isinstance(found, KerasTensor):
            raise self.refused("one tensor", found)
        return found

    def apply(self, *specs: L.LayerSpec) -> Pending:
        """Applies specs to that tensor, one after the other."""
        return chain(self.tensor, *specs)

    def build(self, steps: Steps) -> Pending:
        """Applies steps to that tensor."""
        x: Pending = self.tensor
        return build(steps, node, x)

    @property
    def shape(self) -> Shape:
        """Shape of one sample of that tensor."""
        return self.shapes[self.tensor]

    def axis(self, axis: Any, rank: int | None = None) -> int:
        """Returns a sample's axis, for one counted with the batch; `rank` is that of a sample."""
        rank = len(self.shape) if rank is None else rank
        if type(axis) is not int or not -rank - 1 <= axis <= rank or axis in (0, -rank - 1):
            raise self.refused(f"an axis after the batch, up to {rank}", f"axis {axis}")
        return axis - 1 if axis > 0 else axis + rank

    def tensors(
        self, items: Iterable[Any], like: KerasTensor, rank: int, *, whole: bool = False
    ) -> tuple[Pending, ...]:
        """Returns the tensors among `items`, and constant arrays as tensors of `rank` axes."""
        return tuple(
            item if isinstance(item, KerasTensor) else self._held(item, like, rank, whole)
            for item in items
        )

    def _held(self, value: Any, like: KerasTensor, rank: int, whole: bool) -> Pending:
        """Returns a constant array as a tensor with samples of `rank` axes; `like` is in the model.

        With `whole` the array must have all axes, with the batch axis.
        """
        values, shape = array_of(value) or ((), ())
        if shape and len(shape) == rank + 1:
            size = len(values) // shape[0]
            if values != values[:size] * shape[0]:
                raise self.refused("a constant that is the same for every sample", f"{shape}")
            self.rows.update({shape[0]} if whole else ())
            values, shape, whole = values[:size], shape[1:], False
        if not shape or len(shape) > rank or whole:
            want = f"a tensor, or a constant array of {rank + whole} axes"
            raise self.refused(want, f"{shape}" if shape else value)
        self.check_few(values)
        shape = (*(1,) * (rank - len(shape)), *shape)
        return chain(like, *fixed(len(self.shapes[like]), values, shape))

    def check_few(self, values: Sequence[float]) -> None:
        """Raises UnsupportedError for too many constants in a graph, or none that are finite."""
        if len(values) > CONSTANT_MOST or not all(map(math.isfinite, values)):
            want = f"a constant of {CONSTANT_MOST} finite numbers at most"
            raise self.refused(want, f"{len(values)} numbers; keep them in a layer's weights")

    def level(self, *reads: Pending) -> tuple[Pending, ...]:
        """Returns tensors of the same rank: those without a batch axis get leading axes."""
        ranks = {t: len(self.shapes[t]) for t in reads if isinstance(t, KerasTensor)}
        of_samples = {rank for t, rank in ranks.items() if t not in self.alike}
        most = max(of_samples or ranks.values())
        if len(of_samples) > 1 or any(rank > most for rank in ranks.values()):
            raise self.refused("tensors of one rank", f"ranks {[*ranks.values()]}")
        return tuple(chain(t, *[L.ExpandDims(0)] * (most - ranks.get(t, most))) for t in reads)  # type: ignore[arg-type]


def fixed(rank: int, values: tuple[float, ...], shape: tuple[int, ...]) -> list[L.LayerSpec]:
    """Returns specs that produce the same numbers for any sample of `rank` axes."""
    one = [L.Slice(axis, 0, drop=True) for axis in reversed(range(rank))]
    axes = [L.ExpandDims(0)] * len(shape)
    return [*one, L.Function("zeros_like"), *axes, L.Constant("add", values, shape)]


HARMLESS = frozenset(("name", "trainable", "function"))
"""Options of every operation that change no number."""

ANY_DTYPE = frozenset(("zeros_like", "ones_like", "one_hot"))
"""Operations whose 0 and 1 are the same numbers in every dtype."""

DEFAULTS: dict[str, Any] = {"decimals": 0}
"""Option that no reader looks at -> the value that Keras writes for calls without it."""

TENSOR = tuple("x input tensor inputs a input_tensor features t value values logits".split())
"""Names of the only tensor argument of an operation."""


@dataclass(frozen=True, eq=False)
class PendingNode:
    """A spec on tensors of the model, or on other pending nodes."""

    spec: L.LayerSpec
    reads: tuple[KerasTensor | PendingNode, ...]


Pending = KerasTensor | PendingNode
"""A tensor of the model, or one that the nodes of an operation will compute."""


def node(spec: L.LayerSpec, *reads: Pending) -> Pending:
    """Returns the output of a spec on tensors."""
    return PendingNode(spec, reads)


def chain(x: Pending, *specs: L.LayerSpec) -> Pending:
    """Applies specs one after the other."""
    return build(in_a_row(*specs), node, x)


def is_alike(made: Pending, alike: frozenset[KerasTensor]) -> bool:
    """True for a tensor without a batch axis in Keras: it is reduced over the samples."""
    if isinstance(made, KerasTensor):
        return made in alike
    return isinstance(made.spec, L.Across) or all(is_alike(read, alike) for read in made.reads)


def made_of(made: Pending) -> set[KerasTensor]:
    """Returns the tensors of the model that a pending node reads."""
    if isinstance(made, KerasTensor):
        return {made}
    return {tensor for read in made.reads for tensor in made_of(read)}


MOVES = (
    L.Concatenate,
    L.ExpandDims,
    L.Flatten,
    L.Permute,
    L.Reshape,
    L.Reverse,
    L.Slice,
    L.Squeeze,
)
"""Specs that move True and False as well as numbers."""


@dataclass
class OperationInserter:
    """Adds the nodes of one operation.

    Attributes:
        op: the operation.
        edge: returns the edge of a tensor.
        add: adds a node with a name; returns its first output.
        free: returns an unused name.
        name: name of the last node.
        booleans: edges that are masks, True or False.
        done: nodes that are added.
    """

    op: Operation
    edge: Callable[[KerasTensor], Edge]
    add: Callable[[str, L.LayerSpec, list[Edge]], Edge]
    free: Callable[[str], str]
    name: str
    booleans: Collection[Edge]
    done: dict[int, Edge] = field(default_factory=dict)

    def outputs(self, found: Sequence[Pending]) -> list[Edge]:
        """Returns the edge of every output."""
        return [self._placed(made, last=len(found) == 1) for made in found]

    def _placed(self, made: Pending, last: bool) -> Edge:
        if isinstance(made, KerasTensor):
            return self.edge(made)
        if id(made) not in self.done:
            reads = [self._placed(read, last=False) for read in made.reads]
            masks = [edge.node for edge in reads if edge in self.booleans]
            moves = isinstance(made.spec, MOVES) or made.spec == L.Activation("linear")
            if masks and not moves:
                raise self.op.refused("an operation on numbers", f"the mask of {masks[0]}")
            name = self.name if last else self.free(f"{self.name}/{len(self.done)}")
            self.done[id(made)] = self.add(name, made.spec, reads)
        return self.done[id(made)]
