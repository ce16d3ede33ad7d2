"""Gradients of PyTorch modules, and one step of plain SGD, on numpy arrays."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from xlstm.ir.graph import Model
from xlstm.ir.layers import TimeDistributed
from xlstm.ir.types import Array

from .arrays import to_numpy, weights
from .run import call, flat

INEXACT_GRADIENTS = {
    "hard_sigmoid": ("torch.nn.functional.hardsigmoid takes 1/6 in float32 backwards", 2.0**-24),
}
"""Activations whose gradients PyTorch computes inexactly in float64 -> the reason and the error."""


def inexact_gradients(model: Model, dtype: str) -> dict[str, float]:
    """Returns the activations of `model` whose gradients are inexact in `dtype` -> their errors."""
    found: dict[str, float] = {}
    for node in model.layers if dtype == "float64" else ():
        for _, part in (("", node.spec), *node.spec.weighted_parts):
            inner = part.layer if isinstance(part, TimeDistributed) else part
            for use in ("activation", "gate_activation"):
                why, error = INEXACT_GRADIENTS.get(getattr(inner, use, ""), ("", 0.0))
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
    held = {name: p.requires_grad_(True) for name, p in module.named_parameters()}
    arrays = (np.array(x, bool if np.asarray(x).dtype == bool else dtype) for x in inputs)
    pairs = zip(map(torch.from_numpy, arrays), moved, strict=True)
    given = [x.requires_grad_(True) if moves else x for x, moves in pairs]
    wanted = [*held.values(), *(x for x in given if x.requires_grad)]
    found = torch.autograd.grad(_loss(module, given, factors), wanted, allow_unused=True)
    pairs_of_found = zip(found, wanted, strict=True)
    filled = iter([to_numpy(torch.zeros_like(x) if g is None else g) for g, x in pairs_of_found])
    by_name = {name: next(filled) for name in held}
    return by_name, [next(filled) if moves else None for moves in moved]


def _loss(
    module: nn.Module, given: list[torch.Tensor], factors: Sequence[Array | None]
) -> torch.Tensor:
    """Returns the sum of all outputs times `factors`."""
    pairs = zip(flat(call(module, given)), factors, strict=False)
    parts = [(y * torch.from_numpy(c).to(y)).sum() for y, c in pairs if c is not None]
    return torch.stack(parts).sum()


def step(
    ported: nn.Module,
    inputs: Sequence[Array],
    factors: Sequence[Array | None],
    rate: float,
    dtype: str,
) -> dict[str, Array]:
    """Returns weights by name after one step of `torch.optim.SGD` on the sum of outputs."""
    module = copy.deepcopy(ported)
    arrays = (np.array(x, bool if np.asarray(x).dtype == bool else dtype) for x in inputs)
    trained = [p for p in module.parameters() if p.requires_grad]
    loss = _loss(module, [torch.from_numpy(x) for x in arrays], factors)
    if trained and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(trained, lr=rate).step()
    return weights(module)
