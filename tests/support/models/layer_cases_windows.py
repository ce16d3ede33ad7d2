"""Cases of layers that slide windows over space, and of those that move numbers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from layer_cases import FIRST, LAST, Case, Stage, case, first, sliding

from xlstm.ir import layers as specs
from xlstm.ir.layers import (
    Conv,
    ConvTranspose,
    Crop,
    DepthwiseConv,
    GlobalPool,
    Pad,
    Permute,
    Pool,
    Slice,
    UpSample,
)

L = keras.layers


def _conv1d(padding: str, **options: Any) -> Case:
    own = {"dilation_rate" if key == "dilation" else key: n for key, n in options.items()}
    return case(
        lambda: L.Conv1D(6, 4, padding=padding, activation="tanh", **own),
        sliding(Conv, 4, 6, (4,), "tanh", padding=padding, **options),
        (11, 4),
    )


def _channels_first(rank: int) -> Case:
    layer = (L.Conv1D, L.Conv2D, L.Conv3D)[rank - 1]
    stages = first(rank, sliding(Conv, 3, 7, (2,) * rank))
    shape = (3, 4, 5, 6)[: rank + 1]
    # seven channels, because Keras on TensorFlow adds the bias along the last axis where that is as
    # long as there are channels
    return case(lambda: layer(7, 2, data_format="channels_first"), stages, shape, compiled=True)


CONVOLUTIONS = {
    f"Conv1D-{padding}-{name}": _conv1d(padding, **options)
    for padding in ("valid", "same", "causal")
    for name, options in {
        "plain": {},
        "strides": {"strides": (3,)},
        "dilation": {"dilation": (2,)},
        "groups": {"groups": 2},
        "no-bias": {"use_bias": False},
    }.items()
} | {
    "Conv2D": case(lambda: L.Conv2D(5, (3, 2)), sliding(Conv, 3, 5, (3, 2)), (7, 6, 3)),
    "Conv2D-same-strides": case(
        lambda: L.Conv2D(5, (3, 2), strides=(2, 3), padding="same", activation="relu"),
        sliding(Conv, 3, 5, (3, 2), "relu", strides=(2, 3), padding="same"),
        (8, 7, 3),
    ),
    "Conv2D-strides-past-window": case(
        lambda: L.Conv2D(5, 1, strides=4, padding="same"),
        sliding(Conv, 3, 5, (1, 1), strides=(4, 4), padding="same"),
        (6, 9, 3),
    ),
    "Conv2D-dilation": case(
        lambda: L.Conv2D(5, (3, 2), dilation_rate=(2, 3), padding="same"),
        sliding(Conv, 3, 5, (3, 2), dilation=(2, 3), padding="same"),
        (8, 7, 3),
    ),
    "Conv2D-softmax": case(
        lambda: L.Conv2D(5, 2, activation="softmax"),
        sliding(Conv, 3, 5, (2, 2), "softmax"),
        (4, 5, 3),
    ),
    "Conv3D-same-strides": case(
        lambda: L.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), padding="same"),
        sliding(Conv, 2, 3, (2, 3, 2), strides=(1, 2, 1), padding="same"),
        (4, 5, 6, 2),
    ),
    "Conv3D-groups": case(
        lambda: L.Conv3D(4, 2, groups=2), sliding(Conv, 2, 4, (2, 2, 2), groups=2), (4, 5, 6, 2)
    ),
    "Conv2D-channels_first-softmax": case(
        lambda: L.Conv2D(7, 2, data_format="channels_first", activation="softmax"),
        (*first(2, sliding(Conv, 3, 7, (2, 2))), specs.Activation("softmax")),
        (3, 4, 5),
        compiled=True,
    ),
    **{f"Conv{rank}D-channels_first": _channels_first(rank) for rank in (1, 2, 3)},
}


def _transposed(rank: int, window: Any, **options: Any) -> Case:
    """Of one axis after another, small sizes; Keras's words for the options."""
    layer = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)[rank - 1]
    many = {name: n for name, n in options.items() if name not in ("padding", "use_bias")}
    activation = many.pop("activation", "linear")
    own = {name: n if isinstance(n, tuple) else (n,) * rank for name, n in many.items()}
    dilation = own.pop("dilation_rate", (1,) * rank)
    rest = {name: options[name] for name in ("padding", "use_bias") if name in options}
    windows = window if isinstance(window, tuple) else (window,) * rank
    spec = sliding(ConvTranspose, 3, 5, windows, activation, dilation=dilation, **own, **rest)
    return case(
        lambda: layer(5, window, **options),
        spec,
        (*(4, 5, 3)[:rank], 3),
        compiled=max(dilation) > 1,
    )


TRANSPOSED = {
    **{
        f"Conv1DTranspose-{padding}-{window}-{stride}": _transposed(
            1, window, strides=stride, padding=padding
        )
        for padding in ("valid", "same")
        for window in (1, 2, 3, 4, 5)
        for stride in (1, 2, 3)
    },
    **{
        f"Conv1DTranspose-{padding}-{window}-{stride}-more-{more}": _transposed(
            1, window, strides=stride, padding=padding, output_padding=more
        )
        for padding, window, stride, more in (
            ("valid", 3, 2, 0),
            ("valid", 2, 3, 0),
            ("valid", 2, 3, 2),
            ("same", 3, 1, 0),
            ("same", 3, 2, 0),
            ("same", 3, 2, 1),
            ("same", 4, 2, 1),
            ("same", 5, 3, 2),
            ("same", 1, 3, 1),
        )
    },
    "Conv1DTranspose-dilation": _transposed(1, 3, dilation_rate=2, padding="valid"),
    "Conv1DTranspose-same-dilation": _transposed(1, 2, dilation_rate=3, padding="same"),
    "Conv1DTranspose-no-bias": _transposed(1, 3, use_bias=False, activation="tanh"),
    "Conv2DTranspose": _transposed(2, (3, 2), activation="relu"),
    "Conv2DTranspose-same": _transposed(2, (3, 4), strides=(2, 3), padding="same"),
    "Conv2DTranspose-more": _transposed(
        2, (3, 2), strides=(2, 3), padding="same", output_padding=(1, 2)
    ),
    "Conv2DTranspose-dilation": _transposed(2, (3, 2), dilation_rate=(1, 2), padding="same"),
    "Conv2DTranspose-softmax": _transposed(2, 2, strides=2, activation="softmax"),
    "Conv3DTranspose": _transposed(3, (2, 3, 1), strides=(1, 2, 2), padding="same"),
    **{
        f"Conv{rank}DTranspose-channels_first": case(
            lambda layer=layer: layer(
                7, 3, strides=2, padding="same", activation="softmax", data_format="channels_first"
            ),
            (
                *first(
                    rank,
                    sliding(ConvTranspose, 3, 7, (3,) * rank, strides=(2,) * rank, padding="same"),
                ),
                specs.Activation("softmax"),
            ),
            (3, 4, 5)[: rank + 1],
            compiled=True,
        )
        for rank, layer in enumerate((L.Conv1DTranspose, L.Conv2DTranspose), 1)
    },
}


def _separable(spec: DepthwiseConv, units: int, activation: str) -> tuple[Stage, ...]:
    point = sliding(
        Conv, spec.features * spec.multiplier, units, (1,) * len(spec.window), activation
    )
    stages = {"depthwise_kernel": spec, "pointwise_kernel": point}
    return tuple(Stage(stage, {"kernel": name}) for name, stage in stages.items())


DEPTHWISE = {
    "DepthwiseConv1D-strides": case(
        lambda: L.DepthwiseConv1D(3, depth_multiplier=2, strides=2, activation="relu"),
        sliding(DepthwiseConv, 4, 2, (3,), "relu", strides=(2,)),
        (9, 4),
    ),
    "DepthwiseConv1D-strides-dilation": case(
        lambda: L.DepthwiseConv1D(3, strides=2, dilation_rate=2, padding="same"),
        sliding(DepthwiseConv, 4, 1, (3,), strides=(2,), dilation=(2,), padding="same"),
        (10, 4),
    ),
    "DepthwiseConv2D-same-strides": case(
        lambda: L.DepthwiseConv2D((3, 2), depth_multiplier=3, strides=2, padding="same"),
        sliding(DepthwiseConv, 2, 3, (3, 2), strides=(2, 2), padding="same"),
        (7, 6, 2),
    ),
    "DepthwiseConv2D-no-bias": case(
        lambda: L.DepthwiseConv2D(2, use_bias=False, dilation_rate=2),
        sliding(DepthwiseConv, 3, 1, (2, 2), use_bias=False, dilation=(2, 2)),
        (7, 6, 3),
    ),
    "DepthwiseConv2D-channels_first": case(
        lambda: L.DepthwiseConv2D(2, depth_multiplier=2, data_format="channels_first"),
        first(2, sliding(DepthwiseConv, 3, 2, (2, 2))),
        (3, 4, 5),
    ),
    "SeparableConv1D": case(
        lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, padding="same", activation="tanh"),
        _separable(sliding(DepthwiseConv, 3, 2, (3,), padding="same", use_bias=False), 5, "tanh"),
        (8, 3),
    ),
    "SeparableConv2D-strides": case(
        lambda: L.SeparableConv2D(5, 2, strides=2, depth_multiplier=2),
        _separable(
            sliding(DepthwiseConv, 3, 2, (2, 2), strides=(2, 2), use_bias=False), 5, "linear"
        ),
        (6, 7, 3),
    ),
}

POOLS = {
    ("max", 1): (L.MaxPooling1D, L.GlobalMaxPooling1D),
    ("max", 2): (L.MaxPooling2D, L.GlobalMaxPooling2D),
    ("max", 3): (L.MaxPooling3D, L.GlobalMaxPooling3D),
    ("average", 1): (L.AveragePooling1D, L.GlobalAveragePooling1D),
    ("average", 2): (L.AveragePooling2D, L.GlobalAveragePooling2D),
    ("average", 3): (L.AveragePooling3D, L.GlobalAveragePooling3D),
}
SHAPE = (7, 6, 5)


def _pools(how: str, rank: int) -> dict[str, Case]:
    some, whole = POOLS[how, rank]
    shape = (*SHAPE[:rank], 3)
    found = {
        f"{some.__name__}-{padding}-{window}-{stride}": case(
            lambda options=(window, stride, padding): some(*options),
            Pool(how, (window,) * rank, (stride,) * rank, padding),
            shape,
            compiled=(how, rank) == ("average", 3),
            single=(how, rank) == ("max", 3),
        )
        for padding in ("valid", "same")
        for window, stride in ((3, 2), (2, 1), (2, 3))
    }
    found[f"{some.__name__}-channels_first"] = case(
        lambda: some(2, data_format="channels_first"),
        first(rank, Pool(how, (2,) * rank, (2,) * rank)),
        shape,
        compiled=(how, rank) == ("average", 3),
        single=(how, rank) == ("max", 3),
    )
    for keep in (False, True):
        name = f"{whole.__name__}-{'keepdims' if keep else 'plain'}"
        spec, back = GlobalPool(how, keep), (FIRST[rank],) if keep else ()
        found[name] = case(lambda keep=keep: whole(keepdims=keep), spec, shape)
        found[f"{name}-channels_first"] = case(
            lambda keep=keep: whole("channels_first", keep), (LAST[rank], spec, *back), shape
        )
        if (how, rank) == ("average", 1):
            found[f"{name}-mask"] = case(
                lambda keep=keep: whole(keepdims=keep), spec, shape, masks="0"
            )
    return found


def _item(parts: Any, spec: specs.LayerSpec) -> Case:
    return case(lambda: lambda x: x[parts], spec, (5, 3), exact=True)


def _move(make: Any, stages: Any, *shape: int) -> Case:
    return case(make, stages, shape, exact=True)


MOVES = {
    "ZeroPadding1D": _move(lambda: L.ZeroPadding1D((1, 2)), Pad((1,), (2,)), 5, 3),
    "ZeroPadding2D": _move(lambda: L.ZeroPadding2D(((0, 2), (1, 3))), Pad((0, 1), (2, 3)), 4, 5, 3),
    "ZeroPadding2D-channels_first": _move(
        lambda: L.ZeroPadding2D(((0, 2), (1, 3)), "channels_first"),
        first(2, Pad((0, 1), (2, 3))),
        *(3, 4, 5),
    ),
    "ZeroPadding3D": _move(lambda: L.ZeroPadding3D(2), Pad((2, 2, 2), (2, 2, 2)), 2, 3, 2, 2),
    "Cropping1D": _move(lambda: L.Cropping1D((1, 0)), Crop((1,), (0,)), 5, 3),
    "Cropping2D": _move(lambda: L.Cropping2D(((1, 2), (0, 3))), Crop((1, 0), (2, 3)), 5, 6, 3),
    "Cropping2D-channels_first": _move(
        lambda: L.Cropping2D(((1, 2), (0, 3)), "channels_first"),
        first(2, Crop((1, 0), (2, 3))),
        *(3, 5, 6),
    ),
    "Cropping3D": _move(
        lambda: L.Cropping3D(((1, 0), (0, 1), (1, 1))), Crop((1, 0, 1), (0, 1, 1)), 3, 4, 5, 2
    ),
    "UpSampling1D": _move(lambda: L.UpSampling1D(3), UpSample((3,)), 4, 2),
    "UpSampling2D": _move(lambda: L.UpSampling2D((2, 3)), UpSample((2, 3)), 4, 3, 2),
    "UpSampling2D-channels_first": _move(
        lambda: L.UpSampling2D((2, 3), "channels_first"), first(2, UpSample((2, 3))), 2, 4, 3
    ),
    "UpSampling3D": _move(lambda: L.UpSampling3D(2), UpSample((2, 2, 2)), 2, 3, 4, 2),
    "Flatten": _move(L.Flatten, specs.Flatten(), 3, 4, 2),
    "Flatten-number": _move(L.Flatten, specs.Flatten()),
    "Flatten-channels_first": _move(
        lambda: L.Flatten("channels_first"), (LAST[2], specs.Flatten()), 3, 4, 2
    ),
    "Reshape": _move(lambda: L.Reshape((4, 6)), specs.Reshape((4, 6)), 3, 8),
    "Reshape-rest": _move(lambda: L.Reshape((2, -1, 3)), specs.Reshape((2, None, 3)), 4, 6),
    "Permute": _move(lambda: L.Permute((3, 1, 2)), Permute((3, 1, 2)), 2, 3, 4),
    "RepeatVector": _move(lambda: L.RepeatVector(3), specs.RepeatVector(3), 4),
    "GetItem-last": _item(np.s_[:, -1], Slice(0, -1, drop=True)),
    "GetItem-part": _item(np.s_[:, 1:4:2], Slice(0, 1, 4, 2)),
    "GetItem-reversed": _item(np.s_[:, ::-1], Slice(0, step=-1)),
    "GetItem-channels": _item(np.s_[:, :, -2:], Slice(1, -2)),
    "expand_dims": _move(lambda: lambda x: keras.ops.expand_dims(x, 2), specs.ExpandDims(1), 5, 3),
    "squeeze": _move(lambda: lambda x: keras.ops.squeeze(x, 1), specs.Squeeze(0), 1, 3),
}

WINDOWS: dict[str, Case] = CONVOLUTIONS | TRANSPOSED | DEPTHWISE | MOVES
for _how, _rank in POOLS:
    WINDOWS |= _pools(_how, _rank)
