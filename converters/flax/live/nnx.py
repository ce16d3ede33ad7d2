"""Reads live Flax NNX modules, builds and runs ports; imports Flax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from flax import nnx

from xlstm.errors import UnsupportedError
from xlstm.frameworks.array_tree import Leaf, leaf_of
from xlstm.ir.graph import Model
from xlstm.ir.layers import Dense
from xlstm.ir.types import Array
from xlstm.slots import unpack

from ...codegen.half_precision import check_scores
from ..read.recurrent import (
    FlaxCell,
    as_model,
    cell_spec,
    check_halves,
    check_start,
    joined,
    walked,
)
from ..read.sequential import IN_SEQUENTIAL, ChainReader, Member
from ..slots import NNX_TABLES
from .common import Factors, arrays, check_dtype, flat, listed, lowers, precision, to_numpy
from .common import gradients as shared_gradients
from .common import step as shared_step

CELLS = (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell)
"""Cells with a table of the same name as their class."""


def _cell(cell: Any, where: str) -> FlaxCell:
    kind = type(cell)
    if kind not in CELLS:
        known = ", ".join(f"nnx.{known.__name__}" for known in CELLS)
        want = (
            f"nnx.Linear, or one of {known}, alone, in nnx.RNN or nnx.Bidirectional, or "
            f"{IN_SEQUENTIAL}"
        )
        do = "pass the layers one by one, or the folder or the object that xlstm made"
        raise UnsupportedError(where, want, kind.__name__, do)
    check_start(cell.carry_init is None, where)
    spec = cell_spec(cell, kind.__name__, cell.in_features, cell.hidden_features, where)
    table = NNX_TABLES[kind.__name__]
    return FlaxCell(spec, unpack(table, weights(cell), spec.sizes(), spec.missing_tensors(), where))


def _found(source: Any, where: str) -> FlaxCell:
    if type(source) is nnx.Linear:
        check_dtype(source, where)
        spec = Dense(source.in_features, source.out_features, use_bias=source.use_bias)
        held = weights(source)
        return FlaxCell(
            spec, unpack(NNX_TABLES["Linear"], held, spec.sizes(), spec.missing_tensors(), where)
        )
    if type(source) is nnx.RNN:
        return walked(_cell(source.cell, where), source)
    if type(source) is nnx.Bidirectional:
        check_halves(source, nnx.RNN, where)
        halves: Any = (source.forward_rnn, source.backward_rnn)
        forward, backward = (_cell(half.cell, where) for half in halves)
        return joined(forward, backward, source)
    return _cell(source, where)


def _members(
    source: nnx.Sequential, seen: set[int], numbers: tuple[int, ...] = ()
) -> Iterator[Member]:
    """Yields the members of a Sequential, nested ones included; `seen` has earlier parameters."""
    for number, module in enumerate(source.layers):
        here = (*numbers, number)
        if type(module) is nnx.Sequential:
            yield from _members(module, seen, here)
        elif not isinstance(module, nnx.Module):
            yield Member(here, module, {})
        else:
            leaves = (leaf for _, leaf in nnx.iter_graph(module))
            own = {id(leaf) for leaf in leaves if isinstance(leaf, (nnx.Param, nnx.BatchStat))}
            yield Member(here, module, weights(module), bool(own & seen))
            seen |= own


CHAIN = ChainReader(
    "nnx",
    nnx,
    NNX_TABLES,
    (nnx.Linear, nnx.RNN, nnx.Bidirectional),
    lambda module, _held, where: _found(module, where),
)


def read(source: nnx.Module) -> Model:
    """Reads a live cell, `nnx.RNN`, `nnx.Bidirectional`, `nnx.Linear` or `nnx.Sequential`.

    Raises:
        UnsupportedError: another module or option.
    """
    if type(source) is nnx.Sequential:
        return CHAIN.read(_members(source, set()))
    kind = type(source).__name__
    return as_model(_found(source, f"nnx {kind}"), "nnx", f"live nnx.{kind}")


def check_half(model: Model, dtype: str) -> None:
    """Raises UnsupportedError where half precision cannot store a number of the model."""
    check_scores(model, "nnx", dtype, lowers)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> nnx.Module:
    """Builds the module of emitted `code` with these weights."""
    with precision(dtype):
        built: nnx.Module = code.build(weights, np.dtype(dtype))
    return built


@nnx.jit
def _apply(model: Any, *inputs: jax.Array) -> Any:
    return model(*inputs)


def run(ported: nnx.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Returns outputs for numpy inputs, through `nnx.jit`."""
    with precision(dtype):
        return flat(ported, _apply(ported, *arrays(inputs, dtype)))


def gradients(
    ported: nnx.Module,
    inputs: Sequence[Array],
    factors: Factors,
    moved: Sequence[bool],
    dtype: str,
) -> tuple[dict[str, Array], list[Array | None]]:
    """Returns gradients of the sum of outputs times `factors`: of weights by name, of inputs."""
    with precision(dtype):
        graph, held, rest = nnx.split(ported, nnx.Param, ...)
        call = _caller(ported, graph, rest)
        of_held, of_inputs = shared_gradients(call, held, inputs, factors, moved, dtype)
        flat_state = nnx.to_flat_state(of_held)
        by_name = {".".join(map(str, p)): to_numpy(g.get_value()) for p, g in flat_state}
        return by_name, of_inputs


def _caller(ported: nnx.Module, graph: Any, rest: Any) -> Callable[[Any, list[Any]], list[Any]]:
    """Returns a function (parameters, inputs) -> outputs."""
    return lambda held, given: listed(ported, nnx.merge(graph, held, rest)(*given))


def step(
    ported: nnx.Module, inputs: Sequence[Array], factors: Factors, rate: float, dtype: str
) -> dict[str, Array]:
    """Returns weights by name after one step of plain SGD on the sum of outputs times `factors`."""
    with precision(dtype):
        graph, held, rest = nnx.split(ported, nnx.Param, ...)
        call, still = _caller(ported, graph, rest), [False] * len(inputs)
        moved = shared_step(call, held, inputs, factors, still, rate, dtype)
        return weights(nnx.merge(graph, moved, rest))


def count(ported: nnx.Module) -> int:
    """Returns the number of elements of all `nnx.Param`."""
    return sum(p.size for p in jax.tree.leaves(nnx.state(ported, nnx.Param)))


def leaves(source: Any) -> dict[str, Leaf]:
    """Returns every variable of a module, for counting, without the state of random numbers."""
    if not isinstance(source, nnx.Module):
        return {}
    found = {}
    for path, variable in nnx.to_flat_state(nnx.state(source)):
        if isinstance(variable, nnx.Variable) and not isinstance(variable, nnx.RngState):
            param = isinstance(variable, nnx.Param)
            known = {"trainable": param, "other": not param, "collection": type(variable).__name__}
            found[".".join(map(str, path))] = leaf_of(variable, **known)
    return {name: leaf for name, leaf in found.items() if leaf}


def weights(ported: nnx.Module) -> dict[str, Array]:
    """Returns the arrays of a built module, by dotted name."""
    state = nnx.to_flat_state(nnx.state(ported, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): to_numpy(param.get_value()) for path, param in state}
