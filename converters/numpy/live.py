"""Runs a model on numpy arrays. In: a Model. Out: a callable that returns arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm import reference
from xlstm.errors import UsageError
from xlstm.ir.graph import Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.types import Array
from xlstm.reference.run import State


@dataclass(frozen=True)
class NumpyModel:
    """Calls the float reference on arrays: `outputs = model(*inputs)`.

    Attributes:
        model: the model to compute.
        dtype: precision of the computation.
    """

    model: Model
    dtype: np.dtype[Any]

    def __call__(self, *inputs: Array, state: State | None = None) -> Any:
        """Returns the outputs, batch first: one alone, several as a tuple or, with keys, as a dict.

        A model with stateful layers returns a pair: the outputs and its state after the call. The
        state maps a layer's name to its states (batch, n), an LSTM's h and c. Pass it to the next
        call; None starts from zeros.
        """
        names = identifiers(self.model)
        own = {names[node.name]: node for node in self.model.stateful}
        before = None if state is None else {_named(own, key): state[key] for key in state}
        found = reference.run(self.model, inputs, self.dtype, state=before)
        count = len(self.model.outputs)
        outputs: Any = found[0] if count == 1 else tuple(found[:count])
        if self.model.keys:
            outputs = dict(zip(self.model.keys, found, strict=False))
        if not own:
            return outputs
        left, after = iter(found[count:]), {}
        for name, node in own.items():
            spec: Any = node.spec
            after[name] = tuple(next(left) for _ in spec.state_shapes())
        return outputs, after


def _named(own: dict[str, Node], key: str) -> str:
    return own[key].name if key in own else key


def build_model(model: Model, dtype: str) -> NumpyModel:
    """Returns the callable for a model.

    Raises:
        UsageError: half precision, which numpy supports only in part, and slowly.
    """
    if dtype in HALF:
        want, do = " or ".join(DTYPES), "port to another framework"
        raise UsageError("dtype of a port to numpy", want, dtype, do)
    return NumpyModel(model, np.dtype(dtype))
