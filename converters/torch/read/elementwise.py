"""Converts arithmetic, comparisons and activations of tensors to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    2 * x + 1                   Affine(2.0, 0.0), Affine(1.0, 1.0)
    torch.where(x > 0, x, 0.0)  Compare("greater", 0.0), Where(no=0.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from xlstm.ir import layers as L
from xlstm.ir import lowering
from xlstm.ir.layers.elementwise import FUNCTIONS

from ..live.arrays import to_numpy
from .values import (
    BATCH,
    LENGTH,
    MODULES,
    OPERATIONS,
    CannotTraceError,
    ModuleCall,
    Sizes,
    Symbol,
    TracedTensor,
    TraceState,
    ZeroState,
    call_layer,
    flat,
    is_number,
    same_order,
)


def merge(how: str) -> Callable[..., TracedTensor]:
    """Returns a handler that joins two tensors element by element."""

    def merge(wiring: TraceState, a: TracedTensor, b: TracedTensor) -> TracedTensor:
        ready = same_order(wiring, [a, b])
        return ready[0]._replace(edge=wiring.add(L.Merge(how), *(value.edge for value in ready)))

    return merge


OPERATIONS.update(maximum=merge("maximum"), minimum=merge("minimum"))


def _arithmetic(wiring: TraceState, how: str, a: Any, b: Any) -> TracedTensor:
    """Combines two tensors, or a tensor and a number."""
    tensors = [x for x in (a, b) if isinstance(x, TracedTensor)]
    if not tensors or not all(isinstance(x, TracedTensor) or is_number(x) for x in (a, b)):
        raise CannotTraceError(
            "arithmetic with sizes or other things than tensors and numbers", "remove it"
        )
    if len(tensors) == 2:
        return merge(how)(wiring, a, b)
    first = tensors[0] is a
    specs = lowering.with_number(how, float(b if first else a), first)
    if not specs:
        raise CannotTraceError("a division by 0", "divide by another number")
    return wiring.apply(tensors[0], *specs)


@OPERATIONS.of("add")
def add(wiring: TraceState, a: Any, b: Any) -> TracedTensor:
    """A sum."""
    return _arithmetic(wiring, "add", a, b)


@OPERATIONS.of("sub")
def subtract(wiring: TraceState, a: Any, b: Any) -> TracedTensor:
    """A difference."""
    return _arithmetic(wiring, "subtract", a, b)


@OPERATIONS.of("mul")
def multiply(wiring: TraceState, a: Any, b: Any) -> Any:
    """A product, of sizes too."""
    if all(type(x) is int or isinstance(x, Sizes) or x in (BATCH, LENGTH) for x in (a, b)):
        factors = [n for size in (a, b) for n in getattr(size, "factors", (size,))]
        return a * b if type(a) is type(b) is int else Sizes(factors)
    return _arithmetic(wiring, "multiply", a, b)


@OPERATIONS.of("div", "truediv", "true_divide")
def divide(wiring: TraceState, a: Any, b: Any) -> Any:
    """A quotient."""
    if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
        return merge("multiply")(wiring, a, wiring.apply(b, L.Function("reciprocal")))
    return _arithmetic(wiring, "divide", a, b)


@OPERATIONS.of("pow")
def power(wiring: TraceState, x: TracedTensor, exponent: Any) -> TracedTensor:
    """A power."""
    name = lowering.POWERS.get(exponent)
    if name is None or not isinstance(x, TracedTensor):
        tensor = not isinstance(exponent, (int, float))
        got = "a power of other than a tensor" if name else f"the power {exponent}"
        got = "a power whose exponent is a tensor" if tensor else got
        raise CannotTraceError(got, "raise a tensor to the power 2, 0.5 or -1")
    return wiring.apply(x, L.Function(name))


def _function(*specs: L.LayerSpec) -> Callable[..., TracedTensor]:
    """Returns a handler for a plain function."""
    return lambda wiring, x: wiring.apply(x, *specs)


OPERATIONS.update({name: _function(L.Function(name)) for name in FUNCTIONS})
OPERATIONS.update(neg=_function(L.Function("negative")), rsqrt=_function(*lowering.RSQRT))


class Truth(NamedTuple):
    """True and False as 1 and 0; arithmetic with them is refused."""

    value: TracedTensor


def compare(how: str) -> Callable[..., Truth]:
    """Returns a handler for a comparison."""

    def compare(wiring: TraceState, a: Any, b: Any) -> Truth:
        if isinstance(a, TracedTensor) and isinstance(b, TracedTensor):
            ready = same_order(wiring, [a, b])
            edge = wiring.add(L.Compare(how), *(x.edge for x in ready))
            return Truth(ready[0]._replace(edge=edge))
        x, number = (a, b) if isinstance(a, TracedTensor) else (b, a)
        if not isinstance(x, TracedTensor) or not is_number(number):
            raise CannotTraceError("a comparison of other than tensors and numbers", "remove it")
        return Truth(wiring.apply(x, lowering.compare(how, float(number), x is a)))

    return compare


OPERATIONS.update(gt=compare("greater"), ge=compare("greater_equal"), eq=compare("equal"))
OPERATIONS.update(lt=compare("less"), le=compare("less_equal"), ne=compare("not_equal"))


def logical(how: str) -> Callable[..., Truth]:
    """Returns a handler for logical and, or."""

    def logical(wiring: TraceState, a: Any, b: Any) -> Truth:
        if not isinstance(a, Truth) or not isinstance(b, Truth):
            raise CannotTraceError("logic of other than comparisons", "compare first, as in x > 0")
        return Truth(merge(lowering.LOGIC[how].how)(wiring, a.value, b.value))

    return logical


OPERATIONS.update(dict.fromkeys(("logical_and", "and_"), logical("logical_and")))
OPERATIONS.update(dict.fromkeys(("logical_or", "or_"), logical("logical_or")))


@OPERATIONS.of("logical_not", "invert")
def inverted(wiring: TraceState, x: Any) -> Truth:
    """True where the input is False."""
    if not isinstance(x, Truth):
        raise CannotTraceError("~ of other than a comparison", "compare first, as in x > 0")
    return Truth(wiring.apply(x.value, lowering.NOT))


@OPERATIONS.of("float")
def numbers(wiring: TraceState, x: Any) -> TracedTensor:
    """Returns 1 and 0 for True and False."""
    if not isinstance(x, Truth):
        raise CannotTraceError("a change of dtype", "remove it: ports compute in one dtype")
    return x.value


@OPERATIONS.of("where")
def where(wiring: TraceState, condition: Any, yes: Any, no: Any) -> TracedTensor:
    """Returns one of two values by a condition, tensors or numbers."""
    known = all(isinstance(x, TracedTensor) or is_number(x) for x in (yes, no))
    if not isinstance(condition, Truth) or not known:
        do = "choose by a comparison, between tensors and finite numbers, as -1e9"
        raise CannotTraceError("where of other things", do)
    numbers = [None if isinstance(x, TracedTensor) else float(x) for x in (yes, no)]
    tensors = [x for x in (yes, no) if isinstance(x, TracedTensor)]
    ready = same_order(wiring, [condition.value, *tensors])
    edge = wiring.add(lowering.where(*numbers), *(x.edge for x in ready))
    return ready[-1]._replace(edge=edge)


@OPERATIONS.of("masked_fill")
def masked_fill(wiring: TraceState, x: TracedTensor, mask: Any, value: Any) -> TracedTensor:
    """Puts a number where the mask is True."""
    return where(wiring, mask, value, x)


@OPERATIONS.of("zeros")
def zeros(wiring: TraceState, *shape: Any, **_: Any) -> ZeroState:
    """Returns zeros, for initial states."""
    return ZeroState(tuple(flat(shape)))


@OPERATIONS.of("new_zeros")
def new_zeros(wiring: TraceState, x: TracedTensor, *shape: Any, **_: Any) -> ZeroState:
    """Returns zeros, for initial states."""
    return ZeroState(tuple(flat(shape)))


@OPERATIONS.of("contiguous", "clone", "detach", "requires_grad_")
def same(wiring: TraceState, x: Any, *_: Any) -> Any:
    """Returns the same numbers."""
    return x


@OPERATIONS.of("to")
def to(wiring: TraceState, x: Any, *where: Any, **more: Any) -> Any:
    """Returns the same numbers, for a move to another device."""
    device = all(
        isinstance(place, (str, torch.device))
        or (isinstance(place, Symbol) and "device" in place.name)
        for place in (*where, *more.values())
    )
    if not isinstance(x, ZeroState) and not device:
        raise CannotTraceError("a change of dtype", "remove it: ports compute in one dtype")
    return x


@OPERATIONS.of("long", "int")
def whole(wiring: TraceState, x: TracedTensor) -> TracedTensor:
    """Returns whole numbers for an embedding, which cuts off fractions."""
    users = wiring.node.users if wiring.node else {}
    for user in users:
        called = wiring.root.get_submodule(str(user.target)) if user.op == "call_module" else None
        if type(called) is not nn.Embedding:
            raise CannotTraceError("numbers cut to whole ones", "do so for embeddings only")
    return x


@OPERATIONS.of("dropout")
def dropout(
    wiring: TraceState,
    x: TracedTensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> TracedTensor:
    """The identity: dropout acts in training only."""
    if training and p:
        raise CannotTraceError("dropout in evaluation", "pass training=self.training")
    return wiring.apply(x, L.Dropout(float(p)))


def activation(name: str) -> Callable[..., TracedTensor]:
    """Returns a handler for an activation of the IR."""

    def activation(wiring: TraceState, x: TracedTensor, inplace: bool = False) -> TracedTensor:
        return wiring.apply(x, L.Activation(name))

    return activation


@OPERATIONS.of("clamp", "clip")
def clamp(wiring: TraceState, x: TracedTensor, *bounds: Any, **named: Any) -> TracedTensor:
    """Limits numbers to a range; one of its bounds may be missing."""
    pairs = zip(("min", "max"), bounds, strict=False)
    limits = {**dict(pairs), **{k: v for k, v in named.items() if k != "out"}}
    low, high = limits.get("min"), limits.get("max")
    if not all(bound is None or is_number(bound) for bound in (low, high)) or low is high is None:
        raise CannotTraceError("clamp to other bounds than numbers", "use numbers")
    if low == 0:
        return wiring.apply(x, L.Relu(None if high is None else float(high)))
    ends = [None if bound is None else float(bound) for bound in (low, high)]
    return wiring.apply(x, L.Clip(*ends))


def module(cls: Callable[..., nn.Module]) -> Callable[..., Any]:
    """A function that does what a module does, called with the module's options."""

    def call(wiring: TraceState, x: TracedTensor, *args: Any, **options: Any) -> Any:
        made = cls(*args, **options)
        return MODULES[type(made)](ModuleCall(wiring, made, "", (x,)))

    return call


OPERATIONS.update(celu=module(nn.CELU), softshrink=module(nn.Softshrink), elu=module(nn.ELU))
OPERATIONS.update(hardshrink=module(nn.Hardshrink), threshold=module(nn.Threshold))
OPERATIONS.update(leaky_relu=module(nn.LeakyReLU), gelu=module(nn.GELU))
OPERATIONS.update(hardtanh=module(nn.Hardtanh))


def softmax_over(
    wiring: TraceState, x: TracedTensor, dim: int | None, log: bool = False
) -> TracedTensor:
    """Adds softmax over an axis of PyTorch."""
    if dim is None:
        raise CannotTraceError("dim=None", "pass the axis, as in dim=-1")
    place = x.axes[dim]
    if not place:
        raise CannotTraceError("softmax over the batch", "take it over another axis")
    if log:
        rest = [axis for axis in range(x.rank) if axis not in (dim % x.rank, x.batch)]
        x = wiring.ordered(x, [x.batch, *rest, dim % x.rank]) if place < x.rank - 1 else x
        return wiring.apply(x, L.Activation("log_softmax"))
    return wiring.apply(x, L.Softmax(place - x.rank))


@OPERATIONS.of("softmax")
def softmax(
    wiring: TraceState, x: TracedTensor, dim: int | None = None, *_: Any, **__: Any
) -> TracedTensor:
    """Softmax over an axis."""
    return softmax_over(wiring, x, dim)


@OPERATIONS.of("log_softmax")
def log_softmax(
    wiring: TraceState, x: TracedTensor, dim: int | None = None, *_: Any, **__: Any
) -> TracedTensor:
    """The logarithm of softmax."""
    return softmax_over(wiring, x, dim, log=True)


MODULES[nn.Softmax] = lambda call: softmax_over(call.wiring, call.x, call.module.dim)
MODULES[nn.LogSoftmax] = lambda call: softmax_over(call.wiring, call.x, call.module.dim, log=True)


def _plain(name: str, **defaults: Any) -> Callable[[ModuleCall], TracedTensor]:
    """Returns a handler for an activation of the IR; other options than these are refused."""

    def activation(call: ModuleCall) -> TracedTensor:
        for option, value in defaults.items():
            if (found := getattr(call.module, option)) != value:
                raise CannotTraceError(f"{option}={found}", f"use {option}={value}")
        return call.wiring.apply(call.x, L.Activation(name))

    return activation


ACTIVATIONS: dict[str, tuple[str, type[nn.Module]]] = {
    "relu": ("relu", nn.ReLU),
    "relu6": ("relu6", nn.ReLU6),
    "tanh": ("tanh", nn.Tanh),
    "sigmoid": ("sigmoid", nn.Sigmoid),
    "selu": ("selu", nn.SELU),
    "silu": ("silu", nn.SiLU),
    "mish": ("mish", nn.Mish),
    "softsign": ("softsign", nn.Softsign),
    "hardsigmoid": ("hard_sigmoid", nn.Hardsigmoid),
    "hardswish": ("hard_silu", nn.Hardswish),
    "logsigmoid": ("log_sigmoid", nn.LogSigmoid),
    "tanhshrink": ("tanh_shrink", nn.Tanhshrink),
}
"""Function of PyTorch -> activation of the IR, and the module that does the same."""

for function, (name, cls) in ACTIVATIONS.items():
    OPERATIONS[function] = activation(name)
    MODULES[cls] = _plain(name)
MODULES[nn.Hardtanh] = _plain("hard_tanh", min_val=-1.0, max_val=1.0)
MODULES[nn.Identity] = lambda call: call.x


@MODULES.of(nn.GELU)
def _gelu(call: ModuleCall) -> TracedTensor:
    name = {"none": "gelu", "tanh": "gelu_tanh"}[call.module.approximate]
    return call.wiring.apply(call.x, L.Activation(name))


@MODULES.of(nn.ELU)
def _elu(call: ModuleCall) -> TracedTensor:
    return call.wiring.apply(call.x, L.Elu(float(call.module.alpha)))


@MODULES.of(nn.LeakyReLU)
def _leaky_relu(call: ModuleCall) -> TracedTensor:
    return call.wiring.apply(call.x, L.Relu(slope=float(call.module.negative_slope)))


ABOVE_ZERO, FROM_ZERO, ANY = "above 0", "from 0 on", "that is finite"
"""Ranges of an activation's number."""


def _with(
    steps: Callable[..., lowering.Steps], *options: tuple[str, str]
) -> Callable[[ModuleCall], TracedTensor]:
    """Returns a handler for an activation with numbers, each checked against its range."""

    def activation(call: ModuleCall) -> TracedTensor:
        found = [float(getattr(call.module, name)) for name, _ in options]
        for number, (name, want) in zip(found, options, strict=True):
            least = number > 0 if want == ABOVE_ZERO else number >= 0 or want == ANY
            if not math.isfinite(number) or not least:
                raise CannotTraceError(f"{name}={number}", f"use a number {want}")
        return call.wiring.build(steps(*found), call.x)

    return activation


MODULES[nn.CELU] = _with(lowering.celu, ("alpha", ABOVE_ZERO))
MODULES[nn.Softshrink] = _with(lowering.soft_shrink, ("lambd", FROM_ZERO))
MODULES[nn.Hardshrink] = _with(lowering.hard_shrink, ("lambd", ANY))
MODULES[nn.Threshold] = _with(lowering.threshold, ("threshold", ANY), ("value", ANY))


@MODULES.of(nn.Dropout)
def _dropout(call: ModuleCall) -> TracedTensor:
    return call.wiring.apply(call.x, L.Dropout(float(call.module.p)))


@MODULES.of(nn.AlphaDropout)
def _alpha_dropout(call: ModuleCall) -> TracedTensor:
    return call.wiring.apply(call.x, L.TrainingOnly("AlphaDropout", float(call.module.p)))


@MODULES.of(nn.PReLU)
def _prelu(call: ModuleCall) -> TracedTensor:
    """Adds learned slopes: one for all channels, or one for each."""
    wiring, module, x = call.wiring, call.module, call.x
    count = module.num_parameters
    x = wiring.channels_last(x) if x.rank > 2 and count > 1 else wiring.plain(x)
    if count > 1:
        wiring.demand(wiring.sizes(x)[1], count, "channels, got")
    shape = (*(1,) * (x.rank - 2), count)
    trainable = module.weight.requires_grad
    edge = call_layer(wiring, call.path, L.PRelu(shape), [x.edge], trainable=trainable)
    if edge.node == wiring.called[call.path][0] and not wiring.probing:
        wiring.weights[edge.node] = {"slopes": to_numpy(module.weight).reshape(shape)}
    return x._replace(edge=edge)
