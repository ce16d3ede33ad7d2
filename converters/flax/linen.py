"""Adapter of Flax Linen; does not import Flax."""

from xlstm.frameworks.adapter import Adapter

from .slots import LINEN_DEFAULT, LINEN_TABLES
from .write.layers import bare, halves, own, refuse
from .write.linen import LINEN, emit

ADAPTER = Adapter(
    name="linen",
    title="Flax Linen",
    package="flax",
    runtime_packages=("jax", "jaxlib"),
    extra="flax",
    live_module="xlstm.converters.flax.live.linen",
    tables=LINEN_TABLES,
    default=LINEN_DEFAULT,
    root_modules=("flax.linen.",),
    collections=("params", "params", "batch_stats"),
    root="params.",
    other_root="batch_stats.",
    half_names=halves,
    unsupported_reason=refuse,
    own_cell_reason=own(LINEN),
    is_native_module=bare,
    emit=emit,
)
