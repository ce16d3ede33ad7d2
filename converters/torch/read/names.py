"""Names of PyTorch's functions and tensor methods -> handlers that add their specs."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xlstm.ir.layers.elementwise import FUNCTIONS as FUNCTIONS_OF_HUB

from . import attention
from . import elementwise as f
from . import operations as products
from . import shape as shapes
from .modules import MODULES
from .pooling import Handler as Leaf
from .reductions import NUMBERS
from .values import one

NAMES: dict[str, f.Handler] = {
    "add": f.add,
    "sub": f.subtract,
    "mul": f.multiply,
    "div": f.divide,
    "truediv": f.divide,
    "true_divide": f.divide,
    "pow": f.power,
    "maximum": f.merge("maximum"),
    "minimum": f.merge("minimum"),
    "cat": shapes.cat,
    "concat": shapes.cat,
    "concatenate": shapes.cat,
    "stack": shapes.stack,
    "bmm": products.product,
    "matmul": products.product,
    "einsum": products.einsum,
    "scaled_dot_product_attention": attention.dot_product,
    "getitem": shapes.getitem,
    "getattr": shapes.attribute,
    "size": shapes.size,
    "view": shapes.reshape,
    "reshape": shapes.reshape,
    "flatten": shapes.flatten,
    "unflatten": shapes.unflatten,
    "transpose": shapes.transpose,
    "swapaxes": shapes.transpose,
    "permute": shapes.permute,
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    "movedim": shapes.movedim,
    "moveaxis": shapes.movedim,
    "swapdims": shapes.transpose,
    "repeat": f.repeat,
    "expand": f.repeat,
    "chunk": shapes.chunk,
    "split": shapes.split,
    "clamp": f.clamp,
    "clip": f.clamp,
    "pad": f.pad,
    "sum": f.reduce("sum"),
    "mean": f.reduce("mean"),
    "amax": f.reduce("max"),
    "amin": f.reduce("min"),
    "prod": f.reduce("prod"),
    "max": f.extreme("max"),
    "min": f.extreme("min"),
    "zeros": f.zeros,
    "new_zeros": f.new_zeros,
    "contiguous": f.same,
    "clone": f.same,
    "detach": f.same,
    "requires_grad_": f.same,
    "to": f.to,
    "long": f.whole,
    "int": f.whole,
    "dropout": f.dropout,
    "softmax": f.softmax,
    "log_softmax": f.log_softmax,
    "rsqrt": f.reciprocal_root,
    "neg": f.function("negative"),
    **NUMBERS,
    **{name: f.function(name) for name in FUNCTIONS_OF_HUB},
    **{name: f.activation(name) for name in ("relu", "tanh", "sigmoid", "selu", "silu", "relu6")},
    "mish": f.activation("mish"),
    "softsign": f.activation("softsign"),
    "hardsigmoid": f.activation("hard_sigmoid"),
    "hardswish": f.activation("hard_silu"),
    "logsigmoid": f.activation("log_sigmoid"),
    "tanhshrink": f.activation("tanh_shrink"),
    "celu": f.module(nn.CELU),
    "softshrink": f.module(nn.Softshrink),
    "hardshrink": f.module(nn.Hardshrink),
    "threshold": f.module(nn.Threshold),
    "leaky_relu": f.module(nn.LeakyReLU),
    "elu": f.module(nn.ELU),
    "gelu": f.module(nn.GELU),
    "hardtanh": f.module(nn.Hardtanh),
    "interpolate": f.interpolate,
    "max_pool1d": f.pool("max", nn.MaxPool1d),
    "max_pool3d": f.module(nn.MaxPool3d),
    "max_pool2d": f.module(nn.MaxPool2d),
    "avg_pool1d": f.pool("average", nn.AvgPool1d),
    "avg_pool3d": f.module(nn.AvgPool3d),
    "avg_pool2d": f.module(nn.AvgPool2d),
    "adaptive_avg_pool1d": f.module(nn.AdaptiveAvgPool1d),
    "adaptive_avg_pool3d": f.module(nn.AdaptiveAvgPool3d),
    "adaptive_avg_pool2d": f.module(nn.AdaptiveAvgPool2d),
    "adaptive_max_pool1d": f.module(nn.AdaptiveMaxPool1d),
    "adaptive_max_pool3d": f.module(nn.AdaptiveMaxPool3d),
    "adaptive_max_pool2d": f.module(nn.AdaptiveMaxPool2d),
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


def handler(name: str) -> f.Handler:
    """Returns the handler for a function of this name."""
    return NAMES[name] if name in NAMES else NAMES[name.removesuffix("_")]


LEAVES: dict[type[nn.Module], Leaf] = {
    **MODULES,
    nn.MultiheadAttention: attention.heads,
    nn.GLU: lambda wiring, module, path, args: NUMBERS["glu"](wiring, one(args), module.dim),
    nn.CosineSimilarity: lambda wiring, module, path, args: NUMBERS["cosine_similarity"](
        wiring, *args, module.dim, module.eps
    ),
    nn.Flatten: lambda wiring, module, path, args: shapes.flatten(
        wiring, one(args), module.start_dim, module.end_dim
    ),
    nn.Unflatten: lambda wiring, module, path, args: shapes.unflatten(
        wiring, one(args), module.dim, module.unflattened_size
    ),
}
"""Class of a leaf, exact match -> the handler that adds its spec."""
