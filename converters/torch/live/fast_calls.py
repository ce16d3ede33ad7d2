"""Calls of PyTorch modules with little overhead; imports torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from xlstm.errors import UsageError

COMPILE: dict[str, Any] = {"dynamic": False, "options": {"cpp_wrapper": True}}
"""Options of `torch.compile`: one shape, and no Python between its kernels."""

Call = Callable[..., Any]


def compiled(module: nn.Module, examples: Sequence[torch.Tensor]) -> Call:
    """Returns a function of a module's inputs that computes under `torch.inference_mode`.

    Own cells, whose steps are Python, are scripted; for the shapes of the examples they are
    compiled. Native layers gain nothing by either.
    """
    _check_mode(module)
    own = any(map(_is_own_cell, module.modules()))
    fixed = _fixed(module, examples) if own and examples else None
    wanted, hooks = _signature(examples), _hooks(module)
    usual, places = _scripted(module) if own else module, _places(module)

    def call(*inputs: torch.Tensor, **options: Any) -> Any:
        nonlocal usual, places, hooks
        _check_mode(module)
        if usual is not module and (
            any(hooks) or any(table.get(name) is not value for table, name, value in places)
        ):
            usual, places, hooks = _scripted(module), _places(module), _hooks(module)
        with torch.inference_mode():
            if fixed is not None and not options and _signature(inputs) == wanted:
                return fixed(*inputs)
            return usual(*inputs, **options)

    if examples:
        call(*examples)
    return call


def _places(module: nn.Module) -> list[tuple[Any, str, Any]]:
    """Returns the table, the name and the value of every tensor, part and attribute.

    A script keeps those that a module had: `load_state_dict(assign=True)` puts other tensors
    there, and a user another activation.
    """
    found = list[tuple[Any, str, Any]]()
    for part in module.modules():
        for table in (part._parameters, part._buffers, part._modules):
            found += [(table, name, value) for name, value in table.items()]
        own = vars(part)
        found += [(own, name, own[name]) for name in own if name[0] != "_" and name != "training"]
        found += [(own, "forward", own.get("forward"))]  # one that a user sets later
    return found


def _hooks(module: nn.Module) -> list[Any]:
    """Returns the tables of hooks of a module and its parts, most of them empty."""
    return [t for part in module.modules() for t in (part._forward_hooks, part._forward_pre_hooks)]


def _check_mode(module: nn.Module) -> None:
    if module.training:
        want, got = "a module in evaluation mode", "training mode"
        raise UsageError("compile", want, got, "call its method eval first")


def _is_own_cell(module: nn.Module) -> bool:
    """True for a recurrent layer that is not PyTorch's own."""
    return hasattr(module, "weight_hh_l0") and not isinstance(module, nn.RNNBase)


def _scripted(module: nn.Module) -> Call:
    """Returns the module as TorchScript, which shares its parameters; itself if it cannot be.

    PyTorch 2.13 calls TorchScript deprecated. Where warnings are errors, the module itself runs.
    """
    made: Call = module
    parametrized = any(map(parametrize.is_parametrized, module.modules()))
    if parametrized or any(_hooks(module)):
        return made  # a parametrized layer can be scripted, but not run
    with contextlib.suppress(Exception):  # a layer of the user, or a State that scripts have not
        made = torch.jit.script(module)
    return made


def _fixed(module: nn.Module, examples: Sequence[torch.Tensor]) -> Call | None:
    """Returns the module compiled for the shapes of the examples, None where it cannot be."""
    on_cpu = all(x.device.type == "cpu" for x in (*examples, *module.parameters()))
    if not on_cpu or not has_compiler():
        return None
    made: Call = torch.compile(module, **COMPILE)
    try:
        with torch.inference_mode():
            made(*examples)
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        warnings.warn(
            f"compile: torch.compile failed, the module runs without it: {text[0]}",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    return made


def has_compiler() -> bool:
    """Returns True if there is a C++ compiler where `torch.compile` looks for one."""
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    return any(name and shutil.which(name) for name in names)


def _signature(inputs: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Returns shape, dtype and device of every input; nothing of states, which may be dicts."""
    tensors = (x if isinstance(x, torch.Tensor) else None for x in inputs)
    return [() if x is None else (tuple(x.shape), x.dtype, x.device) for x in tensors]
