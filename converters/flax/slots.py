"""The canonical tensor of each Flax parameter, in Linen and in NNX.

Slot("if.kernel", "kernel", "ih", fixed={"g": "f"})
if.kernel of a Linen cell is the kernel of the gate f, on the input

Flax's LSTM cells put their only bias on the recurrent product and always have it; the other cells
put it on the input product. No cell of Flax has peepholes: there is no table for them, so such an
LSTM is refused. Linen's GRUCell has a second one, of the candidate alone. The layers
around the recurrent ones are channels last in both, and both name these parameters alike.
"""

from dataclasses import replace

from xlstm.ir import kinds
from xlstm.slots import FOLD, Slot, Table


def _cell(kind: kinds.Kind, *slots: Slot) -> Table:
    return Table(kind, slots, prefix="cell.")


# flax.linen.LSTMCell and OptimizedLSTMCell: a Dense for each gate, on the input (i) and on the
# state (h)
_LSTM = (
    Slot("ii.kernel", "kernel", "ih", fixed={"g": "i"}),
    Slot("if.kernel", "kernel", "ih", fixed={"g": "f"}),
    Slot("ig.kernel", "kernel", "ih", fixed={"g": "g"}),
    Slot("io.kernel", "kernel", "ih", fixed={"g": "o"}),
    Slot("hi.kernel", "recurrent", "jh", fixed={"g": "i"}),
    Slot("hf.kernel", "recurrent", "jh", fixed={"g": "f"}),
    Slot("hg.kernel", "recurrent", "jh", fixed={"g": "g"}),
    Slot("ho.kernel", "recurrent", "jh", fixed={"g": "o"}),
    Slot("hi.bias", "bias", "h", fixed={"g": "i", "s": FOLD}, required=True),
    Slot("hf.bias", "bias", "h", fixed={"g": "f", "s": FOLD}, required=True),
    Slot("hg.bias", "bias", "h", fixed={"g": "g", "s": FOLD}, required=True),
    Slot("ho.bias", "bias", "h", fixed={"g": "o", "s": FOLD}, required=True),
)

# flax.linen.GRUCell, all but the biases of the candidate
_GRU = (
    Slot("ir.kernel", "kernel", "ih", fixed={"g": "r"}),
    Slot("iz.kernel", "kernel", "ih", fixed={"g": "z"}),
    Slot("in.kernel", "kernel", "ih", fixed={"g": "n"}),
    Slot("hr.kernel", "recurrent", "jh", fixed={"g": "r"}),
    Slot("hz.kernel", "recurrent", "jh", fixed={"g": "z"}),
    Slot("hn.kernel", "recurrent", "jh", fixed={"g": "n"}),
    Slot("ir.bias", "bias", "h", fixed={"g": "r", "s": FOLD}, required=True),
    Slot("iz.bias", "bias", "h", fixed={"g": "z", "s": FOLD}, required=True),
)

# flax.nnx.OptimizedLSTMCell: one Linear for all gates of each product
_FUSED_LSTM = (
    Slot("dense_i.kernel", "kernel", "i(gh)", "ifgo"),
    Slot("dense_h.kernel", "recurrent", "j(gh)", "ifgo"),
    Slot("dense_h.bias", "bias", "(gh)", "ifgo", {"s": FOLD}, required=True),
)

# flax.nnx.GRUCell
_FUSED_KERNELS = (
    Slot("dense_i.kernel", "kernel", "i(gh)", "rzn"),
    Slot("dense_h.kernel", "recurrent", "j(gh)", "rzn"),
)
_FUSED_BIAS = Slot("dense_i.bias", "bias", "(gh)", "rzn", {"s": FOLD}, required=True)

_PROJECTION = Slot("proj.kernel", "projection", "hj")


def _conv_lstms(*biases: Slot) -> dict[str, Table]:
    """One convolution for all gates of each product, over 1, 2 and 3 axes."""
    return {
        kind.name: _cell(
            kind,
            Slot("ih.kernel", "kernel", f"{space}i(gh)", "igfo"),
            Slot("hh.kernel", "recurrent", f"{space}j(gh)", "igfo"),
            *biases,
        )
        for space, kind in zip(kinds.SPACES, kinds.CONV_LSTMS, strict=True)
    }


_CONV_LSTMS = _conv_lstms(
    Slot("ih.bias", "bias", "(gh)", "igfo", {"s": 0}),
    Slot("hh.bias", "bias", "(gh)", "igfo", {"s": 1}),
)
"""ConvLSTMCell of Linen, with a bias on both products, and our own one that may replace it."""

_NNX_CONV_LSTMS = _conv_lstms(Slot("ih.bias", "bias", "(gh)", "igfo", {"s": FOLD}))
"""Our own cell of NNX, which has no native one: one bias is enough."""


def _pair(kind: kinds.Kind, axes: str, bias: str) -> Table:
    """A layer with a kernel and a bias."""
    return Table(kind, (Slot("kernel", "kernel", axes), Slot("bias", "bias", bias)))


def _transposed(kind: kinds.Kind, space: str) -> Table:
    """Returns the table of ConvTranspose with transpose_kernel=False: flipped windows."""
    kernel = Slot("kernel", "kernel", f"{space}io", reversed_axes=space)
    return Table(kind, (kernel, Slot("bias", "bias", "o")))


UNTOLD = "{}, transpose_kernel=False"
"""Name of the table of a transposed convolution with Flax's default option."""

_DENSE = _pair(kinds.DENSE, "io", "o")

_LEARNED = Slot("scale", "gamma", "o"), Slot("bias", "beta", "o")

_STATISTICS = (
    Slot("mean", "mean", "o", is_buffer=True),
    Slot("var", "variance", "o", is_buffer=True),
)

_AROUND: dict[str, Table] = {
    # Embed
    "Embed": Table(kinds.EMBEDDING, (Slot("embedding", "table", "vo"),)),
    # Conv, over 1, 2 and 3 axes, and with as many groups as channels: each group sees one channel,
    # and has m outputs
    **{kind.name: _pair(kind, kind.tensors["kernel"], "o") for kind in kinds.CONVS},
    **{
        kind.name: _pair(kind, f"{space}()(im)", "(im)")
        for space, kind in zip(kinds.SPACES, kinds.DEPTHWISE, strict=True)
    },
    # ConvTranspose; with transpose_kernel=True its kernel is the canonical one
    **{
        UNTOLD.format(kind.name): _transposed(kind, space)
        for space, kind in zip(kinds.SPACES, kinds.CONV_TRANSPOSES, strict=True)
    },
    **{kind.name: _pair(kind, kind.tensors["kernel"], "o") for kind in kinds.CONV_TRANSPOSES},
    "BatchNorm": Table(kinds.BATCH_NORM, (*_LEARNED, *_STATISTICS)),
    # LayerNorm and GroupNorm
    "LayerNorm": Table(kinds.LAYER_NORM, _LEARNED),
    # MultiHeadAttention, and MultiHeadDotProductAttention of Linen
    "MultiHeadAttention": Table(
        kinds.HEADS,
        (
            Slot("query.kernel", "query_kernel", "qnk"),
            Slot("query.bias", "query_bias", "nk"),
            Slot("key.kernel", "key_kernel", "enk"),
            Slot("key.bias", "key_bias", "nk"),
            Slot("value.kernel", "value_kernel", "inv"),
            Slot("value.bias", "value_bias", "nv"),
            Slot("out.kernel", "output_kernel", "nvo"),
            Slot("out.bias", "output_bias", "o"),
        ),
    ),
    # our own, of templates/nnx_layers.py and templates/linen_layers.py
    **{
        kind.name: Table(kind, (Slot("negative_slope", "slopes", kind.tensors["slopes"]),))
        for kind in kinds.PRELUS
    },
    "Normalization": Table(kinds.NORMALIZATION, _STATISTICS),
    "DotAttention": Table(kinds.ATTENTION, (Slot("scale", "scale", ""),)),
    "ConcatAttention": Table(
        kinds.ATTENTION_CONCAT,
        (Slot("scale", "scale", ""), Slot("attention_scale", "attention_scale", "")),
    ),
    "AdditiveAttention": Table(kinds.ATTENTION_ADDITIVE, (Slot("scale", "scale", "o"),)),
}
"""Framework's name of a layer -> its table; if a name has several, canonical form -> table."""

LINEN_TABLES: dict[str, Table] = {
    "LSTMCell": _cell(kinds.LSTM, *_LSTM),
    "OptimizedLSTMCell": _cell(kinds.LSTM, *_LSTM),
    # the reset gate multiplies the candidate's hidden bias
    "GRUCell": _cell(
        kinds.GRU,
        *_GRU,
        Slot("in.bias", "bias", "h", fixed={"g": "n", "s": 0}, required=True),
        Slot("hn.bias", "bias", "h", fixed={"g": "n", "s": 1}, required=True),
    ),
    # flax.linen.SimpleCell
    "SimpleCell": _cell(
        kinds.SIMPLE_RNN,
        Slot("i.kernel", "kernel", "ih"),
        Slot("i.bias", "bias", "h", fixed={"s": FOLD}, required=True),
        Slot("h.kernel", "recurrent", "jh"),
    ),
    "Dense": _DENSE,
    **_AROUND,
    **_CONV_LSTMS,
    # our own cells, of templates/linen_recurrent.py
    "ResetFirstGRUCell": _cell(
        kinds.GRU_BEFORE,
        *_GRU,
        Slot("in.bias", "bias", "h", fixed={"g": "n", "s": FOLD}, required=True),
    ),
    "ProjectedLSTMCell": _cell(kinds.LSTM_PROJECTED, *_LSTM, _PROJECTION),
}

NNX_TABLES: dict[str, Table] = {
    # flax.nnx.LSTMCell; `if` is a keyword, so the attribute is `if_`
    "LSTMCell": _cell(
        kinds.LSTM,
        *(replace(s, name="if_.kernel") if s.name == "if.kernel" else s for s in _LSTM),
    ),
    "OptimizedLSTMCell": _cell(kinds.LSTM, *_FUSED_LSTM),
    # it has no bias on the recurrent product
    "GRUCell": _cell(kinds.GRU, *_FUSED_KERNELS, _FUSED_BIAS),
    # flax.nnx.SimpleCell
    "SimpleCell": _cell(
        kinds.SIMPLE_RNN,
        Slot("dense_i.kernel", "kernel", "ih"),
        Slot("dense_i.bias", "bias", "h", fixed={"s": FOLD}, required=True),
        Slot("dense_h.kernel", "recurrent", "jh"),
    ),
    "Linear": _DENSE,
    **_AROUND,
    **_NNX_CONV_LSTMS,
    # our own cells, of templates/nnx_recurrent.py
    "BiasedGRUCell": _cell(
        kinds.GRU,
        *_FUSED_KERNELS,
        # a second bias with its own slot is not added to the first
        replace(_FUSED_BIAS, unfolded_gates="n"),
        Slot("bias_hn", "bias", "h", fixed={"g": "n", "s": 1}),
    ),
    "ResetFirstGRUCell": _cell(kinds.GRU_BEFORE, *_FUSED_KERNELS, _FUSED_BIAS),
    "ProjectedLSTMCell": _cell(kinds.LSTM_PROJECTED, *_FUSED_LSTM, _PROJECTION),
}

_DEFAULT = {
    "LSTM": "OptimizedLSTMCell",
    "LSTM with projection": "ProjectedLSTMCell",
    "GRU": "BiasedGRUCell",
    "GRU without hidden bias": "GRUCell",
    "GRU, reset_after=False": "ResetFirstGRUCell",
    "SimpleRNN": "SimpleCell",
    **{table.kind.name: name for name, table in _AROUND.items()},
    **{name: name for name in _CONV_LSTMS},
}

LINEN_DEFAULT = {**_DEFAULT, "GRU": "GRUCell", "Dense": "Dense"}

NNX_DEFAULT = {**_DEFAULT, "Dense": "Linear"}
"""Canonical form -> the table of the cell that ports use; native wherever that is exact."""
