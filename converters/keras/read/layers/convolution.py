"""Reads configs of layers that slide windows: convolutions, pools, padding; no framework.

In: the options of a config. Out: specs.

    Conv1D(4, 2) on 3 channels           Conv(features=3, units=4, window=(2,))
    with data_format="channels_first"    the same between two Permute((2, 1))

Padding of Theano differs from TensorFlow's. "same" means, for a convolution, size // 2 zeros before
and the rest of size - 1 after, for all strides. TensorFlow has one less before an even window, and
uses the strides. Pools have places before the first one that no spec has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir import layers as L
from xlstm.ir.types import Shape

from ..context import LIMITS, ReadContext
from .options import LayerConfig, Specs, rule, sizes, to_first, to_last


def is_theano(reader: ReadContext, where: str) -> bool:
    """True if Theano computed the model.

    Raises:
        UsageError: a file of Keras 1 without a backend.
    """
    backend = reader.backend
    if reader.weights_major == 1 and not backend:
        do = 'pass kernel_layout="tensorflow" or kernel_layout="theano"'
        raise UsageError(where, "a file that says which backend padded it", "no backend in it", do)
    return backend == "theano"


def _differs(window: Sequence[int], strides: Sequence[int], padding: str) -> bool:
    """True if "same" may be other places in Theano."""
    pairs = zip(window, strides, strict=True)
    return padding == "same" and any(n % 2 == 0 or (n > 1 and s > 1) for n, s in pairs)


def padded(reader: ReadContext, spec: L.Conv, where: str) -> list[L.LayerSpec]:
    """Returns a convolution, after the zeros that Theano adds where these differ.

    Raises:
        UnsupportedError: even windows with dilation.
    """
    volume = len(spec.window) == 3 and reader.major == 1  # padded as TensorFlow does
    if not _differs(spec.window, spec.strides, spec.padding) or volume:
        return [spec]
    if not is_theano(reader, where):
        return [spec]
    if {*spec.dilation} != {1}:
        raise _refused(where, spec.window)
    before = tuple(size // 2 for size in spec.window)
    after = tuple((size - 1) // 2 for size in spec.window)
    plain = {name: getattr(spec, name) for name in ("strides", "dilation", "groups", "use_bias")}
    return [
        L.Pad(before, after),
        L.Conv(spec.features, spec.units, spec.window, spec.activation, **plain),
    ]


def check_same(
    reader: ReadContext, window: Sequence[int], strides: Sequence[int], padding: str, where: str
) -> None:
    """Raises UnsupportedError for other layers where Theano pads otherwise."""
    if _differs(window, strides, padding) and is_theano(reader, where):
        raise _refused(where, window)


def check_pool(
    reader: ReadContext, window: Sequence[int], strides: Sequence[int], padding: str, where: str
) -> None:
    """Raises UnsupportedError for pools that Theano pads otherwise: all but windows of 3."""
    pairs = zip(window, strides, strict=True)
    alike = all(n == 1 or (n == 3 and s == 1) for n, s in pairs)
    if padding == "same" and not alike and is_theano(reader, where):
        raise _refused(where, window)


def _refused(where: str, window: Sequence[int]) -> UnsupportedError:
    want, got = 'padding that TensorFlow has too, not "same" as Theano does it', f"{tuple(window)}"
    return UnsupportedError(where, want, f"a window of {got}", LIMITS)


def _around(
    layer: LayerConfig, made: L.LayerSpec | Callable[[Shape], list[L.LayerSpec]]
) -> list[L.LayerSpec]:
    """Returns the specs of a layer; channels first are moved to the last axis and back."""
    rank, last = layer.rank, to_last(layer.rank)
    shape = last.output_shape(layer.shape) if layer.is_first else layer.shape
    specs = [made] if isinstance(made, L.LayerSpec) else made(shape)
    return [last, *specs, to_first(rank)] if layer.is_first else specs


def _window(layer: LayerConfig) -> dict[str, Any]:
    padding = layer.config.get("padding", "valid")
    if not isinstance(padding, str):
        raise TypeError(f"padding={padding!r}")
    return {
        "strides": sizes(layer.config.get("strides", 1), layer.rank),
        "padding": padding.lower(),
        "dilation": sizes(layer.config.get("dilation_rate", 1), layer.rank),
    }


def _kernel(layer: LayerConfig) -> tuple[int, ...]:
    config, rank = layer.config, layer.rank
    if "kernel_size" in config:
        return sizes(config["kernel_size"], rank)
    names = ("nb_row", "nb_col") if rank == 2 else ("kernel_dim1", "kernel_dim2", "kernel_dim3")
    return sizes([config[name] for name in names], rank)  # Keras 1


def _convolution(
    layer: LayerConfig,
    made: Callable[[Shape, str], list[L.LayerSpec]],
    *,
    reshaped: bool = False,
) -> Sequence[L.LayerSpec]:
    """A convolution; its activation follows the move of the channels back.

    `reshaped`: Keras reshapes the bias, so that it is added along the channels.
    """
    activation = layer.activation()
    if not layer.is_first:
        return made(layer.shape, activation)
    specs = _around(layer, lambda shape: made(shape, "linear"))
    last = layer.shape
    for spec in specs:
        last = spec.output_shape(last)
    wrong = layer.flag("use_bias") and not reshaped and last[-1] in (None, last[0])
    if wrong and layer.reader.era.adds_bias_last:
        want = "channels_first where the last axis is not as long as there are filters"
        got = f"output {last}: Keras from 3.7 on adds the bias along the last axis there"
        raise layer.refused(want, got)
    return specs if activation == "linear" else [*specs, L.Activation(activation)]


CONV = "activation use_bias strides padding dilation_rate data_format kernel_size"

KERAS1 = "nb_row nb_col kernel_dim1 kernel_dim2 kernel_dim3 input_dim input_length"

QUIET = "lora_rank lora_alpha weights"
"""LoRA options: files store the merged kernel; other arrays raise an error as unused."""

ONLY: dict[str, Any] = {"quantization_config": None}


@rule("Conv1D Conv2D Conv3D", f"filters groups {CONV} {KERAS1}", QUIET, ONLY)
def _conv(layer: LayerConfig) -> Specs:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        found = L.Conv(
            layer.features(shape),
            layer.config["filters"],
            _kernel(layer),
            activation,
            groups=layer.config.get("groups", 1),
            use_bias=layer.flag("use_bias"),
            **_window(layer),
        )
        return padded(layer.reader, found, layer.where)

    return _convolution(layer, made)


TRANSPOSED = f"filters output_padding {CONV}"


@rule("Conv1DTranspose Conv3DTranspose", TRANSPOSED, QUIET, ONLY | {"groups": 1})
# output_shape: an option of Keras 1's Deconvolution2D
@rule("Conv2DTranspose", f"{TRANSPOSED} {KERAS1} output_shape", QUIET, ONLY | {"groups": 1})
def _conv_transpose(layer: LayerConfig) -> Specs:
    config, output_padding = layer.config, layer.config.get("output_padding")

    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        more = None if output_padding is None else sizes(output_padding, layer.rank)
        found = L.ConvTranspose(
            layer.features(shape),
            config["filters"],
            _kernel(layer),
            activation,
            output_padding=_told(layer, shape) if "output_shape" in config else more,
            use_bias=layer.flag("use_bias"),
            **_window(layer),
        )
        check_same(layer.reader, found.window, found.strides, found.padding, layer.where)
        return [found]

    return _convolution(layer, made, reshaped=True)


def _told(layer: LayerConfig, shape: Shape) -> tuple[int, ...] | None:
    """Returns the output_padding for the output_shape option of Keras 1."""
    output_shape, strides = layer.config["output_shape"], sizes(layer.config["strides"], 2)
    space = output_shape[2:] if layer.is_first else output_shape[1:-1]
    axes = [*zip(shape, space, _kernel(layer), strides, strict=False)]
    if layer.reader.major > 1 or any(type(n) is not int or not size for size, n, *_ in axes):
        raise layer.refused("an output_shape of known sizes", output_shape)
    if is_theano(layer.reader, layer.where):
        raise layer.refused("a model that TensorFlow computed", "Theano")
    if layer.config.get("padding") == "same":
        plain = [size * step for size, _, _, step in axes if size]
        least = [(size - 1) * step + window % 2 for size, _, window, step in axes if size]
    else:
        plain = [(size - 1) * step + max(window, step) for size, _, window, step in axes if size]
        least = [(size - 1) * step + window for size, _, window, step in axes if size]
    found = [n for _, n, *_ in axes]
    return None if found == plain else tuple(n - m for n, m in zip(found, least, strict=True))


APART = f"depth_multiplier groups filters {CONV}"


@rule("DepthwiseConv1D DepthwiseConv2D", APART, QUIET, ONLY)
def _depthwise(layer: LayerConfig) -> Specs:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        found = L.DepthwiseConv(
            layer.features(shape),
            layer.config["depth_multiplier"],
            _kernel(layer),
            activation,
            use_bias=layer.flag("use_bias"),
            **_window(layer),
        )
        check_same(layer.reader, found.window, found.strides, found.padding, layer.where)
        return [found]

    return _convolution(layer, made)


@rule("SeparableConv1D SeparableConv2D", APART, QUIET, ONLY)
def _separable(layer: LayerConfig) -> Specs:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        count, times = layer.features(shape), layer.config["depth_multiplier"]
        window = _window(layer)
        apart = L.DepthwiseConv(count, times, _kernel(layer), use_bias=False, **window)
        check_same(layer.reader, apart.window, apart.strides, apart.padding, layer.where)
        ones, filters = (1,) * layer.rank, layer.config["filters"]
        plain: dict[str, Any] = {
            "strides": ones,
            "dilation": ones,
            "use_bias": layer.flag("use_bias"),
        }
        return [apart, L.Conv(count * times, filters, ones, activation, **plain)]

    return _convolution(layer, made)


POOLS = "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D"


def _how(layer: LayerConfig) -> str:
    return "max" if "Max" in layer.kind else "average"


@rule(POOLS, "pool_size strides padding data_format", "input_dim input_length")
def _pool(layer: LayerConfig) -> Specs:
    window, strides = sizes(layer.config["pool_size"], layer.rank), layer.config.get("strides")
    strides = window if strides is None else sizes(strides, layer.rank)
    pool = L.Pool(_how(layer), window, strides, str(layer.config.get("padding", "valid")).lower())
    check_pool(layer.reader, window, strides, pool.padding, layer.where)
    return _around(layer, pool)


@rule(
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D",
    "keepdims data_format",
    arguments="inputs mask",
)
def _global(layer: LayerConfig) -> Specs:
    keep, first = bool(layer.config.get("keepdims", False)), layer.is_first
    before: list[L.LayerSpec] = [to_last(layer.rank)] * first
    return [*before, L.GlobalPool(_how(layer), keep), *[to_first(layer.rank)] * (first and keep)]


def _pairs(value: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the places before and after each axis, from each form that Keras accepts."""
    if isinstance(value, int):
        return (value,) * rank, (value,) * rank
    if isinstance(value, (list, tuple)) and rank == 1 and len(value) == 2:
        return (value[0],), (value[1],)
    if isinstance(value, (list, tuple)) and len(value) == 4 and rank == 2:
        return (value[0], value[2]), (value[1], value[3])  # Keras 1: top, bottom, left, right
    if not isinstance(value, (list, tuple)) or len(value) != rank:
        raise TypeError(f"{value!r} places")
    both = [pair if isinstance(pair, (list, tuple)) else (pair, pair) for pair in value]
    if any(len(pair) != 2 for pair in both):
        raise TypeError(f"{value!r} places")
    return tuple(a for a, _ in both), tuple(b for _, b in both)


@rule("ZeroPadding1D ZeroPadding2D ZeroPadding3D", "data_format padding")
def _pad(layer: LayerConfig) -> Specs:
    return _around(layer, L.Pad(*_pairs(layer.config["padding"], layer.rank)))


@rule("Cropping1D Cropping2D Cropping3D", "data_format cropping")
def _crop(layer: LayerConfig) -> Specs:
    return _around(layer, L.Crop(*_pairs(layer.config["cropping"], layer.rank)))


@rule(
    "UpSampling1D UpSampling2D UpSampling3D", "data_format size", only={"interpolation": "nearest"}
)
def _up(layer: LayerConfig) -> Specs:
    return _around(layer, L.UpSample(sizes(layer.config["size"], layer.rank)))
