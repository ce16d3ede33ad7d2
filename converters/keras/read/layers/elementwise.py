"""Reads configs of layers that work on every number alone, and of norms; no framework.

In: the options of a config. Out: specs.

    LayerNormalization() on 3 features    LayerNorm(features=3, epsilon=0.001)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import c_float
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.layers.elementwise import AUGMENTATIONS
from xlstm.ir.layers.operations import CONSTANT_MOST

from ..context import dtype_policy
from .options import LayerConfig, Specs, array_of, laid_last, rule, swapped


@rule(
    "Embedding",
    "input_dim output_dim mask_zero",
    "input_length sparse dropout weights lora_rank lora_alpha",
    {"quantization_config": None},
    "inputs",
)
def _embedding(layer: LayerConfig) -> Specs:
    mask = layer.flag("mask_zero", False)
    return L.Embedding(layer.config["input_dim"], layer.config["output_dim"], mask)


@rule(
    "EinsumDense",
    "equation output_shape activation bias_axes",
    "lora_rank lora_alpha",
    {"quantization_config": None},
    "inputs",
)
def _einsum(layer: LayerConfig) -> Specs:
    """Reads an EinsumDense over the last axis, which is a Dense."""
    equation, sizes = str(layer.config["equation"]), layer.config["output_shape"]
    size = sizes[-1] if isinstance(sizes, (list, tuple)) else sizes
    left, _, out = equation.partition("->")
    data, _, kernel = left.partition(",")
    plain = len(kernel) == 2 and data.endswith(kernel[0]) and out == data[:-1] + kernel[1]
    bias = layer.config.get("bias_axes")
    if not plain or kernel[0] in data[:-1] or kernel[1] in data or bias not in (None, kernel[1]):
        raise layer.refused("EinsumDense like ...x,xy->...y", equation[:60])
    activation = layer.activation()
    return L.Dense(layer.features(), size, activation, use_bias=bias is not None)


@rule("Dropout", "rate noise_shape", "seed")
def _dropout(layer: LayerConfig) -> Specs:
    if layer.config.get("noise_shape") is not None:
        raise layer.refused("noise_shape=None", f"noise_shape={layer.config['noise_shape']}")
    return L.Dropout(layer.config["rate"])


NOISE = "seed noise_shape data_format dim_ordering"

RATED = "SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout AlphaDropout"


@rule(RATED, "rate", NOISE)
@rule("GaussianNoise", "stddev", NOISE)
def _training(layer: LayerConfig) -> Specs:
    key = "stddev" if layer.kind == "GaussianNoise" else "rate"
    return L.TrainingOnly(layer.kind, layer.number(key))


KERAS2_ONLY = ("RandomHeight", "RandomWidth")
"""Layers that Keras 3 does not have."""


@rule(
    " ".join((*AUGMENTATIONS, *KERAS2_ONLY)),
    " ".join(L.Augmentation.NAMES),
    "seed rng_type bounding_box_format",
)
def _augmentation(layer: LayerConfig) -> Specs:
    """Changes images in training only, in every Keras: with training=False it is the identity."""
    name, config = layer.kind, layer.config
    layer.reader.note(
        f"{layer.where}: {name} acts in training only; ports to other frameworks "
        "leave it out, and in Keras 3 model(x) is training where it does not say training=False"
    )
    if name in KERAS2_ONLY:
        return L.Activation("linear")
    if name == "RandomCrop":
        _check_crop(layer)
    given = {
        key: config[key] for key in sorted(L.Augmentation.NAMES) if config.get(key) is not None
    }
    if not layer.is_first:
        given.pop("data_format", None)
    options = (f"{key}={_plain_option(key, value)!r}" for key, value in given.items())
    return L.Augmentation(name, tuple(options))


def _plain_option(key: str, value: Any) -> Any:
    """Returns an option as its constructor takes it."""
    value = tuple(value) if isinstance(value, (list, tuple)) else value
    # Keras 3.15 rejects the pair that RandomShear makes of a number
    even = key.endswith("factor") and isinstance(value, tuple) and len(value) == 2
    return value[1] if even and value[0] == -value[1] else value


def _check_crop(layer: LayerConfig) -> None:
    """Raises UnsupportedError for a crop that changes the image.

    Keras 3.15 leaves images alone (random_crop.py, transform_images); others cut and resize them.
    """
    space = layer.shape[1:] if layer.is_first else layer.shape[:2]
    wanted = (layer.config["height"], layer.config["width"])
    if len(layer.shape) != 3 or tuple(space) != wanted:
        want = f"images of the size {wanted} that it crops to"
        raise layer.refused(want, f"{tuple(space)}: versions of Keras treat such sizes differently")


@rule("ActivityRegularization", "l1 l2", arguments="inputs")
def _activity(layer: LayerConfig) -> Specs:
    return L.TrainingOnly("ActivityRegularization", layer.number("l1", 0.0))


@rule("ReLU", "max_value negative_slope threshold", arguments="inputs")
def _relu(layer: LayerConfig) -> Specs:
    top, slope, edge = (
        None if layer.config.get(key) is None else layer.number(key)
        for key in ("max_value", "negative_slope", "threshold")
    )
    return L.Relu(top, slope or 0.0, edge or 0.0)


@rule("LeakyReLU", "alpha negative_slope", arguments="inputs")
def _leaky(layer: LayerConfig) -> Specs:
    key = "negative_slope" if "negative_slope" in layer.config else "alpha"
    return L.Relu(slope=layer.number(key))


@rule("ThresholdedReLU", "theta", arguments="inputs")
def _thresholded(layer: LayerConfig) -> Specs:
    return L.Relu(threshold=layer.number("theta"))


@rule("PReLU", "shared_axes", arguments="inputs")
def _prelu(layer: LayerConfig) -> Specs:
    shared = layer.axes(layer.config.get("shared_axes") or [])
    return L.PRelu(tuple(1 if n in shared else size for n, size in enumerate(layer.shape)))


@rule("ELU", "alpha", arguments="inputs")
def _elu(layer: LayerConfig) -> Specs:
    return L.Elu(layer.number("alpha", 1.0))


@rule("Softmax", "axis", arguments="inputs mask")
def _softmax(layer: LayerConfig) -> Specs:
    axes, last = layer.axes(layer.config["axis"]), len(layer.shape) - 1
    if len(axes) == 1:
        (axis,) = axes
        return L.Softmax(-1 if axis == last else axis)
    return _laid_out(layer, axes, lambda _count: L.Softmax(-1))


def _laid_out(layer: LayerConfig, axes: set[int], made: Callable[[int], L.LayerSpec]) -> Specs:
    """Returns the specs of a layer for the last axis, after joining axes of a sample."""
    laid = laid_last(sorted(axes), layer.shape)
    if laid is None:
        got = f"axis={layer.config['axis']} of {layer.shape}"
        raise layer.refused("axes of known sizes, one other at most not", got)
    there, count, back = laid
    return [*there, made(count), *back]


@rule("Activation", "activation", arguments="inputs")
def _activation(layer: LayerConfig) -> Specs:
    return L.Activation(layer.activation())


@rule("Identity", arguments="inputs")
def _identity(_layer: LayerConfig) -> Specs:
    return L.Activation("linear")


@rule("Rescaling", "scale offset", arguments="inputs")
def _rescaling(layer: LayerConfig) -> Specs:
    scales, offsets = array_of(layer.config["scale"]), array_of(layer.config.get("offset", 0.0))
    if scales is None and offsets is None:
        return L.Affine(layer.number("scale"), layer.number("offset", 0.0))
    first = L.Constant("multiply", *scales) if scales else L.Affine(layer.number("scale"))
    if offsets:
        return [first, L.Constant("add", *offsets)]
    return [first, L.Affine(1.0, layer.number("offset"))] if layer.config.get("offset") else first


def _normed(layer: LayerConfig, made: Callable[[int], L.LayerSpec]) -> Specs:
    """Returns the specs of a layer for one axis, moved to the last place and back."""
    axis: Any = layer.config["axis"]
    if isinstance(axis, (list, tuple)) and len(axis) != 1:
        raise layer.refused("one axis", f"axis={axis}")
    (found,) = layer.axes(axis)
    spec = made(layer.features((layer.shape[found],)))
    moved = swapped(found, len(layer.shape))
    return [moved[0], spec, moved[1]] if moved else spec


@rule(
    "BatchNormalization",
    "axis epsilon momentum scale center mode",
    "fused synchronized beta_init gamma_init renorm_clipping renorm_momentum",
    {"renorm": False, "virtual_batch_size": None},
    "inputs training mask",
)
def _batch(layer: LayerConfig) -> Specs:
    epsilon = layer.number("epsilon")
    if layer.config.get("mode", 0) != 0:
        got = f"mode={layer.config['mode']}"
        raise layer.refused("statistics kept from training (mode=0)", got)
    if layer.reader.major == 2 and len(layer.shape) == 3 and epsilon < LOWEST:
        got = f"epsilon={epsilon}, which some versions of TensorFlow raise to {LOWEST}"
        raise layer.refused(f"an epsilon from {LOWEST} on", got)

    def made(count: int) -> L.LayerSpec:
        learned = {key: layer.flag(key, True) for key in ("scale", "center")}
        return L.BatchNorm(count, epsilon, layer.number("momentum"), **learned)

    return _normed(layer, made)


LOWEST = 1.001e-5


@rule(
    "LayerNormalization",
    "axis epsilon scale center",
    only={"rms_scaling": False},
    arguments="inputs",
)
def _layer(layer: LayerConfig) -> Specs:
    epsilon, learned = layer.number("epsilon"), layer.flags("scale", "center")
    axes = layer.axes(layer.config["axis"])

    def made(count: int) -> L.LayerSpec:
        return L.LayerNorm(count, epsilon, **learned)

    return _laid_out(layer, axes, made) if len(axes) > 1 else _normed(layer, made)


@rule("GroupNormalization", "groups axis epsilon scale center", arguments="inputs")
def _group(layer: LayerConfig) -> Specs:
    learned = layer.flags("scale", "center")
    groups, epsilon = layer.config["groups"], layer.number("epsilon")

    def made(count: int) -> L.LayerSpec:
        return L.LayerNorm(count, epsilon, groups=count if groups == -1 else groups, **learned)

    return _normed(layer, made)


@rule("RMSNormalization", "axis epsilon", arguments="x")
def _rms(layer: LayerConfig) -> Specs:
    rank, axes = len(layer.shape), layer.axes(layer.config["axis"])
    # Keras 3.15 multiplies by the scale along the last axes, whatever axis is normalised
    # (keras/src/ops/nn.py, _rms_normalization)
    if axes != {*range(rank - len(axes), rank)}:
        got = (
            f"axis={layer.config['axis']}, where backends of Keras differ in the axis of the scale"
        )
        raise layer.refused("the last axes, in their order", got)
    epsilon = layer.number("epsilon")
    if len(axes) > 1:
        return _laid_out(layer, axes, lambda count: L.RMSNorm(count, epsilon))
    return L.RMSNorm(layer.features(), epsilon)


@rule("UnitNormalization", "axis", arguments="inputs")
def _unit(layer: LayerConfig) -> Specs:
    axes = layer.axes(layer.config["axis"])
    spec = L.UnitNorm(layer.reader.era.length_floor)
    if len(axes) > 1:
        return _laid_out(layer, axes, lambda _count: spec)
    (axis,) = axes
    moved = swapped(axis, len(layer.shape))
    return [moved[0], spec, moved[1]] if moved else spec


@rule("Normalization", "axis invert mean variance", arguments="inputs")
def _normalization(layer: LayerConfig) -> Specs:
    """Uses statistics of some axes, or of all numbers together; they may be in the config."""
    invert, config, rank = layer.flag("invert", False), layer.config, len(layer.shape)
    axes = layer.axes([] if config["axis"] is None else config["axis"])
    if config.get("mean") is not None or config.get("variance") is not None:
        return _normalized(layer, axes, invert)
    if not axes:
        return [L.ExpandDims(rank), L.Normalization(1, invert), L.Squeeze(rank)]
    if len(axes) > 1:
        return _laid_out(layer, axes, lambda count: L.Normalization(count, invert))
    return _normed(layer, lambda count: L.Normalization(count, invert))


def _normalized(layer: LayerConfig, axes: set[int], invert: bool) -> Specs:
    """Uses a mean and a variance of the config, as constants; Keras 3 stores them in float32."""
    config, shape = layer.config, layer.shape
    wide = layer.reader.major < 3 and dtype_policy(config.get("dtype")) == "float64"
    found: list[L.Constant] = []
    first = min(axes, default=len(shape) - 1)
    stretched = tuple((shape[n] or 0) if n in axes else 1 for n in range(first, len(shape)))
    for key in ("mean", "variance"):
        count = math.prod(stretched)
        values, _ = array_of(config[key]) or ((layer.number(key),), ())
        values = values * count if len(values) == 1 else values
        if not 0 < len(values) == count <= CONSTANT_MOST:
            want = f"a number for each of {CONSTANT_MOST} places at most"
            raise layer.refused(want, f"{len(values)} of {key}")
        how = {"mean": ("subtract", "add"), "variance": ("divide", "multiply")}[key][invert]
        values = values if wide else tuple(c_float(value).value for value in values)
        values = values if key == "mean" else tuple(max(math.sqrt(v), 1e-7) for v in values)
        found.append(L.Constant(how, values, stretched))
    return found[::-1] if invert else found
