"""Which Keras variable holds what. Gates i f g o; Keras's documents call g the candidate c."""

from xlstm.kinds import DENSE, GRU, GRU_BEFORE, LSTM, SIMPLE_RNN, Kind
from xlstm.layout import FOLD, Slot, Table


def _per_gate(kind: Kind, names: dict[str, str]) -> Table:
    """Three arrays for each gate, as Keras 1 keeps them; `names`: Keras's name -> the hub's."""
    forms = (("W", "kernel", "ih"), ("U", "recurrent", "jh"), ("b", "bias", "h"))
    return Table(
        kind,
        tuple(
            Slot(f"{letter}_{name}", tensor, axes, at={"g": gate} | _side(tensor))
            for name, gate in names.items()
            for letter, tensor, axes in forms
        ),
    )


def _side(tensor: str) -> dict[str, str | int]:
    return {"s": FOLD} if tensor == "bias" else {}


TABLES: dict[str, Table] = {
    # keras.src.layers.rnn.lstm.LSTMCell.build
    "LSTM": Table(
        LSTM,
        (
            Slot("kernel", "kernel", "i(gh)", gates="ifgo"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="ifgo"),
            Slot("bias", "bias", "(gh)", gates="ifgo", at={"s": FOLD}),
        ),
    ),
    # Keras 1, consume_less="cpu" or "mem": twelve arrays, the candidate second and called c
    "LSTM of Keras 1": _per_gate(LSTM, {"i": "i", "c": "g", "f": "f", "o": "o"}),
    # Keras 1, consume_less="gpu": three arrays
    "LSTM of Keras 1, fused": Table(
        LSTM,
        (
            Slot("W", "kernel", "i(gh)", gates="ifgo"),
            Slot("U", "recurrent", "j(gh)", gates="ifgo"),
            Slot("b", "bias", "(gh)", gates="ifgo", at={"s": FOLD}),
        ),
    ),
    # cuDNN keeps a (units, inputs) matrix for each gate; CuDNNLSTM shows its memory as (inputs,
    # units). It has two biases.
    "CuDNNLSTM": Table(
        LSTM,
        (
            Slot("kernel", "kernel", "x(gy)", gates="ifgo", recut=("xy", "hi")),
            Slot("recurrent_kernel", "recurrent", "h(gj)", gates="ifgo"),
            Slot("bias", "bias", "(sgh)", gates="ifgo"),
        ),
    ),
    # keras.src.layers.rnn.gru.GRUCell.build, reset_after=True: one row of bias for each product
    "GRU": Table(
        GRU,
        (
            Slot("kernel", "kernel", "i(gh)", gates="zrn"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="zrn"),
            Slot("bias", "bias", "s(gh)", gates="zrn"),
        ),
    ),
    # the same with reset_after=False: one bias
    "GRU, reset_after=False": Table(
        GRU_BEFORE,
        (
            Slot("kernel", "kernel", "i(gh)", gates="zrn"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="zrn"),
            Slot("bias", "bias", "(gh)", gates="zrn", at={"s": FOLD}),
        ),
    ),
    # Keras 1: nine arrays, the candidate last and called h; there is no reset_after yet
    "GRU of Keras 1": _per_gate(GRU_BEFORE, {"z": "z", "r": "r", "h": "n"}),
    "GRU of Keras 1, fused": Table(
        GRU_BEFORE,
        (
            Slot("W", "kernel", "i(gh)", gates="zrn"),
            Slot("U", "recurrent", "j(gh)", gates="zrn"),
            Slot("b", "bias", "(gh)", gates="zrn", at={"s": FOLD}),
        ),
    ),
    "CuDNNGRU": Table(
        GRU,
        (
            Slot("kernel", "kernel", "x(gy)", gates="zrn", recut=("xy", "hi")),
            Slot("recurrent_kernel", "recurrent", "h(gj)", gates="zrn"),
            Slot("bias", "bias", "(sgh)", gates="zrn"),
        ),
    ),
    # keras.src.layers.rnn.simple_rnn.SimpleRNNCell.build
    "SimpleRNN": Table(
        SIMPLE_RNN,
        (
            Slot("kernel", "kernel", "ih"),
            Slot("recurrent_kernel", "recurrent", "jh"),
            Slot("bias", "bias", "h", at={"s": FOLD}),
        ),
    ),
    "SimpleRNN of Keras 1": Table(
        SIMPLE_RNN,
        (
            Slot("W", "kernel", "ih"),
            Slot("U", "recurrent", "jh"),
            Slot("b", "bias", "h", at={"s": FOLD}),
        ),
    ),
    "Dense of Keras 1": Table(DENSE, (Slot("W", "kernel", "io"), Slot("b", "bias", "o"))),
    # keras.src.layers.core.dense.Dense.build
    "Dense": Table(DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o"))),
}

FORMS: dict[str, tuple[str, ...]] = {
    "LSTM": ("LSTM", "CuDNNLSTM", "LSTM of Keras 1", "LSTM of Keras 1, fused"),
    "GRU": ("GRU", "CuDNNGRU"),
    "GRU, reset_after=False": (
        "GRU, reset_after=False",
        "GRU of Keras 1",
        "GRU of Keras 1, fused",
    ),
    "SimpleRNN": ("SimpleRNN", "SimpleRNN of Keras 1"),
    "Dense": ("Dense", "Dense of Keras 1"),
}
"""Hub form of the weights -> its tables in every era; names and shapes say which a file has."""

DEFAULT = {form: tables[0] for form, tables in FORMS.items()}
"""Hub form of the weights -> the table that Keras 3 has for it."""
