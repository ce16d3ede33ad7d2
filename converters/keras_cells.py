"""Own functions for Keras 3, copied as text into emitted modules."""

import keras
import numpy as np


def hard_sigmoid_keras2(dtype: str) -> keras.Sequential:
    """clip(0.2 x + 0.5, 0, 1) of Keras 1 and 2, in stock layers that every Keras 3 loads."""
    stock = keras.Sequential(
        [
            # TensorFlow rounds a plain 0.2 to float32 even where it computes in float64
            keras.layers.Rescaling(np.float64(0.2), 0.5, dtype=dtype),
            keras.layers.ReLU(max_value=1.0, dtype=dtype),
        ]
    )
    stock.dtype_policy = dtype  # else its first call casts to float32
    return stock
