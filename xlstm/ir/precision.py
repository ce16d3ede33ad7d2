"""The precisions of ports, and half precision in numpy, which does not have all of it.

bfloat16 is no dtype of numpy, and numpy's float16 is slow: here both are float32 arrays with
numbers of the narrower format alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("float32", "float64")
"""Precisions of every comparison; all frameworks have them."""

HALF = ("bfloat16", "float16")
"""Precisions of ports and comparisons on request."""

EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Distance from 1 to the next number."""

TINY = {"float32": 2.0**-126, "float64": 2.0**-1022, "bfloat16": 2.0**-126, "float16": 2.0**-14}
"""The smallest normal numbers; frameworks may treat smaller ones as zero."""

LARGEST = {"bfloat16": (2 - 2.0**-7) * 2.0**127, "float16": 65504.0}
"""The largest numbers."""


def _to_bfloat16(array: Array) -> Array:
    """The upper half of each float32, rounded to nearest, to even between two."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).reshape(np.shape(array))
    kept = (bits.astype(np.int64) + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    wide = kept.astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(array), wide, np.asarray(array, np.float32))


def _to_float16(array: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(array, np.float16)


def cast(array: Array, dtype: Any) -> Array:
    """An array in another precision; for bfloat16 a float32 array of bfloat16 numbers.

    >>> cast(np.array([1.0, 1.005, 3.4e38]), "bfloat16").tolist()
    [1.0, 1.0078125, inf]
    """
    if not isinstance(dtype, str) or dtype not in HALF:
        return np.asarray(array.astype(dtype))
    return _to_bfloat16(array) if dtype == "bfloat16" else _to_float16(array)


class _Rounding(np.ndarray[Any, np.dtype[Any]]):
    """float32 numbers; every result of numpy is rounded to a narrower format as well."""

    narrow: Callable[[Array], Array]

    @classmethod
    def of(cls, result: Any) -> Any:
        """A result of numpy with rounded numbers."""
        if isinstance(result, (tuple, list)):
            return type(result)(map(cls.of, result))
        if not isinstance(result, (np.ndarray, np.floating)) or result.dtype.kind != "f":
            return result
        narrow = cls.narrow(np.asarray(result))
        return np.asarray(narrow, np.float32).view(cls)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """The rounded result of an elementwise function or a matrix product."""
        out = options.pop("out", None)
        result = self.of(getattr(ufunc, method)(*map(_plain, inputs), **options))
        if out is None:
            return result
        out[0][...] = result
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """The rounded result of any other function."""
        return self.of(super().__array_function__(func, types, args, kwargs))


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, _Rounding) else x


class _BFloat16(_Rounding):
    narrow = staticmethod(_to_bfloat16)


def _well_inside(array: Array) -> Array:
    """As float16; numbers near its largest become infinite, as they may in a framework."""
    near = np.abs(array) > LARGEST["float16"] / 2
    return np.where(near, np.copysign(np.inf, array), _to_float16(array))


class _Float16(_Rounding):
    narrow = staticmethod(_well_inside)


def emulated(array: Array, dtype: str) -> Array:
    """Numbers of half precision with which numpy computes as a framework does in that precision.

    Products of matrices are added up in float32 and rounded once, all other results one by one.
    More than half of float16's largest number is infinite.

    >>> (emulated(np.ones(2), "float16") / 3).tolist()
    [0.333251953125, 0.333251953125]
    """
    kind = _BFloat16 if dtype == "bfloat16" else _Float16
    rounded: Array = kind.of(array)
    return rounded
