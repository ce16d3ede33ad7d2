"""Writes convolutions and pools as Flax source; channels are last, as in canonical tensors.

Native layers take any number of axes before a sample's. They need no reshaping at every
time step.
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal

from ...codegen.source import Argument, call
from .dialect import WRITERS, FlaxLayerWriter
from .shape import axes_text


def _ones(sizes: tuple[int, ...]) -> bool:
    return all(size == 1 for size in sizes)


@WRITERS.of(L.Conv, L.DepthwiseConv)
def conv(spec: L.Conv | L.DepthwiseConv, at: FlaxLayerWriter) -> None:
    """Convolution, then an activation; as many groups as channels if each is taken alone."""
    if isinstance(spec, L.Conv):
        units, groups = spec.units, spec.groups
    else:
        units, groups = spec.features * spec.multiplier, spec.features
    at.layer(
        "Conv",
        at.sized(spec.features),
        literal(units),
        literal(spec.window),
        None if _ones(spec.strides) else ("strides", literal(spec.strides)),
        # "SAME" is the default
        None if spec.padding == "same" else ("padding", literal(spec.padding.upper())),
        None if _ones(spec.dilation) else ("kernel_dilation", literal(spec.dilation)),
        ("feature_group_count", literal(groups)) if groups > 1 else None,
        None if spec.use_bias else ("use_bias", "False"),
    )
    at.set_output(at.activated(at.call(), spec.activation))


def _around(spec: L.ConvTranspose) -> Argument | None:
    """Returns the crop of the output, as zeros around the dilated input."""
    if spec.output_padding is None:
        # "SAME" is the default
        return None if spec.padding == "same" else ("padding", literal(spec.padding.upper()))
    pairs = zip(spec.reach, spec.crops, strict=True)
    return "padding", literal(tuple((n - 1 - a, n - 1 - b) for n, (a, b) in pairs))


@WRITERS.of(L.ConvTranspose)
def conv_transpose(spec: L.ConvTranspose, at: FlaxLayerWriter) -> None:
    """Transposed convolution, then an activation."""
    at.layer(
        "ConvTranspose",
        at.sized(spec.features),
        literal(spec.units),
        literal(spec.window),
        None if _ones(spec.strides) else ("strides", literal(spec.strides)),
        _around(spec),
        None if _ones(spec.dilation) else ("kernel_dilation", literal(spec.dilation)),
        None if spec.use_bias else ("use_bias", "False"),
        # the window of Keras and PyTorch
        ("transpose_kernel", "True"),
    )
    at.set_output(at.activated(at.call(), spec.activation))


@WRITERS.of(L.Pool)
def pool(spec: L.Pool, at: FlaxLayerWriter) -> None:
    """The largest or the mean value of each window."""
    name = {"max": "max_pool", "average": "avg_pool"}[spec.how]
    same = spec.padding == "same"
    value = call(
        f"{at.dialect.module}.{name}",
        at.x,
        literal(spec.window),
        None if _ones(spec.strides) else ("strides", literal(spec.strides)),
        ("padding", '"SAME"') if same else None,
        ("count_include_pad", "False") if same and spec.how == "average" else None,
    )
    at.set_output(value)


@WRITERS.of(L.GlobalPool)
def global_pool(spec: L.GlobalPool, at: FlaxLayerWriter) -> None:
    """The largest or the mean value over all axes but the channels."""
    axes = tuple(range(at.lead, at.lead + at.ranks[0] - 1))
    value = call(
        f"{at.x}.{'max' if spec.how == 'max' else 'mean'}",
        ("axis", axes_text(axes)),
        ("keepdims", "True") if spec.keep else None,
        ("where", f"{at.site.mask}[..., None]") if at.site.mask else None,
    )
    at.set_output(value)
