"""Flax NNX, the half that does not import it."""

from xlstm.frameworks.adapter import Adapter

from .slots import NNX_DEFAULT, NNX_TABLES
from .write.layers import bare, halves, own, refuse
from .write.nnx import NNX, emit

ADAPTER = Adapter(
    name="nnx",
    title="Flax NNX",
    package="flax",
    beside=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.flax.live.nnx",
    tables=NNX_TABLES,
    default=NNX_DEFAULT,
    roots=("flax.nnx.",),
    seeds=("rngs.count", "rngs.key"),
    collections=("Param", "Param", "BatchStat"),
    halves=halves,
    refuse=refuse,
    own=own(NNX),
    bare=bare,
    emit=emit,
)
