"""Weights of PyTorch modules as numpy arrays, and the modules inside wrappers."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from xlstm.ir.types import Array

from ..slots import TABLES

COUNTERS = frozenset(name for table in TABLES.values() for name in table.counters)
"""Last parts of the names of buffers that count training steps."""

PROCESS_WIDE = threading.RLock()
"""Lock for settings that all threads of PyTorch share; taken while one is changed."""

AROUND = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",  # returned by torch.compile
}
"""Wrapper classes of PyTorch -> the attribute with the module that they run."""


def inside(source: nn.Module) -> nn.Module:
    """Returns the module inside wrappers of PyTorch; the source itself where there is none."""
    while name := AROUND.get(f"{type(source).__module__}.{type(source).__qualname__}"):
        if source._forward_hooks or source._forward_pre_hooks:
            break
        source = getattr(source, name)
    return source


def to_numpy(tensor: torch.Tensor) -> Array:
    """Returns a tensor's values as numpy; bfloat16, which numpy lacks, becomes float32 exactly."""
    tensor = tensor.detach().cpu()
    return np.array((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def weights(ported: nn.Module) -> dict[str, Array]:
    """Returns a built module's tensors by name, without those that its function does not use."""
    tensors = inside(ported).state_dict().items()
    return {n: to_numpy(t) for n, t in tensors if n.rpartition(".")[2] not in COUNTERS}


def assign(ported: nn.Module, arrays: Mapping[str, Array]) -> nn.Module:
    """Writes arrays into a module's tensors by name, in place; returns the module.

    Raises:
        KeyError: the module has no tensor of that name.
        RuntimeError: an array of another shape.
    """
    tensors = inside(ported).state_dict()
    with torch.no_grad():
        for name, array in arrays.items():
            tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return ported


def count(ported: nn.Module) -> int:
    """`sum(p.numel() for p in module.parameters())`."""
    return sum(p.numel() for p in ported.parameters())
