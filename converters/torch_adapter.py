"""PyTorch, the half that does not import it."""

from xlstm.converters.torch_emit import bare, emit
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
    roots=("torch.",),
    bare=bare,
    emit=emit,
    keeps_frozen=True,
)
