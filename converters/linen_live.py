"""Flax Linen, the half that imports it: reads live modules, builds and runs ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from flax.core import meta
from xlstm.converters.flax_live import activation, check_dtype, check_residual, precision, to_numpy
from xlstm.converters.flax_tables import LINEN_TABLES

from xlstm.errors import UnsupportedError, WeightsError
from xlstm.layout import sizes_of, unpack
from xlstm.model import LSTM, Array, Dense, Model, Shape, SimpleRNN, Source, Spec, chain

Pair = tuple[nn.Module, Mapping[str, Any]]

CELLS: dict[type[nn.Module], str] = {
    nn.LSTMCell: "LSTMCell",
    nn.OptimizedLSTMCell: "OptimizedLSTMCell",
    nn.SimpleCell: "SimpleCell",
}
"""Cell class -> name of its table."""


def _parse(module: nn.Module) -> tuple[str, str, Any]:
    """Name of the table, the path before its tensors, and the module with the options."""
    where = f"linen {type(module).__name__}"
    if type(module) is nn.Dense:
        return "Dense", "", module
    cell = module.cell if type(module) is nn.RNN else module
    if type(module) is nn.RNN:
        for option in ("time_major", "reverse", "return_carry"):
            if getattr(module, option):
                raise UnsupportedError(
                    where, f"{option}=False", f"{option}=True", "see the README's limits"
                )
    if type(cell) not in CELLS:
        known = "nn.RNN of " + " or ".join(cls.__name__ for cls in CELLS) + ", a cell, or nn.Dense"
        raise UnsupportedError(where, known, type(cell).__name__, "pass the layers one by one")
    return CELLS[type(cell)], "cell." if type(module) is nn.RNN else "", cell


def _spec(module: Any, sizes: Mapping[str, int], where: str) -> Spec:
    check_dtype(module, where)
    if isinstance(module, nn.Dense):
        return Dense(sizes["i"], module.features, use_bias=module.use_bias)
    if module.carry_init is not type(module)(1).carry_init:
        do = "pass a cell that starts from zeros"
        raise UnsupportedError(where, "a carry of zeros", "carry_init of its own", do)
    fn = activation(module.activation_fn, where)
    if isinstance(module, nn.SimpleCell):
        check_residual(module, where)
        return SimpleRNN(sizes["i"], module.features, fn, return_sequences=True)
    gate = activation(module.gate_fn, where)
    return LSTM(sizes["i"], module.features, fn, gate, return_sequences=True)


def read(source: Pair) -> Model:
    """A pair (module, variables) of a lone LSTM or simple cell (bare or in `nn.RNN`) or `nn.Dense`.

    Raises:
        UnsupportedError: another module or option.
        WeightsError: variables that do not fit the module.
    """
    if not (isinstance(source, tuple) and len(source) == 2):
        raise UnsupportedError("linen", "a pair (module, variables)", "a module", "pass both")
    module, variables = source
    where = f"linen {type(module).__name__}"
    table, before, holder = _parse(module)
    flat = traverse_util.flatten_dict(dict(meta.unbox(variables.get("params", {}))), sep=".")
    if not flat or not all(name.startswith(before) for name in flat):
        got = ", ".join(flat) or "none"
        raise WeightsError(where, f"params below {before or 'the root'}", got, "pass its variables")
    arrays = {name.removeprefix(before): to_numpy(array) for name, array in flat.items()}
    spec = _spec(holder, sizes_of(LINEN_TABLES[table], arrays), where)
    hub = unpack(LINEN_TABLES[table], arrays, spec.sizes(), spec.absent(), where)
    name, features = spec.kind.lower(), spec.sizes()["i"]
    shape: Shape = (features,) if isinstance(spec, Dense) else (None, features)
    origin = Source("linen", flax.__version__, f"live {type(module).__name__}")
    return chain(name, [(name, spec, True)], shape, {name: hub}, origin, lone=True)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> Pair:
    """The pair (module, variables) that emitted `code` gives with these weights."""
    with precision(dtype):
        module, variables = code.build(weights, np.dtype(dtype))
    return module, variables


def run(ported: Pair, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Outputs for numpy inputs, through `jax.jit`."""
    module, variables = ported
    with precision(dtype):
        outputs = jax.jit(module.apply)(variables, *(jax.numpy.asarray(x, dtype) for x in inputs))
        return [to_numpy(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]


def count(ported: Pair) -> int:
    """Number of elements of all leaves of `params`."""
    return sum(leaf.size for leaf in jax.tree.leaves(ported[1].get("params", {})))


def weights(ported: Pair) -> dict[str, Array]:
    """What a built pair holds, by dotted name."""
    flat = traverse_util.flatten_dict(dict(ported[1]), sep=".")
    return {name: to_numpy(array) for name, array in flat.items()}
