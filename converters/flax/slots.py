"""The canonical tensor of each Flax parameter, in Linen and in NNX.

Flax's LSTM cells put their only bias on the recurrent product and always have it; the other cells
put it on the input product. No cell of Flax has peepholes: there is no table for them, so such an
LSTM is refused. Linen's GRUCell has a second one, of the candidate alone. The layers
around the recurrent ones are channels last in both, and both name these parameters alike.
"""

from xlstm.ir import kinds
from xlstm.slots import FOLD, Slot, Table


def _per_gate(
    kind: kinds.Kind, gates: str, biased: str, names: dict[str, str] | None = None
) -> Table:
    """A cell with a Dense for each gate, on the input (i) and on the state (h).

    Args:
        kind: the canonical form.
        gates: in the cell's order.
        biased: product with the bias, "i" or "h".
        names: spelling of gates that have another name than their letter.
    """
    spelled = {gate: gate for gate in gates} | (names or {})
    kernels = (Slot(f"i{spelled[g]}.kernel", "kernel", "ih", fixed={"g": g}) for g in gates)
    recurrents = (Slot(f"h{g}.kernel", "recurrent", "jh", fixed={"g": g}) for g in gates)
    biases = (
        Slot(f"{biased}{g}.bias", "bias", "h", fixed={"g": g, "s": FOLD}, required=True)
        for g in gates
    )
    return Table(kind, (*kernels, *recurrents, *biases), prefix="cell.")


def _fused(kind: kinds.Kind, gates: str, biased: str, *more: Slot) -> Table:
    """Returns a table of a cell with one dense layer for all gates of each product, and `more`."""
    # a second bias with its own slot is not added to the first
    apart = "".join(str(slot.fixed["g"]) for slot in more if slot.tensor == "bias")
    bias = Slot(
        f"dense_{biased}.bias",
        "bias",
        "(gh)",
        gates,
        {"s": FOLD},
        required=True,
        unfolded_gates=apart,
    )
    kernels = (
        Slot("dense_i.kernel", "kernel", "i(gh)", gates),
        Slot("dense_h.kernel", "recurrent", "j(gh)", gates),
    )
    return Table(kind, (*kernels, bias, *more), prefix="cell.")


def _conv_lstm(kind: kinds.Kind) -> Table:
    """A cell with one convolution for all gates of each product, and a bias on both."""
    order = "igfo"
    kernels, recurrents = (f"{kind.tensors[t][1:-1]}(gh)" for t in ("kernel", "recurrent"))
    return Table(
        kind,
        (
            Slot("ih.kernel", "kernel", kernels, order),
            Slot("ih.bias", "bias", "(gh)", order, {"s": 0}),
            Slot("hh.kernel", "recurrent", recurrents, order),
            Slot("hh.bias", "bias", "(gh)", order, {"s": 1}),
        ),
        prefix="cell.",
    )


CONVOLVED = {kind.name: _conv_lstm(kind) for kind in kinds.CONV_LSTMS}
"""ConvLSTMCell of Linen, and our own one, over 1, 2 and 3 axes."""


def _simple(names: dict[str, str]) -> Table:
    """A SimpleCell; `names` gives the spelling of its input and its recurrent Dense."""
    return Table(
        kinds.SIMPLE_RNN,
        (
            Slot(f"{names['i']}.kernel", "kernel", "ih"),
            Slot(f"{names['i']}.bias", "bias", "h", fixed={"s": FOLD}, required=True),
            Slot(f"{names['h']}.kernel", "recurrent", "jh"),
        ),
        prefix="cell.",
    )


def _linen_gru() -> Table:
    """Returns the table of a GRU; the reset gate multiplies the candidate's hidden bias."""
    plain = _per_gate(kinds.GRU, "rzn", "i")
    slots = [slot for slot in plain.slots if slot.name != "in.bias"]
    first, second = (
        Slot(f"{side}n.bias", "bias", "h", fixed={"g": "n", "s": number}, required=True)
        for number, side in enumerate("ih")
    )
    return Table(kinds.GRU, (*slots, first, second), prefix="cell.")


PROJECTION = Slot("proj.kernel", "projection", "hj")

_LINEN_PROJECTED = _per_gate(kinds.LSTM_PROJECTED, "ifgo", "h")


def _conv(kind: kinds.Kind) -> Table:
    axes = kind.tensors["kernel"]
    return Table(kind, (Slot("kernel", "kernel", axes), Slot("bias", "bias", "o")))


def _transposed(kind: kinds.Kind) -> Table:
    """Returns the table of ConvTranspose with transpose_kernel=False: flipped windows."""
    space = kind.tensors["kernel"][:-2]
    kernel = Slot("kernel", "kernel", f"{space}io", reversed_axes=space)
    return Table(kind, (kernel, Slot("bias", "bias", "o")))


UNTOLD = "{}, transpose_kernel=False"
"""Name of the table of a transposed convolution with Flax's default option."""


def _depthwise(kind: kinds.Kind) -> Table:
    """Returns a table with a group per channel: each sees one channel, and has m outputs."""
    axes = kind.tensors["kernel"].replace("im", "()(im)")
    return Table(kind, (Slot("kernel", "kernel", axes), Slot("bias", "bias", "(im)")))


def _slopes(kind: kinds.Kind) -> Table:
    return Table(kind, (Slot("negative_slope", "slopes", kind.tensors["slopes"]),))


def _heads() -> Table:
    names = {"query": "query", "key": "key", "value": "value", "output": "out"}
    return Table(
        kinds.HEADS,
        tuple(
            Slot(f"{name}.{part}", f"{hub}_{part}", kinds.HEADS.tensors[f"{hub}_{part}"])
            for hub, name in names.items()
            for part in ("kernel", "bias")
        ),
    )


def _statistics(mean: str, variance: str) -> tuple[Slot, Slot]:
    return (Slot("mean", mean, "o", is_buffer=True), Slot("var", variance, "o", is_buffer=True))


SCALE, BIAS = Slot("scale", "gamma", "o"), Slot("bias", "beta", "o")

FACTOR = Slot("attention_scale", "attention_scale", "")

DENSE_TABLE = Table(kinds.DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o")))

AROUND: dict[str, Table] = {
    # Embed
    "Embed": Table(kinds.EMBEDDING, (Slot("embedding", "table", "vo"),)),
    # Conv, over 1, 2 and 3 axes, and with as many groups as channels
    **{kind.name: _conv(kind) for kind in kinds.CONVS},
    **{kind.name: _depthwise(kind) for kind in kinds.DEPTHWISE},
    # ConvTranspose; with transpose_kernel=True its kernel is the canonical one
    **{UNTOLD.format(kind.name): _transposed(kind) for kind in kinds.CONV_TRANSPOSES},
    **{kind.name: _conv(kind) for kind in kinds.CONV_TRANSPOSES},
    "BatchNorm": Table(kinds.BATCH_NORM, (SCALE, BIAS, *_statistics("mean", "variance"))),
    # LayerNorm and GroupNorm
    "LayerNorm": Table(kinds.LAYER_NORM, (SCALE, BIAS)),
    # MultiHeadAttention, and MultiHeadDotProductAttention of Linen
    "MultiHeadAttention": _heads(),
    # our own, of templates/nnx_layers.py and templates/linen_layers.py
    **{kind.name: _slopes(kind) for kind in kinds.PRELUS},
    "Normalization": Table(kinds.NORMALIZATION, _statistics("mean", "variance")),
    "DotAttention": Table(kinds.ATTENTION, (Slot("scale", "scale", ""),)),
    "ConcatAttention": Table(kinds.ATTENTION_CONCAT, (Slot("scale", "scale", ""), FACTOR)),
    "AdditiveAttention": Table(kinds.ATTENTION_ADDITIVE, (Slot("scale", "scale", "o"),)),
}
"""Framework's name of a layer -> its table; if a name has several, canonical form -> table."""

AROUND_DEFAULT = {table.kind.name: name for name, table in AROUND.items()}

LINEN_TABLES: dict[str, Table] = {
    # flax.linen.LSTMCell and OptimizedLSTMCell share one parameter tree
    "LSTMCell": _per_gate(kinds.LSTM, "ifgo", "h"),
    "OptimizedLSTMCell": _per_gate(kinds.LSTM, "ifgo", "h"),
    # flax.linen.GRUCell
    "GRUCell": _linen_gru(),
    # flax.linen.SimpleCell
    "SimpleCell": _simple({"i": "i", "h": "h"}),
    "Dense": DENSE_TABLE,
    **AROUND,
    **CONVOLVED,
    # our own cells, of templates/linen_recurrent.py
    "ResetFirstGRUCell": _per_gate(kinds.GRU_BEFORE, "rzn", "i"),
    "ProjectedLSTMCell": Table(
        kinds.LSTM_PROJECTED, (*_LINEN_PROJECTED.slots, PROJECTION), _LINEN_PROJECTED.prefix
    ),
}

LINEN_DEFAULT = {
    "LSTM": "OptimizedLSTMCell",
    "LSTM with projection": "ProjectedLSTMCell",
    "GRU": "GRUCell",
    "GRU without hidden bias": "GRUCell",
    "GRU, reset_after=False": "ResetFirstGRUCell",
    "SimpleRNN": "SimpleCell",
    **AROUND_DEFAULT,
    **{name: name for name in CONVOLVED},
    "Dense": "Dense",
}

NNX_TABLES: dict[str, Table] = {
    # flax.nnx.LSTMCell; `if` is a keyword, so the attribute is `if_`
    "LSTMCell": _per_gate(kinds.LSTM, "ifgo", "h", {"f": "f_"}),
    # flax.nnx.OptimizedLSTMCell
    "OptimizedLSTMCell": _fused(kinds.LSTM, "ifgo", "h"),
    # flax.nnx.GRUCell; it has no bias on the recurrent product
    "GRUCell": _fused(kinds.GRU, "rzn", "i"),
    # flax.nnx.SimpleCell
    "SimpleCell": _simple({"i": "dense_i", "h": "dense_h"}),
    "Linear": DENSE_TABLE,
    **AROUND,
    **CONVOLVED,
    # our own cells, of templates/nnx_recurrent.py
    "BiasedGRUCell": _fused(
        kinds.GRU, "rzn", "i", Slot("bias_hn", "bias", "h", fixed={"g": "n", "s": 1})
    ),
    "ResetFirstGRUCell": _fused(kinds.GRU_BEFORE, "rzn", "i"),
    "ProjectedLSTMCell": _fused(kinds.LSTM_PROJECTED, "ifgo", "h", PROJECTION),
}

NNX_DEFAULT = {
    "LSTM": "OptimizedLSTMCell",
    "LSTM with projection": "ProjectedLSTMCell",
    "GRU": "BiasedGRUCell",
    "GRU without hidden bias": "GRUCell",
    "GRU, reset_after=False": "ResetFirstGRUCell",
    "SimpleRNN": "SimpleCell",
    **AROUND_DEFAULT,
    **{name: name for name in CONVOLVED},
    "Dense": "Linear",
}
"""Canonical form -> the table of the cell that ports use; native wherever that is exact."""
