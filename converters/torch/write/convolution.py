"""Writes layers that slide a window over axes as PyTorch source; imports no framework.

PyTorch needs channels first, so that they are moved there and back.
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal
from xlstm.ir.types import Shape

from ...codegen.source import Argument, CallExpr
from .writer import LAYER_CELLS, WRITERS, Step, TorchLayerWriter, applied, method, some

Pairs = list[tuple[int, int]]
"""Numbers of places before and after each axis."""


def padding(
    space: Shape,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    how: str,
) -> Pairs | None:
    """Returns the padding of every axis; None where it depends on an unknown length.

    >>> padding((None,), (2,), (1,), (1,), "same"), padding((None,), (3,), (2,), (1,), "same")
    ([(0, 1)], None)
    >>> padding((6,), (3,), (2,), (1,), "same"), padding((9,), (3,), (1,), (2,), "causal")
    ([(0, 1)], [(4, 0)])
    """
    found: Pairs = []
    for size, width, stride, spread in zip(space, window, strides, dilation, strict=True):
        extra = (width - 1) * spread
        if how != "same":
            found.append((extra if how == "causal" else 0, 0))
        elif size is None and stride > 1:
            return None
        else:
            total = max(extra + 1 - stride + -(size or 0) % stride, 0)
            found.append((total // 2, total - total // 2))
    return found


def _padded(
    at: TorchLayerWriter, pairs: Pairs | None, sliding: tuple[tuple[int, ...], ...], fill: str
) -> Step:
    """Pads a tensor whose channels are first."""
    if pairs is None:
        at.parts.use_template(LAYER_CELLS, "pad_same")
        sizes = [literal(list(own)) for own in sliding]
        return applied("pad_same", *sizes, fill or None)
    flat = ", ".join(f"{literal(a)}, {literal(b)}" for a, b in pairs[::-1])
    return applied("F.pad", f"({flat})", ("value", fill) if fill else None)


def _option(name: str, sizes: tuple[int, ...], default: int = 1) -> Argument | None:
    return None if {*sizes} == {default} else (name, some(sizes))


@WRITERS.of(L.Conv, L.DepthwiseConv)
def convolution(spec: L.Conv | L.DepthwiseConv, at: TorchLayerWriter) -> None:
    """A convolution, or one of each channel alone."""
    if isinstance(spec, L.Conv):
        units, groups = spec.units, spec.groups
    else:
        units, groups = spec.features * spec.multiplier, spec.features
    rank = len(spec.window)
    sliding = (spec.window, spec.strides, spec.dilation)
    pairs = padding(at.shape[:-1], *sliding, spec.padding)
    even = pairs is not None and all(a == b for a, b in pairs)
    # of an odd number of zeros PyTorch's "same" makes a copy, and warns; onnxruntime 1.32 refuses
    # the auto_pad that torch.onnx makes of it beside a dilation
    same = even and spec.padding == "same" and {*spec.strides, *spec.dilation} == {1}
    own: Argument | None = ("padding", '"same"') if same else None
    if even and not same:
        own = _option("padding", tuple(a for a, _ in pairs or ()), 0)
    at.set_module(
        f"nn.Conv{rank}d",
        literal(spec.features),
        literal(units),
        some(spec.window),
        _option("stride", spec.strides),
        own,
        _option("dilation", spec.dilation),
        None if groups == 1 else ("groups", literal(groups)),
        None if spec.use_bias else ("bias", "False"),
    )
    at.apply_steps(
        at.channels_first(),
        None if even else _padded(at, pairs, sliding, ""),
        applied(at.module),
        at.channels_last(),
        at.activation(spec.activation),
    )


@WRITERS.of(L.ConvTranspose)
def conv_transpose(spec: L.ConvTranspose, at: TorchLayerWriter) -> None:
    """A transposed convolution; PyTorch's removes as many places before as after."""
    before, after = zip(*spec.crops, strict=True)
    at.set_module(
        f"nn.ConvTranspose{len(spec.window)}d",
        literal(spec.features),
        literal(spec.units),
        some(spec.window),
        _option("stride", spec.strides),
        _option("padding", before, 0),
        _option("output_padding", tuple(max(-n, 0) for n in after), 0),
        None if spec.use_bias else ("bias", "False"),
        _option("dilation", spec.dilation),
    )
    parts = [":-1" if b > a else ":" for a, b in spec.crops]
    at.apply_steps(
        at.channels_first(),
        applied(at.module),
        (lambda y: CallExpr(y, ("...", *parts), "[]")) if ":-1" in parts else None,
        at.channels_last(),
        at.activation(spec.activation),
    )


@WRITERS.of(L.Pool)
def pool(spec: L.Pool, at: TorchLayerWriter) -> None:
    """The largest or the mean value of every window."""
    rank = len(spec.window)
    sliding = (spec.window, spec.strides, (1,) * rank)
    pairs = padding(at.shape[:-1], *sliding, spec.padding)
    even = pairs is not None and all(a == b for a, b in pairs)
    around = tuple(a for a, _ in pairs or ()) if even else (0,)
    mean = spec.how == "average"
    at.set_module(
        f"nn.{'Avg' if mean else 'Max'}Pool{rank}d",
        some(spec.window),
        None if spec.strides == spec.window else ("stride", some(spec.strides)),
        _option("padding", around, 0),
        ("count_include_pad", "False") if mean and any(around) else None,
    )
    if even:
        at.apply_steps(at.channels_first(), applied(at.module), at.channels_last())
    elif mean:
        _mean_of_some(at, _padded(at, pairs, sliding, ""))
    else:
        step = _padded(at, pairs, sliding, 'float("-inf")')
        at.apply_steps(at.channels_first(), step, applied(at.module), at.channels_last())


def _mean_of_some(at: TorchLayerWriter, pad: Step) -> None:
    """A mean without padding, where that differs before and after."""
    y, counts = at.y, at.site.free("counts")
    if y == "_":
        return
    at.apply_steps(at.channels_first())
    at.apply_steps(applied("torch.ones_like"), pad, applied(at.module), x=y, y=counts)
    at.apply_steps(pad, applied(at.module), x=y)
    at.parts.forward.append("        # padding does not count")
    at.chain("/", y, counts)
    at.apply_steps(at.channels_last(), x=y)


@WRITERS.of(L.GlobalPool)
def global_pool(spec: L.GlobalPool, at: TorchLayerWriter) -> None:
    """The largest or the mean value over all axes but the channels."""
    before = at.lead + at.given_first
    axes = tuple(range(before, len(at.shape) - 1 + before))
    dims = ("dim", literal(axes[0] if len(axes) == 1 else axes))
    keep = ("keepdim", "True") if spec.keep else None
    if not at.site.mask:
        step = method("amax" if spec.how == "max" else "mean", dims, keep)
        at.apply_steps(step)
        return
    if at.read(0):
        counts = at.site.free("counts")
        at.apply_steps(method("unsqueeze", "-1"), x=at.mask(at.site.mask, at.x), y=counts)
        at.apply_steps(method("masked_fill", f"~{counts}", "0.0"), method("sum", dims, keep))
        at.apply_steps(method("sum", dims, keep), x=counts, y=counts)
        at.chain("/", at.y, counts)
