"""Converts modules of `torch.nn` to specs in a traced graph, in evaluation mode.

In: a call in a traced module. Out: nodes of the graph.

    nn.Linear(3, 4)       Dense(features=3, units=4)
    nn.LeakyReLU(0.2)     Relu(slope=0.2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from xlstm.ir import layers as L
from xlstm.ir import parametric_activations
from xlstm.ir.graph import Edge
from xlstm.slots import unpack

from ..live.arrays import to_numpy
from ..slots import TABLES
from .pooling import Handler, around, pool, sizes_of, space, whole
from .recurrent import recurrent
from .shape import flatten, unflatten
from .values import CannotTraceError, TracedTensor, TraceState, call_layer, one


def layer(
    wiring: TraceState, module: nn.Module, path: str, spec: L.LayerSpec, x: Edge, table: str
) -> Edge:
    """Adds a node for a layer with weights."""
    active = TABLES[table].present_slots(spec.missing_tensors())
    flags = {p.requires_grad for p in module.parameters(recurse=False)}
    edge = call_layer(wiring, path, spec, [x], trainable=flags != {False})
    if edge.node == wiring.called[path][0] and not wiring.probing:
        held = {s.name: to_numpy(getattr(module, s.name)) for s in active}
        if isinstance(module, nn.LayerNorm):  # several axes, joined as one
            held = {name: array.reshape(-1) for name, array in held.items()}
        wiring.weights[edge.node] = unpack(
            TABLES[table], held, spec.sizes(), spec.missing_tensors(), f"torch {path}"
        )
    return edge


def _linear(
    wiring: TraceState, module: nn.Linear, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    x = wiring.features_last(one(args))
    wiring.demand(wiring.sizes(x)[-1], module.in_features, "features, got")
    spec = L.Dense(module.in_features, module.out_features, use_bias=module.bias is not None)
    return x._replace(edge=layer(wiring, module, path, spec, x.edge, "Linear"))


def _embedding(
    wiring: TraceState, module: nn.Embedding, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    x = one(args)
    if module.max_norm is not None:
        raise CannotTraceError(
            "max_norm, which changes rows when they are read", "clip the table once"
        )
    spec = L.Embedding(module.num_embeddings, module.embedding_dim)
    edge = layer(wiring, module, path, spec, x.edge, "Embedding")
    return TracedTensor(edge, (*x.axes, x.rank))


def _conv(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
    rank = len(module.kernel_size)
    x = space(wiring, one(args), rank)
    wiring.demand(wiring.sizes(x)[1], module.in_channels, "channels, got")
    if module.padding_mode != "zeros":
        raise CannotTraceError(f"padding_mode={module.padding_mode!r}", "pad with zeros")
    window, strides, dilation = module.kernel_size, module.stride, module.dilation
    reach = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
    own = module.padding
    pads = [(n // 2, n - n // 2) for n in reach] if own == "same" else [(0, 0)] * rank
    pads = pads if isinstance(own, str) else [(n, n) for n in own]
    same = {*strides} == {1} and any(reach) and pads == [(n // 2, n - n // 2) for n in reach]
    if not same:
        x = around(wiring, x, tuple(a for a, _ in pads), tuple(b for _, b in pads))
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
    return x._replace(edge=layer(wiring, module, path, spec, x.edge, f"Conv{rank}d"))


def _conv_transpose(
    wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    rank = len(module.kernel_size)
    x = space(wiring, one(args), rank)
    wiring.demand(wiring.sizes(x)[1], module.in_channels, "channels, got")
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
    edge = layer(wiring, module, path, spec, x.edge, f"ConvTranspose{rank}d")
    if any(module.padding):
        edge = wiring.add(L.Crop(module.padding, module.padding), edge, before="crop_")
    return x._replace(edge=edge)


def _batch_norm(ranks: tuple[int, ...]) -> Handler:
    def norm(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
        x = one(args)
        if x.rank not in ranks:
            raise CannotTraceError(f"a tensor of {x.rank} axes", f"give it {ranks[-1]}")
        x = wiring.channels_last(x)
        wiring.demand(wiring.sizes(x)[1], module.num_features, "channels, got")
        if module.running_mean is None or module.momentum is None:
            raise CannotTraceError("statistics that are not kept, or momentum=None", "keep them")
        learned = {"scale": module.weight is not None, "center": module.bias is not None}
        momentum = 1 - module.momentum
        spec = L.BatchNorm(module.num_features, module.eps, momentum, **learned)
        return x._replace(edge=layer(wiring, module, path, spec, x.edge, "BatchNorm"))

    return norm


def _learned(module: Any) -> dict[str, bool]:
    return {"scale": module.weight is not None, "center": module.bias is not None}


def _layer_norm(
    wiring: TraceState, module: nn.LayerNorm, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    x, sizes = one(args), module.normalized_shape
    for axis, size in enumerate(sizes, start=x.rank - len(sizes)):
        wiring.demand(wiring.sizes(x)[axis], size, "features, got")
    laid = flatten(wiring, x, -len(sizes)) if len(sizes) > 1 else x
    laid = wiring.features_last(laid)
    spec = L.LayerNorm(math.prod(sizes), module.eps, **_learned(module))
    laid = laid._replace(edge=layer(wiring, module, path, spec, laid.edge, "LayerNorm"))
    return unflatten(wiring, laid, -1, sizes) if len(sizes) > 1 else laid


def _instance_norm(
    wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    if module.track_running_stats:
        raise CannotTraceError("track_running_stats=True", "use BatchNorm, or leave it out")
    x = wiring.channels_last(one(args))
    wiring.demand(wiring.sizes(x)[1], module.num_features, "channels, got")
    count, learned = module.num_features, _learned(module)
    spec = L.LayerNorm(count, module.eps, groups=count, **learned)
    if not any(learned.values()):
        return x._replace(edge=wiring.add(spec, x.edge))
    return x._replace(edge=layer(wiring, module, path, spec, x.edge, "LayerNorm"))


def _prelu(wiring: TraceState, module: nn.PReLU, path: str, args: tuple[Any, ...]) -> TracedTensor:
    """Adds learned slopes: one for all channels, or one for each."""
    count, x = module.num_parameters, one(args)
    x = wiring.channels_last(x) if x.rank > 2 and count > 1 else wiring.plain(x)
    if count > 1:
        wiring.demand(wiring.sizes(x)[1], count, "channels, got")
    shape = (*(1,) * (x.rank - 2), count)
    spec = L.PRelu(shape)
    trainable = module.weight.requires_grad
    edge = call_layer(wiring, path, spec, [x.edge], trainable=trainable)
    if edge.node == wiring.called[path][0] and not wiring.probing:
        slopes = to_numpy(module.weight).reshape(shape)
        wiring.weights[edge.node] = {"slopes": slopes}
    return x._replace(edge=edge)


def _upsample(
    wiring: TraceState, module: nn.Upsample, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    x = one(args)
    factors = sizes_of(module.scale_factor, x.rank - 2)
    whole = all(type(n) in (int, float) and n == int(n) >= 1 for n in factors)
    if module.mode != "nearest" or not whole or not 3 <= x.rank <= 5:
        got = f"mode={module.mode}, scale_factor={module.scale_factor}, size={module.size}"
        raise CannotTraceError(got, "use mode nearest and whole scale factors")
    x = wiring.channels_last(x)
    return elementwise(wiring, x, L.UpSample(tuple(map(int, factors))))


def _constant_pad(rank: int) -> Handler:
    def pad(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
        x = space(wiring, one(args), rank)
        pairs = [*zip(module.padding[::2], module.padding[1::2], strict=True)][::-1]
        if getattr(module, "value", 0.0) or min(module.padding) < 0:
            raise CannotTraceError(
                f"padding={module.padding} with a number, or below 0", "use zeros"
            )
        return around(wiring, x, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))

    return pad


def _group_norm(
    wiring: TraceState, module: nn.GroupNorm, path: str, args: tuple[Any, ...]
) -> TracedTensor:
    x = wiring.channels_last(one(args))
    wiring.demand(wiring.sizes(x)[1], module.num_channels, "channels, got")
    learned = _learned(module)
    spec = L.LayerNorm(module.num_channels, module.eps, groups=module.num_groups, **learned)
    return x._replace(edge=layer(wiring, module, path, spec, x.edge, "LayerNorm"))


def elementwise(wiring: TraceState, x: TracedTensor, spec: L.LayerSpec) -> TracedTensor:
    """Adds a spec that works on every number alone."""
    return x._replace(edge=wiring.add(spec, x.edge))


def softmax_over(
    wiring: TraceState, x: TracedTensor, dim: int | None, log: bool = False
) -> TracedTensor:
    """Adds softmax over an axis of PyTorch."""
    if dim is None:
        raise CannotTraceError("dim=None", "say the axis, as in dim=-1")
    place = x.axes[dim]
    if not place:
        raise CannotTraceError("softmax over the batch", "take it over another axis")
    if log:
        rest = [axis for axis in range(x.rank) if axis not in (dim % x.rank, x.batch)]
        x = wiring.ordered(x, [x.batch, *rest, dim % x.rank]) if place < x.rank - 1 else x
        return elementwise(wiring, x, L.Activation("log_softmax"))
    return elementwise(wiring, x, L.Softmax(place - x.rank))


def _plain(name: str, **defaults: Any) -> Handler:
    """Returns a handler for an activation of the IR; other options than these are refused."""

    def activation(
        wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]
    ) -> TracedTensor:
        for option, value in defaults.items():
            if (found := getattr(module, option)) != value:
                raise CannotTraceError(f"{option}={found}", f"use {option}={value}")
        return elementwise(wiring, one(args), L.Activation(name))

    return activation


ABOVE_ZERO, FROM_ZERO, ANY = "above 0", "from 0 on", "that is finite"
"""Ranges of an activation's number."""


def _with(steps: Callable[..., parametric_activations.Steps], *options: tuple[str, str]) -> Handler:
    """Returns a handler for an activation with numbers, each checked against its range."""

    def activation(
        wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]
    ) -> TracedTensor:
        found = [float(getattr(module, name)) for name, _ in options]
        for number, (name, want) in zip(found, options, strict=True):
            least = number > 0 if want == ABOVE_ZERO else number >= 0 or want == ANY
            if not math.isfinite(number) or not least:
                raise CannotTraceError(f"{name}={number}", f"use a number {want}")
        x = one(args)
        edges = [x.edge]
        for spec, reads in steps(*found):
            edges.append(wiring.add(spec, *(edges[number] for number in reads)))
        return x._replace(edge=edges[-1])

    return activation


def _gelu(wiring: TraceState, module: nn.GELU, path: str, args: tuple[Any, ...]) -> TracedTensor:
    name = {"none": "gelu", "tanh": "gelu_tanh"}[module.approximate]
    return elementwise(wiring, one(args), L.Activation(name))


def _dropout(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
    return elementwise(wiring, one(args), L.Dropout(float(module.p)))


def _spatial(rank: int) -> Handler:
    def dropout(wiring: TraceState, module: Any, path: str, args: tuple[Any, ...]) -> TracedTensor:
        x = space(wiring, one(args), rank)
        return elementwise(wiring, x, L.TrainingOnly(f"SpatialDropout{rank}D", float(module.p)))

    return dropout


ALONG_LAST = (nn.Linear, nn.LayerNorm, nn.Identity, nn.Dropout, nn.PReLU)
"""Modules that work along the last axes, or number by number."""

MODULES: dict[type[nn.Module], Handler] = {
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.ConvTranspose1d: _conv_transpose,
    nn.ConvTranspose2d: _conv_transpose,
    nn.ConvTranspose3d: _conv_transpose,
    nn.BatchNorm1d: _batch_norm((2, 3)),
    nn.BatchNorm2d: _batch_norm((4,)),
    nn.BatchNorm3d: _batch_norm((5,)),
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.PReLU: _prelu,
    nn.Upsample: _upsample,
    nn.ConstantPad1d: _constant_pad(1),
    nn.ConstantPad2d: _constant_pad(2),
    nn.ZeroPad1d: _constant_pad(1),
    nn.ZeroPad2d: _constant_pad(2),
    nn.Identity: lambda wiring, module, path, args: one(args),
    nn.Dropout: _dropout,
    nn.Dropout1d: _spatial(1),
    nn.Dropout2d: _spatial(2),
    nn.Dropout3d: _spatial(3),
    nn.AlphaDropout: lambda wiring, module, path, args: elementwise(
        wiring, one(args), L.TrainingOnly("AlphaDropout", float(module.p))
    ),
    nn.MaxPool1d: pool("max", 1),
    nn.MaxPool2d: pool("max", 2),
    nn.AvgPool1d: pool("average", 1),
    nn.AvgPool2d: pool("average", 2),
    nn.AdaptiveAvgPool1d: whole("average", 1),
    nn.AdaptiveAvgPool2d: whole("average", 2),
    nn.AdaptiveMaxPool1d: whole("max", 1),
    nn.AdaptiveMaxPool2d: whole("max", 2),
    nn.MaxPool3d: pool("max", 3),
    nn.AvgPool3d: pool("average", 3),
    nn.AdaptiveAvgPool3d: whole("average", 3),
    nn.AdaptiveMaxPool3d: whole("max", 3),
    nn.Softmax: lambda wiring, module, path, args: softmax_over(wiring, one(args), module.dim),
    nn.LogSoftmax: lambda wiring, module, path, args: softmax_over(
        wiring, one(args), module.dim, log=True
    ),
    nn.ReLU: _plain("relu"),
    nn.ReLU6: _plain("relu6"),
    nn.Tanh: _plain("tanh"),
    nn.Sigmoid: _plain("sigmoid"),
    nn.SELU: _plain("selu"),
    nn.CELU: _with(parametric_activations.celu, ("alpha", ABOVE_ZERO)),
    nn.SiLU: _plain("silu"),
    nn.Mish: _plain("mish"),
    nn.Softsign: _plain("softsign"),
    nn.Hardsigmoid: _plain("hard_sigmoid"),
    nn.Hardswish: _plain("hard_silu"),
    nn.Hardtanh: _plain("hard_tanh", min_val=-1.0, max_val=1.0),
    nn.LogSigmoid: _plain("log_sigmoid"),
    nn.Tanhshrink: _plain("tanh_shrink"),
    nn.Softshrink: _with(parametric_activations.soft_shrink, ("lambd", FROM_ZERO)),
    nn.Hardshrink: _with(parametric_activations.hard_shrink, ("lambd", ANY)),
    nn.Threshold: _with(parametric_activations.threshold, ("threshold", ANY), ("value", ANY)),
    nn.GELU: _gelu,
    nn.ELU: lambda wiring, module, path, args: elementwise(
        wiring, one(args), L.Elu(float(module.alpha))
    ),
    nn.LeakyReLU: lambda wiring, module, path, args: elementwise(
        wiring, one(args), L.Relu(slope=float(module.negative_slope))
    ),
}
"""Class of a leaf, exact match -> the handler that adds its spec."""
