"""Wrong ports in PyTorch: hand-written and ours, their arrays or their code changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import xlstm
from mutators.arrays import Change, changes
from mutators.causes import CAUSES
from mutators.descriptions import Slip, slips
from mutators.hand import LINEAR, Net
from mutators.mutant import Mutant, Port
from xlstm.ir.graph import Model
from xlstm.ir.types import Array


def arrays_of(module: nn.Module) -> dict[str, Array]:
    """Copies of a module's arrays by name."""
    held = module.state_dict().items()
    return {name.replace(".core.", "."): np.array(t.detach().numpy()) for name, t in held}


def with_arrays(module: nn.Module, arrays: dict[str, Array]) -> nn.Module:
    """A copy of a module that holds other arrays."""
    made = copy.deepcopy(module)
    names = made.state_dict()
    made.load_state_dict(
        {name: torch.from_numpy(arrays[name.replace(".core.", ".")].copy()) for name in names}
    )
    return made


def port_of(module: nn.Module) -> Port:
    """The port that a module in float32 is, in both precisions."""
    return lambda dtype: copy.deepcopy(module).to(getattr(torch, dtype))


def _changed(model: Model, module: nn.Module, change: Change, whose: str) -> Mutant:
    held = change.state
    layer = _layer(model, change.layer)
    return Mutant(
        change.kind,
        f"{whose}, {layer}: {change.name}",
        model,
        lambda dtype: port_of(with_arrays(module, held))(dtype),
        port_of(module),
        layer=layer,
        causes=CAUSES[change.kind],
        words=" ".join(change.words),
        named=whose == "our port",
        weights_only=True,
    )


def _layer(model: Model, path: str) -> str:
    names = [node.name for node in model.layers if path.startswith(node.name)]
    return max(names, key=len, default="")


def arrays(model: Model, seed: int) -> Iterator[Mutant]:
    """Wrong arrays: in our port for odd seeds, in a hand-written one for even ones."""
    ours = bool(seed % 2)
    module: nn.Module = xlstm.port(model, "torch") if ours else Net(model, native=seed % 4 == 0)
    state = arrays_of(module)
    for change in changes(state, seed):
        if all(np.array_equal(change.state[name], state[name]) for name in state):
            continue  # no change at all, such as equal gates exchanged
        yield _changed(model, module, change, "our port" if ours else "by hand")


KIND = "arrays of a cell of nn.Linear"


def cells(model: Model, seed: int) -> Iterator[Mutant]:
    """Wrong arrays in hand-written cells that keep them in two Linears."""
    state = arrays_of(Net(model, native=False))
    module = Net(model, native=None)
    for change in changes(state, seed):
        if all(np.array_equal(change.state[name], state[name]) for name in state):
            continue
        held = {_linear(name): array for name, array in change.state.items()}
        made = _changed(model, module, replace(change, state=held), "cell of Linears")
        yield replace(made, kind=KIND, name=f"{change.kind}, {made.name}")


def _linear(name: str) -> str:
    """What a loop over Linears calls a parameter of a loop."""
    for own, other in LINEAR.items():
        if name.endswith(other):
            return name.removesuffix(other) + own
    return name


def _slipped(model: Model, slip: Slip) -> Mutant:
    native = slip.kind.startswith("batch_first")

    def port(dtype: str) -> Any:
        made = Net(slip.model, slip.wrong, native=native).to(getattr(torch, dtype))
        if slip.training:
            getattr(made, slip.layer).train()
        torch.manual_seed(0)
        return made

    return Mutant(
        slip.kind,
        f"by hand, {slip.layer}: {slip.name or slip.kind}",
        model,
        port,
        port_of(Net(model)),
        layer=slip.layer,
        causes=CAUSES[slip.kind],
        named=False,
    )


def code(model: Model) -> Iterator[Mutant]:
    """Wrong hand-written code with the right weights."""
    for slip in slips(model):
        yield _slipped(model, slip)
