"""Reads live Flax NNX modules, builds and runs ports; imports Flax."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
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
from . import common, fast_calls
from .common import (
    Parameters,
    arrays,
    check_dtype,
    flat,
    listed,
    lowers,
    precision,
    quick_options,
    runs_quickly,
    to_numpy,
)

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
        params = weights(source)
        return FlaxCell(
            spec, unpack(NNX_TABLES["Linear"], params, spec.sizes(), spec.missing_tensors(), where)
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


def free_compiled() -> None:
    """Frees what JAX has compiled, for processes that run many models once."""
    jax.clear_caches()


def _apply(graph: Any, state: Any, *inputs: jax.Array) -> Any:
    return nnx.merge(graph, state)(*inputs)


@functools.cache
def _applied(quick: bool) -> Any:
    """Returns `_apply` compiled, for one run if `quick`; equal graphs share compiled code."""
    options = quick_options() if quick else None
    return jax.jit(_apply, static_argnums=0, compiler_options=options)


@nnx.jit
def _apply_whole(model: Any, *inputs: jax.Array) -> Any:
    return model(*inputs)


def run(
    ported: nnx.Module, inputs: Sequence[Array], dtype: str, *, whole: bool = False
) -> list[Array]:
    """Returns outputs for numpy inputs, through `jax.jit`; changes no state of the module.

    Whole numbers become int32 if `whole`, else numbers of `dtype`.
    """
    with precision(dtype):
        graph, state = nnx.split(ported)
        values = arrays(inputs, dtype, whole)
        if not _has_hash(graph):
            return flat(ported, _apply_whole(nnx.clone(ported), *values))
        call = _applied(runs_quickly(state, inputs))
        return flat(ported, call(graph, state, *values))


run_own = functools.partial(run, whole=True)
"""Runs a module of the user's, which takes row numbers as whole numbers."""


def _has_hash(graph: Any) -> bool:
    """False for a module with an attribute such as a list, which `jax.jit` cannot tell apart."""
    try:
        hash(graph)
    except TypeError:
        return False
    return True


def is_module(source: Any) -> bool:
    """False for other callables of Flax, such as a function in the wrapper of `nnx.jit`."""
    return isinstance(source, nnx.Module)


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


def _named(state: nnx.State) -> dict[str, Array]:
    """Returns the arrays of a state, by dotted name."""
    pairs = nnx.to_flat_state(state)
    return {".".join(map(str, path)): to_numpy(param.get_value()) for path, param in pairs}


def weights(ported: nnx.Module) -> dict[str, Array]:
    """Returns the arrays of a built module, by dotted name."""
    return _named(nnx.state(ported, (nnx.Param, nnx.BatchStat)))


def assign(ported: nnx.Module, arrays: Mapping[str, Array]) -> nnx.Module:
    """Writes arrays into a module's variables by dotted name, in place; returns the module.

    Raises:
        KeyError: the module has a variable that no array is for.
    """
    for path, variable in nnx.to_flat_state(nnx.state(ported, (nnx.Param, nnx.BatchStat))):
        old, array = variable.get_value(), arrays[".".join(map(str, path))]
        with precision(str(old.dtype)):
            variable.set_value(jax.numpy.asarray(array, old.dtype))
    return ported


def _parameters(ported: nnx.Module) -> Parameters:
    graph, params, rest = nnx.split(ported, nnx.Param, ...)

    def call(params: Any, inputs: list[Any]) -> list[Any]:
        return listed(ported, nnx.merge(graph, params, rest)(*inputs))

    return Parameters(params, call, _named)


gradients = functools.partial(common.gradients, _parameters)


def train(
    ported: nnx.Module, inputs: Sequence[Array], dtype: str, seed: int
) -> tuple[list[Array], dict[str, Array]]:
    """Returns outputs of a copy in training mode, and its weights by name after that call."""
    with precision(dtype):
        module: Any = nnx.clone(ported)
        module.train()
        nnx.reseed(module, dropout=seed)
        return flat(module, module(*arrays(inputs, dtype))), weights(module)


step = functools.partial(common.step, _parameters, weights)

compiled = fast_calls.compiled_nnx
build_stack = common.build_stack
stack_weights = common.stack_weights
run_stack = common.run_stack
