"""Models in which layers around the recurrent ones meet masks in the ways that Keras minds."""

import dataclasses

from cases import built, model
from cases_layers import CASES_LAYERS, mask_given

from xlstm.ir import layers as specs
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Affine,
    Attention,
    BatchNorm,
    Bidirectional,
    Concatenate,
    ConvLSTM,
    Dense,
    Dot,
    Dropout,
    Elu,
    Embedding,
    GlobalPool,
    Input,
    LayerNorm,
    Merge,
    MultiHeadAttention,
    Normalization,
    NotEqual,
    PRelu,
    Relu,
    Reverse,
    Slice,
    Softmax,
    TimeDistributed,
    TrainingOnly,
    UnitNorm,
)

SEQUENCE = {"return_sequences": True}


def words(b, steps=None):
    """Words as vectors of four numbers, and their mask."""
    x = b.add("words", Input((steps,), "int32"))
    return b.add("embedding", Embedding(9, 4, mask_zero=True), [x]), Edge("embedding", 1)


def through(*between, obeyed=True, steps=None):
    """A recurrent layer that obeys the words' mask, or must not, after layers between them."""
    b = Builder()
    x, mask = words(b, steps)
    for number, spec in enumerate(between):
        x = b.add(f"between_{number}", spec, [x])
    size = b.shape(x)[-1]
    return built(b, [b.add("lstm", LSTM(size, 3), [x], mask=mask if obeyed else None)])


def merged(spec, obeyed):
    """Two branches of the same words, joined."""
    b = Builder()
    x, mask = words(b)
    y = b.add("dense", Dense(4, 4, "tanh"), [x])
    x = b.add("join", spec, [x, y])
    size = b.shape(x)[-1]
    return built(b, [b.add("lstm", LSTM(size, 3), [x], mask=mask if obeyed else None)])


def heads(masks, **options):
    return MultiHeadAttention(2, 4, 4, 4, 4, 4, 4, masks=masks, **options)


def transformer(masks, **options):
    """Attention of words to themselves, added to them; what follows obeys their mask."""
    b = Builder()
    x, mask = words(b)
    y = b.add("heads", heads(masks, **options), [x, x, *[mask] * len(masks)])
    x = b.add("sum", Merge("add"), [x, y])
    x = b.add("norm", LayerNorm(4), [x])
    x = b.add("again", heads("qv"), [x, x, mask, mask])
    mean = b.add("mean", GlobalPool("average"), [x], mask=mask)
    return built(b, [b.add("lstm", LSTM(4, 3), [x], mask=mask), mean])


def attended(masks, key=False, additive=False):
    """An encoder's words, which a decoder's attend to."""
    b = Builder()
    x, mask = words(b)
    z = b.add("others", Input((None,), "int32"))
    z = b.add("decoder", Embedding(9, 4, mask_zero=True), [z])
    z = b.add("gru", GRU(4, 4, **SEQUENCE), [z], mask=Edge("decoder", 1))
    marks = {"q": Edge("decoder", 1), "v": mask}
    spec = Attention(4, "additive" if additive else "dot", additive, masks)
    found = b.add("attention", spec, [z, x, *[x] * key, *(marks[name] for name in masks)])
    return built(b, [b.add("lstm", LSTM(4, 3), [found], mask=Edge("decoder", 1)), found])


def mean_of_words(obeyed):
    b = Builder()
    x, mask = words(b)
    return built(b, [b.add("mean", GlobalPool("average"), [x], mask=mask if obeyed else None)])


def mask_of_numbers():
    """A mask that compares its input."""
    b = Builder()
    x = b.add("x", Input((None, 3)))
    first = b.add("first", Slice(1, 0, drop=True), [x])
    mask = b.add("mask", NotEqual(0.0), [first])
    return built(b, [b.add("lstm", LSTM(3, 4), [x], mask=mask), mask])


def timed_mask():
    """Words of sentences, whose mask an LSTM at every sentence obeys."""
    b = Builder()
    x = b.add("x", Input((3, 6), "int32"))
    x = b.add("words", TimeDistributed(Embedding(9, 4, mask_zero=True)), [x])
    inner = TimeDistributed(LSTM(4, 3))
    return built(b, [b.add("each", inner, [x], mask=Edge("words", 1)), Edge("words", 1)])


def both(zeros=False, **options):
    options = {**SEQUENCE, **options}
    first = LSTM(2, 3, zero_output_for_mask=zeros, **options)
    return Bidirectional(first, GRU(2, 3, go_backwards=True, **options))


def folded(spec, masked=False, outputs=1):
    b = Builder()
    x = b.add("x", Input((3, 6, 2)))
    mask = b.add("keep", Input((3, 6), "bool")) if masked else None
    b.add("each", TimeDistributed(spec), [x], mask=mask)
    return built(b, [Edge("each", n) for n in range(outputs)])


def conv_lstm(rank, **options):
    ones = (1,) * rank
    sizes = {"strides": ones, "dilation": ones, "window": (2,) * rank, **options}
    return ConvLSTM(2, 3, space=(5, 4, 3)[:rank], **sizes)


PASSED = {
    "dense": Dense(4, 4, "relu"),
    "activation": specs.Activation("tanh"),
    "relu": Relu(6.0),
    "leaky": Relu(slope=0.25),
    "prelu": PRelu((1, 4)),
    "elu": Elu(),
    "dropout": Dropout(0.2),
    "spatial_dropout": TrainingOnly("SpatialDropout1D", 0.2),
    "noise": TrainingOnly("GaussianNoise", 0.2),
    "affine": Affine(0.5, 1.0),
    "batch_norm": BatchNorm(4),
    "layer_norm": LayerNorm(4),
    "group_norm": LayerNorm(4, groups=2),
    "unit_norm": UnitNorm(),
    "unit_norm-ops": UnitNorm(1e-6),
    "normalization": Normalization(4),
    "softmax": Softmax(),
    "reverse": Reverse(),
    "timed-dense": TimeDistributed(Dense(4, 4)),
    "timed-softmax": TimeDistributed(Softmax()),
    "timed-batch_norm": TimeDistributed(BatchNorm(4)),
    "timed-normalization": TimeDistributed(Normalization(4)),
}

MASKS = {
    **{f"passed-{name}": through(spec) for name, spec in PASSED.items()},
    **{f"stopped-{name}": through(spec, obeyed=False) for name, spec in PASSED.items()},
    **{
        f"merged-{how}-{obeyed}": merged(Merge(how), obeyed)
        for how in specs.merge.MERGES
        for obeyed in (False, True)
    },
    **{
        f"merged-{axis}-{obeyed}": merged(Concatenate(axis), obeyed)
        for axis, obeyed in ((-1, True), (-1, False), (0, False))
    },
    "transformer": transformer("qv"),
    "transformer-value": transformer("v"),
    "transformer-query": transformer("q"),
    "transformer-bare": transformer(""),
    "transformer-causal": transformer("qv", causal=True),
    "transformer-lowered": transformer("qv", blind="lowered"),
    "transformer-lowered-value": transformer("v", blind="lowered", dropout=0.5),
    "attended": attended("qv"),
    "attended-value": attended("v"),
    "attended-bare": attended(""),
    "attended-key": attended("q", key=True),
    "attended-additive": attended("qv", additive=True),
    "mean": mean_of_words(True),
    "mean-all": mean_of_words(False),
    "mask-compared": mask_of_numbers(),
    "mask-timed": timed_mask(),
}

MORE = {
    "unit_norm-floor": model([UnitNorm(1e-3)], (5, 3)),
    "relu-threshold-fraction": model([Relu(0.7, 0.3, 0.1)], (5, 3)),
    "timed-unit_norm": model([TimeDistributed(UnitNorm(1e-3))], (5, 3)),
    "folded-both": folded(both(), masked=True),
    "folded-both-zeros": folded(both(zeros=True), masked=True),
    "folded-both-states": folded(both(return_state=True), outputs=4),
    "folded-both-unlike": folded(
        Bidirectional(LSTM(2, 3), LSTM(2, 4, go_backwards=True)), masked=True
    ),
    "folded-none": folded(dataclasses.replace(both(), merge="none"), outputs=2),
    **{
        f"conv_lstm{rank}d": model([conv_lstm(rank)], (4, *(5, 4, 3)[:rank], 2))
        for rank in (1, 2, 3)
    },
    "conv_lstm-hard": model(
        [
            conv_lstm(
                2,
                activation="relu",
                gate_activation="hard_sigmoid_keras2",
                padding="same",
                strides=(1, 2),
                **SEQUENCE,
            )
        ],
        (None, 5, 4, 2),
    ),
    "conv_lstm-masked": mask_given(conv_lstm(1, go_backwards=True), (4, 5, 2), (4,)),
}


def lowered_causal():
    """Attention of an older Keras in which the first steps see nothing."""
    b = Builder()
    x, mask = words(b, 6)
    return built(b, [b.add("heads", heads("qv", causal=True, blind="lowered"), [x, x, mask, mask])])


def floor_of_dot():
    b = Builder()
    x, y = b.add("x", Input((3, 4))), b.add("y", Input((5, 4)))
    return built(b, [b.add("dot", Dot((2, 2), True, 1e-6), [x, y])])


MORE["dot-floor"] = floor_of_dot()
MORE["heads-lowered-causal"] = lowered_causal()


NOT_HERE = {
    "conv_lstm1d-any_length",
    "conv_lstm1d-any_length-same-strides",
    "conv_lstm1d-offset",
    "conv_lstm1d-offset-valid",
    "heads-weights-uniform",
}
"""Cases of the layers that ports to Keras refuse."""

SEEN = {name for name in MASKS if name.startswith(("transformer", "attended", "mean"))}

LAYERS = {name: case for name, case in CASES_LAYERS.items() if name not in NOT_HERE}
ALL = {**LAYERS, **MASKS, **MORE}
