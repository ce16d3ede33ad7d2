"""Keras models with weights of a trained one's scale, and what Keras makes of drawn inputs."""

import keras
import numpy as np

import xlstm


def trained(model):
    """The model, its weights drawn anew."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.6, w.shape).astype("float32") for w in model.weights])
    return model


def drawn(model, steps=7):
    """Two samples of every input; `steps` where a length is open."""
    rng = np.random.default_rng(1)
    shapes = [[n or steps for n in x.shape[1:]] for x in model.inputs]
    return [rng.normal(size=(2, *shape)).astype("float32") for shape in shapes]


def outputs(model, x):
    """Keras's own outputs, flat."""
    return [np.asarray(y) for y in keras.tree.flatten(model(x if len(x) > 1 else x[0]))]


def check_ported(model, source, x, framework="numpy"):
    """A port computes what the model does."""
    ported = xlstm.port(source, framework)
    found = outputs(ported, x) if framework == "keras" else keras.tree.flatten(ported(*x))
    for got, want in zip(found, outputs(model, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)
