"""Padding of Theano that differs from TensorFlow's; imports no framework.

"same" means, for a convolution, size // 2 zeros before and the rest of size - 1 after, for all
strides. TensorFlow has one less before an even window, and uses the strides. Pools have places
before the first one that no spec has.
"""

from __future__ import annotations

from collections.abc import Sequence

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir.layers import Conv, LayerSpec, Pad

from ..context import LIMITS, ReadContext


def is_theano(reader: ReadContext, where: str) -> bool:
    """True if Theano computed the model.

    Raises:
        UsageError: a file of Keras 1 without a backend.
    """
    backend = reader.backend
    if reader.weights_major == 1 and not backend:
        do = 'say kernel_layout="tensorflow" or "theano" when loading it'
        raise UsageError(where, "whether TensorFlow or Theano padded it", "none in the file", do)
    return backend == "theano"


def _differs(window: Sequence[int], strides: Sequence[int], padding: str) -> bool:
    """True if "same" may be other places in Theano."""
    pairs = zip(window, strides, strict=True)
    return padding == "same" and any(n % 2 == 0 or (n > 1 and s > 1) for n, s in pairs)


def padded(reader: ReadContext, spec: Conv, where: str) -> list[LayerSpec]:
    """Returns a convolution, after the zeros that Theano adds where these differ.

    Raises:
        UnsupportedError: even windows with dilation.
    """
    volume = len(spec.window) == 3 and reader.major == 1  # padded as TensorFlow does
    if not _differs(spec.window, spec.strides, spec.padding) or volume:
        return [spec]
    if not is_theano(reader, where):
        return [spec]
    if {*spec.dilation} != {1}:
        raise _refused(where, spec.window)
    before = tuple(size // 2 for size in spec.window)
    after = tuple((size - 1) // 2 for size in spec.window)
    plain = {name: getattr(spec, name) for name in ("strides", "dilation", "groups", "use_bias")}
    return [
        Pad(before, after),
        Conv(spec.features, spec.units, spec.window, spec.activation, **plain),
    ]


def check_same(
    reader: ReadContext, window: Sequence[int], strides: Sequence[int], padding: str, where: str
) -> None:
    """Raises UnsupportedError for other layers where Theano pads otherwise."""
    if _differs(window, strides, padding) and is_theano(reader, where):
        raise _refused(where, window)


def check_pool(
    reader: ReadContext, window: Sequence[int], strides: Sequence[int], padding: str, where: str
) -> None:
    """Raises UnsupportedError for pools that Theano pads otherwise: all but windows of 3."""
    pairs = zip(window, strides, strict=True)
    alike = all(n == 1 or (n == 3 and s == 1) for n, s in pairs)
    if padding == "same" and not alike and is_theano(reader, where):
        raise _refused(where, window)


def _refused(where: str, window: Sequence[int]) -> UnsupportedError:
    want, got = 'padding that TensorFlow has too, not "same" as Theano does it', f"{tuple(window)}"
    return UnsupportedError(where, want, f"a window of {got}", LIMITS)
