"""The canonical forms of weights: the tensors of each kind of layer, and their axes.

    KINDS["LSTM"].tensors["kernel"]     "gih": gate, input, hidden

Axis letters: s bias side, g gate, i input, h hidden, j hidden before the step, o output, a b c the
axes of a window, m multiplier, v q e k n in embeddings and attention as their specs name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """The canonical weights of one kind of layer.

    Attributes:
        name: its name in specs (`LayerSpec.weight_kind`).
        tensors: canonical tensor -> its axes.
        gates: the order of the gate axis.
        statistics: tensors that training does not move by gradients.
        apart: gates whose two biases are different terms: no single bias can replace them.
    """

    name: str
    tensors: Mapping[str, str]
    gates: str = ""
    apart: str = ""
    statistics: tuple[str, ...] = ()

    def axis_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """`sizes` with the gate axis and both bias sides added."""
        return {**sizes, "g": len(self.gates), "s": 2}


GATED = {"kernel": "gih", "recurrent": "gjh", "bias": "sgh"}

LSTM = Kind("LSTM", GATED, "ifgo")
LSTM_PROJECTED = Kind("LSTM with projection", {**GATED, "projection": "hj"}, "ifgo")
# reset_after: the reset gate multiplies h U_n + c_n, so that c_n cannot be added to b_n
GRU = Kind("GRU", GATED, "rzn", apart="n")
GRU_BEFORE = Kind("GRU, reset_after=False", GATED, "rzn")


def _conv_lstm(axes: str) -> Kind:
    tensors = {"kernel": f"g{axes}ih", "recurrent": f"g{axes}jh", "bias": "sgh"}
    return Kind(f"ConvLSTM{len(axes)}D", tensors, "ifgo")


SPACES = ("a", "ab", "abc")
CONV_LSTMS = tuple(map(_conv_lstm, SPACES))
SIMPLE_RNN = Kind("SimpleRNN", {"kernel": "ih", "recurrent": "jh", "bias": "sh"})
DENSE = Kind("Dense", {"kernel": "io", "bias": "o"})

EMBEDDING = Kind("Embedding", {"table": "vo"})
CONVS = tuple(Kind(f"Conv{len(a)}D", {"kernel": f"{a}io", "bias": "o"}) for a in SPACES)
CONV_TRANSPOSES = tuple(
    Kind(f"Conv{len(a)}DTranspose", {"kernel": f"{a}oi", "bias": "o"}) for a in SPACES
)
DEPTHWISE = tuple(
    Kind(f"DepthwiseConv{len(a)}D", {"kernel": f"{a}im", "bias": "im"}) for a in SPACES
)
PRELUS = tuple(Kind(f"PRelu{len(a)}D", {"slopes": a}) for a in (*SPACES, "abcd"))
BATCH_NORM = Kind(
    "BatchNorm",
    dict.fromkeys(("gamma", "beta", "mean", "variance"), "o"),
    statistics=("mean", "variance"),
)
LAYER_NORM = Kind("LayerNorm", {"gamma": "o", "beta": "o"})
NORMALIZATION = Kind(
    "Normalization",
    {"mean": "o", "variance": "o", "count": ""},
    statistics=("mean", "variance", "count"),
)
ATTENTION = Kind("Attention", {"scale": ""})
ATTENTION_CONCAT = Kind("Attention, concat", {"scale": "", "attention_scale": ""})
ATTENTION_ADDITIVE = Kind("AdditiveAttention", {"scale": "o"})
HEADS = Kind(
    "MultiHeadAttention",
    {
        "query_kernel": "qnk",
        "query_bias": "nk",
        "key_kernel": "enk",
        "key_bias": "nk",
        "value_kernel": "inv",
        "value_bias": "nv",
        "output_kernel": "nvo",
        "output_bias": "o",
    },
)

AROUND = (*CONVS, *CONV_TRANSPOSES, *DEPTHWISE, *PRELUS, BATCH_NORM, LAYER_NORM, NORMALIZATION)
AROUND += (EMBEDDING, HEADS, ATTENTION, ATTENTION_CONCAT, ATTENTION_ADDITIVE, DENSE)
RECURRENT = (LSTM, LSTM_PROJECTED, GRU, GRU_BEFORE, *CONV_LSTMS, SIMPLE_RNN)

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*RECURRENT, *AROUND)}
KINDS["GRU without hidden bias"] = GRU
KINDS["RMSNorm"] = LAYER_NORM  # it never has a beta
"""Canonical form of every kind of layer that has weights, by `LayerSpec.weight_kind`."""
