"""Flax NNX, the half that does not import it."""

from xlstm.converters.flax_emit import bare
from xlstm.converters.flax_tables import NNX_DEFAULT, NNX_TABLES
from xlstm.converters.nnx_emit import emit

from xlstm.adapter import Adapter

ADAPTER = Adapter(
    name="nnx",
    title="Flax NNX",
    package="flax",
    extra="flax",
    live_module="xlstm.converters.nnx_live",
    tables=NNX_TABLES,
    default=NNX_DEFAULT,
    roots=("flax.nnx.",),
    bare=bare,
    emit=emit,
)
