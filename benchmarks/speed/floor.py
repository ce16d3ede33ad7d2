"""The time that no program passes: reading the recurrent weights once a step from their cache."""

from __future__ import annotations

import functools
import time

import numpy as np

from xlstm.counting.operations import recurrent_bytes
from xlstm.ir import layers as L

ROUNDS = 30
CALL = 2048
"""Bytes of an array whose product costs nothing but the call."""
SMALLEST = 32 * 1024
"""Bytes of an array whose reading can be timed; it lies in the first cache as smaller ones do."""


@functools.cache
def bandwidth(size: int) -> float:
    """Returns bytes a second at which one processor reads `size` bytes again and again.

    It is the speed of `numpy.dot` of an array with itself, without the time of the call.

    >>> bandwidth(2**16) > 1e8
    True
    """
    array = np.ones(max(size, SMALLEST) // 4, "float32")
    tiny = np.ones(CALL // 4, "float32")
    whole, call = _seconds(array), _seconds(tiny)
    return (array.nbytes - tiny.nbytes) / max(whole - call, 1e-12)


def _seconds(array: np.ndarray) -> float:
    """Returns the shortest mean time of a product of an array with itself."""
    repeats = max(20, int(2e-3 / (array.nbytes / 2e10)))
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            array.dot(array)
        found.append((time.perf_counter() - start) / repeats)
    return min(found)


def floor(spec: L.Recurrent, steps: int) -> float:
    """Returns the seconds of a sequence in which only the recurrent weights are read."""
    size = recurrent_bytes(spec)
    return steps * size / bandwidth(size)
