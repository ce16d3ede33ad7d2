"""Converts one layer's weights to another framework's layout.

In: arrays and two names such as "keras.LSTM" and "torch.LSTM". Out: arrays by the second's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xlstm.errors import UsageError, WeightsError
from xlstm.frameworks import registry
from xlstm.ir.types import Array
from xlstm.slots import Table, pack, sizes_of, unpack


def convert_weights(
    arrays: Mapping[str, Array] | Sequence[Array], source: str, target: str
) -> dict[str, Array]:
    """One layer's weights in another framework's layout, as plain arrays.

    Args:
        arrays: the layer's arrays by the source framework's names, or in its order.
        source: "framework.Layer", such as "keras.LSTM".
        target: likewise, such as "torch.LSTM" or "nnx.OptimizedLSTMCell".

    Returns:
        The target's arrays by its own names; the inputs are not changed.

    Raises:
        UsageError: unknown names, or two different kinds of layer.
        WeightsError: arrays missing, left over, or of shapes that fit no layer.

    >>> converted = convert_weights([np.ones((3, 2)), np.zeros(2)], "keras.Dense", "torch.Linear")
    >>> {name: array.shape for name, array in converted.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    from_table, to_table = registry.table(source), registry.table(target)
    if not isinstance(arrays, Mapping):
        names = [slot.name for slot in from_table.slots]
        names += [f"array {n}" for n in range(len(names), len(arrays))]
        arrays = dict(zip(names, arrays, strict=False))
    named = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in named.items():
        if array.dtype.kind not in "fiubV":  # V: bfloat16 and the like
            raise WeightsError(name, "numbers", f"dtype {array.dtype}", "pass plain arrays")
    return _converted(from_table, to_table, named)


def _converted(source: Table, target: Table, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One layer's framework tensors as another framework's, with sizes from the shapes.

    Raises:
        UsageError: the two tables are of different kinds of layer.
        WeightsError: arrays missing, left over, or of shapes that fit no layer.
    """
    if source.kind is not target.kind:
        want = f"two layouts of one kind of layer ({source.kind.name})"
        raise UsageError("convert_weights", want, target.kind.name, "name the same layer twice")
    sizes = sizes_of(source, arrays)
    present = {slot.tensor for slot in source.slots if slot.name in arrays}
    absent = frozenset(source.kind.tensors) - present if present >= {"kernel"} else frozenset()
    absent &= frozenset({"bias"})
    canonical = unpack(source, arrays, sizes, absent, "convert_weights")
    return {name: np.array(array) for name, array in pack(target, canonical, sizes, absent).items()}
