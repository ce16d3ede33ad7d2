"""ConvLSTM of live Keras 3, in both directions and with channels first, against Keras itself."""

import numpy as np
import pytest
from test_keras_recurrent import flat, trained

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.layers import Bidirectional, ConvLSTM, Permute

RNG = np.random.default_rng(17)
TIME, CHANNELS = 4, 2
SPACE = {1: (5,), 2: (4, 5), 3: (3, 2, 3)}
SEQUENCE = {"return_sequences": True}
FIRST = {"data_format": "channels_first"}


def layers():
    import keras

    return keras.layers


def conv_lstm(rank=1, filters=3, **options):
    """A ConvLSTM of windows of 2."""
    return getattr(layers(), f"ConvLSTM{rank}D")(filters, 2, **{"padding": "same", **options})


def both(rank=1, merge="concat", **options):
    return layers().Bidirectional(conv_lstm(rank, **options), merge_mode=merge)


def shape(rank, first):
    return (TIME, CHANNELS, *SPACE[rank]) if first else (TIME, *SPACE[rank], CHANNELS)


def one(layer, rank=1, first=False, batch=None):
    """A layer whose input has a fixed number of steps."""
    import keras

    return keras.Sequential([keras.Input(shape(rank, first), batch_size=batch), layer])


def called(layer, first=False, mask=False, states=0, filters=3):
    """A layer called with a mask and initial states that are inputs."""
    import keras

    x = keras.Input(shape(1, first), name="a")
    size = (filters, *SPACE[1]) if first else (*SPACE[1], filters)
    starts = [keras.Input(size, name=f"b{n}") for n in range(states)]
    keep = [keras.Input((TIME,), dtype="bool", name="c")] if mask else []
    options = {"mask": keep[0]} if mask else {}
    options |= {"initial_state": starts} if states else {}
    return keras.Model([x, *starts, *keep], layer(x, **options))


def stacked(first):
    """Layers one after the other, whose moves of axes undo each other."""
    import keras

    how = FIRST if first else {}
    chain = [keras.Input(shape(2, first)), conv_lstm(2, **SEQUENCE, **how)]
    chain += [both(2, "sum", filters=2, padding="valid", strides=(1, 2), **how)]
    chain += [keras.layers.Conv2D(3, 2, activation="relu", **how), keras.layers.Flatten(**how)]
    return keras.Sequential([*chain, keras.layers.Dense(2)])


def handed_on(first):
    """A decoder whose states start where an encoder's end."""
    import keras

    how, size = (FIRST if first else {}), shape(1, first)
    x, y = keras.Input(size, name="a"), keras.Input(size, name="b")
    _, *states = conv_lstm(return_state=True, **how)(x)
    return keras.Model([x, y], conv_lstm(**SEQUENCE, **how)(y, initial_state=states))


def timed(first):
    """A layer at every one of three steps."""
    import keras

    layer = both(**(FIRST if first else {}), **SEQUENCE)
    return keras.Sequential(
        [keras.Input((3, *shape(1, first))), keras.layers.TimeDistributed(layer)]
    )


MERGES = ("concat", "sum", "mul", "ave", None)

MODELS = {
    **{
        f"rank{rank}": lambda first, rank=rank, **how: one(conv_lstm(rank, **how), rank, first)
        for rank in SPACE
    },
    **{
        f"both-rank{rank}": lambda first, rank=rank, **how: one(both(rank, **how), rank, first)
        for rank in SPACE
    },
    **{
        f"both-{merge}-sequence": lambda first, merge=merge, **how: one(
            both(1, merge, **SEQUENCE, **how), 1, first
        )
        for merge in MERGES
    },
    "sequence": lambda first, **how: one(conv_lstm(**SEQUENCE, **how), 1, first),
    "backwards": lambda first, **how: one(
        conv_lstm(go_backwards=True, **SEQUENCE, **how), 1, first
    ),
    "strides": lambda first, **how: one(
        conv_lstm(2, strides=(2, 1), padding="valid", **how), 2, first
    ),
    "state": lambda first, **how: called(conv_lstm(return_state=True, **how), first),
    "states": lambda first, **how: called(
        conv_lstm(return_state=True, **SEQUENCE, **how), first, states=2
    ),
    "mask": lambda first, **how: called(conv_lstm(**SEQUENCE, **how), first, mask=True),
    "mask-backwards": lambda first, **how: called(
        conv_lstm(go_backwards=True, **how), first, mask=True
    ),
    "mask-states": lambda first, **how: called(conv_lstm(**how), first, mask=True, states=2),
    "both-mask": lambda first, **how: called(both(**SEQUENCE, **how), first, mask=True),
    "both-mask-last": lambda first, **how: called(both(1, "ave", **how), first, mask=True),
    "both-state": lambda first, **how: called(both(return_state=True, **how), first),
    "both-none-states": lambda first, **how: called(
        both(1, None, return_state=True, **SEQUENCE, **how), first, states=4
    ),
    "both-concat-states": lambda first, **how: called(
        both(return_state=True, **how), first, states=4
    ),
    "stateful": lambda first, **how: one(conv_lstm(stateful=True, **SEQUENCE, **how), 1, first, 6),
    "both-stateful": lambda first, **how: one(both(stateful=True, **how), 1, first, 6),
    "stacked": lambda first, **_: stacked(first),
    "handed_on": lambda first, **_: handed_on(first),
    "timed": lambda first, **_: timed(first),
}
"""Name -> what builds a model, with channels first or last."""


def inputs_of(model):
    """Numbers and masks for a model's inputs, in its order."""
    found = []
    for tensor in model.inputs:
        size = (6, *tensor.shape[1:])
        if tensor.dtype == "bool":
            keep = np.ones(size, bool)
            keep[1, 3:] = keep[2, :2] = keep[3, 1:3] = keep[4] = False
            found.append(keep)
        else:
            found.append(RNG.standard_normal(size).astype("float32"))
    return found


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("name", MODELS)
def test_live_and_saved_models_give_what_keras_gives(name, first, tmp_path):
    import tensorflow as tf

    model = trained(MODELS[name](first, **(FIRST if first else {})))
    inputs = inputs_of(model)
    fed = inputs if len(inputs) > 1 else inputs[0]
    # channels_first has no kernels for the CPU but compiled ones
    run = tf.function(lambda x: model(x, training=False), jit_compile=first)
    want = flat(run([tf.constant(x) for x in fed] if len(inputs) > 1 else tf.constant(fed)))
    files = [tmp_path / "model.keras", tmp_path / "model.h5"]
    for file in files:
        model.save(file)
    live = xlstm.load(model)
    outputs = xlstm.port(live, "numpy")(*inputs)
    outputs = outputs[0] if live.stateful else outputs
    for got, y in zip(flat(outputs), want, strict=True):
        np.testing.assert_allclose(got, y, rtol=0, atol=2e-6)
    for file in files:
        read = xlstm.load(file)
        assert (read.nodes, read.outputs) == (live.nodes, live.outputs)
        np.testing.assert_equal(read.weights, live.weights)
    # a model of channels last stays as it is
    kinds = {type(node.spec) for node in live.layers}
    assert kinds & {ConvLSTM, Bidirectional} or name == "timed"
    assert first or Permute not in kinds


# Keras 3 says of a Permute after a masked layer, as of a Flatten, that the mask ends there
@pytest.mark.filterwarnings("ignore:Layer .*of type Permute. was passed an input with a mask")
@pytest.mark.parametrize(
    "name", ["both-None-sequence", "states", "mask", "stacked", "both-stateful"]
)
def test_every_framework_computes_channels_first(name):
    model = trained(MODELS[name](True, **FIRST))
    report = xlstm.reconcile(xlstm.load(model), ["keras", "torch", "nnx", "linen"])
    report.check()


def test_moves_of_channels_that_undo_each_other_are_gone():
    first, last = (xlstm.load(MODELS["handed_on"](first)) for first in (True, False))
    states = {edge.node for node in first.layers for edge in node.states}
    assert {first.node(name).spec.kind for name in states} == {"ConvLSTM"}
    assert len(first.layers) == len(last.layers) + 4  # data in and out of two layers


def test_halves_of_two_formats_are_refused():
    L = layers()
    mixed = L.Bidirectional(
        conv_lstm(2, **FIRST), backward_layer=conv_lstm(2, go_backwards=True), merge_mode="sum"
    )
    model = one(mixed, 2, True)
    with pytest.raises(UnsupportedError, match="halves of one data_format"):
        xlstm.load(model)
