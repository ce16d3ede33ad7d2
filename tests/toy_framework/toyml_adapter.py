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


def unsupported_reason(node):
    """The reason why ToyML has no exact form of a layer, "" if it has one."""
    spec = node.spec
    if spec.kind == "Dropout":
        return ""
    plain = (spec.kind, getattr(spec, "activation", ""), getattr(spec, "gate_activation", ""))
    if plain == ("LSTM", "tanh", "sigmoid") and spec.return_sequences and not node.mask:
        return ""
    return "no layer but Dropout and an LSTM with tanh and sigmoid, return_sequences"


def emit(model):
    """Source text of `model.py`: one LSTM, all its outputs; Dropout does nothing in evaluation."""
    names = [node.name for node in model.layers if node.spec.kind != "Dropout"]
    if len(names) != 1:
        got = f"{len(names)}: {', '.join(names)}"
        raise UnsupportedError("port to ToyML", "one LSTM", got, "port to another framework")
    return SOURCE.replace("{name}", names[0])


ADAPTER = Adapter(
    name="toyml",
    title="ToyML",
    package="toyml",
    extra="",
    live_module="toyml_live",
    tables=TABLES,
    default={"LSTM": "LSTM"},
    unsupported_reason=unsupported_reason,
    root_modules=("toyml",),
    training={"Dropout": False},  # ToyML has none: ports leave it out, and the report says so
    emit=emit,
)
