"""Runs PyTorch modules on numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from xlstm.ir.precision import HALF
from xlstm.ir.types import Array

from .arrays import to_numpy


def run(ported: nn.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Returns outputs for numpy inputs, batch first; then the last states of stateful layers.

    States that native recurrent modules return as well are not among them.
    """
    with torch.no_grad():
        outputs = call(ported, [_tensor(np.asarray(x), dtype) for x in inputs])
    return [to_numpy(y) for y in flat(outputs)]


def _tensor(x: Array, dtype: str) -> torch.Tensor:
    """Converts an input to `dtype`; masks, and row numbers in half precision, stay as they are."""
    if x.dtype == bool or (dtype in HALF and x.dtype.kind in "iu"):
        return torch.from_numpy(np.array(x))
    if dtype in HALF:
        return torch.from_numpy(np.array(x, "float32")).to(getattr(torch, dtype))
    return torch.from_numpy(np.array(x, dtype))


def call(ported: nn.Module, inputs: list[torch.Tensor]) -> Any:
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


def flat(outputs: Any) -> Iterator[torch.Tensor]:
    """Yields outputs and the states of each layer, one after the other."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
        return
    for part in outputs.values() if isinstance(outputs, dict) else outputs:
        yield from flat(part)
