"""What an emitted port computes with and float16 has not."""

from __future__ import annotations

from collections.abc import Callable

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Model

HIDES = "scores lowered by 1e9 or more, where masks or the order hide values"


def hides(spec: L.LayerSpec) -> bool:
    """Whether an attention layer has values that a query does not see."""
    attends = isinstance(spec, (L.Attention, L.MultiHeadAttention))
    return attends and (spec.causal or bool(spec.masks))  # type: ignore[attr-defined]


def check_scores(
    model: Model, framework: str, dtype: str, lowers: Callable[[L.LayerSpec], bool]
) -> None:
    """Raises UnsupportedError for attention whose hidden scores float16 does not hold.

    Args:
        model: what is to be ported.
        framework: its name, for the error.
        dtype: what the port is to compute in.
        lowers: whether the framework's form of a layer lowers scores.
    """
    for node in model.layers if dtype == "float16" else ():
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
        if hides(spec) and lowers(spec):
            where, want = f"adapter {framework}, layer {node.name}", "numbers that float16 has"
            do = "port it to bfloat16, or to keras, which lowers them by less in float16"
            raise UnsupportedError(where, want, HIDES, do)
