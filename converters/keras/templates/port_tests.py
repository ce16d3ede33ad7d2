"""Runs a Keras port in its tests; copied as text into test_port.py."""

import functools
from types import ModuleType

import keras
import numpy as np

PORT = ModuleType("ported_model")


@functools.cache
def ported(dtype: str) -> keras.Model:
    """The model in this folder, with its weights."""
    return PORT.load(dtype=dtype)


def run(dtype: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every output of the port, for inputs of this dtype; masks are bool."""
    model = ported(dtype)
    tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
    outputs = model(tensors if len(tensors) > 1 else tensors[0], training=False)
    found = [outputs]
    return [np.asarray(keras.ops.convert_to_numpy(y)) for y in found]
