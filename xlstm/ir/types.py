"""Types that all parts of xlstm share."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of numpy, of any dtype and shape."""

Shape = tuple[int | None, ...]
"""Sizes of one sample, without the batch; None is any length."""
