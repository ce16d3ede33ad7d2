"""Small models of the layers around the recurrent ones: what every target's suite runs."""

from __future__ import annotations

from dataclasses import replace

from cases import built, model
from cases_conv_lstm import CONV_LSTMS
from cases_operations import OPERATIONS
from cases_transposed import TRANSPOSED

from xlstm.ir import layers as specs
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Affine,
    Augmentation,
    BatchNorm,
    Bidirectional,
    Conv,
    Crop,
    Dense,
    DepthwiseConv,
    Dot,
    Dropout,
    Embedding,
    Function,
    GlobalPool,
    Input,
    LayerNorm,
    Merge,
    Normalization,
    Pad,
    Permute,
    Pool,
    PRelu,
    Reduce,
    Relu,
    Reshape,
    RMSNorm,
    Slice,
    Softmax,
    TimeDistributed,
    TrainingOnly,
    UnitNorm,
    UpSample,
)
from xlstm.ir.layers.attention import BLIND
from xlstm.testing.models import (
    attention,
    heads,
    ids_masked,
    joined,
    mask_given,
    one,
    residual,
    shared,
    sliding,
    timed,
)


def sliced_states() -> Model:
    """An LSTM at every time step whose states are outputs too."""
    graph = Builder()
    x = graph.add("x", Input((3, 4, 2)))
    graph.add("lstm", TimeDistributed(LSTM(2, 3, return_state=True)), [x])
    return built(graph, [Edge("lstm", 0), Edge("lstm", 2)])


MOVES: dict[str, Model] = {
    "flatten": one(specs.Flatten(), 3, 4, 2),
    "reshape": one(Reshape((4, 6)), 3, 8),
    "reshape-rest": one(Reshape((2, None, 3)), 4, 6),
    "permute": one(Permute((3, 1, 2)), 2, 3, 4),
    "repeat_vector": one(specs.RepeatVector(3), 4),
    "slice-last": one(Slice(0, -1, drop=True), 5, 3),
    "slice-third": one(Slice(0, 2, drop=True), None, 3),
    "slice-part": one(Slice(0, 1, 4, 2), 5, 3),
    "slice-reversed": one(Slice(0, step=-1), None, 3),
    "slice-channels": one(Slice(1, -2), 5, 3),
    "expand_dims": one(specs.ExpandDims(1), 5, 3),
    "squeeze": one(specs.Squeeze(0), 1, 3),
    "pad": one(Pad((1,), (2,)), 5, 3),
    "pad-2d": one(Pad((0, 1), (2, 3)), 4, 5, 3),
    "crop": one(Crop((1,), (0,)), 5, 3),
    "crop-2d": one(Crop((1, 0), (2, 3)), 5, 6, 3),
    "crop-nothing": one(Crop((0,), (0,)), 5, 3),
    "up_sample": one(UpSample((3,)), 4, 2),
    "up_sample-2d": one(UpSample((2, 3)), 4, 3, 2),
    "reverse": one(specs.Reverse(), 5, 3),
}

NUMBERS: dict[str, Model] = {
    "relu": one(Relu(), 5, 3),
    "relu-top": one(Relu(6.0), 5, 3),
    "relu-slope": one(Relu(slope=0.3), 5, 3),
    "relu-threshold": one(Relu(threshold=1.0), 5, 3),
    "relu-all": one(Relu(3.0, 0.25, 1.0), 5, 3),
    "prelu": one(PRelu((5, 3)), 5, 3),
    "prelu-shared": one(PRelu((1, 1, 3)), 4, 5, 3),
    "elu": one(specs.Elu(0.7), 5, 3),
    "softmax": one(Softmax(), 5, 3),
    "softmax-axis": one(Softmax(0), 5, 3),
    "affine": one(Affine(1 / 127.5, -1.0), 5, 3),
    "affine-scale": one(Affine(-2.0), 5, 3),
    "affine-from_one": one(Affine(-1.0, 1.0), 5, 3),
    "affine-negative": one(Affine(-1.0), 5, 3),
    "pad-nothing": one(Pad((0,), (0,)), 5, 3),
    **{
        f"function-{name}": model([Function("exp"), Function(name)], (3,))
        for name in specs.elementwise.FUNCTIONS
    },
    "reduce-mean": one(Reduce("mean", (0,)), 5, 3),
    "reduce-max": one(Reduce("max", (0, 1), keep=True), 5, 3),
    "not_equal": one(specs.NotEqual(), 5),
    "embedding": one(Embedding(9, 4), 7),
    "embedding-mask": ids_masked(),
    "embedding-one_row": one(Embedding(1, 4), 7),
    "dropout": model([Dense(3, 4), Dropout(0.5)], (3,)),
    **{
        f"training_only-{layer}": model([TrainingOnly(layer, 0.5), Dense(3, 2)], shape)
        for layer, shape in (
            ("SpatialDropout1D", (5, 3)),
            ("SpatialDropout2D", (4, 5, 3)),
            ("SpatialDropout3D", (2, 2, 2, 3)),
            ("GaussianNoise", (3,)),
            ("GaussianDropout", (3,)),
            ("AlphaDropout", (3,)),
            ("ActivityRegularization", (3,)),
        )
    },
}

NUMBERS |= {
    "augmentation": model(
        [Augmentation("RandomFlip", ("mode='vertical'",)), sliding(Conv, 2, 3, (2, 2))], (4, 5, 2)
    ),
    "timed-augmentation": one(TimeDistributed(Augmentation("RandAugment")), 3, 4, 5, 2),
}

NORMS: dict[str, Model] = {
    "batch_norm": one(BatchNorm(3), 5, 3),
    "batch_norm-bare": one(BatchNorm(3, 0.1, 0.9, scale=False, center=False), 3),
    "batch_norm-stack": model(
        [sliding(Conv, 2, 3, (2, 2)), BatchNorm(3), Relu(), specs.Flatten(), Dense(36, 2)],
        (4, 5, 2),
    ),
    "layer_norm": one(LayerNorm(6), 5, 6),
    "layer_norm-bare": one(LayerNorm(6, 1e-6, scale=False, center=False), 5, 6),
    "group_norm": one(LayerNorm(6, groups=3), 4, 5, 6),
    "group_norm-vector": one(LayerNorm(6, groups=2, scale=False), 6),
    "rms_norm": one(RMSNorm(6), 5, 6),
    "rms_norm-epsilon": model([RMSNorm(6, 0.1), LSTM(6, 4), RMSNorm(4)], (5, 6)),
    "unit_norm": one(UnitNorm(), 5, 3),
    "normalization": one(Normalization(3), 5, 3),
    "normalization-invert": one(Normalization(3, True), 5, 3),
}

WINDOWS: dict[str, Model] = {
    **{
        f"conv1d-{padding}-{name}": one(
            sliding(Conv, 4, 6, (4,), "tanh", padding=padding, **options), 11, 4
        )
        for padding in ("valid", "same", "causal")
        for name, options in {
            "plain": {},
            "strides": {"strides": (3,)},
            "dilation": {"dilation": (2,)},
            "groups": {"groups": 2},
            "no_bias": {"use_bias": False},
        }.items()
    },
    "conv1d-any_length": one(sliding(Conv, 3, 4, (3,), padding="same"), None, 3),
    "conv2d": one(sliding(Conv, 3, 5, (3, 2)), 7, 6, 3),
    "conv2d-same-strides": one(
        sliding(Conv, 3, 5, (3, 2), "relu", strides=(2, 3), padding="same"), 8, 7, 3
    ),
    "conv2d-strides_past_window": one(
        sliding(Conv, 3, 5, (1, 1), strides=(4, 4), padding="same"), 6, 9, 3
    ),
    "conv2d-dilation": one(sliding(Conv, 3, 5, (3, 2), dilation=(2, 3), padding="same"), 8, 7, 3),
    "conv2d-softmax": one(sliding(Conv, 3, 5, (2, 2), "softmax"), 4, 5, 3),
    "conv2d-then-flatten": model(
        [sliding(Conv, 2, 3, (2, 2)), specs.Flatten(), Dense(36, 2)], (4, 5, 2)
    ),
    "conv3d-same-strides": one(
        sliding(Conv, 2, 3, (2, 3, 2), strides=(1, 2, 1), padding="same"), 4, 5, 6, 2
    ),
    "depthwise1d": one(sliding(DepthwiseConv, 4, 2, (3,), "relu", strides=(2,)), 9, 4),
    "depthwise2d": one(
        sliding(DepthwiseConv, 2, 3, (3, 2), strides=(2, 2), padding="same"), 7, 6, 2
    ),
    "depthwise2d-no_bias": one(sliding(DepthwiseConv, 3, 1, (2, 2), use_bias=False), 4, 5, 3),
    "separable": model(
        [sliding(DepthwiseConv, 3, 2, (3,), use_bias=False), sliding(Conv, 6, 5, (1,), "tanh")],
        (8, 3),
    ),
    **{
        f"pool-{how}-{len(shape)}d-{padding}-{window}-{stride}": one(
            Pool(how, (window,) * len(shape), (stride,) * len(shape), padding), *shape, 3
        )
        for how in ("max", "average")
        for padding in ("valid", "same")
        for shape, window, stride in (((7,), 3, 2), ((7, 6), 2, 1), ((7,), 2, 3), ((4, 5, 4), 2, 2))
    },
    **{
        f"global-{how}-{len(shape)}d{'-keep' * keep}": one(GlobalPool(how, keep), *shape, 3)
        for how in ("max", "average")
        for shape in ((5,), (4, 5))
        for keep in (False, True)
    },
}

JOINS: dict[str, Model] = {
    **{
        f"merge-{how}": joined(Merge(how), (5, 3), (5, 3), (5, 3))
        for how in ("add", "multiply", "average", "maximum", "minimum")
    },
    "merge-subtract": joined(Merge("subtract"), (5, 3), (5, 3)),
    "merge-lower_rank": joined(Merge("add"), (3,), (5, 3), (4, 1, 3)),
    "merge-one": joined(Merge("average"), (5, 3)),
    "concatenate": joined(specs.Concatenate(), (5, 3), (5, 2)),
    "concatenate-time": joined(specs.Concatenate(0), (5, 3), (2, 3), (4, 3)),
    "concatenate-from_end": joined(specs.Concatenate(-2), (None, 3), (None, 3)),
    "dot-vectors": joined(Dot((1, 1)), (4,), (4,)),
    "dot-matrix-vector": joined(Dot((1, 1)), (4, 5), (4,)),
    "dot-matrices": joined(Dot((2, 1)), (3, 4), (4, 5)),
    "dot-last": joined(Dot((2, 2)), (3, 4), (5, 4)),
    "dot-blocks": joined(Dot((2, 1)), (3, 4, 2), (4, 5, 6)),
    "dot-cosine": joined(Dot((2, 2), True), (3, 4), (5, 4)),
    "shared": shared(),
    "residual": residual(),
}


ATTENTION: dict[str, Model] = {
    **{
        f"attention-{score}-{'scaled' if scaled else 'plain'}-{name}": attention(
            score, scaled, *options
        )
        for score in ("dot", "concat", "additive")
        for scaled in (False, True)
        for name, options in {
            "bare": ("", False, False),
            "masks": ("qv", False, False),
            "key-causal": ("v", True, True),
        }.items()
    },
    "attention-weights-masks": attention("dot", False, "qv", False, True, True),
    "attention-additive-weights-causal": attention("additive", True, "v", True, False, True),
    "heads-weights": heads(scores=True),
    **{f"heads-weights-{how}": heads("qv", blind=how, scores=True) for how in BLIND},
    "heads": heads(),
    "heads-key": heads(key=True),
    "heads-causal": heads(causal=True),
    "heads-masks": heads("qv"),
    "heads-all_masks": heads("qvk", key=True, causal=True),
    "heads-sizes": heads(key_dim=3, value_dim=2),
    "heads-no_bias": heads(use_bias=False),
    "heads-zeros": heads("qv", blind="zeros", dropout=0.5),
    "heads-lowered": heads("qv", blind="lowered"),
    "heads-lowered-key": heads("k", key=True, blind="lowered"),
}

HALF = {"return_sequences": True}
TIMED: dict[str, Model] = {
    "timed-dense": timed(Dense(3, 4, "relu"), 5, 3),
    "timed-conv2d": timed(sliding(Conv, 2, 4, (2, 2)), 3, 4, 5, 2),
    "timed-conv1d-same": timed(sliding(Conv, 2, 4, (3,), padding="causal"), None, 5, 2),
    "timed-depthwise": timed(sliding(DepthwiseConv, 2, 2, (2,)), 3, 5, 2),
    "timed-pool": timed(Pool("max", (2, 2), (2, 2)), 3, 4, 5, 2),
    "timed-pool-same": timed(Pool("average", (2,), (2,), "same"), 3, 5, 2),
    "timed-global": timed(GlobalPool("average"), 3, 4, 5, 2),
    "timed-batch_norm": timed(BatchNorm(2), 3, 4, 2),
    "timed-layer_norm": timed(LayerNorm(2), 3, 4, 2),
    "timed-rms_norm": timed(RMSNorm(4), 3, 5, 4),
    "timed-group_norm": timed(LayerNorm(4, groups=2), 3, 5, 4),
    "timed-flatten": timed(specs.Flatten(), 3, 4, 2),
    "timed-reshape": timed(Reshape((4, 2)), 3, 8),
    "timed-permute": timed(Permute((2, 1)), 3, 4, 2),
    "timed-repeat_vector": timed(specs.RepeatVector(3), 4, 2),
    "timed-slice": timed(Slice(0, -1, drop=True), 3, 4, 2),
    "timed-pad": timed(Pad((1,), (2,)), 3, 5, 3),
    "timed-crop": timed(Crop((1,), (2,)), 3, 5, 3),
    "timed-up_sample": timed(UpSample((2,)), 3, 2, 3),
    "timed-softmax": timed(Softmax(0), 3, 4, 2),
    "timed-prelu": timed(PRelu((4, 2)), 3, 4, 2),
    "timed-reduce": timed(Reduce("sum", (0,)), 3, 4, 2),
    "timed-embedding": timed(Embedding(9, 4), 3, 6),
    "timed-spatial_dropout": timed(TrainingOnly("SpatialDropout1D", 0.2), 3, 6, 2),
    "timed-reverse": timed(specs.Reverse(), 3, 6, 2),
    "timed-lstm": timed(LSTM(2, 4), None, 6, 2),
    "timed-lstm-mask": mask_given(TimeDistributed(LSTM(2, 4, **HALF)), (3, 6, 2), (3, 6)),
    "timed-both": timed(Bidirectional(GRU(2, 3), GRU(2, 3, go_backwards=True)), 3, 6, 2),
    "timed-states": sliced_states(),
}

MASKED_MEANS: dict[str, Model] = {
    "global-average-mask": mask_given(GlobalPool("average"), (None, 3), (None,)),
    "global-average-mask-keep": mask_given(GlobalPool("average", True), (5, 3), (5,)),
    "timed-global-mask": mask_given(TimeDistributed(GlobalPool("average")), (3, 6, 2), (3, 6)),
}
"""Means that are no numbers where nothing counts: to be run with masks that leave something."""


def by_key(*, stateful: bool = False) -> Model:
    """Two layers whose outputs are a dict."""
    lstm = LSTM(3, 4, return_sequences=True, stateful=stateful)
    graph = Builder()
    x = graph.add("x", Input((5, 3), batch=2 if stateful else None))
    y = graph.add("lstm", lstm, [x])
    edges = [graph.add("dense", Dense(4, 2), [y]), y]
    return replace(
        built(graph, edges), keys=("a 'b' \"c\"", "states of the last layer, all of them")
    )


CASES_LAYERS: dict[str, Model] = {
    **MOVES,
    **NUMBERS,
    **NORMS,
    **WINDOWS,
    **TRANSPOSED,
    **JOINS,
    **ATTENTION,
    **TIMED,
    **CONV_LSTMS,
    "keys": by_key(),
    "keys-stateful": by_key(stateful=True),
    **OPERATIONS,
}
"""Readable id -> model."""
