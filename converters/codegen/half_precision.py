"""Limits of float16 in emitted code: scores of hidden values in attention."""

from __future__ import annotations

from collections.abc import Callable

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Model


def hides(spec: L.LayerSpec) -> bool:
    """True if an attention layer has values that a query does not see."""
    attends = isinstance(spec, (L.Attention, L.MultiHeadAttention))
    return attends and (spec.causal or bool(spec.masks))  # type: ignore[attr-defined]


def check_scores(
    model: Model, framework: str, dtype: str, lowers: Callable[[L.LayerSpec], bool]
) -> None:
    """Raises UnsupportedError for attention whose hidden scores float16 cannot store.

    Args:
        model: the model to port.
        framework: its name, for the error.
        dtype: dtype of the port.
        lowers: returns True if the framework's form of a layer lowers scores.
    """
    for node in model.layers if dtype == "float16" else ():
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
        if hides(spec) and lowers(spec):
            where, want = f"adapter {framework}, layer {node.name}", "numbers that float16 has"
            got = "scores lowered by 1e9 or more, where masks or the order hide values"
            do = "port it to bfloat16, or to keras, which lowers them by less in float16"
            raise UnsupportedError(where, want, got, do)
