"""Runs any PyTorch module in its own mode and records the outputs of its submodules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from xlstm.frameworks.recording import LayerRecord, RunRecord, form_of
from xlstm.ir.types import Array

from ..read.graph import Original, understand
from ..read.native_modules import READABLE
from .arrays import PROCESS_WIDE, to_numpy
from .run import run

RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)
"""Modules that draw random numbers in training."""

FACTORIES = (torch.zeros, torch.ones, torch.empty, torch.full, torch.randn, torch.rand)


class _InDtype(TorchFunctionMode):
    """Sets the dtype of new tensors without one, and puts them on the CPU."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in FACTORIES:
            options.setdefault("dtype", self.dtype)
        return func(*args, **options)


@dataclass
class _Memory:
    """Outputs and calls of each submodule, and the container type of the whole module's output."""

    order: list[str]
    times: dict[str, int]
    outputs: dict[str, Array]
    inputs: dict[str, list[Array]]
    form: str | None = None

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """Returns a forward hook for the module of that name."""

        def keep(_module: nn.Module, inputs: Any, output: Any) -> None:
            self.form = self.form if name else form_of(output)
            first = next(_tensors(output), None)
            self.times[name] = self.times.get(name, 0) + 1
            if first is not None:
                self.outputs[name] = to_numpy(first)
                self.inputs[name] = [to_numpy(x) for x in _tensors(inputs)][:1]
                self.order.append(name)

        return keep


def _tensors(found: Any) -> Iterator[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        yield found
    elif isinstance(found, (tuple, list)):
        for part in found:
            yield from _tensors(part)
    elif isinstance(found, dict):
        for key in sorted(found):
            yield from _tensors(found[key])


def _outputs(found: Any) -> tuple[list[Array], list[Array]]:
    """Returns the outputs, and nested ones: states that recurrent modules return beside them."""
    if not isinstance(found, (tuple, list, dict)):
        return [_array(found)], []
    parts = [found[key] for key in sorted(found)] if isinstance(found, dict) else list(found)
    deep = (tuple, list, dict)
    inner = [part for part in parts if isinstance(part, deep)]
    outer = [_array(part) for part in parts if part is not None and not isinstance(part, deep)]
    return outer, [to_numpy(tensor) for tensor in _tensors(inner)]


def _array(found: Any) -> Array:
    """Converts a tensor to numpy; an array of a module that ends in numpy is returned as it is."""
    return to_numpy(found) if isinstance(found, torch.Tensor) else np.asarray(found)


def watch(
    source: nn.Module,
    inputs: Sequence[Array],
    dtype: str,
    *,
    quiet: bool = False,
    seed: int = 0,
    own: bool = False,
) -> RunRecord:
    """Runs a copy of a module once, on the CPU, in the mode that it is in.

    Args:
        source: any module; neither it nor the process's random numbers are changed.
        inputs: batch first, whole numbers for embeddings, bools for masks.
        dtype: dtype that floating-point weights and inputs are cast to.
        quiet: True switches dropout off.
        seed: seed for the random numbers of dropout.
        own: True if inputs and states have the axes of the module, not batch first.
    """
    found = understand(source) if own and not isinstance(source, READABLE) else None
    made = _copy(source, getattr(torch, dtype), quiet)
    memory = _Memory([], {}, {}, {})
    for name, module in made.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_hook(memory.hook(name))
    # PyTorch has one global random state for all threads
    forked = torch.random.fork_rng(devices=[])
    with PROCESS_WIDE, forked, torch.no_grad(), _InDtype(getattr(torch, dtype)):
        torch.manual_seed(seed)
        called = Original(made, found, getattr(torch, dtype)) if found else made
        outputs, states = _called(called, inputs, dtype)
    return RunRecord(outputs, states, tuple(_gave(made, memory)), memory.form)


def _copy(source: nn.Module, dtype: torch.dtype, quiet: bool) -> nn.Module:
    """Returns a copy that computes in `dtype`, without dropout if `quiet`."""
    made = copy.deepcopy(source, dict(_kept(source)))
    for parameter in made.parameters():
        if not parameter.is_leaf:  # of a scripted module; `to` warns where it looks at its gradient
            parameter.detach_()
    keep_epsilons(made)
    made = made.to(device="cpu", dtype=dtype)
    for module in made.modules() if quiet else ():
        if isinstance(module, RANDOM):
            module.eval()  # evaluation mode of PyTorch: no dropout
        elif isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    return made


def keep_epsilons(module: nn.Module) -> None:
    """Sets the epsilon that each `nn.RMSNorm` has by its dtype: another dtype would change it."""
    floats = [p.dtype for p in module.parameters() if p.is_floating_point()]
    for part in module.modules():
        if isinstance(part, nn.RMSNorm) and part.eps is None and floats:
            own = floats[0] if part.weight is None else part.weight.dtype
            part.eps = torch.finfo(own).eps


def _kept(source: nn.Module) -> Iterator[tuple[int, Any]]:
    """Yields pairs (id, replacement) for objects that are not copied.

    Tensors of an earlier call that still have a history are copied without it. Locks, generators
    and objects of other libraries are shared.
    """
    for module in source.modules():
        for name, value in vars(module).items():
            if name.startswith("_") or isinstance(value, nn.Module):
                continue
            if isinstance(value, torch.Tensor):
                yield id(value), value.detach().clone()
            elif hasattr(value, "__dict__") or not _copies(value):
                yield id(value), value


def _copies(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:  # objects that cannot be copied raise any error
        return False
    return True


def _called(
    made: nn.Module, inputs: Sequence[Array], dtype: str
) -> tuple[list[Array], list[Array]]:
    if isinstance(made, READABLE):
        return run(made, inputs, dtype), []
    tensors = (torch.from_numpy(np.array(_cast(x, dtype))) for x in inputs)
    return _outputs(made(*tensors))


def _cast(x: Array, dtype: str) -> Array:
    return x.astype(dtype) if x.dtype.kind == "f" else x


def _gave(made: nn.Module, memory: _Memory) -> Iterator[LayerRecord]:
    """Yields the submodules that were called once, in the order in which they finished."""
    modules = dict(made.named_modules())
    for name in memory.order:
        if memory.times[name] == 1 and name:
            module = modules[name]
            kind, gave = type(module).__name__, memory.outputs[name]
            yield LayerRecord(name, kind, gave, _options(module), *memory.inputs[name])


def _options(module: nn.Module) -> dict[str, Any]:
    """Returns the plain options of a module; a norm's momentum is the canonical one."""
    plain = (bool, int, float, str)
    own = {k: v for k, v in vars(module).items() if not k.startswith("_") and isinstance(v, plain)}
    # PyTorch's momentum is the share of the new value, the canonical one that of the old
    return {**own, "momentum": 1 - float(own["momentum"])} if "momentum" in own else own
