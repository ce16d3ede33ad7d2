"""bfloat16, the upper half of a float32, which numpy does not have.

In: arrays of two bytes per element. Out: float32 arrays.
"""

from __future__ import annotations

import numpy as np

from xlstm.ir.types import Array


def widen(raw: Array) -> Array:
    """Converts numbers stored as bfloat16 to float32, which is exact.

    Args:
        raw: an array of any shape whose elements are the two bytes of a bfloat16.

    Returns:
        A float32 array of that shape.

    >>> widen(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(raw.shape)
