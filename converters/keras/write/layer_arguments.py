"""How Keras 3 writes the layers around the recurrent ones, and what it has no layer of."""

from __future__ import annotations

from collections.abc import Callable

from xlstm.ir.graph import (
    Activation,
    Affine,
    Attention,
    Augmentation,
    BatchNorm,
    Concatenate,
    Conv,
    ConvLSTM,
    ConvTranspose,
    Crop,
    Dense,
    DepthwiseConv,
    Dot,
    Dropout,
    Elu,
    Embedding,
    Flatten,
    GlobalPool,
    LayerNorm,
    LayerSpec,
    Masking,
    Merge,
    MultiHeadAttention,
    Normalization,
    Pad,
    Permute,
    Pool,
    PRelu,
    Relu,
    RepeatVector,
    Reshape,
    Softmax,
    TrainingOnly,
    UnitNorm,
    UpSample,
)
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


def _dense(spec: Dense, around: Around) -> Arguments:
    chosen = option("activation", spec.activation, "linear", around, around.rank)
    return literal(spec.units), chosen, flag("use_bias", spec.use_bias, True)


def _dropout(spec: Dropout, _around: Around) -> Arguments:
    return (literal(spec.rate),)


def _activation_layer(spec: Activation, around: Around) -> Arguments:
    return (activation(spec.activation, around, around.rank),)


def _masking(spec: Masking, _around: Around) -> Arguments:
    return (number(spec.value) if spec.value else None,)


def _embedding(spec: Embedding, _around: Around) -> Arguments:
    return literal(spec.rows), literal(spec.units), flag("mask_zero", spec.mask_zero)


def _beyond_one(keyword: str, found: tuple[int, ...]) -> Argument | None:
    return (keyword, sizes(found)) if any(size != 1 for size in found) else None


def _padding(how: str) -> Argument | None:
    return None if how == "valid" else ("padding", literal(how))


def _sliding(spec: Conv | ConvTranspose | DepthwiseConv, around: Around) -> Arguments:
    return (
        _beyond_one("strides", spec.strides),
        _padding(spec.padding),
        _beyond_one("dilation_rate", spec.dilation),
        ("groups", literal(spec.groups)) if isinstance(spec, Conv) and spec.groups > 1 else None,
        option("activation", spec.activation, "linear", around, around.rank),
        flag("use_bias", spec.use_bias, True),
        CHANNELS_LAST,
    )


def _conv(spec: Conv, around: Around) -> Arguments:
    return (literal(spec.units), sizes(spec.window), *_sliding(spec, around))


def _conv_transpose(spec: ConvTranspose, around: Around) -> Arguments:
    more = spec.output_padding
    told = None if more is None else ("output_padding", sizes(more))
    return (literal(spec.units), sizes(spec.window), told, *_sliding(spec, around))


def _depthwise(spec: DepthwiseConv, around: Around) -> Arguments:
    several = ("depth_multiplier", literal(spec.multiplier)) if spec.multiplier > 1 else None
    return (sizes(spec.window), several, *_sliding(spec, around))


def _pool(spec: Pool, _around: Around) -> Arguments:
    strides = None if spec.strides == spec.window else ("strides", sizes(spec.strides))
    return sizes(spec.window), strides, _padding(spec.padding), CHANNELS_LAST


def _global_pool(spec: GlobalPool, _around: Around) -> Arguments:
    return CHANNELS_LAST, flag("keepdims", spec.keep)


def _pairs(spec: Pad | Crop, _around: Around) -> Arguments:
    pairs = tuple(zip(spec.before, spec.after, strict=True))
    told = isinstance(spec, Pad) or len(pairs) > 1
    return literal(pairs[0] if len(pairs) == 1 else pairs), CHANNELS_LAST if told else None


def _up_sample(spec: UpSample, _around: Around) -> Arguments:
    return sizes(spec.times), CHANNELS_LAST if len(spec.times) > 1 else None


def _flatten(_spec: Flatten, _around: Around) -> Arguments:
    return (CHANNELS_LAST,)


def _reshape(spec: Reshape, _around: Around) -> Arguments:
    return (literal(tuple(-1 if size is None else size for size in spec.shape)),)


def _permute(spec: Permute, _around: Around) -> Arguments:
    return (literal(spec.order),)


def _repeat_vector(spec: RepeatVector, _around: Around) -> Arguments:
    return (literal(spec.times),)


def _relu(spec: Relu, _around: Around) -> Arguments:
    if is_leaky(spec):
        return (("negative_slope", sharp(spec.slope)),)
    return (
        None if spec.top is None else ("max_value", sharp(spec.top)),
        ("negative_slope", sharp(spec.slope)) if spec.slope else None,
        ("threshold", sharp(spec.threshold)) if spec.threshold else None,
    )


def is_leaky(spec: Relu) -> bool:
    """Whether Keras's LeakyReLU is it."""
    return spec.top is None and not spec.threshold and bool(spec.slope)


def _prelu(spec: PRelu, _around: Around) -> Arguments:
    shared = [axis for axis, size in enumerate(spec.shape, 1) if size == 1]
    return (("shared_axes", literal(shared)) if shared else None,)


def _elu(spec: Elu, _around: Around) -> Arguments:
    return (None if spec.alpha == 1 else ("alpha", sharp(spec.alpha)),)


def _softmax(spec: Softmax, _around: Around) -> Arguments:
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return (None if axis == -1 else ("axis", literal(axis)),)


def _affine(spec: Affine, _around: Around) -> Arguments:
    return sharp(spec.scale), sharp(spec.offset) if spec.offset else None


def _training_only(spec: TrainingOnly, _around: Around) -> Arguments:
    space = spec.layer in ("SpatialDropout2D", "SpatialDropout3D")
    return number(spec.rate), CHANNELS_LAST if space else None


def _augmentation(spec: Augmentation, _around: Around) -> Arguments:
    return tuple((named(name), literal(value)) for name, value in spec.arguments().items())


def _unless(keyword: str, value: float, default: float) -> Argument | None:
    return None if value == default else (keyword, literal(float(value)))


def _batch_norm(spec: BatchNorm, _around: Around) -> Arguments:
    return (
        _unless("momentum", spec.momentum, 0.99),
        _unless("epsilon", spec.epsilon, 1e-3),
        flag("center", spec.center, True),
        flag("scale", spec.scale, True),
    )


def _layer_norm(spec: LayerNorm, _around: Around) -> Arguments:
    return (
        literal(spec.groups) if spec.groups else None,
        _unless("epsilon", spec.epsilon, 1e-3),
        flag("center", spec.center, True),
        flag("scale", spec.scale, True),
    )


def _normalization(spec: Normalization, _around: Around) -> Arguments:
    return (flag("invert", spec.invert),)


def _concatenate(spec: Concatenate, _around: Around) -> Arguments:
    axis = spec.axis if spec.axis < 0 else spec.axis + 1
    return (None if axis == -1 else ("axis", literal(axis)),)


DOT_FLOOR, UNIT_FLOOR = 1e-7, 1e-12
"""What Keras 3 divides by at least, in Dot and in UnitNormalization."""


def _dot(spec: Dot, _around: Around) -> Arguments:
    native = spec.normalize and spec.floor == DOT_FLOOR
    return (("axes", literal(spec.axes)), flag("normalize", native))


def _attention(spec: Attention, _around: Around) -> Arguments:
    return (
        flag("use_scale", spec.scaled, spec.score == "additive"),
        ("score_mode", '"concat"') if spec.score == "concat" else None,
        rate_of("dropout", spec.dropout),
    )


def _heads(spec: MultiHeadAttention, _around: Around) -> Arguments:
    value, units = spec.value_dim, spec.units
    return (
        literal(spec.heads),
        literal(spec.key_dim),
        ("value_dim", literal(value)) if value != spec.key_dim else None,
        rate_of("dropout", spec.dropout),
        flag("use_bias", spec.use_bias, True),
        ("output_shape", literal(units)) if units != spec.query_features else None,
    )


def _nothing(_spec: LayerSpec, _around: Around) -> Arguments:
    return ()


AROUND: dict[type[LayerSpec], Callable[..., Arguments]] = {
    Activation: _activation_layer,
    Affine: _affine,
    Attention: _attention,
    Augmentation: _augmentation,
    BatchNorm: _batch_norm,
    Concatenate: _concatenate,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Crop: _pairs,
    Dense: _dense,
    DepthwiseConv: _depthwise,
    Dot: _dot,
    Dropout: _dropout,
    Elu: _elu,
    Embedding: _embedding,
    Flatten: _flatten,
    GlobalPool: _global_pool,
    LayerNorm: _layer_norm,
    Masking: _masking,
    Merge: _nothing,
    MultiHeadAttention: _heads,
    Normalization: _normalization,
    PRelu: _prelu,
    Pad: _pairs,
    Permute: _permute,
    Pool: _pool,
    Relu: _relu,
    RepeatVector: _repeat_vector,
    Reshape: _reshape,
    Softmax: _softmax,
    TrainingOnly: _training_only,
    UnitNorm: _nothing,
    UpSample: _up_sample,
}
"""Spec -> the first arguments of its constructor."""

POOLS = {"max": "Max", "average": "Average"}

TITLES: dict[type[LayerSpec], Callable[..., str]] = {
    Affine: lambda _spec, _rank: "Rescaling",
    Attention: lambda spec, _rank: spec.weight_kind.partition(",")[0],
    Augmentation: lambda spec, _rank: named(spec.layer),
    BatchNorm: lambda _spec, _rank: "BatchNormalization",
    Conv: lambda spec, _rank: spec.weight_kind,
    ConvLSTM: lambda spec, _rank: spec.weight_kind,
    ConvTranspose: lambda spec, _rank: spec.weight_kind,
    Crop: lambda spec, _rank: f"Cropping{len(spec.before)}D",
    DepthwiseConv: lambda spec, _rank: spec.weight_kind,
    Elu: lambda _spec, _rank: "ELU",
    GlobalPool: lambda spec, rank: f"Global{POOLS[spec.how]}Pooling{rank - 2}D",
    LayerNorm: lambda spec, _rank: f"{'Group' if spec.groups else 'Layer'}Normalization",
    Merge: lambda spec, _rank: named(spec.how.capitalize()),
    PRelu: lambda _spec, _rank: "PReLU",
    Pad: lambda spec, _rank: f"ZeroPadding{len(spec.before)}D",
    Pool: lambda spec, _rank: f"{POOLS[spec.how]}Pooling{len(spec.window)}D",
    Relu: lambda spec, _rank: "LeakyReLU" if is_leaky(spec) else "ReLU",
    TrainingOnly: lambda spec, _rank: named(spec.layer),
    UnitNorm: lambda _spec, _rank: "UnitNormalization",
    UpSample: lambda spec, _rank: f"UpSampling{len(spec.times)}D",
}
"""Spec -> Keras's name of the layer, given the rank of its input, where it is not `Spec.kind`."""


def reason(spec: LayerSpec, rank: int) -> str:
    """Why Keras 3 has no exact form of a layer around the recurrent ones, "" where it has one."""
    refused = REFUSALS.get(type(spec))
    return refused(spec, rank) if refused else ""


def _no_transposed(spec: ConvTranspose, rank: int) -> str:
    more = spec.output_padding
    if more is None or _no_window(spec, rank):
        return _no_window(spec, rank)
    if any(n >= stride for n, stride in zip(more, spec.strides, strict=True)):
        return f"output_padding {more} that is not below the strides, which Keras refuses"
    empty = any(not size % 2 + n for size, n in zip(spec.reach, more, strict=True))
    if spec.padding == "same" and empty:
        return 'padding "same" with output_padding 0 of an even window, which TensorFlow refuses'
    return ""


def _no_window(spec: Conv | ConvTranspose | DepthwiseConv, _rank: int) -> str:
    strides, dilation = (any(n > 1 for n in found) for found in (spec.strides, spec.dilation))
    if not isinstance(spec, DepthwiseConv):
        return "strides together with dilation, which Keras refuses" if strides and dilation else ""
    if len(spec.window) > 2:
        return "DepthwiseConv over three axes, which Keras has no layer of"
    if len(set(spec.strides)) > 1:
        return "strides that differ, which depthwise convolutions of TensorFlow do not take"
    return ""


def _no_relu(spec: Relu, _rank: int) -> str:
    return f"slope {spec.slope}, which Keras wants from 0 on" if spec.slope < 0 else ""


NATIVE_RANK = {"SpatialDropout1D": 3, "SpatialDropout2D": 4, "SpatialDropout3D": 5}


def _no_images(spec: Augmentation, rank: int) -> str:
    return "" if rank == 4 else f"{spec.layer} of {rank} axes, which Keras does not take"


def _no_dropout(spec: TrainingOnly, rank: int) -> str:
    fits = NATIVE_RANK.get(spec.layer, rank) == rank
    return "" if fits else f"{spec.layer} of {rank} axes, which Keras does not take"


def _own_blind(spec: MultiHeadAttention) -> str:
    return "zeros" if spec.dropout or spec.scores else "uniform"


def own_blind(spec: MultiHeadAttention) -> bool:
    """Whether queries that see nothing give what they give in this Keras."""
    return not spec.masks or spec.blind == _own_blind(spec)


def _no_heads(spec: MultiHeadAttention, _rank: int) -> str:
    if own_blind(spec) or spec.blind == "lowered":
        return ""
    own = _own_blind(spec)
    return f'blind="{spec.blind}": a query that sees nothing gives "{own}" in this Keras'


REFUSALS: dict[type[LayerSpec], Callable[..., str]] = {
    Augmentation: _no_images,
    Conv: _no_window,
    ConvTranspose: _no_transposed,
    DepthwiseConv: _no_window,
    MultiHeadAttention: _no_heads,
    Relu: _no_relu,
    TrainingOnly: _no_dropout,
}
