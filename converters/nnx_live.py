"""Flax NNX, the half that imports it: reads live modules, builds and runs ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import flax
import jax
import numpy as np
from flax import nnx
from xlstm.converters.flax_live import activation, check_dtype, check_residual, precision, to_numpy
from xlstm.converters.flax_tables import NNX_TABLES

from xlstm.errors import UnsupportedError
from xlstm.layout import unpack
from xlstm.model import LSTM, Array, Dense, Model, Shape, SimpleRNN, Source, Spec, chain

CELLS: dict[type[nnx.Module], str] = {
    nnx.LSTMCell: "LSTMCell",
    nnx.OptimizedLSTMCell: "OptimizedLSTMCell",
    nnx.SimpleCell: "SimpleCell",
}
"""Cell class -> name of its table."""


def _cell(cell: Any, where: str) -> Spec:
    check_dtype(cell, where)
    if cell.carry_init is not None:
        do = "pass a cell that starts from zeros"
        raise UnsupportedError(where, "a carry of zeros", "carry_init of its own", do)
    fn = activation(cell.activation_fn, where)
    if isinstance(cell, nnx.SimpleCell):
        check_residual(cell, where)
        return SimpleRNN(cell.in_features, cell.hidden_features, fn, return_sequences=True)
    gate = activation(cell.gate_fn, where)
    return LSTM(cell.in_features, cell.hidden_features, fn, gate, return_sequences=True)


def _parse(source: nnx.Module) -> tuple[str, nnx.Module, Spec]:
    """Name of the table, the module that holds its tensors, and the spec."""
    kind = type(source).__name__
    where = f"nnx {kind}"
    if type(source) is nnx.Linear:
        check_dtype(source, where)
        spec: Spec = Dense(source.in_features, source.out_features, use_bias=source.use_bias)
        return "Linear", source, spec
    cell = source.cell if type(source) is nnx.RNN else source
    if type(source) is nnx.RNN:
        for option in ("time_major", "reverse", "return_carry"):
            if getattr(source, option):
                raise UnsupportedError(
                    where, f"{option}=False", f"{option}=True", "see the README's limits"
                )
    if type(cell) not in CELLS:
        known = (
            "nnx.RNN of " + " or ".join(cls.__name__ for cls in CELLS) + ", a cell, or nnx.Linear"
        )
        raise UnsupportedError(where, known, type(cell).__name__, "pass the layers one by one")
    return CELLS[type(cell)], cell, _cell(cell, where)


def read(source: nnx.Module) -> Model:
    """A lone NNX LSTM or simple cell (bare or in `nnx.RNN`) or `nnx.Linear` as a Model.

    Raises:
        UnsupportedError: another module or option.
    """
    table, holder, spec = _parse(source)
    arrays = weights(holder)
    where = f"nnx {type(source).__name__}"
    hub = unpack(NNX_TABLES[table], arrays, spec.sizes(), spec.absent(), where)
    name = spec.kind.lower()
    features = spec.sizes()["i"]
    shape: Shape = (features,) if isinstance(spec, Dense) else (None, features)
    origin = Source("nnx", flax.__version__, f"live nnx.{type(source).__name__}")
    return chain(name, [(name, spec, True)], shape, {name: hub}, origin, lone=True)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> nnx.Module:
    """The module that emitted `code` gives with these weights."""
    with precision(dtype):
        built: nnx.Module = code.build(weights, np.dtype(dtype))
    return built


@nnx.jit
def _apply(model: Any, *inputs: jax.Array) -> Any:
    return model(*inputs)


def run(ported: nnx.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Outputs for numpy inputs, through `nnx.jit`."""
    with precision(dtype):
        outputs = _apply(ported, *(jax.numpy.asarray(x, dtype) for x in inputs))
        return [to_numpy(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]


def count(ported: nnx.Module) -> int:
    """Number of elements of all `nnx.Param`."""
    return sum(p.size for p in jax.tree.leaves(nnx.state(ported, nnx.Param)))


def weights(ported: nnx.Module) -> dict[str, Array]:
    """What a built module holds, by dotted name."""
    state = nnx.to_flat_state(nnx.state(ported, nnx.Param))
    return {".".join(map(str, path)): to_numpy(param.get_value()) for path, param in state}
