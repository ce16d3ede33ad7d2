"""Calls of PyTorch modules with little overhead; imports torch."""

from __future__ import annotations

import contextlib
import operator
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
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
    wanted, kept = _signature(examples), _kept(module)
    usual = _scripted(module) if own else module

    def call(*inputs: torch.Tensor, **options: Any) -> Any:
        nonlocal usual, kept
        _check_mode(module)
        if own and not _is_as(kept):
            usual, kept = _scripted(module), _kept(module)
        with torch.inference_mode():
            if fixed is not None and not options and _signature(inputs) == wanted:
                return fixed(*inputs)
            return usual(*inputs, **options)

    if examples:
        call(*examples)
    return call


TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
"""Attributes of a module that are tables; a script takes over what they contain."""

END = object()
"""Ends a list of values, so that a longer one differs from it."""

Kept = tuple[list[dict[str, Any]], list[Any]]


def _kept(module: nn.Module) -> Kept:
    """Returns all tables of a module and its parts, its attributes among them, and their values.

    A script keeps what a module had: `load_state_dict(assign=True)` puts other tensors there, and
    a user another activation or hook.
    """
    tables = [
        table
        for part in module.modules()
        for table in (vars(part), *(getattr(part, name) for name in TABLES))
    ]
    return tables, [*_values(tables), END]


def _values(tables: list[dict[str, Any]]) -> Iterable[Any]:
    """Returns the values of tables one after the other."""
    return chain.from_iterable(map(dict.values, tables))


def _is_as(kept: Kept) -> bool:
    """True if tables have the very values that they had; as fast as Python can."""
    tables, values = kept
    return all(map(operator.is_, chain(_values(tables), (END,)), values))


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
    if any(map(parametrize.is_parametrized, module.modules())):
        return made  # it can be scripted, but not run
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
