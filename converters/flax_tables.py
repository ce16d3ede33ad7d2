"""Which Flax parameter holds what, in Linen and in NNX.

Flax's LSTM cells put their only bias on the recurrent product and always have it; SimpleCell puts
it on the input product.
"""

from xlstm.layout import DENSE, FOLD, LSTM, SIMPLE_RNN, Slot, Table


def _per_gate(names: dict[str, str]) -> Table:
    """An LSTM cell with a Dense for each gate; `names` gives the spelling of each gate."""
    kernels = (Slot(f"i{names[g]}.kernel", "kernel", "ih", at={"g": g}) for g in "ifgo")
    recurrents = (Slot(f"h{g}.kernel", "recurrent", "jh", at={"g": g}) for g in "ifgo")
    biases = (Slot(f"h{g}.bias", "bias", "h", at={"g": g, "s": FOLD}, always=True) for g in "ifgo")
    return Table(LSTM, (*kernels, *recurrents, *biases), inside="cell.")


def _simple(names: dict[str, str]) -> Table:
    """A SimpleCell; `names` gives the spelling of its input and its recurrent Dense."""
    return Table(
        SIMPLE_RNN,
        (
            Slot(f"{names['i']}.kernel", "kernel", "ih"),
            Slot(f"{names['i']}.bias", "bias", "h", at={"s": FOLD}, always=True),
            Slot(f"{names['h']}.kernel", "recurrent", "jh"),
        ),
        inside="cell.",
    )


DENSE_TABLE = Table(DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o")))

LINEN_TABLES: dict[str, Table] = {
    # flax.linen.LSTMCell and OptimizedLSTMCell share one parameter tree
    "LSTMCell": _per_gate({"i": "i", "f": "f", "g": "g", "o": "o"}),
    "OptimizedLSTMCell": _per_gate({"i": "i", "f": "f", "g": "g", "o": "o"}),
    # flax.linen.SimpleCell
    "SimpleCell": _simple({"i": "i", "h": "h"}),
    "Dense": DENSE_TABLE,
}

LINEN_DEFAULT = {"LSTM": "OptimizedLSTMCell", "SimpleRNN": "SimpleCell", "Dense": "Dense"}

NNX_TABLES: dict[str, Table] = {
    # flax.nnx.LSTMCell; `if` is a keyword, so the attribute is `if_`
    "LSTMCell": _per_gate({"i": "i", "f": "f_", "g": "g", "o": "o"}),
    # flax.nnx.OptimizedLSTMCell
    "OptimizedLSTMCell": Table(
        LSTM,
        (
            Slot("dense_i.kernel", "kernel", "i(gh)", gates="ifgo"),
            Slot("dense_h.kernel", "recurrent", "j(gh)", gates="ifgo"),
            Slot("dense_h.bias", "bias", "(gh)", gates="ifgo", at={"s": FOLD}, always=True),
        ),
        inside="cell.",
    ),
    # flax.nnx.SimpleCell
    "SimpleCell": _simple({"i": "dense_i", "h": "dense_h"}),
    "Linear": DENSE_TABLE,
}

NNX_DEFAULT = {"LSTM": "OptimizedLSTMCell", "SimpleRNN": "SimpleCell", "Dense": "Linear"}
