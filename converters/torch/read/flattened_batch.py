"""Tensors whose first axis joins the batch with more axes, as x.view(b * s, -1) makes them.

Operations on single numbers, or on the last axes, are the same with the axes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import LayerSpec, TimeDistributed
from xlstm.ir.types import Shape

from .modules import ALONG_LAST
from .shape import flatten, length, reshape
from .values import BATCH, CannotTraceError, Sizes, TracedTensor, TraceState, flat, is_number

PLAIN = frozenset(
    "ReLU ReLU6 Tanh Sigmoid SELU CELU SiLU Mish Softsign GELU Hardsigmoid Hardswish Hardtanh "
    "LogSigmoid ELU LeakyReLU Tanhshrink Softshrink Hardshrink Threshold".split()
)
"""Classes of activation modules."""

BY_NUMBER = frozenset(
    "relu tanh sigmoid selu celu silu relu6 mish gelu leaky_relu elu softsign hardsigmoid "
    "hardswish hardtanh logsigmoid tanhshrink softshrink hardshrink threshold dropout contiguous "
    "clone detach add sub mul div truediv exp log sqrt square abs neg clamp to".split()
)
"""Functions that work number by number."""

WINDOWS = frozenset(
    "Conv1d Conv2d Conv3d MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d BatchNorm2d "
    "BatchNorm3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d "
    "AdaptiveMaxPool2d AdaptiveMaxPool3d".split()
)
"""Classes of modules that work on every step by itself."""

DO = "view it as (batch, steps, ...) again, with nothing but such layers between"


Call = Callable[[TraceState, TracedTensor], Any]
"""A module that is called."""


@dataclass(frozen=True)
class FlattenedBatch:
    """A tensor with its axes apart.

    Attributes:
        value: the tensor with its axes apart, the batch first.
        count: number of first axes that are joined, the batch among them.
    """

    value: TracedTensor
    count: int


def fold(wiring: TraceState, x: TracedTensor, shape: Sequence[Any]) -> FlattenedBatch | None:
    """Joins the batch and the axes after it, for such a view; None for another kind of view."""
    first, *rest = shape
    sizes = tuple(map(length, wiring.sizes(x)))
    if x.batch or x.rank < 3 or not rest:
        return None
    if isinstance(first, Sizes):
        count = len(first.factors)
        if first.factors != sizes[:count]:
            raise CannotTraceError("a view whose first size is no product of the first sizes", DO)
        return FlattenedBatch(_laid(wiring, x, count, sizes, rest), count)
    count = x.rank - len(rest)
    if first == -1 and count > 1 and all(map(is_number, rest)) and sizes[count:] == tuple(rest):
        return FlattenedBatch(wiring.plain(x), count)
    return None


def _laid(
    wiring: TraceState, x: TracedTensor, count: int, sizes: tuple[Any, ...], rest: Sequence[Any]
) -> TracedTensor:
    """Reshapes the axes after the first ones; the same shape adds no node."""
    if tuple(rest) == sizes[count:]:
        return wiring.plain(x)
    if sum(not is_number(size) for size in rest) > 1:  # more than one marker: h and w differ
        raise CannotTraceError("a view with two sizes that are not known, in another order", DO)
    return reshape(wiring, x, *sizes[:count], *rest)


def unfold(wiring: TraceState, x: FlattenedBatch, shape: Sequence[Any]) -> Any:
    """Splits the joined axes, or reshapes the last ones."""
    own = tuple(map(length, wiring.sizes(x.value)))
    first, *rest = shape
    ahead, after = own[: x.count], own[x.count :]
    if isinstance(first, Sizes) and first.factors == ahead:
        return FlattenedBatch(reshape(wiring, x.value, *ahead, *rest), x.count)
    more = tuple(rest[x.count - 1 :])
    fits = tuple(rest[: x.count - 1]) == ahead[1:] and -1 not in (more if first == -1 else ())
    if not fits and first is BATCH and x.count == 2 and rest[:1] == [-1]:
        fits = more == after  # the size -1 is the number of steps
    if not fits or first not in (BATCH, -1):
        raise CannotTraceError("a view that takes batch and steps apart in another way", DO)
    return reshape(wiring, x.value, *ahead, *more)


def shape_of(wiring: TraceState, x: FlattenedBatch) -> tuple[Any, ...]:
    """Returns the sizes as PyTorch sees them."""
    own = tuple(map(length, wiring.sizes(x.value)))
    return Sizes(own[: x.count]), *own[x.count :]


class _Steps:
    """View of a graph inside one time step: added layers run at every step."""

    def __init__(self, graph: Builder) -> None:
        self.graph = graph
        self.nodes = graph.nodes

    def shape(self, edge: Edge) -> Shape:
        """Returns the shape without the time axis."""
        return self.graph.shape(edge)[1:]

    def add(self, name: str, spec: LayerSpec, inputs: Sequence[Edge], **options: Any) -> Edge:
        """Adds a layer that runs at every step."""
        return self.graph.add(name, TimeDistributed(spec), inputs, **options)


def _at_every_step(wiring: TraceState, x: TracedTensor, call: Call) -> TracedTensor:
    """Calls a module of windows, which takes (batch, channels, *space), at every step."""
    x = wiring.ordered(x, [0, 1, *range(3, x.rank), 2])
    steps: Any = _Steps(wiring.graph)
    inside = TracedTensor(x.edge, (0, *(axis - 1 for axis in x.axes[2:])))
    found = call(replace(wiring, graph=steps, moved={}), inside)
    return TracedTensor(found.edge, (0, 1, *(axis + 1 for axis in found.axes[1:])))


def through(wiring: TraceState, x: FlattenedBatch, leaf: nn.Module, call: Call) -> FlattenedBatch:
    """Calls a module with a flattened tensor."""
    if type(leaf).__name__ in WINDOWS and x.count == 2:
        return FlattenedBatch(_at_every_step(wiring, x.value, call), 2)
    if isinstance(leaf, nn.Flatten):
        start, end = _axes(x, (leaf.start_dim, leaf.end_dim), "flatten")
        return FlattenedBatch(flatten(wiring, x.value, start, end), x.count)
    if isinstance(leaf, nn.BatchNorm1d) and x.value.rank == 3:
        turned = call(wiring, _turned(x.value))  # its features are the channels
        return FlattenedBatch(_turned(turned), x.count)
    several = isinstance(leaf, nn.PReLU) and leaf.num_parameters > 1
    if (type(leaf) not in ALONG_LAST and type(leaf).__name__ not in PLAIN) or several:
        raise CannotTraceError(f"a {type(leaf).__name__} over batch and steps end to end", DO)
    return FlattenedBatch(call(wiring, x.value), x.count)


def _turned(x: TracedTensor) -> TracedTensor:
    return x._replace(axes=(x.axes[0], x.axes[2], x.axes[1]))


def apply(
    wiring: TraceState, name: str, handler: Callable[..., Any], args: Any, options: Any
) -> Any:
    """Calls a function with flattened tensors."""
    found = [arg for arg in args if isinstance(arg, FlattenedBatch)]
    x = found[0]
    if name in ("view", "reshape"):
        return unfold(wiring, x, flat(args[1:]))
    if name == "size" or (name == "getattr" and args[1] == "shape"):
        sizes = shape_of(wiring, x)
        return sizes[args[1]] if name == "size" and len(args) > 1 else sizes
    if name in ("softmax", "log_softmax", "mean", "sum", "amax", "amin"):
        return _over(wiring, name, x, handler, args, options)
    if name.endswith(("pool1d", "pool2d", "pool3d")) and x.count == 2:
        call = lambda steps, value: handler(steps, value, *args[1:], **options)  # noqa: E731
        return FlattenedBatch(_at_every_step(wiring, x.value, call), 2)
    if name == "flatten":
        start, end = _axes(x, (*args[1:], *options.values(), -1)[:2], name)
        return FlattenedBatch(flatten(wiring, x.value, start, end), x.count)
    if name.removesuffix("_") not in BY_NUMBER or len({other.count for other in found}) > 1:
        raise CannotTraceError(f"{name} of a tensor with batch and steps end to end", DO)
    if any(isinstance(arg, TracedTensor) for arg in args):
        raise CannotTraceError(f"{name} of tensors with and without batch and steps end to end", DO)
    apart = [arg.value if isinstance(arg, FlattenedBatch) else arg for arg in args]
    return FlattenedBatch(handler(wiring, *apart, **options), x.count)


def _axes(x: FlattenedBatch, dims: Sequence[Any], what: str) -> tuple[int, ...]:
    """Returns the axes of the tensor whose axes are apart."""
    rank = x.value.rank - x.count + 1
    if not all(isinstance(dim, int) and dim % rank for dim in dims):
        raise CannotTraceError(
            f"{what} over batch and steps end to end", "name the axes after them"
        )
    return tuple(dim % rank + x.count - 1 for dim in dims)


def _over(
    wiring: TraceState, name: str, x: FlattenedBatch, handler: Any, args: Any, options: Any
) -> FlattenedBatch:
    """Calls a function of axes after the first one."""
    options = dict(options)
    dims = flat((options.pop("dim"),) if "dim" in options else args[1:2])
    axes = _axes(x, dims or (0,), name)
    found = handler(wiring, x.value, axes if len(axes) > 1 else axes[0], *args[2:], **options)
    return FlattenedBatch(found, x.count)
