"""Runs a model on numpy arrays. In: a Model. Out: a callable that returns arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir.graph import Model, Node
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.types import Array
from xlstm.reference.run import State, check_inputs, check_state

from . import many_models
from .program import Program, program


def prepare_fork() -> None:
    """Does nothing: numpy computes in a forked process as it is."""


@dataclass(frozen=True)
class NumpyModel:
    """Computes a model on arrays: `outputs = model(*inputs)`.

    Weights are cast and ordered once, when it is made. It keeps memory for the next call, for every
    thread apart; results are arrays of their own. Threads may call it at the same time.

    Attributes:
        model: the model to compute.
        dtype: precision of the computation.
    """

    model: Model
    dtype: np.dtype[Any]
    _program: Program = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_program", program(self.model, self.dtype))

    def __reduce__(self) -> tuple[Any, ...]:
        return NumpyModel, (self.model, self.dtype)

    def __call__(self, *inputs: Array, state: State | None = None) -> Any:
        """Returns the outputs, batch first: one alone, several as a tuple or, with keys, as a dict.

        A model with stateful layers returns a pair: the outputs and its state after the call. The
        state maps a layer's name to its states (batch, n), an LSTM's h and c. Pass it to the next
        call; None starts from zeros.

        Raises:
            UsageError: the number or the shapes of the inputs, or the states, do not fit the model.
        """
        own = self._program.stateful
        before = None if state is None else {_named(own, key): state[key] for key in state}
        check_inputs(self.model, inputs)
        check_state(self.model, inputs, before)
        found, last = self._run_any(inputs, before or {})
        outputs: Any = found[0] if len(found) == 1 else tuple(found)
        if self.model.keys:
            outputs = dict(zip(self.model.keys, found, strict=True))
        if not own:
            return outputs
        return outputs, {name: tuple(last[node.name]) for name, node in own.items()}

    def _run_any(
        self, inputs: Sequence[Array], before: State
    ) -> tuple[list[Array], dict[str, list[Array]]]:
        """As `_run`; without samples, one of zeros is run and cut off.

        numpy infers no size of an axis from no numbers.
        """
        if any(np.shape(x)[:1] != (0,) for x in inputs):
            return self._run(inputs, before)
        one = [np.zeros((1, *np.shape(x)[1:]), np.asarray(x).dtype) for x in inputs]
        found, last = self._run(one, {})
        return [y[:0] for y in found], {name: [s[:0] for s in own] for name, own in last.items()}

    def _run(
        self, inputs: Sequence[Array], before: State
    ) -> tuple[list[Array], dict[str, list[Array]]]:
        """Returns the outputs, and the last states of stateful layers."""
        values: dict[int, Array] = {}
        for (number, is_mask), x in zip(self._program.starts, inputs, strict=True):
            array = np.asanyarray(x)
            values[number] = array != 0 if is_mask else array.astype(self.dtype)
        last: dict[str, list[Array]] = {}
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            for node, layer, reads, mask, states, first in self._program.steps:
                start = [np.asarray(s, self.dtype) for s in before.get(node.name, ())]
                start = start or [values[number] for number in states]
                seen = None if mask is None else values[mask]
                outputs, after = layer([values[number] for number in reads], seen, start)
                values.update(enumerate(outputs, first))
                if node.stateful:
                    last[node.name] = after
        return [values[number] for number in self._program.outputs], last


def _named(own: Mapping[str, Node], key: str) -> str:
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


def compiled(ported: NumpyModel, examples: Sequence[Array]) -> Callable[..., Any]:
    """Returns the port, which has its weights prepared and keeps its buffers; runs the examples."""
    if examples:
        ported(*examples)
    return ported


def build_stack(models: Sequence[Model], dtype: str, chunk: int | None) -> Any:
    """Returns the callable for many models of one graph.

    Raises:
        UsageError: half precision, as `build_model` raises.
    """
    build_model(models[0], dtype)
    return many_models.build_stack(models, dtype, chunk)


def stack_weights(stack: Any) -> dict[str, Array]:
    """Returns the canonical tensors of many models, (models, ...), as "layer/tensor"."""
    first = stack.models[0].weights
    return {
        f"{layer}/{name}": np.stack([model.weights[layer][name] for model in stack.models])
        for layer, own in first.items()
        for name in own
    }


def run_stack(stack: Any, inputs: Sequence[Array], _dtype: str) -> list[Array]:
    """Returns the outputs of many models as a list."""
    outputs = stack(*inputs)
    if isinstance(outputs, dict):
        return [*outputs.values()]
    return [*outputs] if isinstance(outputs, tuple) else [outputs]
