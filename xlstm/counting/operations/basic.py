"""Operations of Dense, TimeDistributed, Embedding, and of layers that compute nothing."""

from __future__ import annotations

from xlstm.counting.operations.activations import activation as activated
from xlstm.counting.operations.formula import (
    OPERATIONS,
    OperationCount,
    ShapedCall,
    elementwise,
)
from xlstm.counting.operations.polynomial import Sizes
from xlstm.ir import layers as L


def formula_of(spec: L.LayerSpec, call: ShapedCall) -> OperationCount:
    """The operations of a call of a layer.

    Raises:
        UnsupportedError: an axis has no known length.
    """
    found: OperationCount = OPERATIONS[type(spec)](spec, call)
    return found


@OPERATIONS.of(L.Dense)
def dense(spec: L.Dense, call: ShapedCall) -> OperationCount:
    """The product, the bias and the activation."""
    found = OperationCount(call.y * spec.features, call.y * int(spec.use_bias))
    return found + activated(spec.activation, call.y)


@OPERATIONS.of(L.TimeDistributed)
def time_distributed(spec: L.TimeDistributed, call: ShapedCall) -> OperationCount:
    """Those of the layer, with every time step as a sample of its own."""
    inputs, outputs = (tuple(map(_flat, sizes)) for sizes in (call.inputs, call.outputs))
    return formula_of(spec.layer, ShapedCall(inputs, outputs, call.mask))


def _flat(sizes: Sizes) -> Sizes:
    batch, steps, *rest = sizes
    return (None if batch is None or steps is None else batch * steps, *rest)


@OPERATIONS.of(L.Activation)
def activation(spec: L.Activation, call: ShapedCall) -> OperationCount:
    """Those of the function."""
    return activated(spec.activation, call.y)


@OPERATIONS.of(L.Masking)
def masking(_spec: L.Masking, call: ShapedCall) -> OperationCount:
    """A comparison and a select of every number, and the joining of a step's comparisons."""
    features = call.inputs[0][-1]
    steps = ShapedCall((call.inputs[0][:-1],), ()).x
    assert features is not None
    return elementwise(2 * call.x + (features - 1) * steps)


@OPERATIONS.of(
    *(L.Dropout, L.Reverse, L.TrainingOnly, L.Augmentation, L.Flatten, L.Reshape, L.Permute),
    *(L.RepeatVector, L.Slice, L.ExpandDims, L.Squeeze, L.Concatenate, L.Pad, L.Crop, L.UpSample),
    L.Embedding,
)
def nothing(_spec: L.LayerSpec, _call: ShapedCall) -> OperationCount:
    """Nothing: numbers are copied or left as they are; an Embedding copies rows."""
    return OperationCount()
