"""Activations that Keras 3 has no name for, in stock layers that every Keras 3 loads.

Copied as text into emitted modules.
"""

import keras
import numpy as np


def hard_sigmoid_keras2(dtype: str) -> keras.Sequential:
    """clip(0.2 x + 0.5, 0, 1), the hard_sigmoid of Keras 1 and 2, in stock layers."""
    stock = keras.Sequential(
        [
            # TensorFlow rounds a plain 0.2 to float32 even where it computes in float64
            keras.layers.Rescaling(np.float64(0.2), 0.5, dtype=dtype),
            keras.layers.ReLU(max_value=1.0, dtype=dtype),
        ]
    )
    stock.dtype_policy = dtype  # else its first call casts to float32
    return stock


def leaky_relu_01(dtype: str) -> keras.Layer:
    """Leaky ReLU with the slope of PyTorch and JAX; Keras's function has 0.2."""
    return keras.layers.LeakyReLU(negative_slope=0.01, dtype=dtype)


def gelu_tanh(dtype: str, rank: int) -> keras.Model:
    """X sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), JAX's gelu, for `rank` axes."""
    x = keras.Input((None,) * (rank - 1), dtype=dtype)
    cube = keras.layers.Multiply(dtype=dtype)([x, x, x])
    # TensorFlow rounds a plain number to float32 even where it computes in float64
    cube = keras.layers.Rescaling(np.float64(0.044715), dtype=dtype)(cube)
    inner = keras.layers.Add(dtype=dtype)([x, cube])
    inner = keras.layers.Rescaling(np.float64(1.5957691216057308), dtype=dtype)(inner)
    gate = keras.layers.Activation("sigmoid", dtype=dtype)(inner)
    return keras.Model(x, keras.layers.Multiply(dtype=dtype)([x, gate]))
