"""Flax NNX, the half that does not import it."""

from xlstm.converters.flax_emit import bare, halves, own, refuse
from xlstm.converters.flax_tables import NNX_DEFAULT, NNX_TABLES
from xlstm.converters.nnx_emit import NNX, emit

from xlstm.adapter import Adapter

ADAPTER = Adapter(
    name="nnx",
    title="Flax NNX",
    package="flax",
    beside=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.nnx_live",
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
