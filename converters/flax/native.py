"""Native layers whose number of parameters is not that of the own cell of a port.

In: a part of a layer, such as a GRU. Out: nnx.GRUCell with its number, and the reason.
"""

from __future__ import annotations

import math
from dataclasses import replace

from xlstm.frameworks.adapter import NativeLayer
from xlstm.ir import layers as L
from xlstm.slots import Table, shape

from .slots import LINEN_TABLES, NNX_TABLES
from .write.dialect import Dialect

ONE_BIAS = "it lacks the candidate's second bias"
TWO_BIASES = "it has a second bias of the candidate, and resets after the recurrent product"
UNPROJECTED = "it has no projection, so its h is as wide as its c"
ONE_SLOPE = "it has one slope for all"


def native_layer(dialect: Dialect, spec: L.LayerSpec) -> NativeLayer | None:
    """Returns the native layer with another number of parameters than a port, None for no such."""
    if isinstance(spec, L.PRelu):
        name = f"{dialect.module}.PReLU"
        several = math.prod(spec.sizes().values()) > 1
        return NativeLayer("PReLU", name, 1, ONE_SLOPE) if several else None
    tables = LINEN_TABLES if dialect.functional else NNX_TABLES
    own = dialect.cells.get(spec.weight_kind, "")
    if isinstance(spec, L.LSTM) and spec.projection and own:
        native, why, plain = "OptimizedLSTMCell", UNPROJECTED, replace(spec, projection=0)
        found = NativeLayer(own, f"{dialect.module}.{native}", _count(tables[native], plain), why)
    elif isinstance(spec, L.GRU):
        why = TWO_BIASES if dialect.functional else ONE_BIAS
        found = NativeLayer(own, f"{dialect.module}.GRUCell", _count(tables["GRUCell"], spec), why)
    else:
        return None
    return found if found.count != _count(tables[own], spec) else None


def _count(table: Table, spec: L.LayerSpec) -> int:
    slots = table.present_slots(spec.missing_tensors())
    return sum(math.prod(shape(slot, table.kind, spec.sizes())) for slot in slots)
