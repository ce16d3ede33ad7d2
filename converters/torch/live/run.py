"""Runs PyTorch modules on numpy arrays; gradients, and one step of plain SGD."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xlstm.ir.graph import Model
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array

from .arrays import PROCESS_WIDE, to_numpy, weights


def run(ported: nn.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Returns outputs for numpy inputs, batch first; then the last states of stateful layers.

    States that native recurrent modules return as well are not among them.
    """
    with torch.no_grad():
        outputs = _call(ported, [_tensor(np.asarray(x), dtype) for x in inputs])
    return [to_numpy(y) for y in _flat(outputs)]


def _tensor(x: Array, dtype: str) -> torch.Tensor:
    """Converts an input to `dtype`; masks, and row numbers in half precision, stay as they are."""
    if x.dtype == bool or (dtype in HALF and x.dtype.kind in "iu"):
        return torch.from_numpy(np.array(x))
    if dtype in HALF:
        return torch.from_numpy(np.array(x, "float32")).to(getattr(torch, dtype))
    return torch.from_numpy(np.array(x, dtype))


def _call(ported: nn.Module, inputs: list[torch.Tensor]) -> Any:
    """Calls a module, or runs a cell over a sequence; inputs are batch first."""
    if isinstance(ported, nn.RNNCellBase):
        return _walk(ported, *inputs)
    if not isinstance(ported, nn.RNNBase):
        return ported(*inputs)
    (x,) = inputs
    if ported.batch_first:
        return ported(x)[0]
    return ported(x.transpose(0, 1))[0].transpose(0, 1)


def _walk(cell: nn.RNNCellBase, x: torch.Tensor) -> torch.Tensor:
    """(batch, time, input) -> (batch, time, hidden), step by step."""
    outputs, state = [], None
    for step in x.unbind(1):
        state = cell(step, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs, 1)


def _flat(outputs: Any) -> Iterator[torch.Tensor]:
    """Yields outputs and the states of each layer, one after the other."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
        return
    for part in outputs.values() if isinstance(outputs, dict) else outputs:
        yield from _flat(part)


INEXACT_GRADIENTS = {
    "hard_sigmoid": ("torch.nn.functional.hardsigmoid takes 1/6 in float32 backwards", 2.0**-24),
}
"""Activations whose gradients PyTorch computes inexactly in float64 -> the reason and the error."""


def inexact_gradients(model: Model, dtype: str) -> dict[str, float]:
    """Returns the activations of `model` whose gradients are inexact in `dtype` -> their errors."""
    found: dict[str, float] = {}
    for node in model.layers if dtype == "float64" else ():
        for _, part in (("", node.spec), *node.spec.weighted_parts):
            for use in ("activation", "gate_activation"):
                name = getattr(unwrap_time_distributed(part), use, "")
                why, error = INEXACT_GRADIENTS.get(name, ("", 0.0))
                found |= {f"{node.name}: {why}": error} if why else {}
    return found


def gradients(
    ported: nn.Module,
    inputs: Sequence[Array],
    factors: Sequence[Array | None],
    moved: Sequence[bool],
    dtype: str,
) -> tuple[dict[str, Array], list[Array | None]]:
    """Returns gradients of the sum of all outputs times `factors`: of weights by name, of inputs.

    Outputs with factor None are ignored. Inputs that are not `moved` get no gradient.
    """
    module = copy.deepcopy(ported)
    parameters = {name: p.requires_grad_(True) for name, p in module.named_parameters()}
    pairs = zip(_tensors(inputs, dtype), moved, strict=True)
    tensors = [x.requires_grad_(True) if moves else x for x, moves in pairs]
    wanted = [*parameters.values(), *(x for x in tensors if x.requires_grad)]
    found = torch.autograd.grad(_loss(module, tensors, factors), wanted, allow_unused=True)
    pairs_of_found = zip(found, wanted, strict=True)
    filled = iter([to_numpy(torch.zeros_like(x) if g is None else g) for g, x in pairs_of_found])
    by_name = {name: next(filled) for name in parameters}
    return by_name, [next(filled) if moves else None for moves in moved]


def _tensors(inputs: Sequence[Array], dtype: str) -> list[torch.Tensor]:
    """Converts inputs to `dtype`; masks stay as they are."""
    arrays = (np.array(x, bool if np.asarray(x).dtype == bool else dtype) for x in inputs)
    return [torch.from_numpy(x) for x in arrays]


def _loss(
    module: nn.Module, tensors: list[torch.Tensor], factors: Sequence[Array | None]
) -> torch.Tensor:
    """Returns the sum of all outputs times `factors`."""
    pairs = zip(_flat(_call(module, tensors)), factors, strict=False)
    parts = [(y * torch.from_numpy(c).to(y)).sum() for y, c in pairs if c is not None]
    return torch.stack(parts).sum()


def train(
    ported: nn.Module, inputs: Sequence[Array], dtype: str, seed: int
) -> tuple[list[Array], dict[str, Array]]:
    """Returns outputs of a copy in training mode, and its weights by name after that call."""
    module = copy.deepcopy(ported).train()
    # PyTorch has one global random state for all threads
    with PROCESS_WIDE, torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        outputs = _call(module, _tensors(inputs, dtype))
    return [to_numpy(y) for y in _flat(outputs)], weights(module)


def step(
    ported: nn.Module,
    inputs: Sequence[Array],
    factors: Sequence[Array | None],
    rate: float,
    dtype: str,
) -> dict[str, Array]:
    """Returns weights by name after one step of `torch.optim.SGD` on the sum of outputs."""
    module = copy.deepcopy(ported)
    trained = [p for p in module.parameters() if p.requires_grad]
    loss = _loss(module, _tensors(inputs, dtype), factors)
    if trained and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(trained, lr=rate).step()
    return weights(module)
