"""The layers of a model as prepared functions, in order, with the numbers of their values.

In: a model. Out: a `Program`, which `live.py` runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers

from .layers import Layer, prepare_layer


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
