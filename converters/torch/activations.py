"""Expressions for activations in PyTorch source; imports no framework."""

from __future__ import annotations

CELLS = "torch/templates/activations.py"
"""File of the helpers."""

FUNCTIONS: dict[str, tuple[str, str]] = {
    "linear": ("linear", "linear"),
    "tanh": ("torch.tanh", ""),
    "sigmoid": ("torch.sigmoid", ""),
    "relu": ("torch.relu", ""),
    "softmax": ("softmax", "softmax"),
    "hard_sigmoid": ("F.hardsigmoid", ""),
    "hard_sigmoid_keras2": ("hard_sigmoid_keras2", "hard_sigmoid_keras2"),
    "elu": ("F.elu", ""),
    "selu": ("F.selu", ""),
    "celu": ("F.celu", ""),
    "softplus": ("softplus", "softplus"),
    "softsign": ("F.softsign", ""),
    "silu": ("F.silu", ""),
    "gelu": ("F.gelu", ""),
    "gelu_tanh": ("gelu_tanh", "gelu_tanh"),
    "mish": ("F.mish", ""),
    "exponential": ("torch.exp", ""),
    "leaky_relu": ("leaky_relu", "leaky_relu"),
    "leaky_relu_01": ("F.leaky_relu", ""),
    "relu6": ("F.relu6", ""),
    "hard_tanh": ("F.hardtanh", ""),
    "hard_silu": ("F.hardswish", ""),
    "log_sigmoid": ("F.logsigmoid", ""),
    "log_softmax": ("log_softmax", "log_softmax"),
    "tanh_shrink": ("F.tanhshrink", ""),
    "soft_shrink": ("F.softshrink", ""),
    "hard_shrink": ("F.hardshrink", ""),
    "squareplus": ("squareplus", "squareplus"),
    "sparse_plus": ("sparse_plus", "sparse_plus"),
    "sparse_sigmoid": ("sparse_sigmoid", "sparse_sigmoid"),
}
"""Activation -> (expression for a function of one tensor, helper in `CELLS` that it needs or "").

`F` is `torch.nn.functional`. Its softplus is off by up to 2e-9 above 20, its own threshold, and
not at all from 40 on; torch.logaddexp has no form in the TorchScript exporter to ONNX.
"""

SCALED_GATES: dict[str, tuple[str, str, str]] = {
    "hard_sigmoid_keras2": ("unit_clip", "0.2", "0.5"),
}
"""Activation of a gate -> (helper in `CELLS`, slope, offset) of the same in own cells.

A gate is helper(slope * x + offset), with slope and offset inside weights and bias.
"""
