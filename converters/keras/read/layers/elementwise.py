"""Reads configs of layers that work on every number alone, and of norms; no framework.

In: the options of a config. Out: specs.

    LayerNormalization() on 3 features    LayerNorm(features=3, epsilon=0.001)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import c_float
from functools import partial
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.layers.elementwise import AUGMENTATIONS
from xlstm.ir.layers.operations import CONSTANT_MOST
from xlstm.ir.types import Shape

from ..context import LIMITS, Config, LayerRule, ReadContext, dtype_policy
from .options import (
    array_of,
    features,
    flag,
    is_first,
    keys,
    laid_last,
    number,
    place,
    said_where,
    swapped,
)


def _embedding(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    mask = flag({"mask_zero": False, **config}, "mask_zero")
    return L.Embedding(config["input_dim"], config["output_dim"], mask)


def _einsum(config: Config, shape: Shape, reader: ReadContext) -> L.LayerSpec:
    """Reads an EinsumDense over the last axis, which is a Dense."""
    where, equation = said_where(reader, config), str(config["equation"])
    sizes = config["output_shape"]
    size = sizes[-1] if isinstance(sizes, (list, tuple)) else sizes
    left, _, out = equation.partition("->")
    data, _, kernel = left.partition(",")
    plain = len(kernel) == 2 and data.endswith(kernel[0]) and out == data[:-1] + kernel[1]
    bias = config.get("bias_axes")
    if not plain or kernel[0] in data[:-1] or kernel[1] in data or bias not in (None, kernel[1]):
        raise UnsupportedError(where, "EinsumDense like ...x,xy->...y", equation[:60], LIMITS)
    activation = reader.activation(config["activation"], where)
    return L.Dense(features(shape, where), size, activation, use_bias=bias is not None)


def _dropout(config: Config, _shape: Shape, reader: ReadContext) -> L.LayerSpec:
    if config.get("noise_shape") is not None:
        got = f"noise_shape={config['noise_shape']}"
        raise UnsupportedError(said_where(reader, config), "noise_shape=None", got, LIMITS)
    return L.Dropout(config["rate"])


def _training(
    config: Config, _shape: Shape, _reader: ReadContext, name: str, key: str
) -> L.LayerSpec:
    return L.TrainingOnly(name, number(config, key) if key else 0.0)


def _augmentation(config: Config, shape: Shape, reader: ReadContext, name: str) -> L.LayerSpec:
    """Changes images in training only, in every Keras: with training=False it is the identity."""
    reader.note(
        f"{said_where(reader, config)}: {name} acts in training only; ports to other frameworks "
        "leave it out, and in Keras 3 model(x) is training where it does not say training=False"
    )
    if name in KERAS2_ONLY:
        return L.Activation("linear")
    if name == "RandomCrop":
        _check_crop(config, shape, reader)
    given = {
        key: config[key] for key in sorted(L.Augmentation.NAMES) if config.get(key) is not None
    }
    if not is_first(config):
        given.pop("data_format", None)
    options = (f"{key}={_plain_option(key, value)!r}" for key, value in given.items())
    return L.Augmentation(name, tuple(options))


def _plain_option(key: str, value: Any) -> Any:
    """Returns an option as its constructor takes it."""
    value = tuple(value) if isinstance(value, (list, tuple)) else value
    # Keras 3.15 rejects the pair that RandomShear makes of a number
    even = key.endswith("factor") and isinstance(value, tuple) and len(value) == 2
    return value[1] if even and value[0] == -value[1] else value


def _check_crop(config: Config, shape: Shape, reader: ReadContext) -> None:
    """Raises UnsupportedError for a crop that changes the image.

    Keras 3.15 leaves images alone (random_crop.py, transform_images); others cut and resize them.
    """
    space = shape[1:] if is_first(config) else shape[:2]
    wanted = (config["height"], config["width"])
    if len(shape) != 3 or tuple(space) != wanted:
        want = f"images of the size {wanted} that it crops to"
        got = f"{tuple(space)}: versions of Keras differ in what they make of these"
        raise UnsupportedError(said_where(reader, config), want, got, LIMITS)


KERAS2_ONLY = ("RandomHeight", "RandomWidth")
"""Layers that Keras 3 does not have."""


def _activity(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.TrainingOnly("ActivityRegularization", number({"l1": 0.0, **config}, "l1"))


def _relu(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    top = None if config.get("max_value") is None else number(config, "max_value")
    slopes = {"negative_slope": 0.0, "threshold": 0.0, **_without_none(config)}
    return L.Relu(top, number(slopes, "negative_slope"), number(slopes, "threshold"))


def _without_none(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _leaky(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Relu(slope=number(config, "negative_slope" if "negative_slope" in config else "alpha"))


def _thresholded(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Relu(threshold=number(config, "theta"))


def _prelu(config: Config, shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    axes = config.get("shared_axes") or []
    shared = {place(axis, len(shape)) for axis in ([axes] if type(axes) is int else axes)}
    return L.PRelu(tuple(1 if n in shared else size for n, size in enumerate(shape)))


def _elu(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Elu(number({"alpha": 1.0, **config}, "alpha"))


def _axes(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _softmax(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    axes = {place(axis, len(shape)) for axis in _axes(config["axis"])}
    if len(axes) == 1:
        (axis,) = axes
        return [L.Softmax(-1 if axis == len(shape) - 1 else axis)]
    return _laid_out(config, shape, reader, axes, lambda _count: L.Softmax(-1))


def _laid_out(
    config: Config,
    shape: Shape,
    reader: ReadContext,
    axes: set[int],
    made: Callable[[int], L.LayerSpec],
) -> Sequence[L.LayerSpec]:
    """Returns the specs of a layer for the last axis, after joining axes of a sample."""
    laid = laid_last(sorted(axes), shape)
    if laid is None:
        where, got = said_where(reader, config), f"axis={config['axis']} of {shape}"
        raise UnsupportedError(where, "axes of known sizes, one other at most not", got, LIMITS)
    there, count, back = laid
    return [*there, made(count), *back]


def _activation(config: Config, _shape: Shape, reader: ReadContext) -> L.LayerSpec:
    return L.Activation(reader.activation(config["activation"], said_where(reader, config)))


def _identity(_config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Activation("linear")


def _rescaling(config: Config, _shape: Shape, _reader: ReadContext) -> Sequence[L.LayerSpec]:
    offset = config.get("offset", 0.0)
    scales, offsets = array_of(config["scale"]), array_of(offset)
    if scales is None and offsets is None:
        return [L.Affine(number(config, "scale"), number({"offset": offset}, "offset"))]
    first = L.Constant("multiply", *scales) if scales else L.Affine(number(config, "scale"))
    last = L.Constant("add", *offsets) if offsets else L.Affine(1.0, number(config, "offset"))
    return [first, *([last] if offsets or config.get("offset") else [])]


def _along(
    axis: Any, shape: Shape, where: str, made: Callable[[int], L.LayerSpec]
) -> Sequence[L.LayerSpec]:
    """Returns the specs of a layer for one axis, moved to the last place and back."""
    axes = _axes(axis)
    if len(axes) != 1:
        raise UnsupportedError(where, "one axis", f"axis={axis}", LIMITS)
    found = place(axes[0], len(shape))
    spec = made(features((shape[found],), where))
    moved = swapped(found, len(shape))
    return [moved[0], spec, moved[1]] if moved else [spec]


def _batch(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    where, epsilon = said_where(reader, config), number(config, "epsilon")
    if config.get("mode", 0) != 0:
        got = f"mode={config['mode']}"
        raise UnsupportedError(where, "statistics kept from training (mode=0)", got, LIMITS)
    if reader.major == 2 and len(shape) == 3 and epsilon < LOWEST:
        got = f"epsilon={epsilon}, which some versions of TensorFlow raise to {LOWEST}"
        raise UnsupportedError(where, f"an epsilon from {LOWEST} on", got, LIMITS)
    options = {"scale": True, "center": True, **config}
    return _along(
        config["axis"],
        shape,
        where,
        lambda count: L.BatchNorm(
            count,
            epsilon,
            number(config, "momentum"),
            scale=flag(options, "scale"),
            center=flag(options, "center"),
        ),
    )


LOWEST = 1.001e-5


def _layer(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    where, epsilon = said_where(reader, config), number(config, "epsilon")
    scale, center = flag(config, "scale"), flag(config, "center")
    axes = {place(axis, len(shape)) for axis in _axes(config["axis"])}

    def made(count: int) -> L.LayerSpec:
        return L.LayerNorm(count, epsilon, scale=scale, center=center)

    if len(axes) > 1:
        return _laid_out(config, shape, reader, axes, made)
    return _along(config["axis"], shape, where, made)


def _group(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    scale, center = flag(config, "scale"), flag(config, "center")
    groups, epsilon = config["groups"], number(config, "epsilon")

    def made(count: int) -> L.LayerSpec:
        own = count if groups == -1 else groups
        return L.LayerNorm(count, epsilon, scale=scale, center=center, groups=own)

    return _along(config["axis"], shape, said_where(reader, config), made)


def _unit(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    axes = {place(axis, len(shape)) for axis in _axes(config["axis"])}
    spec = L.UnitNorm(reader.era.length_floor)
    if len(axes) > 1:
        return _laid_out(config, shape, reader, axes, lambda _count: spec)
    (axis,) = axes
    moved = swapped(axis, len(shape))
    return [moved[0], spec, moved[1]] if moved else [spec]


def _normalization(config: Config, shape: Shape, reader: ReadContext) -> Sequence[L.LayerSpec]:
    """Uses statistics of some axes, or of all numbers together; they may be in the config."""
    invert = flag({"invert": False, **config}, "invert")
    kept = config["axis"]
    axes = {place(axis, len(shape)) for axis in _axes([] if kept is None else kept)}
    if config.get("mean") is not None or config.get("variance") is not None:
        return _normalized(config, shape, reader, axes, invert)
    if not axes:
        return [L.ExpandDims(len(shape)), L.Normalization(1, invert), L.Squeeze(len(shape))]
    if len(axes) > 1:
        return _laid_out(config, shape, reader, axes, lambda n: L.Normalization(n, invert))
    where = said_where(reader, config)
    return _along(kept, shape, where, lambda count: L.Normalization(count, invert))


def _normalized(
    config: Config, shape: Shape, reader: ReadContext, axes: set[int], invert: bool
) -> Sequence[L.LayerSpec]:
    """Uses a mean and a variance of the config, as constants; Keras 3 stores them in float32."""
    wide = reader.major < 3 and dtype_policy(config.get("dtype")) == "float64"
    found: list[L.Constant] = []
    first = min(axes, default=len(shape) - 1)
    stretched = tuple((shape[n] or 0) if n in axes else 1 for n in range(first, len(shape)))
    for key in ("mean", "variance"):
        count = math.prod(stretched)
        values, _ = array_of(config[key]) or ((number(config, key),), ())
        values = values * count if len(values) == 1 else values
        if not 0 < len(values) == count <= CONSTANT_MOST:
            where, got = said_where(reader, config), f"{len(values)} of {key}"
            want = f"a number for each of {CONSTANT_MOST} places at most"
            raise UnsupportedError(where, want, got, LIMITS)
        how = {"mean": ("subtract", "add"), "variance": ("divide", "multiply")}[key][invert]
        values = values if wide else tuple(c_float(value).value for value in values)
        values = values if key == "mean" else tuple(max(math.sqrt(v), 1e-7) for v in values)
        found.append(L.Constant(how, values, stretched))
    return found[::-1] if invert else found


def _noises() -> dict[str, LayerRule]:
    named = {f"SpatialDropout{rank}D": "rate" for rank in (1, 2, 3)}
    named |= {"GaussianNoise": "stddev", "GaussianDropout": "rate", "AlphaDropout": "rate"}
    quiet = keys("seed noise_shape data_format dim_ordering")
    return {
        name: LayerRule(partial(_training, name=name, key=key), keys(key), quiet)
        for name, key in named.items()
    }


ONE = ("inputs",)

RULES: dict[str, LayerRule] = {
    "Embedding": LayerRule(
        _embedding,
        keys("input_dim output_dim mask_zero"),
        keys("input_length sparse dropout weights lora_rank lora_alpha"),
        {"quantization_config": None},
        ONE,
    ),
    "EinsumDense": LayerRule(
        _einsum,
        keys("equation output_shape activation bias_axes"),
        keys("lora_rank lora_alpha"),
        {"quantization_config": None},
        ONE,
    ),
    "Dropout": LayerRule(_dropout, keys("rate noise_shape"), keys("seed")),
    **_noises(),
    **{
        name: LayerRule(
            partial(_augmentation, name=name),
            L.Augmentation.NAMES,
            keys("seed rng_type bounding_box_format"),
        )
        for name in (*AUGMENTATIONS, *KERAS2_ONLY)
    },
    "ActivityRegularization": LayerRule(_activity, keys("l1 l2"), arguments=ONE),
    "Activation": LayerRule(_activation, keys("activation"), arguments=ONE),
    "Identity": LayerRule(_identity, frozenset(), arguments=ONE),
    "ReLU": LayerRule(_relu, keys("max_value negative_slope threshold"), arguments=ONE),
    "LeakyReLU": LayerRule(_leaky, keys("alpha negative_slope"), arguments=ONE),
    "ThresholdedReLU": LayerRule(_thresholded, keys("theta"), arguments=ONE),
    "PReLU": LayerRule(_prelu, keys("shared_axes"), arguments=ONE),
    "ELU": LayerRule(_elu, keys("alpha"), arguments=ONE),
    "Softmax": LayerRule(_softmax, keys("axis"), arguments=("inputs", "mask")),
    "Rescaling": LayerRule(_rescaling, keys("scale offset"), arguments=ONE),
    "BatchNormalization": LayerRule(
        _batch,
        keys("axis epsilon momentum scale center mode"),
        keys("fused synchronized beta_init gamma_init renorm_clipping renorm_momentum"),
        {"renorm": False, "virtual_batch_size": None},
        ("inputs", "training", "mask"),
    ),
    "LayerNormalization": LayerRule(
        _layer, keys("axis epsilon scale center"), only={"rms_scaling": False}, arguments=ONE
    ),
    "GroupNormalization": LayerRule(
        _group, keys("groups axis epsilon scale center"), arguments=ONE
    ),
    "UnitNormalization": LayerRule(_unit, keys("axis"), arguments=ONE),
    "Normalization": LayerRule(_normalization, keys("axis invert mean variance"), arguments=ONE),
}
"""Keras class name -> the rule that reads its config."""
