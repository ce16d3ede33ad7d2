"""Adapter of PyTorch; does not import torch."""

from dataclasses import replace

from xlstm.frameworks.adapter import TRAINING, Adapter

from .many_models import (
    emit_stack,
    never,
    refuse_stack,
    stack_config,
    stack_halves,
    stack_reason,
)
from .native import bare, halves, native_layer, own
from .refusals import refuse
from .slots import DEFAULT, TABLES
from .write.module import WEIGHTS, config, emit
from .write.port_tests import emit_tests


def stacks() -> Adapter:
    """Returns the adapter of many models in one module."""
    return STACK


ADAPTER = Adapter(
    name="torch",
    title="PyTorch",
    aliases=("pytorch",),
    package="torch",
    extra="torch",
    live_module="xlstm.converters.torch.live.model",
    tables=TABLES,
    default=DEFAULT,
    half_names=halves,
    unsupported_reason=refuse,
    own_cell_reason=own,
    native_layer=native_layer,
    root_modules=("torch.",),
    # DataParallel and AveragedModel, which counts its models; torch.compile
    wrappers={"module.": frozenset({"n_averaged"}), "_orig_mod.": frozenset()},
    collections=("parameters", "parameters", "buffers"),
    is_native_module=bare,
    training=dict.fromkeys(TRAINING, True),
    emit=emit,
    emit_tests=emit_tests,
    keeps_frozen=True,
    listed="parameters()",
    weights_file=WEIGHTS,
    config=config,
    stacks=stacks,
)

STACK = replace(
    ADAPTER,
    half_names=stack_halves,
    unsupported_reason=refuse_stack,
    own_cell_reason=stack_reason,
    is_native_module=never,
    emit=emit_stack,
    emit_tests=None,
    config=stack_config,
)
"""As ADAPTER, for many models of one architecture in one module."""
