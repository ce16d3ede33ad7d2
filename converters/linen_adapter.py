"""Flax Linen, the half that does not import it."""

from xlstm.converters.flax_emit import bare, halves, own, refuse
from xlstm.converters.flax_tables import LINEN_DEFAULT, LINEN_TABLES
from xlstm.converters.linen_emit import LINEN, emit

from xlstm.adapter import Adapter

ADAPTER = Adapter(
    name="linen",
    title="Flax Linen",
    package="flax",
    beside=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.linen_live",
    tables=LINEN_TABLES,
    default=LINEN_DEFAULT,
    roots=("flax.linen.",),
    collections=("params", "params", "batch_stats"),
    root="params.",
    other_root="batch_stats.",
    halves=halves,
    refuse=refuse,
    own=own(LINEN),
    bare=bare,
    emit=emit,
)
