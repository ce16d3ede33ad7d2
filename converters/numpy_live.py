"""A model as a plain callable on numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm import reference
from xlstm.model import Array, Model


@dataclass(frozen=True)
class NumpyModel:
    """Calls the float reference on arrays: `outputs = model(*inputs)`.

    Attributes:
        model: the model it computes.
        dtype: what it computes in.
    """

    model: Model
    dtype: np.dtype[Any]

    def __call__(self, *inputs: Array) -> Array | tuple[Array, ...]:
        """Outputs, batch first: one bare, several as a tuple."""
        outputs = reference.run(self.model, inputs, self.dtype)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def build_model(model: Model, dtype: str) -> NumpyModel:
    """The callable for a model."""
    return NumpyModel(model, np.dtype(dtype))
