"""Flax Linen, the half that does not import it."""

from xlstm.frameworks.adapter import Adapter

from .slots import LINEN_DEFAULT, LINEN_TABLES
from .write.layers import bare, halves, own, refuse
from .write.linen import LINEN, emit

ADAPTER = Adapter(
    name="linen",
    title="Flax Linen",
    package="flax",
    beside=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.flax.live.linen",
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
