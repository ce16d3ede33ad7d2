"""Adapter of PyTorch; does not import torch."""

from xlstm.frameworks.adapter import TRAINING, Adapter

from .native import bare, halves, native_layer, own
from .refusals import refuse
from .slots import DEFAULT, TABLES
from .write.module import WEIGHTS, config, emit
from .write.port_tests import emit_tests

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
)
