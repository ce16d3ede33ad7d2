"""ToyML for xlstm, the half that imports it."""

import numpy as np
import toyml
from toyml_adapter import TABLES

from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM
from xlstm.ir.source import Source
from xlstm.slots import sizes_of, unpack


def read(source):
    """A toyml.LSTM as a Model."""
    assert isinstance(source, toyml.LSTM)
    arrays = {"w": source.w, "u": source.u, "b": source.b}
    sizes = sizes_of(TABLES["LSTM"], arrays)
    spec = LSTM(sizes["i"], sizes["h"], return_sequences=True)
    hub = unpack(TABLES["LSTM"], arrays, sizes, spec.missing_tensors(), "toyml LSTM")
    origin = Source("toyml", "1", "live toyml.LSTM")
    return chain("lstm", [("lstm", spec, True)], (None, sizes["i"]), {"lstm": hub}, origin)


def build(code, weights, dtype):
    """The layer that emitted `code` gives with these weights."""
    return code.build(weights, dtype)


def run(ported, inputs, dtype):
    """Outputs for numpy inputs."""
    return [np.asarray(ported(np.asarray(x, dtype))) for x in inputs]


def count(ported):
    """Number of weights."""
    return ported.w.size + ported.u.size + ported.b.size
