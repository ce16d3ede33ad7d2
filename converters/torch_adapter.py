"""PyTorch, the half that does not import it."""

from xlstm.converters.torch_emit import emit
from xlstm.converters.torch_forms import bare, halves, own
from xlstm.converters.torch_refusals import refuse
from xlstm.converters.torch_tables import DEFAULT, TABLES

from xlstm.adapter import Adapter

ADAPTER = Adapter(
    name="torch",
    title="PyTorch",
    package="torch",
    extra="torch",
    live_module="xlstm.converters.torch_live",
    tables=TABLES,
    default=DEFAULT,
    halves=halves,
    refuse=refuse,
    own=own,
    roots=("torch.",),
    # DataParallel and AveragedModel, which counts its models; torch.compile
    wrappers={"module.": frozenset({"n_averaged"}), "_orig_mod.": frozenset()},
    collections=("parameters", "parameters", "buffers"),
    bare=bare,
    emit=emit,
    keeps_frozen=True,
    listed="parameters()",
)
