"""Reads configs of layers that slide windows: convolutions, pools, padding; no framework.

In: the options of a config. Out: specs.

    Conv1D(4, 2) on 3 channels           Conv(features=3, units=4, window=(2,))
    with data_format="channels_first"    the same between two Permute((2, 1))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.types import Shape

from ..context import LIMITS, Config, LayerRule, ReadContext
from .options import features, flag, is_first, keys, said_where, sizes, to_first, to_last
from .theano_padding import check_pool, check_same, is_theano, padded

Made = Callable[[Shape], list[L.LayerSpec]]


def _around(config: Config, shape: Shape, rank: int, made: Made) -> list[L.LayerSpec]:
    """Returns the specs of a layer; channels first are moved to the last axis and back."""
    if not is_first(config):
        return made(shape)
    last = to_last(rank)
    return [last, *made(last.output_shape(shape)), to_first(rank)]


def _window(config: Config, rank: int) -> dict[str, Any]:
    padding = config.get("padding", "valid")
    if not isinstance(padding, str):
        raise TypeError(f"padding={padding!r}")
    return {
        "strides": sizes(config.get("strides", 1), rank),
        "padding": padding.lower(),
        "dilation": sizes(config.get("dilation_rate", 1), rank),
    }


def _kernel(config: Config, rank: int) -> tuple[int, ...]:
    if "kernel_size" in config:
        return sizes(config["kernel_size"], rank)
    names = ("nb_row", "nb_col") if rank == 2 else ("kernel_dim1", "kernel_dim2", "kernel_dim3")
    return sizes([config[name] for name in names], rank)  # Keras 1


def _convolution(
    config: Config,
    shape: Shape,
    reader: ReadContext,
    rank: int,
    made: Callable[[Shape, str], list[L.LayerSpec]],
    *,
    reshaped: bool = False,
) -> Sequence[L.LayerSpec]:
    """A convolution; its activation follows the move of the channels back.

    `reshaped`: Keras reshapes the bias, so that it is added along the channels.
    """
    where = said_where(reader, config)
    activation = reader.activation(config["activation"], where)
    if not is_first(config):
        return made(shape, activation)
    specs = _around(config, shape, rank, lambda s: made(s, "linear"))
    last = shape
    for spec in specs:
        last = spec.output_shape(last)
    wrong = flag(config, "use_bias") and not reshaped and last[-1] in (None, last[0])
    if wrong and reader.era.adds_bias_last:
        want = "channels_first where the last axis is not as long as there are filters"
        got = f"output {last}: Keras from 3.7 on adds the bias along the last axis there"
        raise UnsupportedError(where, want, got, LIMITS)
    return specs if activation == "linear" else [*specs, L.Activation(activation)]


def _conv(config: Config, shape: Shape, reader: ReadContext, rank: int) -> Sequence[L.LayerSpec]:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        found = L.Conv(
            features(shape, said_where(reader, config)),
            config["filters"],
            _kernel(config, rank),
            activation,
            groups=config.get("groups", 1),
            use_bias=flag(config, "use_bias"),
            **_window(config, rank),
        )
        return padded(reader, found, said_where(reader, config))

    return _convolution(config, shape, reader, rank, made)


def _conv_transpose(
    config: Config, shape: Shape, reader: ReadContext, rank: int
) -> Sequence[L.LayerSpec]:
    where = said_where(reader, config)
    given = config.get("output_padding")

    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        more = None if given is None else sizes(given, rank)
        found = L.ConvTranspose(
            features(shape, where),
            config["filters"],
            _kernel(config, rank),
            activation,
            output_padding=_told(config, shape, reader) if "output_shape" in config else more,
            use_bias=flag(config, "use_bias"),
            **_window(config, rank),
        )
        check_same(reader, found.window, found.strides, found.padding, where)
        return [found]

    return _convolution(config, shape, reader, rank, made, reshaped=True)


def _told(config: Config, shape: Shape, reader: ReadContext) -> tuple[int, ...] | None:
    """Returns the output_padding for the output_shape option of Keras 1."""
    where, told = said_where(reader, config), config["output_shape"]
    space = told[2:] if is_first(config) else told[1:-1]
    axes = [*zip(shape, space, _kernel(config, 2), sizes(config["strides"], 2), strict=False)]
    if reader.major > 1 or any(type(n) is not int or not size for size, n, *_ in axes):
        raise UnsupportedError(where, "an output_shape of known sizes", f"{told}", LIMITS)
    if is_theano(reader, where):
        raise UnsupportedError(where, "a model that TensorFlow computed", "Theano", LIMITS)
    if config.get("padding") == "same":
        plain = [size * step for size, _, _, step in axes if size]
        least = [(size - 1) * step + window % 2 for size, _, window, step in axes if size]
    else:
        plain = [(size - 1) * step + max(window, step) for size, _, window, step in axes if size]
        least = [(size - 1) * step + window for size, _, window, step in axes if size]
    found = [n for _, n, *_ in axes]
    return None if found == plain else tuple(n - m for n, m in zip(found, least, strict=True))


def _depthwise(
    config: Config, shape: Shape, reader: ReadContext, rank: int
) -> Sequence[L.LayerSpec]:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        found = L.DepthwiseConv(
            features(shape, said_where(reader, config)),
            config["depth_multiplier"],
            _kernel(config, rank),
            activation,
            use_bias=flag(config, "use_bias"),
            **_window(config, rank),
        )
        where = said_where(reader, config)
        check_same(reader, found.window, found.strides, found.padding, where)
        return [found]

    return _convolution(config, shape, reader, rank, made)


def _separable(
    config: Config, shape: Shape, reader: ReadContext, rank: int
) -> Sequence[L.LayerSpec]:
    def made(shape: Shape, activation: str) -> list[L.LayerSpec]:
        count, times = features(shape, said_where(reader, config)), config["depth_multiplier"]
        apart = L.DepthwiseConv(
            count, times, _kernel(config, rank), use_bias=False, **_window(config, rank)
        )
        where = said_where(reader, config)
        check_same(reader, apart.window, apart.strides, apart.padding, where)
        ones = (1,) * rank
        mixed = L.Conv(
            count * times,
            config["filters"],
            ones,
            activation,
            strides=ones,
            dilation=ones,
            use_bias=flag(config, "use_bias"),
        )
        return [apart, mixed]

    return _convolution(config, shape, reader, rank, made)


def _pool(
    config: Config, shape: Shape, reader: ReadContext, rank: int, how: str
) -> Sequence[L.LayerSpec]:
    window = sizes(config["pool_size"], rank)
    strides = config.get("strides")
    strides = window if strides is None else sizes(strides, rank)
    pool = L.Pool(how, window, strides, str(config.get("padding", "valid")).lower())
    check_pool(reader, window, strides, pool.padding, said_where(reader, config))
    return _around(config, shape, rank, lambda _shape: [pool])


def _global(
    config: Config, _shape: Shape, _reader: ReadContext, rank: int, how: str
) -> Sequence[L.LayerSpec]:
    keep = bool(config.get("keepdims", False))
    first = is_first(config)
    before: list[L.LayerSpec] = [to_last(rank)] * first
    return [*before, L.GlobalPool(how, keep), *([to_first(rank)] if first and keep else [])]


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


def _pad(config: Config, shape: Shape, _reader: ReadContext, rank: int) -> Sequence[L.LayerSpec]:
    spec = L.Pad(*_pairs(config["padding"], rank))
    return _around(config, shape, rank, lambda _shape: [spec])


def _crop(config: Config, shape: Shape, _reader: ReadContext, rank: int) -> Sequence[L.LayerSpec]:
    spec = L.Crop(*_pairs(config["cropping"], rank))
    return _around(config, shape, rank, lambda _shape: [spec])


def _up(config: Config, shape: Shape, _reader: ReadContext, rank: int) -> Sequence[L.LayerSpec]:
    spec = L.UpSample(sizes(config["size"], rank))
    return _around(config, shape, rank, lambda _shape: [spec])


CONV = keys("activation use_bias strides padding dilation_rate data_format kernel_size")

KERAS1 = keys("nb_row nb_col kernel_dim1 kernel_dim2 kernel_dim3 input_dim input_length")

OLD = KERAS1 | keys("output_shape")
"""Options of Keras 1's Deconvolution2D."""

QUIET = keys("lora_rank lora_alpha weights")
"""LoRA options: files store the merged kernel; other arrays raise an error as unused."""


def _rules(rank: int) -> dict[str, LayerRule]:
    name = f"{rank}D"
    conv = keys("filters groups") | CONV | KERAS1
    space = keys("data_format")
    only = {"quantization_config": None}
    apart = keys("depth_multiplier groups filters") | CONV
    found = {
        f"Conv{name}": LayerRule(partial(_conv, rank=rank), conv, QUIET, only),
        f"Conv{name}Transpose": LayerRule(
            partial(_conv_transpose, rank=rank),
            keys("filters output_padding") | CONV | (OLD if rank == 2 else frozenset()),
            QUIET,
            only | {"groups": 1},
        ),
        f"ZeroPadding{name}": LayerRule(partial(_pad, rank=rank), space | keys("padding")),
        f"Cropping{name}": LayerRule(partial(_crop, rank=rank), space | keys("cropping")),
        f"UpSampling{name}": LayerRule(
            partial(_up, rank=rank), space | keys("size"), only={"interpolation": "nearest"}
        ),
    }
    if rank < 3:
        found[f"DepthwiseConv{name}"] = LayerRule(
            partial(_depthwise, rank=rank), apart, QUIET, only
        )
        found[f"SeparableConv{name}"] = LayerRule(
            partial(_separable, rank=rank), apart, QUIET, only
        )
    for how, stem in (("max", "MaxPooling"), ("average", "AveragePooling")):
        pool = keys("pool_size strides padding data_format")
        found[f"{stem}{name}"] = LayerRule(
            partial(_pool, rank=rank, how=how), pool, keys("input_dim input_length")
        )
        found[f"Global{stem}{name}"] = LayerRule(
            partial(_global, rank=rank, how=how),
            keys("keepdims data_format"),
            arguments=("inputs", "mask"),
        )
    return found


RULES: dict[str, LayerRule] = {**_rules(1), **_rules(2), **_rules(3)}
"""Keras class name -> the rule that reads its config."""
