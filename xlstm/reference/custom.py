"""Forward pass of layers that the user registered, by the user's own function."""

from __future__ import annotations

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.context import FORWARD, Context


@FORWARD.of(L.Custom)
def custom(spec: L.Custom, *args: Array | Context) -> list[Array]:
    """The outputs of the registered function, in order."""
    *arrays, last = args
    assert isinstance(last, Context)
    context, inputs = last, [np.asarray(x) for x in arrays]
    try:
        return spec.registered.run(spec.options, context.weights, inputs, context.mask)
    except UsageError as error:
        where = f"layer {context.name}, {error.where}"
        raise UsageError(where, error.expected, error.got, error.do) from error
