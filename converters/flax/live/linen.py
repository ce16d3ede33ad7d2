"""Reads live Flax Linen modules, builds and runs ports; imports Flax."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from flax.core import meta

from xlstm.errors import UnsupportedError, WeightsError
from xlstm.frameworks.array_tree import Leaf, leaf_of
from xlstm.ir.graph import Model
from xlstm.ir.layers import ConvLSTM, Dense
from xlstm.ir.types import Array
from xlstm.slots import sizes_of, unpack

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
from ..slots import LINEN_TABLES
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

Pair = tuple[nn.Module, Mapping[str, Any]]

CELLS = (nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.SimpleCell)
"""Cells with a table of the same name as their class."""

Held = dict[str, Array]
"""Parameters by dotted name."""


def _below(params: Held, path: str, where: str) -> Held:
    """Returns the parameters below a path, by the rest of their names.

    Raises:
        WeightsError: no parameters there, or others beside the path.
    """
    if not params or not all(name.startswith(path) for name in params):
        got = ", ".join(params) or "none"
        raise WeightsError(where, f"params below {path or 'the root'}", got, "pass its variables")
    return {name.removeprefix(path): array for name, array in params.items()}


def _cell(cell: Any, params: Held, where: str) -> FlaxCell:
    kind = type(cell)
    if kind is nn.ConvLSTMCell:
        return _conv_lstm(cell, params, where)
    if kind not in CELLS:
        known = ", ".join(f"nn.{known.__name__}" for known in (*CELLS, nn.ConvLSTMCell))
        own = f"nn.Dense, or one of {known}, alone, in nn.RNN or nn.Bidirectional"
        want = f"{own}, or {IN_SEQUENTIAL}"
        do = "pass the layers one by one, or the folder or the object that xlstm made"
        raise UnsupportedError(where, want, kind.__name__, do)
    check_start(cell.carry_init is kind(1).carry_init, where)
    table = LINEN_TABLES[kind.__name__]
    features = sizes_of(table, params)["i"]
    spec = cell_spec(cell, kind.__name__, features, cell.features, where)
    return FlaxCell(spec, unpack(table, params, spec.sizes(), spec.missing_tensors(), where))


def _conv_lstm(cell: Any, params: Held, where: str) -> FlaxCell:
    """Reads a ConvLSTMCell, which adds 1 to its forget gate, over axes of any length."""
    window = tuple(cell.kernel_size)
    ones = (1,) * len(window)
    check_dtype(cell, where)
    check_start(cell.carry_init is nn.ConvLSTMCell(1, (1,)).carry_init, where)
    if cell.padding != "SAME" or tuple(cell.strides or ones) != ones:
        got = f"padding {cell.padding!r}, strides {cell.strides}"
        want, do = "padding SAME and strides of 1, which keep the states' size", "set these"
        raise UnsupportedError(where, want, got, do)
    table = LINEN_TABLES[f"ConvLSTM{len(window)}D"]
    features = params["ih.kernel"].shape[-2] if "ih.kernel" in params else 1
    spec = ConvLSTM(
        features,
        cell.features,
        use_bias=cell.use_bias,
        return_sequences=True,
        space=(None,) * len(window),
        window=window,
        strides=ones,
        dilation=ones,
        padding="same",
        forget_offset=1.0,
    )
    return FlaxCell(spec, unpack(table, params, spec.sizes(), spec.missing_tensors(), where))


def _found(module: Any, params: Held, where: str) -> FlaxCell:
    if type(module) is nn.Dense:
        check_dtype(module, where)
        table, own = LINEN_TABLES["Dense"], _below(params, "", where)
        spec = Dense(sizes_of(table, own)["i"], module.features, use_bias=module.use_bias)
        return FlaxCell(spec, unpack(table, own, spec.sizes(), spec.missing_tensors(), where))
    if type(module) is nn.RNN:
        return walked(_cell(module.cell, _below(params, "cell.", where), where), module)
    if type(module) is nn.Bidirectional:
        forward, backward = _halves(module, params, where)
        return joined(forward, backward, module)
    return _cell(module, _below(params, "", where), where)


def _halves(module: Any, params: Held, where: str) -> list[FlaxCell]:
    check_halves(module, nn.RNN, where)
    found = []
    for side in ("forward_rnn", "backward_rnn"):
        own = {name: array for name, array in params.items() if name.startswith(side)}
        below = _below(own, f"{side}.cell.", where)
        found.append(_cell(getattr(module, side).cell, below, where))
    return found


def _members(
    module: nn.Sequential, params: Held, seen: set[int], numbers: tuple[int, ...] = ()
) -> Iterator[Member]:
    """Yields the members of a Sequential, nested ones included; `seen` has earlier modules."""
    names = [f"layers_{number}" for number in range(len(module.layers))]
    left = [name for name in params if name.partition(".")[0] not in names]
    if left:
        where, do = "linen Sequential", "pass the variables of this module"
        raise WeightsError(where, "parameters of its members only", ", ".join(left), do)
    for number, member in enumerate(module.layers):
        here, path = (*numbers, number), f"{names[number]}."
        own = {name.removeprefix(path): a for name, a in params.items() if name.startswith(path)}
        if type(member) is nn.Sequential:
            yield from _members(member, own, seen, here)
        else:
            yield Member(here, member, own, id(member) in seen)
            seen |= {id(member)} if own else set()


CHAIN = ChainReader("linen", nn, LINEN_TABLES, (nn.Dense, nn.RNN, nn.Bidirectional), _found)


def read(source: Pair) -> Model:
    """Reads a pair (module, variables); module a cell, RNN, Bidirectional, Dense or Sequential.

    Raises:
        UnsupportedError: another module or option.
        WeightsError: variables that do not fit the module.
    """
    if not (isinstance(source, tuple) and len(source) == 2):
        raise UnsupportedError("linen", "a pair (module, variables)", "a module", "pass both")
    module, variables = source
    sequential = type(module) is nn.Sequential
    params: Held = {}
    for kind in ("params", "batch_stats") if sequential else ("params",):
        tree = dict(meta.unbox(variables.get(kind, {})))
        flat = traverse_util.flatten_dict(tree, sep=".")
        params |= {name: to_numpy(array) for name, array in flat.items()}
    if sequential:
        return CHAIN.read(_members(module, params, set()))
    name = type(module).__name__
    return as_model(_found(module, params, f"linen {name}"), "linen", f"live {name}")


def check_half(model: Model, dtype: str) -> None:
    """Raises UnsupportedError where half precision cannot store a number of the model."""
    check_scores(model, "linen", dtype, lowers)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> Pair:
    """Builds the pair (module, variables) of emitted `code` with these weights."""
    with precision(dtype):
        module, variables = code.build(weights, np.dtype(dtype))
    return module, variables


@functools.lru_cache(maxsize=64)
def _compiled(module: nn.Module, quick: bool) -> Any:
    return jax.jit(module.apply, compiler_options=quick_options() if quick else None)


def free_compiled() -> None:
    """Frees what JAX has compiled, for processes that run many models once."""
    _compiled.cache_clear()
    jax.clear_caches()


def _applied(module: nn.Module, quick: bool) -> Any:
    """Returns `module.apply` compiled; equal modules share the compiled code of the first."""
    try:
        return _compiled(module, quick)
    except TypeError:  # a field, such as an array, that has no hash
        return _compiled.__wrapped__(module, quick)


def run(ported: Pair, inputs: Sequence[Array], dtype: str, *, whole: bool = False) -> list[Array]:
    """Returns outputs for numpy inputs, through `jax.jit`.

    Whole numbers become int32 if `whole`, else numbers of `dtype`.
    """
    module, variables = ported
    with precision(dtype):
        call = _applied(module, runs_quickly(variables, inputs))
        return flat(module, call(variables, *arrays(inputs, dtype, whole)))


run_own = functools.partial(run, whole=True)
"""Runs a module of the user's, which takes row numbers as whole numbers."""


def count(ported: Pair) -> int:
    """Returns the number of elements of all leaves of `params`."""
    return sum(leaf.size for leaf in jax.tree.leaves(ported[1].get("params", {})))


def leaves(source: Any) -> dict[str, Leaf]:
    """Returns every variable of a pair (module, variables) of any module, for counting."""
    if not (isinstance(source, tuple) and isinstance(source[1], Mapping)):
        return {}
    found: dict[str, Leaf | None] = {}
    for kind, tree in meta.unbox(dict(source[1])).items():
        known = {"trainable": kind == "params", "other": kind != "params", "collection": kind}
        flat_tree = traverse_util.flatten_dict({kind: tree}, sep=".")
        found |= {name: leaf_of(array, **known) for name, array in flat_tree.items()}
    return {name: leaf for name, leaf in found.items() if leaf}


def weights(ported: Pair) -> dict[str, Array]:
    """Returns the arrays of a built pair, by dotted name."""
    flat = traverse_util.flatten_dict(dict(ported[1]), sep=".")
    return {name: to_numpy(array) for name, array in flat.items()}


def assign(ported: Pair, arrays: Mapping[str, Array]) -> Pair:
    """Returns a pair of the same module and these arrays, by dotted name; `ported` stays."""
    old = traverse_util.flatten_dict(dict(ported[1]), sep=".")
    new = {name: np.asarray(arrays[name], to_numpy(value).dtype) for name, value in old.items()}
    return ported[0], traverse_util.unflatten_dict(new, sep=".")


def _parameters(ported: Pair) -> Parameters:
    module, variables = ported

    def call(params: Any, inputs: list[Any]) -> list[Any]:
        return listed(module, module.apply({**variables, "params": params}, *inputs))

    params = dict(variables.get("params", {}))
    return Parameters(params, call, lambda params: weights((module, {"params": params})))


gradients = functools.partial(common.gradients, _parameters)


def train(
    ported: Pair, inputs: Sequence[Array], dtype: str, seed: int
) -> tuple[list[Array], dict[str, Array]]:
    """Returns outputs in training mode, and the weights by name after that call."""
    module, variables = ported
    options: Any = {"train": True, "mutable": ["batch_stats"]}
    with precision(dtype):
        drawn = {"dropout": jax.random.key(seed)}
        found, moved = module.apply(variables, *arrays(inputs, dtype), rngs=drawn, **options)
        return flat(module, found), weights((module, {**variables, **moved}))


step = functools.partial(common.step, _parameters, weights)

compiled = fast_calls.compiled_linen
build_stack = common.build_stack
stack_weights = common.stack_weights
run_stack = common.run_stack
