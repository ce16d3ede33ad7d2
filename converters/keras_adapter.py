"""Keras, the half that does not import it."""

from xlstm.converters.keras_emit import emit
from xlstm.converters.keras_layers import refusal, two_layers
from xlstm.converters.keras_tables import DEFAULT, TABLES

from xlstm.adapter import Adapter

ADAPTER = Adapter(
    name="keras",
    title="Keras",
    package="keras",
    extra="keras",
    live_module="xlstm.converters.keras_live",
    tables=TABLES,
    default=DEFAULT,
    refuse=refusal,
    own=two_layers,
    roots=("keras.",),
    emit=emit,
    keeps_frozen=True,
    extra_files=True,
)
