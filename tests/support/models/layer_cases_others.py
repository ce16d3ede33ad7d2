"""Cases of layers that work number by number, normalise, join inputs, or attend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from layer_cases import FIRST, LAST, NAMES, Case, Stage, case, sliding

from xlstm.ir import layers as specs
from xlstm.ir.layers import (
    Affine,
    Attention,
    BatchNorm,
    Dense,
    Dot,
    Embedding,
    Flatten,
    LayerNorm,
    Merge,
    MultiHeadAttention,
    Normalization,
    Permute,
    PRelu,
    Relu,
    Reshape,
    RMSNorm,
    Softmax,
    TimeDistributed,
    TrainingOnly,
    UnitNorm,
)

L = keras.layers
SWAP = Permute((2, 1))

NUMBERS = {
    "ReLU": case(L.ReLU, Relu(), (5, 3)),
    "ReLU-max": case(lambda: L.ReLU(6.0), Relu(6.0), (5, 3), kind="round"),
    "ReLU-slope": case(lambda: L.ReLU(negative_slope=0.25), Relu(slope=0.25), (5, 3)),
    "ReLU-threshold": case(
        lambda: L.ReLU(threshold=2.0), Relu(threshold=2.0), (9, 3), kind="round", exact=True
    ),
    "ReLU-all": case(
        lambda: L.ReLU(3.0, 0.25, 1.0), Relu(3.0, 0.25, 1.0), (9, 3), kind="round", exact=True
    ),
    "ReLU-max-below-threshold": case(
        lambda: L.ReLU(1.0, 0.5, 3.0), Relu(1.0, 0.5, 3.0), (9, 3), kind="round", exact=True
    ),
    "LeakyReLU": case(
        lambda: L.LeakyReLU(negative_slope=0.3), Relu(slope=0.3), (5, 3), rounded=True
    ),
    "PReLU": case(L.PReLU, PRelu((5, 3)), (5, 3)),
    "PReLU-shared": case(lambda: L.PReLU(shared_axes=[1]), PRelu((1, 3)), (5, 3)),
    "ELU": case(lambda: L.ELU(0.7), specs.Elu(0.7), (5, 3)),
    "Softmax": case(L.Softmax, Softmax(), (5, 3)),
    "Softmax-axis": case(lambda: L.Softmax(1), Softmax(0), (5, 3)),
    "Softmax-axes": case(
        lambda: L.Softmax([1, 2]), (Flatten(), Softmax(), Reshape((4, 3))), (4, 3)
    ),
    "Activation": case(lambda: L.Activation("silu"), specs.Activation("silu"), (5, 3)),
    "Rescaling": case(
        lambda: L.Rescaling(1 / 127.5, -1), Affine(1 / 127.5, -1.0), (5, 3), rounded=True
    ),
    "Dense": case(lambda: L.Dense(4, "tanh"), Dense(3, 4, "tanh"), (5, 3)),
    "Dense-no-bias": case(lambda: L.Dense(4, use_bias=False), Dense(3, 4, use_bias=False), (2, 3)),
    "EinsumDense": case(
        lambda: L.EinsumDense("...x,xy->...y", 4, bias_axes="y"), Dense(3, 4), (5, 3)
    ),
    "Embedding": case(lambda: L.Embedding(5, 4), Embedding(5, 4), (7,), kind="ids", exact=True),
    "Embedding-mask": case(
        lambda: L.Embedding(5, 4, mask_zero=True), Embedding(5, 4, True), (7,), kind="ids"
    ),
    "Embedding-words": case(
        lambda: L.Embedding(5, 4, mask_zero=True), Embedding(5, 4, True), (3, 7), kind="ids"
    ),
    "Embedding-fractions": case(
        lambda: L.Embedding(5, 4, mask_zero=True), Embedding(5, 4, True), (7,), kind="fractions"
    ),
    "Masking": case(lambda: L.Masking(1.0), specs.Masking(1.0), (9, 1), kind="round", exact=True),
    **{
        f"{layer.__name__}": case(
            lambda layer=layer: layer(0.5), TrainingOnly(layer.__name__, 0.5), shape, exact=True
        )
        for layer, shape in (
            (L.SpatialDropout1D, (5, 3)),
            (L.SpatialDropout2D, (4, 5, 3)),
            (L.SpatialDropout3D, (2, 4, 5, 3)),
            (L.GaussianNoise, (5, 3)),
            (L.GaussianDropout, (5, 3)),
            (L.AlphaDropout, (5, 3)),
            (L.ActivityRegularization, (5, 3)),
        )
    },
    "Dropout": case(lambda: L.Dropout(0.5), specs.Dropout(0.5), (5, 3), exact=True),
}


OPS = {
    **{
        name: case(lambda name=name: getattr(keras.ops, name), specs.Function(name), (5, 3))
        for name in specs.elementwise.FUNCTIONS
    },
    **{
        f"{how}{'-keepdims' if keep else ''}-{axes}": case(
            lambda how=how, axes=axes, keep=keep: (
                lambda x: getattr(keras.ops, how)(x, [axis + 1 for axis in axes], keepdims=keep)
            ),
            specs.Reduce(how, axes, keep),
            (5, 4, 3),
        )
        for how in specs.elementwise.REDUCTIONS
        for axes in ((0,), (0, 2))
        for keep in (False, True)
    },
    "not_equal": case(
        lambda: lambda x: keras.ops.not_equal(x, 1.0),
        specs.NotEqual(1.0),
        (5, 3),
        kind="round",
        exact=True,
    ),
    "clip": case(lambda: lambda x: keras.ops.clip(x, -1.0, 2.0), specs.Clip(-1.0, 2.0), (5, 3)),
    "minimum": case(lambda: lambda x: keras.ops.minimum(x, 0.5), specs.Clip(high=0.5), (5, 3)),
    "cumsum": case(lambda: lambda x: keras.ops.cumsum(x, axis=1), specs.Along("cumsum", 0), (5, 3)),
    "cumprod": case(
        lambda: lambda x: keras.ops.cumprod(x, axis=1), specs.Along("cumprod", 0), (5, 3)
    ),
    "argmax": case(
        lambda: lambda x: keras.ops.argmax(x, axis=-1),
        specs.Along("argmax", 1),
        (5, 3),
        kind="round",
    ),
    "constant": case(
        lambda: lambda x: x / np.float32([1, 2, 4]),
        specs.Constant("divide", (1.0, 2.0, 4.0), (3,)),
        (5, 3),
    ),
    "flip": case(lambda: lambda x: keras.ops.flip(x, 1), specs.Reverse(), (5, 3), exact=True),
    "line": case(lambda: lambda x: 0.5 - 2.0 * x, Affine(-2.0, 0.5), (5, 3)),
}


def _around(axis: int, spec: specs.LayerSpec) -> tuple[specs.LayerSpec, ...]:
    """A layer along axis 1 of three axes, taken apart."""
    return (LAST[2], spec, FIRST[2]) if axis == 1 else (spec,)


NORMS = {
    "BatchNormalization": case(L.BatchNormalization, BatchNorm(3), (5, 3)),
    "BatchNormalization-bare": case(
        lambda: L.BatchNormalization(scale=False, center=False, epsilon=0.1),
        BatchNorm(3, 0.1, scale=False, center=False),
        (3,),
    ),
    "BatchNormalization-axis": case(
        lambda: L.BatchNormalization(axis=1), _around(1, BatchNorm(3)), (3, 4, 5)
    ),
    "LayerNormalization": case(L.LayerNormalization, LayerNorm(6), (5, 6)),
    "LayerNormalization-bare": case(
        lambda: L.LayerNormalization(scale=False, center=False, epsilon=1e-6),
        LayerNorm(6, 1e-6, scale=False, center=False),
        (5, 6),
    ),
    "LayerNormalization-axis": case(
        lambda: L.LayerNormalization(axis=1), _around(1, LayerNorm(3)), (3, 4, 5)
    ),
    "LayerNormalization-axes": case(
        lambda: L.LayerNormalization(axis=[1, 2], scale=False, center=False),
        (Flatten(), LayerNorm(20, scale=False, center=False), Reshape((5, 4))),
        (5, 4),
    ),
    "GroupNormalization": case(lambda: L.GroupNormalization(3), LayerNorm(6, groups=3), (4, 5, 6)),
    "GroupNormalization-vector": case(
        lambda: L.GroupNormalization(2, scale=False), LayerNorm(6, groups=2, scale=False), (6,)
    ),
    "GroupNormalization-instance": case(
        lambda: L.GroupNormalization(-1), LayerNorm(6, groups=6), (7, 6)
    ),
    "GroupNormalization-axis": case(
        lambda: L.GroupNormalization(2, axis=1), _around(1, LayerNorm(4, groups=2)), (4, 3, 5)
    ),
    "RMSNormalization": case(lambda: L.RMSNormalization(epsilon=1e-3), RMSNorm(6, 1e-3), (5, 6)),
    "RMSNormalization-axes": case(
        lambda: L.RMSNormalization(axis=[-2, -1]), (Flatten(), RMSNorm(20), Reshape((5, 4))), (5, 4)
    ),
    "UnitNormalization": case(L.UnitNormalization, UnitNorm(), (5, 3)),
    "UnitNormalization-tiny": case(L.UnitNormalization, UnitNorm(), (5, 3), kind="tiny"),
    "UnitNormalization-axis": case(
        lambda: L.UnitNormalization(1), (SWAP, UnitNorm(), SWAP), (5, 3)
    ),
    "UnitNormalization-axes": case(
        lambda: L.UnitNormalization([1, 2]), (Flatten(), UnitNorm(), Reshape((5, 3))), (5, 3)
    ),
    "Normalization": case(L.Normalization, Normalization(3), (5, 3)),
    "Normalization-invert": case(
        lambda: L.Normalization(invert=True), Normalization(3, True), (5, 3)
    ),
    "Normalization-no-variance": case(
        L.Normalization, Normalization(3), (5, 3), zeros=("variance",)
    ),
    "Normalization-axis": case(
        lambda: L.Normalization(axis=1), _around(1, Normalization(3)), (3, 4, 5)
    ),
}


def _merge(layer: type[Any], how: str, *shapes: tuple[int, ...]) -> Case:
    return case(layer, Merge(how), *shapes, kind="round")


MERGES = {
    **{
        f"{layer.__name__}-{name}": _merge(layer, how, *shapes)
        for layer, how in (
            (L.Add, "add"),
            (L.Multiply, "multiply"),
            (L.Average, "average"),
            (L.Maximum, "maximum"),
            (L.Minimum, "minimum"),
        )
        for name, shapes in {
            "three": ((5, 3), (5, 3), (5, 3)),
            "one": ((5, 3),),
            "stretched": ((5, 3), (1, 3), (5, 1)),
            "lower-rank": ((3,), (5, 3), (4, 1, 3)),
        }.items()
    },
    "Subtract": _merge(L.Subtract, "subtract", (5, 3), (5, 3)),
    "Concatenate": case(L.Concatenate, specs.Concatenate(), (5, 3), (5, 2), exact=True),
    "Concatenate-time": case(
        lambda: L.Concatenate(1), specs.Concatenate(0), (5, 3), (2, 3), (4, 3), exact=True
    ),
    "Concatenate-from-end": case(
        lambda: L.Concatenate(-2), specs.Concatenate(-2), (5, 3), (2, 3), exact=True
    ),
    "Dot-vectors": case(lambda: L.Dot(1), Dot((1, 1)), (4,), (4,)),
    "Dot-vector-matrix": case(lambda: L.Dot((1, 2)), Dot((1, 2)), (4,), (5, 4)),
    "Dot-matrix-vector": case(lambda: L.Dot((1, 1)), Dot((1, 1)), (4, 5), (4,)),
    "Dot-matrices": case(lambda: L.Dot((2, 1)), Dot((2, 1)), (3, 4), (4, 5)),
    "Dot-last": case(lambda: L.Dot(-1), Dot((2, 2)), (3, 4), (5, 4)),
    "Dot-blocks": case(lambda: L.Dot((2, 1)), Dot((2, 1)), (3, 4, 2), (4, 5, 6)),
    "Dot-cosine": case(lambda: L.Dot(2, normalize=True), Dot((2, 2), True), (3, 4), (5, 4)),
    "Dot-cosine-vectors": case(lambda: L.Dot(1, normalize=True), Dot((1, 1), True), (4,), (4,)),
    "Dot-cosine-tiny": case(
        lambda: L.Dot(1, normalize=True), Dot((1, 1), True), (4,), (4,), kind="tiny"
    ),
}


def _attention(score: str, scaled: bool, masks: str, key: bool, causal: bool) -> Case:
    if score == "additive":
        layer: Any = lambda: L.AdditiveAttention(use_scale=scaled)  # noqa: E731
    else:
        layer = lambda: L.Attention(use_scale=scaled, score_mode=score)  # noqa: E731
    shapes = ((4, 3), (6, 2), (6, 3)) if key else ((4, 3), (6, 3))
    spec = Attention(3, score, scaled, masks, causal)
    return case(layer, spec, *shapes, masks=masks, calls={"use_causal_mask": causal})


def _heads(masks: str, key: bool, causal: bool, dropout: float, **options: Any) -> Case:
    """Two heads; a key has features of its own."""
    blind = "zeros" if dropout else "uniform"
    key_dim, units = options.pop("key_dim", 4), options.get("output_shape", 5)
    value_dim, use_bias = options.get("value_dim", key_dim), options.get("use_bias", True)
    sizes = (2, key_dim, value_dim, 5, 6 if key else 4, 4, units, use_bias)
    spec = MultiHeadAttention(*sizes, masks, causal, blind, dropout)
    shapes = ((4, 5), (7, 4), (7, 6)) if key else ((4, 5), (7, 4))
    calls = {"use_causal_mask": causal}
    return case(
        lambda: L.MultiHeadAttention(2, key_dim, dropout=dropout, **options),
        spec,
        *shapes,
        masks=masks,
        calls=calls,
        rounded=key_dim not in (4, 16),  # 1 / sqrt(key_dim)
    )


ATTENTION = {
    **{
        f"Attention-{score}-{'scaled' if scaled else 'plain'}-{name}": _attention(
            score, scaled, *options
        )
        for score in ("dot", "concat", "additive")
        for scaled in (False, True)
        for name, options in {
            "bare": ("", False, False),
            "key": ("", True, False),
            "masks": ("qv", False, False),
            "value-mask-causal": ("v", True, True),
        }.items()
    },
    **{
        f"MultiHeadAttention-{'dropout-' if dropout else ''}{name}": _heads(*options, dropout)
        for dropout in (0.0, 0.5)
        for name, options in {
            "bare": ("", False, False),
            "key": ("", True, False),
            "causal": ("", False, True),
            "masks": ("qv", False, False),
            "value-mask-causal": ("v", False, True),
            "all-masks": ("qvk", True, False),
        }.items()
    },
    "MultiHeadAttention-sizes": _heads("", True, False, 0.0, value_dim=3, output_shape=6),
    "MultiHeadAttention-key_dim": _heads("", True, False, 0.0, key_dim=3),
    "MultiHeadAttention-no-bias": _heads("", False, False, 0.0, use_bias=False),
}


def _timed(inner: Any, spec: specs.LayerSpec, *shape: int, **more: Any) -> Case:
    stage = Stage(TimeDistributed(spec), NAMES.get(spec.kind, {}))
    return case(lambda: L.TimeDistributed(inner()), stage, shape, **more)


TIMED = {
    "TimeDistributed-Dense": _timed(lambda: L.Dense(4, "relu"), Dense(3, 4, "relu"), 5, 3),
    "TimeDistributed-Conv2D": _timed(
        lambda: L.Conv2D(4, 2), sliding(specs.Conv, 2, 4, (2, 2)), 3, 4, 5, 2
    ),
    "TimeDistributed-BatchNormalization": _timed(L.BatchNormalization, BatchNorm(2), 3, 4, 2),
    "TimeDistributed-Flatten": _timed(L.Flatten, Flatten(), 3, 4, 2, exact=True),
    "TimeDistributed-Softmax": _timed(lambda: L.Softmax(1), Softmax(0), 3, 4, 2),
    "TimeDistributed-Embedding": _timed(
        lambda: L.Embedding(5, 4), Embedding(5, 4), 3, 6, kind="ids"
    ),
    "TimeDistributed-GlobalAveragePooling1D-mask": _timed(
        L.GlobalAveragePooling1D, specs.GlobalPool("average"), 3, 6, 2, masks="0"
    ),
    "TimeDistributed-LSTM": _timed(lambda: L.LSTM(4), specs.LSTM(2, 4), 3, 6, 2),
    "TimeDistributed-LSTM-mask": _timed(
        lambda: L.LSTM(4, return_sequences=True),
        specs.LSTM(2, 4, return_sequences=True),
        *(3, 6, 2),
        masks="0",
    ),
}

OTHERS: dict[str, Case] = NUMBERS | OPS | NORMS | MERGES | ATTENTION | TIMED
