"""Operations that Keras on TensorFlow computes inexactly; imports no framework.

In: a model and a precision. Out: the operations by layer, with the error of each.
"""

from __future__ import annotations

import math
from ctypes import c_float

from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.precision import DTYPES, EPS

from .activations import INEXACT_FLOAT32, INEXACT_FLOAT64
from .write.layer_arguments import is_leaky


def inexact_operations(model: Model, dtype: str) -> dict[str, float]:
    """Returns operations that TensorFlow computes inexactly in `dtype` -> their errors.

    Errors are per max(1, |x|) of the operation's input; the keys name the layers.
    """
    wide = dtype == "float64"
    table = INEXACT_FLOAT64 if wide else INEXACT_FLOAT32
    found = {}
    for node in model.layers:
        for name in sorted(_activations(node.spec) & table.keys()):
            why, error = table[name]
            found[f"{name} of {node.name}: {why}"] = error
        spec = unwrap_time_distributed(node.spec)
        if isinstance(spec, L.Elu):
            why, error = table["elu"]
            found[f"ELU of {node.name}: {why}"] = error * max(1.0, abs(spec.alpha))
        if wide and (constant := _rounded(spec)) is not None:
            error = abs(c_float(constant).value - constant) / max(abs(constant), EXACT)
            what = f"{spec.kind} of {node.name}: {ROUNDED[type(spec)]}"
            found |= {what: error} if error else {}
    return found


def float32_pools(model: Model) -> list[str]:
    """Returns the names of the layers MaxPooling3D: TensorFlow has no float64 form of them."""
    specs = ((node.name, unwrap_time_distributed(node.spec)) for node in model.layers)
    pools = [(name, spec) for name, spec in specs if isinstance(spec, L.Pool) and spec.how == "max"]
    return [name for name, spec in pools if len(spec.window) == 3]


def precisions(model: Model) -> dict[str, float]:
    """Returns the precisions for the tests of a port -> the unit of rounding of each.

    float64 is left out where a layer has no form in it, or one in compiled code only.
    """
    specs = [unwrap_time_distributed(node.spec) for node in model.layers]
    pools = any(isinstance(spec, L.Pool) and len(spec.window) == 3 for spec in specs)
    turned = any(isinstance(s, L.ConvTranspose) and max(s.dilation) > 1 for s in specs)
    names = DTYPES[:1] if pools or turned else DTYPES
    return {d: max(EPS[d], *inexact_operations(model, d).values(), 0.0) for d in names}


EXACT = 1e-30
"""Smaller than any constant of a layer."""

ROUNDED: dict[type[L.LayerSpec], str] = {
    L.Relu: "tf.nn.leaky_relu rounds its slope to float32",
    L.MultiHeadAttention: "Keras rounds 1 / sqrt(key_dim) to float32",
}
"""Layers with a constant that Keras on TensorFlow rounds to float32 in every dtype."""


def _rounded(spec: L.LayerSpec) -> float | None:
    """Returns the constant of a layer that is rounded, None if it has none."""
    if isinstance(spec, L.MultiHeadAttention):
        return 1.0 / math.sqrt(spec.key_dim)
    return spec.slope if isinstance(spec, L.Relu) and is_leaky(spec) else None


def _activations(spec: L.LayerSpec) -> set[str]:
    """Returns the activations of a layer and of the layers inside it."""
    names = {getattr(spec, "activation", ""), getattr(spec, "gate_activation", "")}
    inner = [part for _, part in spec.weighted_parts if part is not spec]
    return names.union(*map(_activations, inner))
