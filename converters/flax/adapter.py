"""Adapters of Flax's two interfaces, Linen and NNX; does not import Flax."""

from dataclasses import replace
from functools import partial

from xlstm.frameworks.adapter import Adapter

from .many_models import emit_stack
from .native import native_layer
from .slots import LINEN_DEFAULT, LINEN_TABLES, NNX_DEFAULT, NNX_TABLES
from .write import dialect
from .write.layers import TRAINING, bare, halves, own, refuse
from .write.module import emit
from .write.port_tests import emit_tests


def linen_stacks() -> Adapter:
    """Returns the adapter of many Linen models in one function."""
    return replace(LINEN, emit=partial(emit_stack, dialect.LINEN), emit_tests=None)


def nnx_stacks() -> Adapter:
    """Returns the adapter of many NNX models in one function."""
    return replace(NNX, emit=partial(emit_stack, dialect.NNX), emit_tests=None)


LINEN = Adapter(
    name="linen",
    title="Flax Linen",
    aliases=("jax", "flax"),
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
    own_cell_reason=partial(own, dialect.LINEN),
    native_layer=partial(native_layer, dialect.LINEN),
    is_native_module=bare,
    training=TRAINING,
    emit=partial(emit, dialect.LINEN),
    emit_tests=partial(emit_tests, dialect.LINEN),
    stacks=linen_stacks,
)

NNX = Adapter(
    name="nnx",
    title="Flax NNX",
    aliases=("jax", "flax"),
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
    own_cell_reason=partial(own, dialect.NNX),
    native_layer=partial(native_layer, dialect.NNX),
    is_native_module=bare,
    training=TRAINING,
    emit=partial(emit, dialect.NNX),
    emit_tests=partial(emit_tests, dialect.NNX),
    stacks=nnx_stacks,
)
