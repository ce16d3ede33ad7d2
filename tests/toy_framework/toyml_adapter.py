"""ToyML for xlstm, the half that does not import it: tables, source, and the adapter."""

from xlstm.errors import UnsupportedError
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.kinds import LSTM
from xlstm.slots import FOLD, Slot, Table

TABLES = {
    "LSTM": Table(
        LSTM,
        (
            Slot("w", "kernel", "(gh)i", gates="ofig"),
            Slot("u", "recurrent", "(gh)j", gates="ofig"),
            Slot("b", "bias", "(gh)", gates="ofig", fixed={"s": FOLD}),
        ),
    )
}

SOURCE = '''"""A ToyML layer."""

import toyml


def build(weights, dtype="float32"):
    """The layer with these weights."""
    return toyml.LSTM(*(weights["{name}." + key].astype(dtype) for key in "wub"))
'''


def emit(model):
    """Source text of `model.py`: one LSTM, all its outputs."""
    spec = model.layers[0].spec
    plain = (spec.kind, getattr(spec, "activation", ""), getattr(spec, "gate_activation", ""))
    if len(model.layers) != 1 or plain != ("LSTM", "tanh", "sigmoid") or not spec.return_sequences:
        want = "one LSTM with tanh and sigmoid, return_sequences"
        raise UnsupportedError("adapter toyml", want, str(plain), "port to another framework")
    return SOURCE.replace("{name}", model.layers[0].name)


ADAPTER = Adapter(
    name="toyml",
    title="ToyML",
    package="toyml",
    extra="toyml",
    live_module="toyml_live",
    tables=TABLES,
    default={"LSTM": "LSTM"},
    root_modules=("toyml",),
    emit=emit,
)
