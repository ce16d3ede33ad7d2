"""Models of Keras: norms with statistics of several axes, or in the config; attention's weights."""

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


def weighed():
    """Attention that gives its weights, with masks, of a line that is no word too."""
    a, b = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="int32")
    words = L.Embedding(7, 4, mask_zero=True)
    found, x, y = [], words(a), words(b)
    for layer in (L.Attention(), L.AdditiveAttention()):
        found += layer([x, y], return_attention_scores=True)
        found.append(L.LSTM(3)(layer([y, x], return_attention_scores=True)[0]))
    plain = L.Embedding(7, 4)(a)
    found += L.MultiHeadAttention(2, 3)(plain, words(b), return_attention_scores=True)
    found += L.MultiHeadAttention(2, 3, value_dim=2)(
        plain, plain, return_attention_scores=True, use_causal_mask=True
    )
    ids = np.random.default_rng(0).integers(0, 7, (2, 4, 5)).astype("int32")
    ids[:, 1] = 0
    return keras.Model([a, b], found), [*ids]


LAYER_MODELS = {"normalised": normalised, "weighed": weighed}
