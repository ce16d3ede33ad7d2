"""Converts poolings, and the padding of windows, to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    nn.MaxPool1d(2)    Pool("max", window=(2,), strides=(2,))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlstm.ir import layers as L

from .values import CannotTraceError, TracedTensor, TraceState, is_number, one

Handler = Callable[[TraceState, Any, str, Any], Any]
"""Function of (state of the walk, module, its path, arguments) -> result of the call."""


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


def space(wiring: TraceState, x: TracedTensor, rank: int) -> TracedTensor:
    """Returns a tensor (batch, channels, *space) with its edge's channels last."""
    if x.rank != rank + 2:
        raise CannotTraceError(
            f"a tensor of {x.rank} axes", f"give it (batch, channels) and {rank} more"
        )
    return wiring.channels_last(x)


POSITIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid")
"""Activations without negative results."""


def _check_plain(module: Any, rank: int) -> None:
    """Raises for options that no pooling of the IR has."""
    options = {"dilation": 1, "return_indices": False, "divisor_override": None}
    for option, plain in options.items():
        found = getattr(module, option, plain)
        if found not in (plain, sizes_of(plain, rank)):
            raise CannotTraceError(f"{option}={found}", f"use {option}={plain}")


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


def pool(how: str, rank: int) -> Handler:
    """Returns a handler for a pooling of windows."""

    def pool(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
        _check_plain(module, rank)
        given = one(args)
        x = space(wiring, given, rank)
        window = sizes_of(module.kernel_size, rank)
        strides = sizes_of(module.stride or module.kernel_size, rank)
        pads = sizes_of(module.padding, rank)
        even = {*strides} == {1} and all(2 * p == k - 1 for p, k in zip(pads, window, strict=True))
        # the mean with count_include_pad counts zeros; a positive maximum is no zero
        zeros = module.count_include_pad if how == "average" else _is_positive(wiring, given)
        if any(pads) and not zeros and not even:
            do = "use padding=0, or put a ReLU before it: zeros around change nothing then"
            do = do if how == "max" else "use padding=0, or count_include_pad=True"
            raise CannotTraceError(f"padding={module.padding}", do)
        same = any(pads) and even and (how == "max" or not zeros)
        spec = L.Pool(how, window, strides, "same" if same else "valid")
        if module.ceil_mode:
            _check_filled(wiring, x, spec, pads)
        x = x if same else around(wiring, x, pads, pads)
        return x._replace(edge=wiring.add(spec, x.edge))

    return pool


def whole(how: str, rank: int) -> Handler:
    """Returns a handler for a pooling over all places."""

    def whole(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
        x = space(wiring, one(args), rank)
        if {*sizes_of(module.output_size, rank)} != {1}:
            raise CannotTraceError(
                f"output_size={module.output_size}", "use 1, or a pooling of fixed size"
            )
        return x._replace(edge=wiring.add(L.GlobalPool(how, True), x.edge))

    return whole
