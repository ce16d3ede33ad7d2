"""The framework-neutral model and its layers, under their public name.

>>> LSTM(3, 4).output_shape((None, 3))
(4,)
"""

from xlstm.ir.activation_names import ACTIVATIONS as ACTIVATIONS
from xlstm.ir.graph import *  # noqa: F403
from xlstm.ir.layers import *  # noqa: F403
from xlstm.ir.layers import LayerSpec
from xlstm.ir.source import Source as Source
from xlstm.ir.types import Array as Array
from xlstm.ir.types import Shape as Shape

Spec = LayerSpec
"""The old name of `LayerSpec`."""


def mask_shape(spec: LayerSpec, x: Shape) -> Shape | None:
    """One sample of the mask that a layer obeys, for samples `x`; None where it obeys none."""
    return spec.mask_shape(x)
