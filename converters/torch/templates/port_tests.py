"""Runs a PyTorch port in its tests; copied as text into test_port.py."""

import functools
from types import ModuleType

import numpy as np
import torch
from torch import nn

PORT = ModuleType("ported_model")


@functools.cache
def ported(dtype: str) -> nn.Module:
    """The model in this folder, with its weights, in evaluation mode."""
    return PORT.load(dtype=getattr(torch, dtype))


def run(dtype: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every output of the port, for inputs of this dtype; masks are bool."""
    with torch.no_grad():
        outputs = ported(dtype)(*map(torch.from_numpy, inputs))
    found = [outputs]
    return [y.numpy() for y in found]
