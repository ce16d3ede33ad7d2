"""Layers with channels_first: their axes are moved once, not at every layer, and come out right."""

import keras
import numpy as np
import pytest
from keras import layers as L

import xlstm
from xlstm.ir.layers import Permute, TimeDistributed

FIRST, LAST = {"data_format": "channels_first"}, {"data_format": "channels_last"}


def chain(x, how, axis):
    x = L.Conv2D(4, 3, activation="relu", **how)(x)
    x = L.BatchNormalization(axis=axis)(x)
    x = L.Activation("tanh")(x)
    x = L.Dropout(0.3)(x)
    x = L.MaxPooling2D(2, **how)(x)
    x = L.Conv2D(5, 2, padding="same", **how)(x)
    return L.GlobalAveragePooling2D(**how)(x)


def softmax(x, how, axis):
    # of the last axis, wherever the channels are: nothing can be left out around it
    x = L.Conv2D(4, 3, **how)(x)
    x = L.Softmax(axis=axis)(x)
    return L.GlobalMaxPooling2D(**how)(L.Conv2D(2, 2, **how)(x))


def branches(x, how, axis):
    x = L.LeakyReLU()(L.Conv2D(4, 3, **how)(x))
    a = L.GlobalMaxPooling2D(**how)(L.Conv2D(2, 2, **how)(x))
    return L.Concatenate()([a, L.GlobalAveragePooling2D(**how)(x)])


def shared(x, how, axis):
    layer = L.Conv2D(3, 3, padding="same", **how)
    return L.GlobalMaxPooling2D(**how)(layer(L.ReLU()(layer(x))))


def every_step(x, how, axis):
    x = L.Reshape((2, *((3, 5, 8) if axis == 1 else (5, 8, 3))))(x)
    for layer in (L.Conv2D(4, 3, **how), L.Activation("relu"), L.MaxPooling2D(2, **how)):
        x = L.TimeDistributed(layer)(x)
    return L.LSTM(3)(L.TimeDistributed(L.GlobalMaxPooling2D(**how))(x))


MODELS = {"chain": (chain, 1), "softmax": (softmax, None), "branches": (branches, 1)}
MODELS |= {"shared": (shared, None), "every step": (every_step, 1)}
"""What is built, and how many moves of axes are left; None where it is not said."""


def pair(name):
    """The same model with channels first and, behind a move of its input, with channels last."""
    shape = (2 * 3, 5, 8) if name == "every step" else (3, 9, 8)
    found = []
    for how, axis in ((FIRST, 1), (LAST, -1)):
        keras.utils.set_random_seed(4)
        x = y = keras.Input(shape)
        if axis == -1:
            y = L.Reshape((2, 3, 5, 8))(y) if name == "every step" else y
            rank = len(y.shape) - 1
            before = range(1, rank - 2)
            y = L.Permute((*before, rank - 1, rank, rank - 2))(y)
        found.append(keras.Model(x, MODELS[name][0](y, how, axis)))
    one, other = found
    rng = np.random.default_rng(2)
    weights = [np.abs(rng.normal(size=w.shape) * 0.2).astype("float32") for w in one.get_weights()]
    one.set_weights(weights)
    other.set_weights(weights)
    return one, other, rng.normal(size=(4, *shape)).astype("float32")


@pytest.mark.parametrize("name", MODELS)
def test_axes_are_moved_once(name, tmp_path):
    one, other, x = pair(name)
    one.save(tmp_path / "m.keras")
    model = xlstm.load(tmp_path / "m.keras")
    want = np.asarray(other(x))
    assert np.ptp(want) > 0.1
    for framework in ("numpy", "torch", "nnx"):
        got = xlstm.port(model, framework)(x if framework != "torch" else torch_tensor(x))
        np.testing.assert_allclose(as_array(got), want, rtol=2e-5, atol=2e-5)
    moves = [n for n in model.layers if isinstance(inner(n.spec), Permute)]
    wanted = MODELS[name][1]
    assert wanted is None or len(moves) == wanted
    assert {layer.name for layer in one.layers} <= {*model.names}


def test_a_move_that_the_user_wrote_stays():
    x = keras.Input((3, 9, 8))
    y = L.Conv2D(2, 2, **LAST, name="conv")(L.Permute((2, 3, 1), name="mine")(x))
    y = L.Permute((3, 1, 2), name="back")(y)
    model = xlstm.load(keras.Model(x, L.GlobalMaxPooling2D(**FIRST)(y)))
    assert {"mine", "back"} <= {*model.names}


def test_an_output_has_its_channels_first():
    x = keras.Input((3, 9, 8))
    y = L.Conv2D(4, 2, **FIRST)(x)
    model = xlstm.load(keras.Model(x, [y, L.GlobalMaxPooling2D(**FIRST)(y)]))
    assert [model.shape(edge) for edge in model.outputs] == [(4, 8, 7), (4,)]


def inner(spec):
    return spec.layer if isinstance(spec, TimeDistributed) else spec


def torch_tensor(x):
    import torch

    return torch.from_numpy(x)


def as_array(y):
    return y.detach().numpy() if hasattr(y, "detach") else np.asarray(y)


def nested(x):
    inner = keras.Sequential(
        [keras.Input((5, 4)), L.TimeDistributed(L.Dense(2, "tanh")), L.LSTM(3)]
    )
    return L.GRU(2)(L.TimeDistributed(inner)(x))


def twice(x):
    y = L.TimeDistributed(L.TimeDistributed(L.Dense(3, activation="softmax")))(x)
    return L.TimeDistributed(L.TimeDistributed(L.LayerNormalization()))(y)


@pytest.mark.parametrize("make", [nested, twice])
def test_steps_of_steps(make, tmp_path):
    keras.utils.set_random_seed(6)
    x = keras.Input((3, 5, 4))
    source = keras.Model(x, make(x))
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=w.shape).astype("float32") for w in source.get_weights()]
    source.set_weights(weights)
    source.save(tmp_path / "m.keras")
    x = rng.normal(size=(4, 3, 5, 4)).astype("float32")
    want = source.predict(x, verbose=0)
    for given in (source, tmp_path / "m.keras"):
        model = xlstm.load(given)
        np.testing.assert_allclose(xlstm.port(model, "numpy")(x), want, rtol=0, atol=2e-6)
    xlstm.reconcile(model, ["torch", "nnx", "linen", "keras"]).check()
