"""Converts functions and methods of tensors to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    2 * x + 1         Affine(2.0, 0.0), Affine(1.0, 1.0)
    x.mean(1)         Reduce("mean", axes=(0,)): axes of a sample, without the batch
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from xlstm.ir import layers as L

from .modules import MODULES, elementwise, softmax_over
from .values import (
    BATCH,
    LENGTH,
    MARKER,
    CannotTraceError,
    Sizes,
    Symbol,
    TracedTensor,
    TraceState,
    ZeroState,
    affine,
    axis_of,
    flat,
    is_number,
    same_order,
    without,
)

Handler = Callable[..., Any]
"""Function of (state of the walk, arguments of the call) -> result of the call."""


def merge(how: str) -> Callable[..., TracedTensor]:
    """Returns a handler that joins two tensors element by element."""

    def merge(wiring: TraceState, a: TracedTensor, b: TracedTensor) -> TracedTensor:
        ready = same_order(wiring, [a, b])
        return ready[0]._replace(edge=wiring.add(L.Merge(how), *(value.edge for value in ready)))

    return merge


def _check_operands(*operands: Any) -> None:
    if not any(isinstance(x, TracedTensor) for x in operands) or not all(
        isinstance(x, TracedTensor) or is_number(x) for x in operands
    ):
        raise CannotTraceError(
            "arithmetic with sizes or other things than tensors and numbers", "leave it"
        )


def add(wiring: TraceState, a: Any, b: Any) -> TracedTensor:
    """A sum."""
    _check_operands(a, b)
    if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
        return merge("add")(wiring, a, b)
    x, number = (a, b) if isinstance(a, TracedTensor) else (b, a)
    return affine(wiring, x, 1.0, float(number))


def subtract(wiring: TraceState, a: Any, b: Any) -> TracedTensor:
    """A difference."""
    _check_operands(a, b)
    if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
        return merge("subtract")(wiring, a, b)
    if isinstance(a, TracedTensor):
        return affine(wiring, a, 1.0, -float(b))
    return affine(wiring, b, -1.0, float(a))


def _is_size(x: Any) -> bool:
    return type(x) is int or isinstance(x, Sizes) or x in (BATCH, LENGTH)


def multiply(wiring: TraceState, a: Any, b: Any) -> Any:
    """A product, of sizes too."""
    if _is_size(a) and _is_size(b):
        factors = [n for size in (a, b) for n in getattr(size, "factors", (size,))]
        return a * b if type(a) is type(b) is int else Sizes(factors)
    _check_operands(a, b)
    if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
        return merge("multiply")(wiring, a, b)
    x, number = (a, b) if isinstance(a, TracedTensor) else (b, a)
    return affine(wiring, x, float(number), 0.0)


def divide(wiring: TraceState, a: Any, b: Any) -> Any:
    """A quotient."""
    _check_operands(a, b)
    if is_number(b):
        if not b:
            raise CannotTraceError("a division by 0", "mend it")
        return affine(wiring, a, 1 / b, 0.0)
    return multiply(wiring, a, elementwise(wiring, b, L.Function("reciprocal")))


def power(wiring: TraceState, x: TracedTensor, exponent: Any) -> TracedTensor:
    """A power."""
    name = {2: "square", 0.5: "sqrt", -1: "reciprocal"}.get(exponent)
    if name is None or not isinstance(x, TracedTensor):
        raise CannotTraceError(f"power {exponent}", "use 2, 0.5 or -1")
    return elementwise(wiring, x, L.Function(name))


def reduce(how: str) -> Handler:
    """Returns a handler for the sum, mean, maximum or minimum over axes."""

    def reduce(
        wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False
    ) -> TracedTensor:
        if dim is None:
            raise CannotTraceError(f"{how} over all axes, the batch's among them", "name the axes")
        given = dim if isinstance(dim, (tuple, list)) else (dim,)
        dims = [axis_of(x, axis, how) for axis in given]
        places = tuple(x.axes[axis] - 1 for axis in dims)
        edge = wiring.add(L.Reduce(how, places, bool(keepdim)), x.edge)
        return TracedTensor(edge, x.axes if keepdim else without(x, dims))

    return reduce


def extreme(how: str) -> Handler:
    """Returns a handler for the maximum or minimum: over an axis, or of two tensors."""

    def extreme(wiring: TraceState, x: TracedTensor, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, TracedTensor):
            return merge(f"{how}imum")(wiring, x, dim)
        return reduce(how)(wiring, x, dim, keepdim), Symbol(f"the places of the {how}ima")

    return extreme


def zeros(wiring: TraceState, *shape: Any, **_: Any) -> ZeroState:
    """Returns zeros, for initial states."""
    return ZeroState(tuple(flat(shape)))


def new_zeros(wiring: TraceState, x: TracedTensor, *shape: Any, **_: Any) -> ZeroState:
    """Returns zeros, for initial states."""
    return ZeroState(tuple(flat(shape)))


def same(wiring: TraceState, x: Any, *_: Any) -> Any:
    """Returns the same numbers."""
    return x


def to(wiring: TraceState, x: Any, *where: Any, **more: Any) -> Any:
    """Returns the same numbers, for a move to another device."""
    places = (*where, *more.values())
    device = all(isinstance(p, (str, torch.device)) or _is_device(p) for p in places)
    if not isinstance(x, ZeroState) and not device:
        raise CannotTraceError("a change of dtype", "leave it out: ports compute in one dtype")
    return x


def _is_device(place: Any) -> bool:
    return isinstance(place, Symbol) and "device" in place.name


def whole(wiring: TraceState, x: TracedTensor) -> TracedTensor:
    """Returns whole numbers for an embedding, which cuts off fractions."""
    users = wiring.node.users if wiring.node else {}
    for user in users:
        called = wiring.root.get_submodule(str(user.target)) if user.op == "call_module" else None
        if type(called) is not nn.Embedding:
            raise CannotTraceError("numbers cut to whole ones", "do so for embeddings only")
    return x


def dropout(
    wiring: TraceState,
    x: TracedTensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> TracedTensor:
    """The identity: dropout acts in training only."""
    if training and p:
        raise CannotTraceError("dropout in evaluation", "say training=self.training")
    return elementwise(wiring, x, L.Dropout(float(p)))


def pad(
    wiring: TraceState,
    x: TracedTensor,
    pad: Any,
    mode: str = "constant",
    value: float | None = None,
) -> TracedTensor:
    """Adds zeros around."""
    pairs = [*zip(pad[::2], pad[1::2], strict=True)]
    sides = {x.rank - 1 - n: pair for n, pair in enumerate(pairs) if any(pair)}
    rest = [axis for axis in range(x.rank) if axis not in sides and axis != x.batch]
    if mode != "constant" or value or x.batch in sides or not rest or min(pad) < 0:
        raise CannotTraceError(f"pad={tuple(pad)}, mode={mode}, value={value}", "pad with zeros")
    *space, last = [*sides, *rest] if len(rest) == 1 else [*sides, *rest[:-1], rest[-1]]
    x = wiring.ordered(x, [x.batch, *space, last])
    before, after = zip(*(sides.get(axis, (0, 0)) for axis in space), strict=True)
    return x._replace(edge=wiring.add(L.Pad(before, after), x.edge))


def repeat(wiring: TraceState, x: TracedTensor, *times: Any) -> TracedTensor:
    """Repeats one axis of size 1; all other axes are repeated once (1, or -1 in expand)."""
    counts = flat(times)
    more = [axis for axis, n in enumerate(counts) if n not in (1, -1)]
    fits = len(counts) == x.rank == 3 and not x.batch and len(more) == 1 and more[0] > 0
    if not fits or not is_number(counts[more[0]]) or wiring.sizes(x)[more[0]] != 1:
        do = "repeat a tensor (batch, 1, features) along axis 1"
        raise CannotTraceError("other than one axis of size 1 repeated", do)
    x = wiring.ordered(x, [0, more[0], 3 - more[0]])
    return x._replace(edge=wiring.add(L.UpSample((counts[more[0]],)), x.edge))


def activation(name: str) -> Handler:
    """Returns a handler for an activation of the IR."""

    def activation(wiring: TraceState, x: TracedTensor, inplace: bool = False) -> TracedTensor:
        return elementwise(wiring, x, L.Activation(name))

    return activation


def clamp(wiring: TraceState, x: TracedTensor, *bounds: Any, **named: Any) -> TracedTensor:
    """Limits numbers to a range; one of its bounds may be missing."""
    pairs = zip(("min", "max"), bounds, strict=False)
    given = {**dict(pairs), **{k: v for k, v in named.items() if k != "out"}}
    low, high = given.get("min"), given.get("max")
    if not all(bound is None or is_number(bound) for bound in (low, high)) or low is high is None:
        raise CannotTraceError("clamp to other bounds than numbers", "use numbers")
    if low == 0:
        return elementwise(wiring, x, L.Relu(None if high is None else float(high)))
    ends = [None if bound is None else float(bound) for bound in (low, high)]
    return elementwise(wiring, x, L.Clip(*ends))


def function(name: str) -> Handler:
    """Returns a handler for a plain function."""
    return lambda wiring, x: elementwise(wiring, x, L.Function(name))


def reciprocal_root(wiring: TraceState, x: TracedTensor) -> TracedTensor:
    """One over the square root."""
    return elementwise(wiring, elementwise(wiring, x, L.Function("sqrt")), L.Function("reciprocal"))


def module(cls: Callable[..., nn.Module]) -> Handler:
    """A function that does what a module does, called with the module's options."""

    def call(wiring: TraceState, x: TracedTensor, *args: Any, **options: Any) -> Any:
        made = cls(*args, **options)
        return MODULES[type(made)](wiring, made, "", (x,))

    return call


def pool(how: str, cls: Callable[..., nn.Module]) -> Handler:
    """Returns a handler for a pooling along time, over windows or over the whole length."""

    def pool(
        wiring: TraceState, x: TracedTensor, kernel_size: Any, *args: Any, **options: Any
    ) -> Any:
        unknown = kernel_size is LENGTH or (type(kernel_size) is int and kernel_size >= MARKER)
        if not unknown:
            return module(cls)(wiring, x, kernel_size, *args, **options)
        own = wiring.sizes(x)[-1]
        if args or any(options.values()) or (own if own is not None else LENGTH) != kernel_size:
            raise CannotTraceError("a window of another length", "use the length of what is pooled")
        x = wiring.channels_last(x)
        return x._replace(edge=wiring.add(L.GlobalPool(how, True), x.edge))

    return pool


def interpolate(wiring: TraceState, x: TracedTensor, *args: Any, **options: Any) -> Any:
    """Repeats every place."""
    options = {k: v for k, v in options.items() if v not in (None, False)}
    made = nn.Upsample(*args, **options)
    return MODULES[nn.Upsample](wiring, made, "", (x,))


def softmax(
    wiring: TraceState, x: TracedTensor, dim: int | None = None, *_: Any, **__: Any
) -> TracedTensor:
    """Softmax over an axis."""
    return softmax_over(wiring, x, dim)


def log_softmax(
    wiring: TraceState, x: TracedTensor, dim: int | None = None, *_: Any, **__: Any
) -> TracedTensor:
    """The logarithm of softmax."""
    return softmax_over(wiring, x, dim, log=True)
