"""Reads live PyTorch modules, builds and runs ports; imports torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from xlstm.frameworks.array_tree import Leaf, leaf_of
from xlstm.ir.graph import Model
from xlstm.ir.types import Array

from ...codegen.half_precision import check_scores
from ..read import graph, native_modules
from ..read.native_modules import READABLE
from .arrays import PROCESS_WIDE, assign, count, inside, weights
from .fast_calls import compiled
from .hooks import keep_epsilons, watch
from .run import gradients, inexact_gradients, run, step, train

__all__ = [
    "as_made",
    "assign",
    "axes_of",
    "build",
    "build_stack",
    "check_half",
    "compiled",
    "count",
    "gradients",
    "in_dtype",
]
__all__ += [
    "inexact_gradients",
    "inside",
    "leaves",
    "random_state",
    "read",
    "run",
    "stack_weights",
    "step",
    "train",
]
__all__ += ["is_module", "prepare_fork", "to_own", "watch", "weights"]


def is_module(source: Any) -> bool:
    """False for other callables of PyTorch, such as a function of `torch.jit.script`."""
    return isinstance(source, nn.Module)


def to_own(x: Array) -> torch.Tensor:
    """Converts an argument of such a function, which takes tensors only."""
    return torch.from_numpy(np.ascontiguousarray(x))


def prepare_fork() -> None:
    """Lets PyTorch compute in a forked child, where the threads of its parent do not exist."""
    torch.set_num_threads(1)


def read(source: nn.Module) -> Model:
    """Reads a recurrent module or cell of `torch.nn`, or `nn.Linear`; a stack becomes a chain.

    Any other module is traced by `torch.fx`.

    Raises:
        UnsupportedError: a module that cannot be traced, or whose hooks or parametrizations change
            it.
    """
    if not isinstance(source, READABLE):
        return graph.read(source)
    return native_modules.read(source)


def as_made(source: nn.Module) -> bool:
    """True if a module of an emitted class has the layers of its class, and no hooks."""
    with PROCESS_WIDE, torch.device("meta"):  # it sets torch.utils._device.CURRENT_DEVICE
        made = type(source)()
    hooked = (
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in source.modules()
    )
    return str(made) == str(source) and not any(hooked)


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> nn.Module:
    """Builds the module of emitted `code` with these weights."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    built: nn.Module = code.build(tensors, getattr(torch, dtype))
    return built


def build_stack(
    code: ModuleType, weights: Mapping[str, Array], dtype: str, chunk: int | None
) -> nn.Module:
    """Builds the module of many models; weights are (models, ...)."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    built: nn.Module = code.build(tensors, getattr(torch, dtype), chunk)
    return built


def stack_weights(stack: Any) -> dict[str, Array]:
    """Returns the tensors of many models by the names of one model's, (models, ...)."""
    return weights(stack.each)


run_stack = run


def random_state() -> Callable[[], None]:
    """Saves the global random states of all devices in use; returns a function to restore them."""
    cpu = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def back() -> None:
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)

    return back


def check_half(model: Model, dtype: str) -> None:
    """Raises UnsupportedError where half precision cannot store a number of the model."""
    check_scores(model, "torch", dtype, lambda _spec: True)


def leaves(source: Any) -> dict[str, Leaf]:
    """Returns all parameters and buffers, for counting; empty if a module hides its weights."""
    if not isinstance(source, nn.Module):
        return {}
    source = inside(source)
    parameters = dict(source.named_parameters(remove_duplicate=False))
    beside = dict(source.named_buffers(remove_duplicate=False))
    hides = any("quantized" in type(module).__module__ for module in source.modules())
    if hides or any(is_lazy(tensor) for tensor in (*parameters.values(), *beside.values())):
        return {}
    found = {n: leaf_of(p, trainable=p.requires_grad, other=False) for n, p in parameters.items()}
    found |= {n: leaf_of(b, trainable=False, other=True) for n, b in beside.items()}
    return {name: leaf for name, leaf in found.items() if leaf}


def in_dtype(source: nn.Module, dtype: str) -> nn.Module:
    """Returns a copy of a live module in evaluation mode that computes in `dtype`."""
    source = inside(source)
    # evaluation mode of PyTorch: no dropout, stored statistics; the mode of the source stays
    made = copy.deepcopy(source)
    keep_epsilons(made)
    made = made.to(getattr(torch, dtype)).eval()  # mode of PyTorch, runs no text
    if isinstance(source, READABLE):
        return made
    return graph.Original(made, graph.understand(source), getattr(torch, dtype))


def axes_of(source: nn.Module) -> frozenset[str]:
    """Returns ways in which a module is called unlike a port: "time first", "states"."""
    if isinstance(source, READABLE):
        return frozenset()  # called like a port
    found = graph.understand(source)
    states = any(layout.given for layout in found.layouts)
    states |= any(end.states for end in found.outputs)
    late = any(layout.batch and not layout.given for layout in found.layouts)
    late |= any(end.batch and not end.states for end in found.outputs)
    return frozenset(["time first"] * late + ["states"] * states)
