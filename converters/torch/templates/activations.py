"""Activations that PyTorch lacks or rounds, copied as text into emitted modules."""

import torch
from torch import Tensor
from torch.nn import functional as F


def linear(x: Tensor) -> Tensor:
    """X itself."""
    return x


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis."""
    return torch.softmax(x, dim=-1)


def log_softmax(x: Tensor) -> Tensor:
    """Logarithm of the softmax over the last axis."""
    return torch.log_softmax(x, dim=-1)


def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), the hard_sigmoid of Keras 1 and 2."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def unit_clip(x: Tensor) -> Tensor:
    """clip(x, 0, 1): hard_sigmoid_keras2 of an x with its slope and offset."""
    return torch.clamp(x, 0.0, 1.0)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x); F.softplus gives x itself above 20, where float64 still differs."""
    return F.softplus(x, threshold=40.0)


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of GELU by tanh, JAX's default."""
    return F.gelu(x, approximate="tanh")


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with Keras's slope of 0.2."""
    return F.leaky_relu(x, 0.2)


def squareplus(x: Tensor) -> Tensor:
    """(x + sqrt(x^2 + 4)) / 2."""
    return (x + torch.sqrt(x * x + 4.0)) / 2.0


def sparse_plus(x: Tensor) -> Tensor:
    """0 below -1, (x + 1)^2 / 4 up to 1, then x."""
    return torch.where(x < 1.0, (torch.clamp(x, -1.0, 1.0) + 1.0) ** 2 / 4.0, x)


def sparse_sigmoid(x: Tensor) -> Tensor:
    """clip((x + 1) / 2, 0, 1)."""
    return (torch.clamp(x, -1.0, 1.0) + 1.0) / 2.0
