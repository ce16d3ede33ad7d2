"""The canonical tensor of each Keras variable. Gates i f g o; Keras's documents call g c."""

from dataclasses import replace

from xlstm.ir import kinds
from xlstm.slots import FOLD, Slot, Table, identity_table


def _per_gate(kind: kinds.Kind, names: dict[str, str]) -> Table:
    """Three arrays for each gate, as in Keras 1; `names`: Keras's name -> canonical name."""
    forms = (("W", "kernel", "ih"), ("U", "recurrent", "jh"), ("b", "bias", "h"))
    return Table(
        kind,
        tuple(
            Slot(f"{letter}_{name}", tensor, axes, fixed={"g": gate} | _side(tensor))
            for name, gate in names.items()
            for letter, tensor, axes in forms
        ),
    )


def _side(tensor: str) -> dict[str, str | int]:
    return {"s": FOLD} if tensor == "bias" else {}


TABLES: dict[str, Table] = {
    # keras.src.layers.rnn.lstm.LSTMCell.build
    "LSTM": Table(
        kinds.LSTM,
        (
            Slot("kernel", "kernel", "i(gh)", gates="ifgo"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="ifgo"),
            Slot("bias", "bias", "(gh)", gates="ifgo", fixed={"s": FOLD}),
        ),
    ),
    # Keras 1, consume_less="cpu" or "mem": twelve arrays, the candidate second and called c
    "LSTM of Keras 1": _per_gate(kinds.LSTM, {"i": "i", "c": "g", "f": "f", "o": "o"}),
    # Keras 1, consume_less="gpu": three arrays
    "LSTM of Keras 1, fused": Table(
        kinds.LSTM,
        (
            Slot("W", "kernel", "i(gh)", gates="ifgo"),
            Slot("U", "recurrent", "j(gh)", gates="ifgo"),
            Slot("b", "bias", "(gh)", gates="ifgo", fixed={"s": FOLD}),
        ),
    ),
    # cuDNN stores a (units, inputs) matrix for each gate; CuDNNLSTM reads its memory as (inputs,
    # units). It has two biases.
    "CuDNNLSTM": Table(
        kinds.LSTM,
        (
            Slot("kernel", "kernel", "x(gy)", gates="ifgo", reshape=("xy", "hi")),
            Slot("recurrent_kernel", "recurrent", "h(gj)", gates="ifgo"),
            Slot("bias", "bias", "(sgh)", gates="ifgo"),
        ),
    ),
    # keras.src.layers.rnn.gru.GRUCell.build, reset_after=True: one row of bias for each product
    "GRU": Table(
        kinds.GRU,
        (
            Slot("kernel", "kernel", "i(gh)", gates="zrn"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="zrn"),
            Slot("bias", "bias", "s(gh)", gates="zrn"),
        ),
    ),
    # the same with reset_after=False: one bias
    "GRU, reset_after=False": Table(
        kinds.GRU_BEFORE,
        (
            Slot("kernel", "kernel", "i(gh)", gates="zrn"),
            Slot("recurrent_kernel", "recurrent", "j(gh)", gates="zrn"),
            Slot("bias", "bias", "(gh)", gates="zrn", fixed={"s": FOLD}),
        ),
    ),
    # Keras 1: nine arrays, the candidate last and called h; there is no reset_after yet
    "GRU of Keras 1": _per_gate(kinds.GRU_BEFORE, {"z": "z", "r": "r", "h": "n"}),
    "GRU of Keras 1, fused": Table(
        kinds.GRU_BEFORE,
        (
            Slot("W", "kernel", "i(gh)", gates="zrn"),
            Slot("U", "recurrent", "j(gh)", gates="zrn"),
            Slot("b", "bias", "(gh)", gates="zrn", fixed={"s": FOLD}),
        ),
    ),
    "CuDNNGRU": Table(
        kinds.GRU,
        (
            Slot("kernel", "kernel", "x(gy)", gates="zrn", reshape=("xy", "hi")),
            Slot("recurrent_kernel", "recurrent", "h(gj)", gates="zrn"),
            Slot("bias", "bias", "(sgh)", gates="zrn"),
        ),
    ),
    # keras.src.layers.rnn.simple_rnn.SimpleRNNCell.build
    "SimpleRNN": Table(
        kinds.SIMPLE_RNN,
        (
            Slot("kernel", "kernel", "ih"),
            Slot("recurrent_kernel", "recurrent", "jh"),
            Slot("bias", "bias", "h", fixed={"s": FOLD}),
        ),
    ),
    "SimpleRNN of Keras 1": Table(
        kinds.SIMPLE_RNN,
        (
            Slot("W", "kernel", "ih"),
            Slot("U", "recurrent", "jh"),
            Slot("b", "bias", "h", fixed={"s": FOLD}),
        ),
    ),
    "Dense of Keras 1": Table(kinds.DENSE, (Slot("W", "kernel", "io"), Slot("b", "bias", "o"))),
    # keras.src.layers.core.dense.Dense.build
    "Dense": Table(kinds.DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o"))),
}


def _plain(kind: kinds.Kind, *names: tuple[str, str, str]) -> Table:
    """Returns a table of (Keras's name, canonical tensor, axes)."""
    return Table(kind, tuple(Slot(*name) for name in names))


def _convolutions(axes: str, conv: kinds.Kind, cell: kinds.Kind) -> dict[str, Table]:
    """The tables of convolutions over as many axes as letters."""
    bias = ("bias", "bias", "o")
    old = ("b", "bias", "o")
    # Keras 1 stores the kernel of one axis like that of two
    space = "a()" if axes == "a" else axes
    return {
        conv.name: _plain(conv, ("kernel", "kernel", f"{axes}io"), bias),
        f"{conv.name} of SeparableConv": _plain(
            conv, ("pointwise_kernel", "kernel", f"{axes}io"), bias
        ),
        f"{conv.name} of Keras 1": _plain(conv, ("W", "kernel", f"{space}io"), old),
        f"{conv.name} of Keras 1, th": _plain(conv, ("W", "kernel", f"oi{space}"), old),
        cell.name: Table(
            cell,
            (
                Slot("kernel", "kernel", f"{axes}i(gh)", gates="ifgo"),
                Slot("recurrent_kernel", "recurrent", f"{axes}j(gh)", gates="ifgo"),
                Slot("bias", "bias", "(gh)", gates="ifgo", fixed={"s": FOLD}),
            ),
        ),
    }


def _depthwise(axes: str, kind: kinds.Kind) -> dict[str, Table]:
    bias = ("bias", "bias", "(im)")
    return {
        kind.name: _plain(kind, ("kernel", "kernel", f"{axes}im"), bias),
        f"{kind.name} of Keras 2": _plain(kind, ("depthwise_kernel", "kernel", f"{axes}im"), bias),
    }


NORMED = (("gamma", "gamma", "o"), ("beta", "beta", "o"))

HEADED = tuple(
    (f"{'attention_output' if part == 'output' else part}/{name}", f"{part}_{name}", axes)
    for part, kernel, bias in (
        ("query", "qnk", "nk"),
        ("key", "enk", "nk"),
        ("value", "inv", "nv"),
        ("output", "nvo", "o"),
    )
    for name, axes in (("kernel", kernel), ("bias", bias))
)

for _axes, _conv, _cell in zip(kinds.SPACES, kinds.CONVS, kinds.CONV_LSTMS, strict=True):
    TABLES |= _convolutions(_axes, _conv, _cell)
for _kind in kinds.CONV_TRANSPOSES:
    TABLES[_kind.name] = identity_table(_kind)
# Keras 1 stores the kernel of Deconvolution2D like that of Convolution2D
_kind, _old = kinds.CONV_TRANSPOSES[1], ("b", "bias", "o")
TABLES[f"{_kind.name} of Keras 1"] = _plain(_kind, ("W", "kernel", "abio"), _old)
TABLES[f"{_kind.name} of Keras 1, th"] = _plain(_kind, ("W", "kernel", "oiab"), _old)
for _axes, _kind in zip(kinds.SPACES, kinds.DEPTHWISE, strict=True):
    TABLES |= _depthwise(_axes, _kind)
for _kind in kinds.PRELUS:
    TABLES[_kind.name] = _plain(_kind, ("alpha", "slopes", _kind.tensors["slopes"]))
    TABLES[f"{_kind.name} of Keras 1"] = _plain(
        _kind, ("alphas", "slopes", _kind.tensors["slopes"])
    )

TABLES |= {
    "Embedding": _plain(kinds.EMBEDDING, ("embeddings", "table", "vo")),
    "Embedding of Keras 1": _plain(kinds.EMBEDDING, ("W", "table", "vo")),
    "BatchNorm": _plain(
        kinds.BATCH_NORM,
        *NORMED,
        ("moving_mean", "mean", "o"),
        ("moving_variance", "variance", "o"),
    ),
    # running_std is the variance, despite its name
    "BatchNorm of Keras 1": _plain(
        kinds.BATCH_NORM, *NORMED, ("running_mean", "mean", "o"), ("running_std", "variance", "o")
    ),
    "LayerNorm": _plain(kinds.LAYER_NORM, *NORMED),
    "RMSNorm": _plain(kinds.LAYER_NORM, ("scale", "gamma", "o")),
    "Normalization": _plain(
        kinds.NORMALIZATION, ("mean", "mean", "o"), ("variance", "variance", "o")
    ),
    "Attention": _plain(kinds.ATTENTION, ("scale", "scale", "")),
    "Attention, concat": _plain(
        kinds.ATTENTION_CONCAT,
        ("scale", "scale", ""),
        ("concat_score_weight", "attention_scale", ""),
    ),
    "AdditiveAttention": _plain(kinds.ATTENTION_ADDITIVE, ("scale", "scale", "o")),
    "MultiHeadAttention": _plain(kinds.HEADS, *HEADED),
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
    "Embedding": ("Embedding", "Embedding of Keras 1"),
    "BatchNorm": ("BatchNorm", "BatchNorm of Keras 1"),
    "RMSNorm": ("RMSNorm",),
    **{
        conv.name: tuple(name for name in TABLES if name.split(" of ")[0] == conv.name)
        for conv in (*kinds.CONVS, *kinds.CONV_TRANSPOSES, *kinds.DEPTHWISE, *kinds.PRELUS)
    },
    **{
        kind.name: (kind.name,)
        for kind in (
            *kinds.CONV_LSTMS,
            kinds.LAYER_NORM,
            kinds.NORMALIZATION,
            kinds.ATTENTION,
            kinds.ATTENTION_CONCAT,
            kinds.ATTENTION_ADDITIVE,
            kinds.HEADS,
        )
    },
}
"""Canonical form -> its tables in every era; names and shapes decide between them."""


def turned(table: Table) -> Table:
    """Returns a table of convolutions with flipped windows, as in Theano."""
    slots = (replace(s, reversed_axes="abc") if s.tensor != "bias" else s for s in table.slots)
    return replace(table, slots=tuple(slots))


DEFAULT = {form: tables[0] for form, tables in FORMS.items()}
"""Canonical form -> the table of Keras 3."""
