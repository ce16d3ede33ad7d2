"""Weights of the size that training leaves: mistakes that zeros and tiny numbers hide are seen.

In: a layer spec and a generator of numpy. Out: canonical tensors by name.

>>> from xlstm.model import Dense
>>> [(n, a.shape) for n, a in trained_weights(Dense(3, 4), np.random.default_rng(0)).items()]
[('kernel', (3, 4)), ('bias', (4,))]
"""

from __future__ import annotations

import numpy as np

from xlstm.ir.kinds import KINDS
from xlstm.ir.layers import LayerSpec
from xlstm.ir.types import Array


def trained_weights(
    spec: LayerSpec, rng: np.random.Generator, gain: float = 1.0
) -> dict[str, Array]:
    """Returns random weights of a layer: none is zero, and no two are alike.

    Kernels have the deviation gain / sqrt(inputs), biases and other vectors 1/2. Variances are
    positive. A GRU that has two biases gets two that differ.

    Args:
        spec: the layer.
        rng: source of the numbers.
        gain: factor of kernels; above 1 more activations saturate.

    Returns:
        Canonical tensor name -> float32 array, in the axes of `xlstm.ir.kinds`.
    """
    weights = {}
    for before, part in spec.weighted_parts:
        kind = KINDS[part.weight_kind]
        sides = 2 if part.weight_kind == "GRU" else 1
        sizes = {**kind.axis_sizes(part.sizes()), "s": sides}
        for tensor, axes in kind.tensors.items():
            if tensor in part.missing_tensors():
                continue
            shape = [sizes[axis] for axis in axes]
            plain = tensor == "bias" or len(shape) < 2
            scale = 0.5 if plain else gain / np.sqrt(shape[-2])
            array = rng.standard_normal(shape) * scale
            array = np.exp(array) if tensor == "variance" else array
            weights[before + tensor] = array.astype(np.float32)
    return weights
