"""Converts poolings, and the padding of windows, to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    nn.MaxPool1d(2)    Pool("max", window=(2,), strides=(2,))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from xlstm.ir import layers as L

from .elementwise import module
from .values import (
    LENGTH,
    MARKER,
    MODULES,
    OPERATIONS,
    CannotTraceError,
    ModuleCall,
    TracedTensor,
    TraceState,
    is_number,
)


def sizes_of(size: Any, rank: int) -> tuple[int, ...]:
    """Returns a size for each axis; PyTorch takes one for all as well."""
    return tuple(size) if isinstance(size, (tuple, list)) else (size,) * rank


def around(
    wiring: TraceState, x: TracedTensor, before: tuple[int, ...], after: tuple[int, ...]
) -> TracedTensor:
    """Adds zeros around a tensor whose channels are last."""
    if not any((*before, *after)):
        return x
    return x._replace(edge=wiring.add(L.Pad(before, after), x.edge, before="pad_"))


def space(call: ModuleCall, rank: int) -> TracedTensor:
    """Returns a module's tensor (batch, channels, *space) with its edge's channels last."""
    if call.x.rank != rank + 2:
        raise CannotTraceError(
            f"a tensor of {call.x.rank} axes", f"give it (batch, channels) and {rank} more"
        )
    return call.wiring.channels_last(call.x)


POSITIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid")
"""Activations without negative results."""


def _check_filled(wiring: TraceState, x: TracedTensor, spec: L.Pool, pads: tuple[int, ...]) -> None:
    """Raises unless windows fill an axis; then ceil_mode changes nothing."""
    if wiring.probing:
        return
    sizes = wiring.sizes(x)[2:]
    for size, pad, window, stride in zip(sizes, pads, spec.window, spec.strides, strict=True):
        if not is_number(size or 0) or size is None or (size + 2 * pad - window) % stride:
            text = "any size" if size is None else f"{size} places"
            got = f"ceil_mode=True with windows of {window}, {stride} apart, along {text}"
            raise CannotTraceError(got, "use ceil_mode=False, or a size that whole windows fill")


def _is_positive(wiring: TraceState, x: TracedTensor) -> bool:
    """True if a tensor has no negative numbers."""
    (spec,) = (node.spec for node in wiring.graph.nodes if node.name == x.edge.node)
    own = isinstance(spec, L.Activation) and spec.activation in POSITIVE
    return own or (isinstance(spec, L.Relu) and spec == L.Relu(spec.top))


def _windows(how: str, rank: int) -> Callable[[ModuleCall], TracedTensor]:
    """Returns a handler for a pooling of windows."""

    def pool(call: ModuleCall) -> TracedTensor:
        module = call.module
        options = {"dilation": 1, "return_indices": False, "divisor_override": None}
        for option, plain in options.items():  # no pooling of the IR has others
            found = getattr(module, option, plain)
            if found not in (plain, sizes_of(plain, rank)):
                raise CannotTraceError(f"{option}={found}", f"use {option}={plain}")
        x = space(call, rank)
        window = sizes_of(module.kernel_size, rank)
        strides = sizes_of(module.stride or module.kernel_size, rank)
        pads = sizes_of(module.padding, rank)
        even = {*strides} == {1} and all(2 * p == k - 1 for p, k in zip(pads, window, strict=True))
        # the mean with count_include_pad counts zeros; a positive maximum is no zero
        average = how == "average"
        zeros = module.count_include_pad if average else _is_positive(call.wiring, call.x)
        if any(pads) and not zeros and not even:
            do = "use padding=0, or put a ReLU before it: zeros around change nothing then"
            do = do if how == "max" else "use padding=0, or count_include_pad=True"
            raise CannotTraceError(f"padding={module.padding}", do)
        same = any(pads) and even and (how == "max" or not zeros)
        spec = L.Pool(how, window, strides, "same" if same else "valid")
        if module.ceil_mode:
            _check_filled(call.wiring, x, spec, pads)
        return call.wiring.apply(x if same else around(call.wiring, x, pads, pads), spec)

    return pool


def _whole(how: str, rank: int) -> Callable[[ModuleCall], TracedTensor]:
    """Returns a handler for a pooling over all places."""

    def whole(call: ModuleCall) -> TracedTensor:
        x = space(call, rank)
        if {*sizes_of(call.module.output_size, rank)} != {1}:
            raise CannotTraceError(
                f"output_size={call.module.output_size}", "use 1, or a pooling of fixed size"
            )
        return call.wiring.apply(x, L.GlobalPool(how, True))

    return whole


POOLS: dict[str, tuple[str, type[nn.Module], str, type[nn.Module]]] = {
    "max_pool1d": ("max", nn.MaxPool1d, "adaptive_max_pool1d", nn.AdaptiveMaxPool1d),
    "max_pool2d": ("max", nn.MaxPool2d, "adaptive_max_pool2d", nn.AdaptiveMaxPool2d),
    "max_pool3d": ("max", nn.MaxPool3d, "adaptive_max_pool3d", nn.AdaptiveMaxPool3d),
    "avg_pool1d": ("average", nn.AvgPool1d, "adaptive_avg_pool1d", nn.AdaptiveAvgPool1d),
    "avg_pool2d": ("average", nn.AvgPool2d, "adaptive_avg_pool2d", nn.AdaptiveAvgPool2d),
    "avg_pool3d": ("average", nn.AvgPool3d, "adaptive_avg_pool3d", nn.AdaptiveAvgPool3d),
}
"""Function -> its kind and module, and the function and module that pool over all places."""

for function, (how, windows, adaptive, whole) in POOLS.items():
    OPERATIONS.update({function: module(windows), adaptive: module(whole)})
    MODULES.update(
        {windows: _windows(how, int(function[-2])), whole: _whole(how, int(function[-2]))}
    )


def pool(how: str, cls: Callable[..., nn.Module]) -> Callable[..., Any]:
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
        return wiring.apply(wiring.channels_last(x), L.GlobalPool(how, True))

    return pool


OPERATIONS.update(max_pool1d=pool("max", nn.MaxPool1d), avg_pool1d=pool("average", nn.AvgPool1d))
