"""Names of PyTorch's functions and tensor methods -> handlers that add their specs."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xlstm.ir.layers.elementwise import FUNCTIONS as FUNCTIONS_OF_HUB

from . import attention, elementwise, operations, shape
from .modules import MODULES
from .pooling import Handler as Leaf
from .reductions import NUMBERS
from .values import one

NAMES: dict[str, elementwise.Handler] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "div": elementwise.divide,
    "truediv": elementwise.divide,
    "true_divide": elementwise.divide,
    "pow": elementwise.power,
    "maximum": elementwise.merge("maximum"),
    "minimum": elementwise.merge("minimum"),
    "cat": shape.cat,
    "concat": shape.cat,
    "concatenate": shape.cat,
    "stack": shape.stack,
    "bmm": operations.product,
    "matmul": operations.product,
    "einsum": operations.einsum,
    "scaled_dot_product_attention": attention.dot_product,
    "getitem": shape.getitem,
    "getattr": shape.attribute,
    "size": shape.size,
    "view": shape.reshape,
    "reshape": shape.reshape,
    "flatten": shape.flatten,
    "unflatten": shape.unflatten,
    "transpose": shape.transpose,
    "swapaxes": shape.transpose,
    "permute": shape.permute,
    "squeeze": shape.squeeze,
    "unsqueeze": shape.unsqueeze,
    "movedim": shape.movedim,
    "moveaxis": shape.movedim,
    "swapdims": shape.transpose,
    "repeat": elementwise.repeat,
    "expand": elementwise.repeat,
    "chunk": shape.chunk,
    "split": shape.split,
    "clamp": elementwise.clamp,
    "clip": elementwise.clamp,
    "pad": elementwise.pad,
    "sum": elementwise.reduce("sum"),
    "mean": elementwise.reduce("mean"),
    "amax": elementwise.reduce("max"),
    "amin": elementwise.reduce("min"),
    "prod": elementwise.reduce("prod"),
    "max": elementwise.extreme("max"),
    "min": elementwise.extreme("min"),
    "zeros": elementwise.zeros,
    "new_zeros": elementwise.new_zeros,
    "contiguous": elementwise.same,
    "clone": elementwise.same,
    "detach": elementwise.same,
    "requires_grad_": elementwise.same,
    "to": elementwise.to,
    "long": elementwise.whole,
    "int": elementwise.whole,
    "dropout": elementwise.dropout,
    "softmax": elementwise.softmax,
    "log_softmax": elementwise.log_softmax,
    "rsqrt": elementwise.reciprocal_root,
    "neg": elementwise.function("negative"),
    **NUMBERS,
    **{name: elementwise.function(name) for name in FUNCTIONS_OF_HUB},
    **{
        name: elementwise.activation(name)
        for name in ("relu", "tanh", "sigmoid", "selu", "silu", "relu6")
    },
    "mish": elementwise.activation("mish"),
    "softsign": elementwise.activation("softsign"),
    "hardsigmoid": elementwise.activation("hard_sigmoid"),
    "hardswish": elementwise.activation("hard_silu"),
    "logsigmoid": elementwise.activation("log_sigmoid"),
    "tanhshrink": elementwise.activation("tanh_shrink"),
    "celu": elementwise.module(nn.CELU),
    "softshrink": elementwise.module(nn.Softshrink),
    "hardshrink": elementwise.module(nn.Hardshrink),
    "threshold": elementwise.module(nn.Threshold),
    "leaky_relu": elementwise.module(nn.LeakyReLU),
    "elu": elementwise.module(nn.ELU),
    "gelu": elementwise.module(nn.GELU),
    "hardtanh": elementwise.module(nn.Hardtanh),
    "interpolate": elementwise.interpolate,
    "max_pool1d": elementwise.pool("max", nn.MaxPool1d),
    "max_pool3d": elementwise.module(nn.MaxPool3d),
    "max_pool2d": elementwise.module(nn.MaxPool2d),
    "avg_pool1d": elementwise.pool("average", nn.AvgPool1d),
    "avg_pool3d": elementwise.module(nn.AvgPool3d),
    "avg_pool2d": elementwise.module(nn.AvgPool2d),
    "adaptive_avg_pool1d": elementwise.module(nn.AdaptiveAvgPool1d),
    "adaptive_avg_pool3d": elementwise.module(nn.AdaptiveAvgPool3d),
    "adaptive_avg_pool2d": elementwise.module(nn.AdaptiveAvgPool2d),
    "adaptive_max_pool1d": elementwise.module(nn.AdaptiveMaxPool1d),
    "adaptive_max_pool3d": elementwise.module(nn.AdaptiveMaxPool3d),
    "adaptive_max_pool2d": elementwise.module(nn.AdaptiveMaxPool2d),
}
"""Name -> handler that adds its specs."""

VIEWS = ("getitem", "view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze")
"""Functions whose result may share memory with the input, in another shape."""


def _known() -> dict[Any, str]:
    found: dict[Any, str] = {getattr: "getattr"}
    for place in (operator, torch, functional):
        found |= {getattr(place, name): name for name in NAMES if hasattr(place, name)}
    found[torch.linalg.norm] = "linalg_norm"
    found[torch.linalg.vector_norm] = "linalg_vector_norm"
    for name in ("add", "sub", "mul", "truediv"):
        found[getattr(operator, f"i{name}")] = f"{name}_"
    for name in ("relu_", "tanh_", "sigmoid_"):
        found[getattr(torch, name)] = name
    return found


FUNCTIONS = _known()
"""Function -> its name, with an underscore where it changes its input in place."""


def name_of(target: Any, op: str) -> str:
    """Returns the name of a function or method in NAMES, "" if it has none; a last "_" stays."""
    name = FUNCTIONS.get(target, "") if op == "call_function" else str(target)
    return name if name in NAMES or name.removesuffix("_") in NAMES else ""


def handler(name: str) -> elementwise.Handler:
    """Returns the handler for a function of this name."""
    return NAMES[name] if name in NAMES else NAMES[name.removesuffix("_")]


LEAVES: dict[type[nn.Module], Leaf] = {
    **MODULES,
    nn.MultiheadAttention: attention.heads,
    nn.GLU: lambda wiring, module, path, args: NUMBERS["glu"](wiring, one(args), module.dim),
    nn.CosineSimilarity: lambda wiring, module, path, args: NUMBERS["cosine_similarity"](
        wiring, *args, module.dim, module.eps
    ),
    nn.Flatten: lambda wiring, module, path, args: shape.flatten(
        wiring, one(args), module.start_dim, module.end_dim
    ),
    nn.Unflatten: lambda wiring, module, path, args: shape.unflatten(
        wiring, one(args), module.dim, module.unflattened_size
    ),
}
"""Class of a leaf, exact match -> the handler that adds its spec."""
