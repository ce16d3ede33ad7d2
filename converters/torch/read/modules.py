"""Converts modules of `torch.nn` with weights or windows to specs in a traced graph.

In: a call in a traced module, in evaluation mode. Out: nodes of the graph.

    nn.Linear(3, 4)       Dense(features=3, units=4)
    nn.ZeroPad1d(1)       Pad((1,), (1,))
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from xlstm.ir import layers as L

from .pooling import around, sizes_of, space
from .shape import flatten, unflatten
from .values import MODULES, OPERATIONS, CannotTraceError, ModuleCall, TracedTensor, TraceState

ALONG_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Identity, nn.Dropout, nn.PReLU)
"""Modules that work along the last axes, or number by number."""


@MODULES.of(nn.Linear)
def _linear(call: ModuleCall) -> TracedTensor:
    module, wiring = call.module, call.wiring
    x = wiring.features_last(call.x)
    wiring.demand(wiring.sizes(x)[-1], module.in_features, "features, got")
    spec = L.Dense(module.in_features, module.out_features, use_bias=module.bias is not None)
    return call.add(spec, x, "Linear")


@MODULES.of(nn.Embedding)
def _embedding(call: ModuleCall) -> TracedTensor:
    x, module = call.x, call.module
    if module.max_norm is not None:
        raise CannotTraceError(
            "max_norm, which changes rows when they are read", "clip the table once"
        )
    spec = L.Embedding(module.num_embeddings, module.embedding_dim)
    return call.add(spec, x, "Embedding")._replace(axes=(*x.axes, x.rank))


def _channels(call: ModuleCall, x: TracedTensor, count: int) -> TracedTensor:
    """Returns a tensor whose number of channels, the first axis after the batch, is checked."""
    call.wiring.demand(call.wiring.sizes(x)[1], count, "channels, got")
    return x


@MODULES.of(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _conv(call: ModuleCall) -> TracedTensor:
    module, rank = call.module, len(call.module.kernel_size)
    x = _channels(call, space(call, rank), module.in_channels)
    if module.padding_mode != "zeros":
        raise CannotTraceError(f"padding_mode={module.padding_mode!r}", "pad with zeros")
    window, strides, dilation = module.kernel_size, module.stride, module.dilation
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    halves = [(n // 2, n - n // 2) for n in reach]
    own = module.padding
    pads = halves if own == "same" else [(0, 0)] * rank
    pads = pads if isinstance(own, str) else [(n, n) for n in own]
    same = {*strides} == {1} and any(reach) and pads == halves
    if not same:
        x = around(call.wiring, x, tuple(a for a, _ in pads), tuple(b for _, b in pads))
    spec = L.Conv(
        module.in_channels,
        module.out_channels,
        window,
        strides=strides,
        padding="same" if same else "valid",
        dilation=dilation,
        groups=module.groups,
        use_bias=module.bias is not None,
    )
    return call.add(spec, x, f"Conv{rank}d")


@MODULES.of(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transpose(call: ModuleCall) -> TracedTensor:
    module, rank = call.module, len(call.module.kernel_size)
    x = _channels(call, space(call, rank), module.in_channels)
    if module.groups != 1:
        raise CannotTraceError(f"groups={module.groups}", "use a layer for each group")
    spec = L.ConvTranspose(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        strides=module.stride,
        output_padding=module.output_padding,
        dilation=module.dilation,
        use_bias=module.bias is not None,
    )
    x = call.add(spec, x, f"ConvTranspose{rank}d")
    if not any(module.padding):
        return x
    crop = L.Crop(module.padding, module.padding)
    return x._replace(edge=call.wiring.add(crop, x.edge, before="crop_"))


def _learned(module: Any) -> dict[str, bool]:
    return {"scale": module.weight is not None, "center": module.bias is not None}


BATCH_NORMS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}
"""Class -> ranks of its input."""


@MODULES.of(*BATCH_NORMS)
def _batch_norm(call: ModuleCall) -> TracedTensor:
    x, module, ranks = call.x, call.module, BATCH_NORMS[type(call.module)]
    if x.rank not in ranks:
        raise CannotTraceError(f"a tensor of {x.rank} axes", f"give it {ranks[-1]}")
    x = _channels(call, call.wiring.channels_last(x), module.num_features)
    if module.running_mean is None or module.momentum is None:
        raise CannotTraceError("statistics that are not kept, or momentum=None", "keep them")
    momentum = 1 - module.momentum
    spec = L.BatchNorm(module.num_features, module.eps, momentum, **_learned(module))
    return call.add(spec, x, "BatchNorm")


@MODULES.of(nn.LayerNorm, nn.RMSNorm)
def _last_axes_norm(call: ModuleCall) -> TracedTensor:
    x, wiring, module, sizes = call.x, call.wiring, call.module, call.module.normalized_shape
    for axis, size in enumerate(sizes, start=x.rank - len(sizes)):
        wiring.demand(wiring.sizes(x)[axis], size, "features, got")
    laid = flatten(wiring, x, -len(sizes)) if len(sizes) > 1 else x
    count, epsilon = math.prod(sizes), _epsilon(module, wiring.root)
    spec: L.Norm = (
        L.RMSNorm(count, epsilon, scale=module.weight is not None)
        if isinstance(module, nn.RMSNorm)
        else L.LayerNorm(count, epsilon, **_learned(module))
    )
    laid = call.add(spec, wiring.features_last(laid), "LayerNorm")
    if module.eps is None and not wiring.probing:
        note = f"{call.path}: eps=None is read as {epsilon:.3g}, of its weight's dtype"
        wiring.notes += [note] if note not in wiring.notes else []
    return unflatten(wiring, laid, -1, sizes) if len(sizes) > 1 else laid


def _epsilon(module: nn.LayerNorm | nn.RMSNorm, root: nn.Module) -> float:
    """Returns the number that PyTorch adds for eps=None: the epsilon of the dtype it computes in.

    For half precision it is another number in some versions of PyTorch.
    """
    if module.eps is not None:
        return float(module.eps)
    if module.weight is None or module.weight.dtype not in (torch.float32, torch.float64):
        got = "eps=None without a weight" if module.weight is None else "eps=None in half precision"
        raise CannotTraceError(got, "set eps")
    if len({tensor.dtype for tensor in root.parameters()}) > 1:
        raise CannotTraceError("eps=None in a module of several dtypes", "set eps")
    return float(torch.finfo(module.weight.dtype).eps)


@MODULES.of(nn.InstanceNorm1d, nn.InstanceNorm2d)
def _instance_norm(call: ModuleCall) -> TracedTensor:
    module, count = call.module, call.module.num_features
    if module.track_running_stats:
        raise CannotTraceError("track_running_stats=True", "use BatchNorm, or pass False")
    x = _channels(call, call.wiring.channels_last(call.x), count)
    learned = _learned(module)
    spec = L.LayerNorm(count, module.eps, groups=count, **learned)
    return call.add(spec, x, "LayerNorm") if any(learned.values()) else call.wiring.apply(x, spec)


@MODULES.of(nn.GroupNorm)
def _group_norm(call: ModuleCall) -> TracedTensor:
    module, count = call.module, call.module.num_channels
    x = _channels(call, call.wiring.channels_last(call.x), count)
    spec = L.LayerNorm(count, module.eps, groups=module.num_groups, **_learned(module))
    return call.add(spec, x, "LayerNorm")


@MODULES.of(nn.Upsample)
def _upsample(call: ModuleCall) -> TracedTensor:
    x, module = call.x, call.module
    factors = sizes_of(module.scale_factor, x.rank - 2)
    whole = all(type(n) in (int, float) and n == int(n) >= 1 for n in factors)
    if module.mode != "nearest" or not whole or not 3 <= x.rank <= 5:
        got = f"mode={module.mode}, scale_factor={module.scale_factor}, size={module.size}"
        raise CannotTraceError(got, "use mode nearest and whole scale factors")
    return call.wiring.apply(call.wiring.channels_last(x), L.UpSample(tuple(map(int, factors))))


@OPERATIONS.of("interpolate")
def interpolate(wiring: TraceState, x: TracedTensor, *args: Any, **options: Any) -> Any:
    """Repeats every place."""
    options = {k: v for k, v in options.items() if v not in (None, False)}
    return _upsample(ModuleCall(wiring, nn.Upsample(*args, **options), "", (x,)))


@MODULES.of(nn.ConstantPad1d, nn.ConstantPad2d, nn.ZeroPad1d, nn.ZeroPad2d)
def _pad(call: ModuleCall) -> TracedTensor:
    module = call.module
    x = space(call, len(module.padding) // 2)
    pairs = [*zip(module.padding[::2], module.padding[1::2], strict=True)][::-1]
    if getattr(module, "value", 0.0) or min(module.padding) < 0:
        raise CannotTraceError(f"padding={module.padding} with a number, or below 0", "use zeros")
    return around(call.wiring, x, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


@MODULES.of(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
def _spatial_dropout(call: ModuleCall) -> TracedTensor:
    rank = int(type(call.module).__name__[-2])
    spec = L.TrainingOnly(f"SpatialDropout{rank}D", float(call.module.p))
    return call.wiring.apply(space(call, rank), spec)
