"""Adapter of Keras; does not import Keras."""

from xlstm.frameworks.adapter import TRAINING, Adapter
from xlstm.ir.kinds import NORMALIZATION
from xlstm.slots import Slot, Table

from .inexact import precisions
from .slots import DEFAULT, TABLES
from .variable_names import pattern
from .write.constructors import refusal, two_layers
from .write.module import emit
from .write.port_tests import emit_tests

# keras.src.layers.preprocessing.normalization.Normalization.build
COUNTED = Table(
    NORMALIZATION,
    (
        Slot("mean", "mean", "o"),
        Slot("variance", "variance", "o"),
        Slot("count", "count", "", required=True),
    ),
)
"""Normalization with its count: files are read without it, but a port names all variables."""

ADAPTER = Adapter(
    name="keras",
    title="Keras",
    aliases=("tensorflow", "tf", "tf.keras"),
    package="keras",
    extra="keras",
    live_module="xlstm.converters.keras.live.model",
    tables={**TABLES, "Normalization, with count": COUNTED},
    default={**DEFAULT, "Normalization": "Normalization, with count"},
    unsupported_reason=refusal,
    own_cell_reason=two_layers,
    root_modules=("keras.",),
    seeds=("seed_generator_state",),
    collections=("trainable_weights", "non_trainable_weights", ""),
    training=dict.fromkeys(TRAINING, True),
    emit=emit,
    emit_tests=emit_tests,
    precisions=precisions,
    keeps_frozen=True,
    extra_files=True,
    pattern=pattern,
    listed="get_weights()",
    file_reader="xlstm.converters.keras.read.model:read_description",
    file_outline="xlstm.converters.keras.read.outline:outline",
    layer_classes="xlstm.converters.keras.read.layers.config:CLASSES",
)
