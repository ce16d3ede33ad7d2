"""Runs a model on numpy arrays. In: a Model. Out: a callable that returns arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.types import Array
from xlstm.reference.run import State, check_inputs, check_state

from .layers import Layer, prepare_layer


def prepare_fork() -> None:
    """Does nothing: numpy computes in a forked process as it is."""


class Step(NamedTuple):
    """One layer of a model, with the numbers of the values that it reads and gives.

    Attributes:
        node: of the model.
        layer: computes it.
        inputs: numbers of its inputs.
        mask: number of its mask, None without one.
        states: numbers of its initial states.
        first: number of its first output.
    """

    node: Node
    layer: Layer
    inputs: tuple[int, ...]
    mask: int | None
    states: tuple[int, ...]
    first: int


class Program(NamedTuple):
    """A model whose layers are prepared.

    Attributes:
        starts: number of each input's value, and True for one that is a mask.
        steps: the layers, in order.
        outputs: numbers of the values that the model returns.
        stateful: identifier of each stateful layer -> its node.
    """

    starts: tuple[tuple[int, bool], ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    stateful: Mapping[str, Node]


def program(model: Model, dtype: np.dtype[Any]) -> Program:
    """Prepares the layers of a model, with their weights in `dtype`."""
    edges = (Edge(node.name, n) for node in model.nodes for n in range(len(node.shapes)))
    numbers = {edge: number for number, edge in enumerate(edges)}
    inputs = [(numbers[Edge(name)], model.node(name).spec) for name in model.inputs]
    names = identifiers(model)
    return Program(
        tuple((n, isinstance(spec, L.Input) and spec.dtype == "bool") for n, spec in inputs),
        tuple(_steps(model, dtype, numbers)),
        tuple(numbers[edge] for edge in model.outputs),
        {names[node.name]: node for node in model.stateful},
    )


def _steps(model: Model, dtype: np.dtype[Any], numbers: Mapping[Edge, int]) -> Iterator[Step]:
    cast = {
        owner: {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
        for owner, arrays in model.weights.items()
    }
    for node in model.layers:
        yield Step(
            node,
            prepare_layer(node, cast.get(node.owner, {})),
            tuple(numbers[edge] for edge in node.inputs),
            None if node.mask is None else numbers[node.mask],
            tuple(numbers[edge] for edge in node.states),
            numbers[Edge(node.name)],
        )


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
