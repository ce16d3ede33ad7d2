"""Specs of layers around the recurrent ones: what they refuse, and which masks they obey."""

import numpy as np
import pytest

from xlstm.errors import FileError, UnsupportedError, UsageError
from xlstm.ir import layers as specs
from xlstm.ir.graph import Builder
from xlstm.ir.layers import (
    LSTM,
    Affine,
    Attention,
    BatchNorm,
    Bidirectional,
    Concatenate,
    Conv,
    ConvTranspose,
    Crop,
    Dense,
    DepthwiseConv,
    Dot,
    Dropout,
    Elu,
    Embedding,
    ExpandDims,
    Flatten,
    Function,
    GlobalPool,
    Input,
    LayerNorm,
    Masking,
    Merge,
    MultiHeadAttention,
    Normalization,
    NotEqual,
    Pad,
    Permute,
    Pool,
    PRelu,
    Reduce,
    Relu,
    RepeatVector,
    Reshape,
    Reverse,
    Slice,
    Softmax,
    Squeeze,
    TimeDistributed,
    TrainingOnly,
    UnitNorm,
    UpSample,
)
from xlstm.ir.serialize import spec_from_json, spec_to_json
from xlstm.reference.basic import forward
from xlstm.reference.context import Context
from xlstm.reference.convolution import CHUNK, convolve

NAN = float("nan")
ONE = {"strides": (1,), "dilation": (1,)}
HEADS = (2, 4, 4, 5, 6, 6, 5)

OPTIONS = {
    "conv-no-features": lambda: Conv(0, 4, (3,), **ONE),
    "conv-units": lambda: Conv(3, True, (3,), **ONE),
    "conv-activation": lambda: Conv(3, 4, (3,), "rlu", **ONE),
    "conv-window-0": lambda: Conv(3, 4, (0,), **ONE),
    "conv-window-fraction": lambda: Conv(3, 4, (1.5,), **ONE),
    "conv-window-number": lambda: Conv(3, 4, 3, **ONE),
    "conv-no-window": lambda: Conv(3, 4, (), strides=(), dilation=()),
    "conv-4d": lambda: Conv(3, 4, (1,) * 4, strides=(1,) * 4, dilation=(1,) * 4),
    "conv-strides-rank": lambda: Conv(3, 4, (3,), strides=(1, 1), dilation=(1,)),
    "conv-strides-0": lambda: Conv(3, 4, (3,), strides=(0,), dilation=(1,)),
    "conv-dilation-open": lambda: Conv(3, 4, (3,), strides=(1,), dilation=(None,)),
    "conv-padding": lambda: Conv(3, 4, (3,), padding="full", **ONE),
    "conv-causal-2d": lambda: Conv(3, 4, (3, 3), padding="causal", strides=(1, 1), dilation=(1, 1)),
    "conv-groups": lambda: Conv(3, 4, (3,), groups=2, **ONE),
    "conv-groups-units": lambda: Conv(4, 3, (3,), groups=2, **ONE),
    "depthwise-multiplier": lambda: DepthwiseConv(3, 0, (3,), **ONE),
    "depthwise-padding": lambda: DepthwiseConv(3, 1, (3,), padding="full", **ONE),
    "depthwise-strides": lambda: DepthwiseConv(3, 1, (3,), strides=(-1,), dilation=(1,)),
    "transposed-no-features": lambda: ConvTranspose(0, 4, (3,), **ONE),
    "transposed-activation": lambda: ConvTranspose(3, 4, (3,), "rlu", **ONE),
    "transposed-window": lambda: ConvTranspose(3, 4, 3, **ONE),
    "transposed-padding": lambda: ConvTranspose(3, 4, (3,), padding="causal", **ONE),
    "transposed-strides": lambda: ConvTranspose(3, 4, (3,), strides=(1, 2), dilation=(1,)),
    "transposed-more-number": lambda: ConvTranspose(3, 4, (3,), output_padding=0, **ONE),
    "transposed-more-rank": lambda: ConvTranspose(3, 4, (3,), output_padding=(0, 0), **ONE),
    "transposed-more-below": lambda: ConvTranspose(3, 4, (3,), output_padding=(-1,), **ONE),
    "transposed-more-above": lambda: ConvTranspose(3, 4, (3,), output_padding=(1,), **ONE),
    "pool-how": lambda: Pool("median", (2,), (2,)),
    "pool-causal": lambda: Pool("max", (2,), (2,), "causal"),
    "pool-strides": lambda: Pool("max", (2,), (2, 2)),
    "global-how": lambda: GlobalPool("sum"),
    "pad-below-0": lambda: Pad((-1,), (0,)),
    "pad-open": lambda: Pad((None,), (0,)),
    "pad-uneven": lambda: Pad((1,), (1, 1)),
    "pad-none": lambda: Pad((), ()),
    "crop-fraction": lambda: Crop((0.5,), (0,)),
    "upsample-0": lambda: UpSample((0,)),
    "relu-top": lambda: Relu(-1.0),
    "relu-nan": lambda: Relu(slope=NAN),
    "relu-threshold": lambda: Relu(threshold=-1.0),
    "prelu-open": lambda: PRelu((None, 3)),
    "prelu-0": lambda: PRelu((0,)),
    "prelu-5d": lambda: PRelu((1,) * 5),
    "elu": lambda: Elu(float("inf")),
    "softmax-axes": lambda: Softmax((1, 2)),
    "affine": lambda: Affine(NAN),
    "function": lambda: Function("gamma"),
    "reduce-how": lambda: Reduce("median", (0,)),
    "reduce-none": lambda: Reduce("sum", ()),
    "reduce-twice": lambda: Reduce("sum", (0, 0)),
    "reduce-open": lambda: Reduce("sum", (None,)),
    "not-equal": lambda: NotEqual(NAN),
    "clip-nothing": lambda: specs.Clip(),
    "clip-turned": lambda: specs.Clip(1.0, 0.0),
    "clip-nan": lambda: specs.Clip(NAN, 0.0),
    "compare": lambda: specs.Compare("almost", 0.0),
    "compare-nan": lambda: specs.Compare("equal", NAN),
    "compare-two": lambda: specs.Compare("equal").output_shapes((3,)),
    "compare-ranks": lambda: specs.Compare("equal").output_shapes((3,), (2, 3)),
    "where-numbers": lambda: specs.Where(0.0, 1.0),
    "where-one": lambda: specs.Where(0.0).output_shapes((3,)),
    "along": lambda: specs.Along("cummax", 0),
    "along-axis": lambda: specs.Along("cumsum", -1),
    "along-far": lambda: specs.Along("argmax", 1).output_shape((3,)),
    "across": lambda: specs.Across("median"),
    "across-axis": lambda: specs.Across("sum", (-1,)),
    "across-twice": lambda: specs.Across("sum", (0, 0)),
    "across-far": lambda: specs.Across("sum", (1,)).output_shape((3,)),
    "across-timed": lambda: specs.TimeDistributed(specs.Across("sum")),
    "einsum": lambda: specs.Einsum("cd,de"),
    "einsum-letters": lambda: specs.Einsum("bc,cd->bd"),
    "einsum-twice": lambda: specs.Einsum("cc,cd->d"),
    "einsum-nowhere": lambda: specs.Einsum("cd,de->cf"),
    "einsum-sizes": lambda: specs.Einsum("cd,de->ce").output_shapes((2, 3), (4, 5)),
    "einsum-ranks": lambda: specs.Einsum("cd,de->ce").output_shapes((2, 3), (3,)),
    "constant": lambda: specs.Constant("power", (1.0,), (1,)),
    "constant-many": lambda: specs.Constant("add", (0.0,) * 1025, (1025,)),
    "constant-size": lambda: specs.Constant("add", (0.0,), (2,)),
    "constant-nan": lambda: specs.Constant("add", (NAN,), (1,)),
    "constant-rank": lambda: specs.Constant("add", (1.0,), (1, 1)).output_shape((3,)),
    "training-only": lambda: TrainingOnly("RandomFlip"),
    "training-only-rate": lambda: TrainingOnly("GaussianNoise", -1.0),
    "batchnorm": lambda: BatchNorm(0),
    "batchnorm-epsilon": lambda: BatchNorm(3, -1e-3),
    "layernorm-groups": lambda: LayerNorm(6, groups=4),
    "layernorm-groups-below-0": lambda: LayerNorm(6, groups=-1),
    "unitnorm": lambda: UnitNorm(-1.0),
    "normalization": lambda: Normalization(0),
    "embedding": lambda: Embedding(0, 3),
    "dropout": lambda: Dropout(1.5),
    "reshape-two-open": lambda: Reshape((None, None)),
    "reshape-minus-1": lambda: Reshape((-1, 2)),
    "permute-twice": lambda: Permute((1, 1)),
    "permute-batch": lambda: Permute((0, 1)),
    "permute-none": lambda: Permute(()),
    "repeat": lambda: RepeatVector(0),
    "slice-step": lambda: Slice(0, step=0),
    "slice-back": lambda: Slice(0, 3, 1, -1),
    "slice-axis": lambda: Slice(-1),
    "slice-fraction": lambda: Slice(0, 0.5),
    "slice-drop-nothing": lambda: Slice(0, drop=True),
    "slice-drop-part": lambda: Slice(0, 0, 2, drop=True),
    "expand": lambda: ExpandDims(0.0),
    "squeeze": lambda: Squeeze(None),
    "merge": lambda: Merge("divide"),
    "concatenate": lambda: Concatenate(0.5),
    "dot-batch": lambda: Dot((0, 1)),
    "dot-one": lambda: Dot((1,)),
    "dot-floor": lambda: Dot((1, 1), True, -1.0),
    "attention-score": lambda: Attention(3, "general"),
    "attention-masks": lambda: Attention(3, masks="k"),
    "attention-dropout": lambda: Attention(3, dropout=1.0),
    "attention-features": lambda: Attention(0),
    "heads": lambda: MultiHeadAttention(0, *HEADS[1:]),
    "heads-masks": lambda: MultiHeadAttention(*HEADS, masks="vq"),
    "heads-blind": lambda: MultiHeadAttention(*HEADS, blind="nan"),
    "timed-input": lambda: TimeDistributed(Input((3,))),
    "timed-merge": lambda: TimeDistributed(Merge("add")),
    "timed-stateful": lambda: TimeDistributed(LSTM(3, 4, stateful=True)),
    "timed-timed": lambda: TimeDistributed(TimeDistributed(Dense(3, 4))),
}

SHAPES = {
    "conv-rank": (Conv(3, 4, (3,), **ONE), (5, 5, 3)),
    "conv-channels": (Conv(3, 4, (3,), **ONE), (5, 4)),
    "conv-small": (Conv(3, 4, (3,), strides=(1,), dilation=(3,)), (6, 3)),
    "depthwise-channels": (DepthwiseConv(3, 1, (3,), **ONE), (5, 4)),
    "transposed-rank": (ConvTranspose(3, 4, (3,), **ONE), (5, 5, 3)),
    "transposed-channels": (ConvTranspose(3, 4, (3,), **ONE), (5, 4)),
    "transposed-nothing": (
        ConvTranspose(3, 4, (2,), padding="same", output_padding=(0,), **ONE),
        (1, 3),
    ),
    "pool-small": (Pool("max", (3,), (1,)), (2, 3)),
    "pool-rank": (Pool("max", (3,), (1,)), (3,)),
    "global": (GlobalPool("max"), (3,)),
    "pad-rank": (Pad((1,), (1,)), (3, 3, 3)),
    "crop-all": (Crop((2,), (1,)), (3, 3)),
    "upsample-rank": (UpSample((2,)), (3,)),
    "prelu": (PRelu((1, 3)), (5, 4)),
    "prelu-rank": (PRelu((3,)), (5, 3)),
    "softmax": (Softmax(2), (5, 3)),
    "softmax-from-end": (Softmax(-3), (5, 3)),
    "reduce": (Reduce("sum", (2,)), (5, 3)),
    "reduce-from-end": (Reduce("sum", (-1,)), (5, 3)),
    "batchnorm": (BatchNorm(3), (5, 4)),
    "layernorm": (LayerNorm(3), (5, 4)),
    "normalization": (Normalization(3), (4,)),
    "unitnorm": (UnitNorm(), ()),
    "dense": (Dense(3, 4), (5, 4)),
    "masking": (Masking(), (5,)),
    "reverse": (Reverse(), ()),
    "reshape": (Reshape((4, 4)), (5, 3)),
    "reshape-rest": (Reshape((None, 4)), (5, 3)),
    "permute": (Permute((2, 1)), (5,)),
    "repeat": (RepeatVector(2), (5, 3)),
    "slice-axis": (Slice(2, 1), (5, 3)),
    "slice-nothing": (Slice(0, 5), (5, 3)),
    "slice-past": (Slice(0, 5, drop=True), (5, 3)),
    "slice-before": (Slice(0, -6, drop=True), (5, 3)),
    "expand": (ExpandDims(3), (5, 3)),
    "expand-from-end": (ExpandDims(-1), (5, 3)),
    "squeeze": (Squeeze(0), (5, 3)),
    "squeeze-axis": (Squeeze(2), (5, 3)),
    "timed": (TimeDistributed(Flatten()), (5,)),
    "timed-inside": (TimeDistributed(Dense(3, 4)), (5, 4)),
    "merge": (Merge("add"), (5, 3), (5, 4)),
    "merge-subtract": (Merge("subtract"), (3,), (3,), (3,)),
    "concatenate": (Concatenate(), (5, 3), (4, 3)),
    "concatenate-rank": (Concatenate(), (5, 3), (3,)),
    "concatenate-axis": (Concatenate(2), (5, 3), (5, 3)),
    "concatenate-from-end": (Concatenate(-3), (5, 3), (5, 3)),
    "dot": (Dot((2, 1)), (5, 3), (4, 5)),
    "dot-axis": (Dot((3, 1)), (5, 3), (4, 5)),
    "attention-rank": (Attention(3), (5, 3), (4, 6, 3)),
    "attention-features": (Attention(3), (5, 3), (6, 4)),
    "attention-key": (Attention(3), (5, 3), (6, 3), (7, 3)),
    "attention-key-features": (Attention(3), (5, 3), (6, 3), (6, 4)),
    "attention-no-mask": (Attention(3, masks="qv"), (5, 3), (6, 3)),
    "attention-mask": (Attention(3, masks="v"), (5, 3), (6, 3), (5,)),
    "attention-mask-rank": (Attention(3, masks="v"), (5, 3), (6, 3), (6, 3)),
    "heads-query": (MultiHeadAttention(*HEADS), (5, 4), (6, 6)),
    "heads-value": (MultiHeadAttention(*HEADS), (5, 5), (6, 5)),
    "heads-key": (MultiHeadAttention(*HEADS), (5, 5), (6, 6), (6, 5)),
    "heads-key-of-others": (MultiHeadAttention(2, 4, 4, 5, 7, 6, 5), (5, 5), (6, 6)),
    "heads-mask": (MultiHeadAttention(*HEADS, masks="q"), (5, 5), (6, 6), (6,)),
    "heads-mask-of-no-key": (MultiHeadAttention(*HEADS, masks="k"), (5, 5), (6, 6), (6,)),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_make_no_sense(name):
    with pytest.raises((UsageError, UnsupportedError)):
        OPTIONS[name]()


@pytest.mark.parametrize("name", SHAPES)
def test_inputs_that_do_not_fit(name):
    spec, *shapes = SHAPES[name]
    with pytest.raises(UsageError):
        spec.output_shapes(*shapes)


SEQUENCE = LSTM(2, 4, return_sequences=True)
OBEYED = {
    "recurrent": (LSTM(2, 4), (6, 2), (6,)),
    "recurrent-any-length": (LSTM(2, 4), (None, 2), (6,)),
    "bidirectional": (
        Bidirectional(SEQUENCE, LSTM(2, 4, return_sequences=True, go_backwards=True)),
        (6, 2),
        (6,),
    ),
    "mean": (GlobalPool("average"), (6, 2), (6,)),
    "timed-recurrent": (TimeDistributed(SEQUENCE), (3, 6, 2), (3, 6)),
    "timed-mean": (TimeDistributed(GlobalPool("average")), (None, 6, 2), (3, None)),
}
DISOBEYED = {
    "wrong-length": (LSTM(2, 4), (6, 2), (5,)),
    "wrong-rank": (LSTM(2, 4), (6, 2), (6, 2)),
    "largest": (GlobalPool("max"), (6, 2), (6,)),
    "mean-of-space": (GlobalPool("average"), (6, 6, 2), (6,)),
    "dense": (Dense(2, 4), (6, 2), (6,)),
    "softmax": (Softmax(0), (6, 2), (6,)),
    "timed-dense": (TimeDistributed(Dense(2, 4)), (3, 6, 2), (3, 6)),
    "timed-outer": (TimeDistributed(SEQUENCE), (3, 6, 2), (3,)),
}


def masked(spec, shape, mask):
    graph = Builder()
    x, m = graph.add("x", Input(shape)), graph.add("m", Input(mask, "bool"))
    return graph.add("layer", spec, [x], mask=m)


@pytest.mark.parametrize("name", OBEYED)
def test_masks_that_are_obeyed(name):
    assert masked(*OBEYED[name]).node == "layer"


@pytest.mark.parametrize("name", DISOBEYED)
def test_masks_that_are_not(name):
    with pytest.raises(UsageError, match="change it"):
        masked(*DISOBEYED[name])


def test_an_input_has_no_mask():
    graph = Builder()
    mask = graph.add("m", Input((6,), "bool"))
    with pytest.raises(UsageError, match="change it"):
        graph.add("x", Input((6, 2)), mask=mask)


@pytest.mark.parametrize("value", [[True], [0.5], [None], "1", 1])
def test_numbers_of_a_file(value):
    data = {**spec_to_json(Pad((0,), (1,))), "before": value}
    with pytest.raises(FileError):
        spec_from_json(data, "here")


def test_blind_queries_before_keras_3_7_see_every_value():
    rng = np.random.default_rng(0)
    shapes = {"query": (5, 2, 4), "key": (6, 2, 4), "value": (6, 2, 4), "output": (2, 4, 5)}
    weights = {f"{name}_kernel": rng.standard_normal(size) for name, size in shapes.items()}
    inputs = [rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 7, 6))]
    context = Context("heads", weights)
    plain = MultiHeadAttention(*HEADS, False)
    lowered = MultiHeadAttention(*HEADS, False, "v", blind="lowered")
    (seen,) = forward(plain, inputs, context)
    (blind,) = forward(lowered, [*inputs, np.zeros((3, 7), bool)], context)
    np.testing.assert_allclose(blind, seen, atol=1e-5)
    (same,) = forward(lowered, [*inputs, np.ones((3, 7), bool)], context)
    np.testing.assert_array_equal(same, seen)


def test_convolution_of_many_chunks():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 400, 90, 8)), rng.standard_normal((5, 4, 8, 3))
    assert x.size * 20 > 2 * CHUNK
    wanted = sum(x[:, a : a + 396, b : b + 87] @ kernel[a, b] for a in range(5) for b in range(4))
    np.testing.assert_allclose(convolve(x, kernel), wanted, atol=1e-12)


def test_edges_of_relu_and_infinity():
    x = np.array([[-np.inf, -1.0, 2.0, 3.0, np.inf]])
    context = Context("relu", {})
    (y,) = forward(Relu(3.0, threshold=2.0), [x], context)
    assert y.tolist() == [[0.0, 0.0, 0.0, 3.0, 3.0]]
    (y,) = forward(Relu(slope=0.5), [x], context)
    assert y.tolist() == [[-np.inf, -0.5, 2.0, 3.0, np.inf]]
