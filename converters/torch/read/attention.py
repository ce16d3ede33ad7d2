"""Converts attention to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    nn.MultiheadAttention(4, 2, batch_first=True)    MultiHeadAttention(heads=2, key_dim=2, ...)
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
from torch import nn

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.slots import unpack

from ..live.arrays import to_numpy
from ..slots import TABLES
from .operations import product
from .shape import transpose
from .values import (
    MODULES,
    OPERATIONS,
    CannotTraceError,
    ModuleCall,
    Symbol,
    TracedTensor,
    TraceState,
    call_layer,
)


def bound(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the arguments of a call by place."""
    if type(module) is not nn.MultiheadAttention:
        return (*args, *options.values())
    arguments = inspect.signature(module.forward).bind(*args, **options)
    arguments.apply_defaults()
    return tuple(arguments.arguments.values())


@MODULES.of(nn.MultiheadAttention)
def heads(call: ModuleCall) -> tuple[TracedTensor, Symbol]:
    """Attention with several heads, and its weights, which must not be read."""
    wiring, module, path, args = call
    query, key, value, padding, _, mask, _, causal = args
    if padding is not None or mask is not None or causal:
        raise CannotTraceError("a mask of attention", "call it without the mask")
    if module.bias_k is not None or module.add_zero_attn:
        raise CannotTraceError("add_bias_kv or add_zero_attn", "build it without them")
    inputs = [_sequence(wiring, module, x) for x in (query, value, key)]
    sizes = (module.embed_dim, module.vdim, module.kdim)
    for x, size in zip(inputs, sizes, strict=True):
        wiring.demand(wiring.sizes(x)[-1], size, "features, got")
    count, width = module.num_heads, module.head_dim
    spec = L.MultiHeadAttention(
        count,
        width,
        width,
        module.embed_dim,
        module.kdim,
        module.vdim,
        module.embed_dim,
        use_bias=module.in_proj_bias is not None,
        dropout=float(module.dropout),
    )
    edges = [x.edge for x in (inputs if inputs[2] != inputs[1] else inputs[:2])]
    flags = {p.requires_grad for p in module.parameters()}
    edge = call_layer(wiring, path, spec, edges, trainable=flags != {False})
    if edge.node == wiring.called[path][0] and not wiring.probing:
        table = TABLES["MultiHeadAttention"]
        wiring.weights[edge.node] = unpack(
            table, _held(module), spec.sizes(), spec.missing_tensors(), f"torch {path}"
        )
    return inputs[0]._replace(edge=edge), Symbol(f"the weights of {path}")


def _sequence(wiring: TraceState, module: nn.MultiheadAttention, x: Any) -> TracedTensor:
    batch = 0 if module.batch_first else 1
    if not isinstance(x, TracedTensor) or x.rank != 3 or x.batch != batch:
        want = "(batch, time, features)" if module.batch_first else "(time, batch, features)"
        raise CannotTraceError("other than sequences of a batch", f"give it {want}")
    return wiring.plain(x)


def _held(module: nn.MultiheadAttention) -> dict[str, Array]:
    """Returns the arrays of a module, by the names of a layer for each projection."""
    names = ("query", "key", "value")
    if module.in_proj_weight is not None:
        parts = np.split(to_numpy(module.in_proj_weight), 3)
    else:
        own = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        parts = [to_numpy(weight) for weight in own]
    found = {f"{name}.weight": part for name, part in zip(names, parts, strict=True)}
    found["output.weight"] = to_numpy(module.out_proj.weight)
    if module.in_proj_bias is not None:
        biases = np.split(to_numpy(module.in_proj_bias), 3)
        found |= {f"{name}.bias": bias for name, bias in zip(names, biases, strict=True)}
        found["output.bias"] = to_numpy(module.out_proj.bias)
    return found


@OPERATIONS.of("scaled_dot_product_attention")
def dot_product(
    wiring: TraceState,
    query: TracedTensor,
    key: TracedTensor,
    value: TracedTensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> TracedTensor:
    """Values weighted by the softmax of the products of queries and keys."""
    if attn_mask is not None or is_causal or enable_gqa:
        raise CannotTraceError("a mask of attention, or groups of heads", "call it without them")
    if dropout_p:
        raise CannotTraceError("dropout in evaluation", "use dropout_p=0.0")
    size = wiring.sizes(query)[-1]
    if not isinstance(size, int):
        raise CannotTraceError("queries of any number of features", "reshape to a fixed size", True)
    factor = 1 / math.sqrt(size) if scale is None else float(scale)
    scores = product(wiring, query, transpose(wiring, key, -2, -1))
    weights = wiring.apply(scores, L.Affine(factor, 0.0), L.Softmax())
    return product(wiring, weights, value)
