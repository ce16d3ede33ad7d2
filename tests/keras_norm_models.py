"""Models of Keras whose normalisations have statistics of several axes, or in the config."""

import keras
import numpy as np
from keras_operation_models import L, numbers


def normalised():
    """Numbers of the config, and those that layers keep, of every kind of axes."""
    a, b = keras.Input((5, 4)), keras.Input((3, 5, 4))
    every, five = np.arange(20.0).reshape(5, 4), [1.0, -2.0, 0.5, 3.0, 0.0]
    layers = [
        L.Normalization(mean=[0.5, -1.0, 2.0, 0.0], variance=[0.1, 4.0, 0.0, 2.5]),
        L.Normalization(mean=five, variance=[0.5, 1, 2, 3, 4], axis=1, invert=True),
        L.Normalization(mean=0.3, variance=2.0, axis=None),
        L.Normalization(mean=every, variance=every + 0.5, axis=(1, 2)),
        L.Normalization(axis=None),
        L.Normalization(axis=[1, 2], invert=True),
        L.LayerNormalization(axis=[1, 2]),
        L.Rescaling([0.1, 2.0, -3.0, 4.0], offset=[0.0, 1.0, -2.0, 0.5]),
        L.Rescaling(2.0, offset=[0.5, 0.0, 1.0, 3.0]),
    ]
    outputs = [layer(a) for layer in layers]
    outputs += [L.Normalization(axis=[1, 3])(b), L.LayerNormalization(axis=[-1, 1])(b)]
    outputs += [L.LayerNormalization(axis=[2, 3], scale=False)(b), L.Softmax(axis=[1, 2])(b)]
    outputs += [L.UnitNormalization(axis=[1, 3])(b)]
    return keras.Model([a, b], outputs), [numbers(5, 4), numbers(3, 5, 4, seed=1)]


NORM_MODELS = {"normalised": normalised}
