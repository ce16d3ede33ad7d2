"""Tables of slots for PyTorch: they say where every tensor of a layer goes.

Slot("weight_ih_l0", "kernel", "(gh)i", "ifgo")
the rows of weight_ih_l0 are the gates i f g o, one after the other, of the kernel
"""

from dataclasses import replace

from xlstm.ir import kinds
from xlstm.slots import FOLD, Slot, Table

# torch.nn.LSTM: the rows of weight_ih_l[k] are (W_ii|W_if|W_ig|W_io), gate by gate
_LSTM = (
    Slot("weight_ih_l0", "kernel", "(gh)i", "ifgo"),
    Slot("weight_hh_l0", "recurrent", "(gh)j", "ifgo"),
    Slot("bias_ih_l0", "bias", "(gh)", "ifgo", fixed={"s": 0}),
    Slot("bias_hh_l0", "bias", "(gh)", "ifgo", fixed={"s": 1}),
)

# torch.nn.GRU: (W_ir|W_iz|W_in); the reset gate multiplies n's rows of bias_hh_l0
_GRU = (
    Slot("weight_ih_l0", "kernel", "(gh)i", "rzn"),
    Slot("weight_hh_l0", "recurrent", "(gh)j", "rzn"),
    Slot("bias_ih_l0", "bias", "(gh)", "rzn", fixed={"s": 0}),
    Slot("bias_hh_l0", "bias", "(gh)", "rzn", fixed={"s": 1}),
)

# torch.nn.RNN
_RNN = (
    Slot("weight_ih_l0", "kernel", "hi"),
    Slot("weight_hh_l0", "recurrent", "hj"),
    Slot("bias_ih_l0", "bias", "h", fixed={"s": 0}),
    Slot("bias_hh_l0", "bias", "h", fixed={"s": 1}),
)


def _cell(kind: kinds.Kind, slots: tuple[Slot, ...]) -> Table:
    """A single cell: torch.nn.LSTMCell calls weight_ih what nn.LSTM calls weight_ih_l0."""
    return Table(kind, tuple(replace(s, name=s.name.removesuffix("_l0")) for s in slots))


def _pair(kind: kinds.Kind, weight: str, axes: str, bias: str, own: str) -> Table:
    """A layer with the tensors weight and bias."""
    return Table(kind, (Slot("weight", weight, axes), Slot("bias", bias, own)))


def _conv_lstm(space: str) -> tuple[Slot, ...]:
    """Two convolutions, one of which has the bias."""
    return (
        Slot("conv_ih.weight", "kernel", f"(gh)i{space}", "ifgo"),
        Slot("conv_ih.bias", "bias", "(gh)", "ifgo", {"s": FOLD}),
        Slot("conv_hh.weight", "recurrent", f"(gh)j{space}", "ifgo"),
    )


TABLES: dict[str, Table] = {
    "LSTM": Table(kinds.LSTM, _LSTM),
    "LSTM with projection": Table(
        kinds.LSTM_PROJECTED, (*_LSTM, Slot("weight_hr_l0", "projection", "jh"))
    ),
    "GRU": Table(kinds.GRU, _GRU),
    # our own cell, with the parameters of nn.GRU
    "GRU, reset_after=False": Table(kinds.GRU_BEFORE, _GRU),
    "RNN": Table(kinds.SIMPLE_RNN, _RNN),
    "LSTMCell": _cell(kinds.LSTM, _LSTM),
    "GRUCell": _cell(kinds.GRU, _GRU),
    "RNNCell": _cell(kinds.SIMPLE_RNN, _RNN),
    "Linear": _pair(kinds.DENSE, "kernel", "oi", "bias", "o"),
    "Embedding": Table(kinds.EMBEDDING, (Slot("weight", "table", "vo"),)),
    **{
        f"Conv{len(space)}d": _pair(kind, "kernel", f"oi{space}", "bias", "o")
        for space, kind in zip(kinds.SPACES, kinds.CONVS, strict=True)
    },
    **{
        f"ConvTranspose{len(space)}d": _pair(kind, "kernel", f"io{space}", "bias", "o")
        for space, kind in zip(kinds.SPACES, kinds.CONV_TRANSPOSES, strict=True)
    },
    # torch.nn.Conv with a group for every channel
    **{
        f"Conv{len(space)}d, depthwise": _pair(kind, "kernel", f"(im)(){space}", "bias", "(im)")
        for space, kind in zip(kinds.SPACES, kinds.DEPTHWISE, strict=True)
    },
    # our own cell: no native layer is one
    **{
        kind.name: Table(kind, _conv_lstm(space))
        for space, kind in zip(kinds.SPACES, kinds.CONV_LSTMS, strict=True)
    },
    "BatchNorm": Table(
        kinds.BATCH_NORM,
        (
            Slot("weight", "gamma", "o"),
            Slot("bias", "beta", "o"),
            Slot("running_mean", "mean", "o", is_buffer=True),
            Slot("running_var", "variance", "o", is_buffer=True),
        ),
        counters=("num_batches_tracked",),
    ),
    "LayerNorm": _pair(kinds.LAYER_NORM, "gamma", "o", "beta", "o"),
    **{
        f"PReLU, {rank} axes": Table(kind, (Slot("weight", "slopes", "abcd"[:rank]),))
        for rank, kind in enumerate(kinds.PRELUS, 1)
    },
    # our own layers
    "Normalization": Table(
        kinds.NORMALIZATION,
        (
            Slot("mean", "mean", "o", is_buffer=True),
            Slot("variance", "variance", "o", is_buffer=True),
        ),
    ),
    "DotScores": Table(kinds.ATTENTION, (Slot("scale", "scale", ""),)),
    "ConcatScores": Table(
        kinds.ATTENTION_CONCAT,
        (Slot("scale", "scale", ""), Slot("attention_scale", "attention_scale", "")),
    ),
    "AdditiveScores": Table(kinds.ATTENTION_ADDITIVE, (Slot("scale", "scale", "o"),)),
    "MultiHeadAttention": Table(
        kinds.HEADS,
        (
            Slot("query.weight", "query_kernel", "(nk)q"),
            Slot("query.bias", "query_bias", "(nk)"),
            Slot("key.weight", "key_kernel", "(nk)e"),
            Slot("key.bias", "key_bias", "(nk)"),
            Slot("value.weight", "value_kernel", "(nv)i"),
            Slot("value.bias", "value_bias", "(nv)"),
            Slot("output.weight", "output_kernel", "o(nv)"),
            Slot("output.bias", "output_bias", "o"),
        ),
    ),
}
"""PyTorch's name of a layer -> its table."""

DEFAULT = {
    "SimpleRNN": "RNN",
    "Dense": "Linear",
    **{
        table.kind.name: name
        for name, table in TABLES.items()
        if name not in ("LSTMCell", "GRUCell", "RNNCell", "RNN", "Linear")
    },
}
"""Kind of weights -> the table that ports use."""
