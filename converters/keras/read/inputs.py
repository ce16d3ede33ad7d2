"""How input layers of Keras are read; imports no framework."""

from __future__ import annotations

from xlstm.errors import FileError, UnsupportedError
from xlstm.ir.graph import Input

from .context import DTYPES, LIMITS, WHOLE, Config, dtype_policy

INPUT_ONLY = {"sparse": False, "ragged": False, "optional": False}
"""Options of input layers of which one value is supported."""


def read_input(config: Config, where: str) -> Input:
    """An input layer, whichever era's words its options are in."""
    for key, value in INPUT_ONLY.items():
        if config.get(key) not in (None, value):
            got = f"{key}={config[key]!r}"
            raise UnsupportedError(where, f"{key}={value!r}", got, LIMITS)
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(shape, (list, tuple)) or not all(
        size is None or (type(size) is int and size > 0) for size in shape
    ):
        got = "none in the config" if shape is None else shape
        raise FileError(where, "an input shape", got, "build the model first")
    dtype = dtype_policy(config.get("dtype") or config.get("input_dtype"))
    dtype = dtype if dtype in (*DTYPES, *WHOLE) else "float32"
    return Input(tuple(shape[1:]), dtype, shape[0] if shape else None)
