"""Constructor arguments of layers that are not recurrent in Keras 3 source, and refusals.

In: a spec. Out: first arguments of its constructor. `Permute((2, 1))`, named a, becomes

    keras.layers.Permute((2, 1), dtype=dtype, name="a")
"""

from __future__ import annotations

from collections.abc import Callable

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named

from ...codegen.source import Argument
from .arguments import (
    CHANNELS_LAST,
    Arguments,
    Around,
    activation,
    flag,
    number,
    option,
    rate_of,
    sharp,
    sizes,
)

ARGUMENTS = L.LayerFunctions()
"""Layer -> the function that gives the first arguments of its constructor."""


@ARGUMENTS.of(L.Dense)
def _dense(spec: L.Dense, around: Around) -> Arguments:
    chosen = option("activation", spec.activation, "linear", around, around.rank)
    return literal(spec.units), chosen, flag("use_bias", spec.use_bias, True)


@ARGUMENTS.of(L.Dropout)
def _dropout(spec: L.Dropout, _around: Around) -> Arguments:
    return (literal(spec.rate),)


@ARGUMENTS.of(L.Activation)
def _activation_layer(spec: L.Activation, around: Around) -> Arguments:
    return (activation(spec.activation, around, around.rank),)


@ARGUMENTS.of(L.Masking)
def _masking(spec: L.Masking, _around: Around) -> Arguments:
    return (number(spec.value) if spec.value else None,)


@ARGUMENTS.of(L.Embedding)
def _embedding(spec: L.Embedding, _around: Around) -> Arguments:
    return literal(spec.rows), literal(spec.units), flag("mask_zero", spec.mask_zero)


def _beyond_one(keyword: str, found: tuple[int, ...]) -> Argument | None:
    return (keyword, sizes(found)) if any(size != 1 for size in found) else None


def _padding(how: str) -> Argument | None:
    return None if how == "valid" else ("padding", literal(how))


def _sliding(spec: L.Conv | L.ConvTranspose | L.DepthwiseConv, around: Around) -> Arguments:
    return (
        _beyond_one("strides", spec.strides),
        _padding(spec.padding),
        _beyond_one("dilation_rate", spec.dilation),
        ("groups", literal(spec.groups)) if isinstance(spec, L.Conv) and spec.groups > 1 else None,
        option("activation", spec.activation, "linear", around, around.rank),
        flag("use_bias", spec.use_bias, True),
        CHANNELS_LAST,
    )


@ARGUMENTS.of(L.Conv)
def _conv(spec: L.Conv, around: Around) -> Arguments:
    return (literal(spec.units), sizes(spec.window), *_sliding(spec, around))


@ARGUMENTS.of(L.ConvTranspose)
def _conv_transpose(spec: L.ConvTranspose, around: Around) -> Arguments:
    more = spec.output_padding
    told = None if more is None else ("output_padding", sizes(more))
    return (literal(spec.units), sizes(spec.window), told, *_sliding(spec, around))


@ARGUMENTS.of(L.DepthwiseConv)
def _depthwise(spec: L.DepthwiseConv, around: Around) -> Arguments:
    several = ("depth_multiplier", literal(spec.multiplier)) if spec.multiplier > 1 else None
    return (sizes(spec.window), several, *_sliding(spec, around))


@ARGUMENTS.of(L.Pool)
def _pool(spec: L.Pool, _around: Around) -> Arguments:
    strides = None if spec.strides == spec.window else ("strides", sizes(spec.strides))
    return sizes(spec.window), strides, _padding(spec.padding), CHANNELS_LAST


@ARGUMENTS.of(L.GlobalPool)
def _global_pool(spec: L.GlobalPool, _around: Around) -> Arguments:
    return CHANNELS_LAST, flag("keepdims", spec.keep)


@ARGUMENTS.of(L.Crop, L.Pad)
def _pairs(spec: L.Pad | L.Crop, _around: Around) -> Arguments:
    pairs = tuple(zip(spec.before, spec.after, strict=True))
    told = isinstance(spec, L.Pad) or len(pairs) > 1
    return literal(pairs[0] if len(pairs) == 1 else pairs), CHANNELS_LAST if told else None


@ARGUMENTS.of(L.UpSample)
def _up_sample(spec: L.UpSample, _around: Around) -> Arguments:
    return sizes(spec.times), CHANNELS_LAST if len(spec.times) > 1 else None


@ARGUMENTS.of(L.Flatten)
def _flatten(_spec: L.Flatten, _around: Around) -> Arguments:
    return (CHANNELS_LAST,)


@ARGUMENTS.of(L.Reshape)
def _reshape(spec: L.Reshape, _around: Around) -> Arguments:
    return (literal(tuple(-1 if size is None else size for size in spec.shape)),)


@ARGUMENTS.of(L.Permute)
def _permute(spec: L.Permute, _around: Around) -> Arguments:
    return (literal(spec.order),)


@ARGUMENTS.of(L.RepeatVector)
def _repeat_vector(spec: L.RepeatVector, _around: Around) -> Arguments:
    return (literal(spec.times),)


@ARGUMENTS.of(L.Relu)
def _relu(spec: L.Relu, _around: Around) -> Arguments:
    if is_leaky(spec):
        return (("negative_slope", sharp(spec.slope)),)
    return (
        None if spec.top is None else ("max_value", sharp(spec.top)),
        ("negative_slope", sharp(spec.slope)) if spec.slope else None,
        ("threshold", sharp(spec.threshold)) if spec.threshold else None,
    )


def is_leaky(spec: L.Relu) -> bool:
    """True if the layer is Keras's LeakyReLU."""
    return spec.top is None and not spec.threshold and bool(spec.slope)


@ARGUMENTS.of(L.PRelu)
def _prelu(spec: L.PRelu, _around: Around) -> Arguments:
    shared = [axis for axis, size in enumerate(spec.shape, 1) if size == 1]
    return (("shared_axes", literal(shared)) if shared else None,)


@ARGUMENTS.of(L.Elu)
def _elu(spec: L.Elu, _around: Around) -> Arguments:
    return (None if spec.alpha == 1 else ("alpha", sharp(spec.alpha)),)


@ARGUMENTS.of(L.Softmax)
def _softmax(spec: L.Softmax, _around: Around) -> Arguments:
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return (None if axis == -1 else ("axis", literal(axis)),)


@ARGUMENTS.of(L.Affine)
def _affine(spec: L.Affine, _around: Around) -> Arguments:
    return sharp(spec.scale), sharp(spec.offset) if spec.offset else None


@ARGUMENTS.of(L.TrainingOnly)
def _training_only(spec: L.TrainingOnly, _around: Around) -> Arguments:
    space = spec.layer in ("SpatialDropout2D", "SpatialDropout3D")
    return number(spec.rate), CHANNELS_LAST if space else None


@ARGUMENTS.of(L.Augmentation)
def _augmentation(spec: L.Augmentation, _around: Around) -> Arguments:
    return tuple((named(name), literal(value)) for name, value in spec.arguments().items())


def _unless(keyword: str, value: float, default: float) -> Argument | None:
    return None if value == default else (keyword, literal(float(value)))


@ARGUMENTS.of(L.BatchNorm)
def _batch_norm(spec: L.BatchNorm, _around: Around) -> Arguments:
    return (
        _unless("momentum", spec.momentum, 0.99),
        _unless("epsilon", spec.epsilon, 1e-3),
        flag("center", spec.center, True),
        flag("scale", spec.scale, True),
    )


@ARGUMENTS.of(L.LayerNorm)
def _layer_norm(spec: L.LayerNorm, _around: Around) -> Arguments:
    return (
        literal(spec.groups) if spec.groups else None,
        _unless("epsilon", spec.epsilon, 1e-3),
        flag("center", spec.center, True),
        flag("scale", spec.scale, True),
    )


@ARGUMENTS.of(L.Normalization)
def _normalization(spec: L.Normalization, _around: Around) -> Arguments:
    return (flag("invert", spec.invert),)


@ARGUMENTS.of(L.Concatenate)
def _concatenate(spec: L.Concatenate, _around: Around) -> Arguments:
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return (None if axis == -1 else ("axis", literal(axis)),)


DOT_FLOOR, UNIT_FLOOR = 1e-7, 1e-12
"""Smallest divisors of Keras 3, in Dot and in UnitNormalization."""


@ARGUMENTS.of(L.Dot)
def _dot(spec: L.Dot, _around: Around) -> Arguments:
    native = spec.normalize and spec.floor == DOT_FLOOR
    return (("axes", literal(spec.axes)), flag("normalize", native))


@ARGUMENTS.of(L.Attention)
def _attention(spec: L.Attention, _around: Around) -> Arguments:
    return (
        flag("use_scale", spec.scaled, spec.score == "additive"),
        ("score_mode", '"concat"') if spec.score == "concat" else None,
        rate_of("dropout", spec.dropout),
    )


@ARGUMENTS.of(L.MultiHeadAttention)
def _heads(spec: L.MultiHeadAttention, _around: Around) -> Arguments:
    value, units = spec.value_dim, spec.units
    return (
        literal(spec.heads),
        literal(spec.key_dim),
        ("value_dim", literal(value)) if value != spec.key_dim else None,
        rate_of("dropout", spec.dropout),
        flag("use_bias", spec.use_bias, True),
        ("output_shape", literal(units)) if units != spec.query_features else None,
    )


@ARGUMENTS.of(L.Merge, L.UnitNorm)
def _nothing(_spec: L.LayerSpec, _around: Around) -> Arguments:
    return ()


POOLS = {"max": "Max", "average": "Average"}

TITLES: dict[type[L.LayerSpec], Callable[..., str]] = {
    L.Affine: lambda _spec, _rank: "Rescaling",
    L.Attention: lambda spec, _rank: spec.weight_kind.partition(",")[0],
    L.Augmentation: lambda spec, _rank: named(spec.layer),
    L.BatchNorm: lambda _spec, _rank: "BatchNormalization",
    L.Conv: lambda spec, _rank: spec.weight_kind,
    L.ConvLSTM: lambda spec, _rank: spec.weight_kind,
    L.ConvTranspose: lambda spec, _rank: spec.weight_kind,
    L.Crop: lambda spec, _rank: f"Cropping{len(spec.before)}D",
    L.DepthwiseConv: lambda spec, _rank: spec.weight_kind,
    L.Elu: lambda _spec, _rank: "ELU",
    L.GlobalPool: lambda spec, rank: f"Global{POOLS[spec.how]}Pooling{rank - 2}D",
    L.LayerNorm: lambda spec, _rank: f"{'Group' if spec.groups else 'Layer'}Normalization",
    L.Merge: lambda spec, _rank: named(spec.how.capitalize()),
    L.PRelu: lambda _spec, _rank: "PReLU",
    L.Pad: lambda spec, _rank: f"ZeroPadding{len(spec.before)}D",
    L.Pool: lambda spec, _rank: f"{POOLS[spec.how]}Pooling{len(spec.window)}D",
    L.Relu: lambda spec, _rank: "LeakyReLU" if is_leaky(spec) else "ReLU",
    L.TrainingOnly: lambda spec, _rank: named(spec.layer),
    L.UnitNorm: lambda _spec, _rank: "UnitNormalization",
    L.UpSample: lambda spec, _rank: f"UpSampling{len(spec.times)}D",
}
"""Spec -> Keras's name of the layer for a rank of its input, if it is not `LayerSpec.kind`."""


def reason(spec: L.LayerSpec, rank: int) -> str:
    """Returns the reason why Keras 3 has no exact form of such a layer, "" if it has one."""
    refused = REFUSALS.get(type(spec))
    return refused(spec, rank) if refused else ""


def _no_transposed(spec: L.ConvTranspose, rank: int) -> str:
    more = spec.output_padding
    if more is None or _no_window(spec, rank):
        return _no_window(spec, rank)
    if any(n >= stride for n, stride in zip(more, spec.strides, strict=True)):
        return f"output_padding {more} that is not below the strides, which Keras refuses"
    empty = any(not size % 2 + n for size, n in zip(spec.reach, more, strict=True))
    if spec.padding == "same" and empty:
        return 'padding "same" with output_padding 0 of an even window, which TensorFlow refuses'
    return ""


def _no_window(spec: L.Conv | L.ConvTranspose | L.DepthwiseConv, _rank: int) -> str:
    strides, dilation = (any(n > 1 for n in found) for found in (spec.strides, spec.dilation))
    if not isinstance(spec, L.DepthwiseConv):
        return "strides together with dilation, which Keras refuses" if strides and dilation else ""
    if len(spec.window) > 2:
        return "DepthwiseConv over three axes, which Keras has no layer of"
    if len(set(spec.strides)) > 1:
        return "strides that differ, which depthwise convolutions of TensorFlow do not take"
    return ""


def _no_relu(spec: L.Relu, _rank: int) -> str:
    return f"slope {spec.slope}, which Keras wants from 0 on" if spec.slope < 0 else ""


NATIVE_RANK = {"SpatialDropout1D": 3, "SpatialDropout2D": 4, "SpatialDropout3D": 5}


def _no_images(spec: L.Augmentation, rank: int) -> str:
    return "" if rank == 4 else f"{spec.layer} of {rank} axes, which Keras does not take"


def _no_dropout(spec: L.TrainingOnly, rank: int) -> str:
    fits = NATIVE_RANK.get(spec.layer, rank) == rank
    return "" if fits else f"{spec.layer} of {rank} axes, which Keras does not take"


def _own_blind(spec: L.MultiHeadAttention) -> str:
    return "zeros" if spec.dropout or spec.scores else "uniform"


def own_blind(spec: L.MultiHeadAttention) -> bool:
    """True if queries that see nothing get the output of this Keras."""
    return not spec.masks or spec.blind == _own_blind(spec)


def _no_heads(spec: L.MultiHeadAttention, _rank: int) -> str:
    if own_blind(spec) or spec.blind == "lowered":
        return ""
    own = _own_blind(spec)
    return f'blind="{spec.blind}": a query that sees nothing gives "{own}" in this Keras'


REFUSALS: dict[type[L.LayerSpec], Callable[..., str]] = {
    L.Augmentation: _no_images,
    L.Conv: _no_window,
    L.ConvTranspose: _no_transposed,
    L.DepthwiseConv: _no_window,
    L.MultiHeadAttention: _no_heads,
    L.Relu: _no_relu,
    L.TrainingOnly: _no_dropout,
}
