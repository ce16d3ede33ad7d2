"""Adapter of Flax NNX; does not import Flax."""

from xlstm.frameworks.adapter import Adapter

from .slots import NNX_DEFAULT, NNX_TABLES
from .write.layers import bare, halves, own, refuse
from .write.nnx import NNX, emit

ADAPTER = Adapter(
    name="nnx",
    title="Flax NNX",
    package="flax",
    runtime_packages=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.flax.live.nnx",
    tables=NNX_TABLES,
    default=NNX_DEFAULT,
    root_modules=("flax.nnx.",),
    seeds=("rngs.count", "rngs.key"),
    collections=("Param", "Param", "BatchStat"),
    half_names=halves,
    unsupported_reason=refuse,
    own_cell_reason=own(NNX),
    is_native_module=bare,
    emit=emit,
)
