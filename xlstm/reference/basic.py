"""Forward pass of each layer in numpy, from the equations: inputs to a list of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from xlstm.ir import layers as specs
from xlstm.ir.types import Array
from xlstm.reference import convolution, elementwise, operations, pooling
from xlstm.reference import merge as merging
from xlstm.reference.context import Context
from xlstm.reference.custom import custom
from xlstm.reference.recurrent import bidirectional, recurrent
from xlstm.reference.summation import ordered_like


def dense(spec: specs.Dense, x: Array, context: Context) -> list[Array]:
    """(..., I) -> (..., O)."""
    y = x @ context.weights["kernel"]
    if spec.use_bias:
        y = y + context.weights["bias"]
    return [context.activate(spec.activation, y)]


def time_distributed(spec: specs.TimeDistributed, x: Array, context: Context) -> list[Array]:
    """(B, T, ...) -> (B, T, ...): the layer sees each time step as a sample of its own."""
    batch, steps = x.shape[:2]

    def flat(x: Array) -> Array:
        return x.reshape(batch * steps, *x.shape[2:])

    mask = None if context.mask is None else flat(context.mask)
    found = forward(spec.layer, [flat(x)], replace(context, mask=mask))
    return [y.reshape(batch, steps, *y.shape[1:]) for y in found]


def dropout(_spec: specs.Dropout, x: Array, _context: Context) -> list[Array]:
    """Nothing: evaluation, not training."""
    return [x]


def activation(spec: specs.Activation, x: Array, context: Context) -> list[Array]:
    """The activation of every element."""
    return [context.activate(spec.activation, x)]


def masking(spec: specs.Masking, x: Array, _context: Context) -> list[Array]:
    """Zeros where all features equal the value, and the mask (B, T)."""
    mask = (x != spec.value).any(axis=-1)
    return [np.where(mask[..., None], x, 0), mask]


def reverse(_spec: specs.Reverse, x: Array, _context: Context) -> list[Array]:
    """The time axis turned round."""
    return [x[:, ::-1]]


LAYERS: dict[type[specs.LayerSpec], Callable[..., list[Array]]] = {
    specs.LSTM: recurrent,
    specs.GRU: recurrent,
    specs.SimpleRNN: recurrent,
    specs.ConvLSTM: recurrent,
    specs.Bidirectional: bidirectional,
    specs.Dense: dense,
    specs.TimeDistributed: time_distributed,
    specs.Dropout: dropout,
    specs.Activation: activation,
    specs.Masking: masking,
    specs.Reverse: reverse,
    specs.Conv: convolution.conv,
    specs.ConvTranspose: convolution.conv_transpose,
    specs.DepthwiseConv: convolution.depthwise,
    specs.Pool: pooling.pool,
    specs.GlobalPool: pooling.global_pool,
    specs.Pad: pooling.pad,
    specs.Crop: pooling.crop,
    specs.UpSample: pooling.up_sample,
    specs.Merge: merging.merge,
    specs.Concatenate: merging.concatenate,
    specs.Dot: merging.dot,
    specs.Attention: merging.attention,
    specs.MultiHeadAttention: merging.multi_head,
    specs.Relu: elementwise.relu,
    specs.PRelu: elementwise.prelu,
    specs.Elu: elementwise.elu,
    specs.Softmax: elementwise.softmax,
    specs.Affine: elementwise.affine,
    specs.Function: elementwise.function,
    specs.Reduce: elementwise.reduce,
    specs.NotEqual: elementwise.not_equal,
    specs.TrainingOnly: elementwise.nothing,
    specs.Augmentation: elementwise.nothing,
    specs.BatchNorm: elementwise.batch_norm,
    specs.LayerNorm: elementwise.layer_norm,
    specs.UnitNorm: elementwise.unit_norm,
    specs.Normalization: elementwise.normalization,
    specs.Embedding: elementwise.embedding,
    specs.Flatten: elementwise.flatten,
    specs.Reshape: elementwise.reshape,
    specs.Permute: elementwise.permute,
    specs.RepeatVector: elementwise.repeat_vector,
    specs.Slice: elementwise.take,
    specs.ExpandDims: elementwise.expand_dims,
    specs.Squeeze: elementwise.squeeze,
    specs.Across: operations.across,
    specs.Along: operations.along,
    specs.Clip: operations.clip,
    specs.Compare: operations.compare,
    specs.Constant: operations.constant,
    specs.Einsum: operations.einsum,
    specs.Where: operations.where,
    specs.Custom: custom,
}


def forward(spec: specs.LayerSpec, inputs: Sequence[Array], context: Context) -> list[Array]:
    """Runs one layer: every output, in order."""
    outputs = LAYERS[type(spec)](spec, *inputs, context)
    return ordered_like(outputs, [*inputs, *context.weights.values()])
