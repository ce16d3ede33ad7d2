"""PyTorch, the half that imports it: reads live modules, builds and runs ports."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from xlstm.converters.torch_tables import TABLES

from xlstm.errors import UnsupportedError
from xlstm.layout import unpack
from xlstm.model import LSTM, Array, Dense, Model, Shape, SimpleRNN, Source, Spec, chain


def _check_options(module: nn.RNNBase) -> None:
    wanted = {"num_layers": 1, "bidirectional": False, "proj_size": 0, "batch_first": True}
    for option, value in wanted.items():
        if getattr(module, option) != value:
            where, got = f"torch nn.{module.mode}", f"{option}={getattr(module, option)}"
            raise UnsupportedError(where, f"{option}={value}", got, "see the README's limits")


def _lstm(module: nn.LSTM) -> Spec:
    _check_options(module)
    return LSTM(module.input_size, module.hidden_size, use_bias=module.bias, return_sequences=True)


def _rnn(module: nn.RNN) -> Spec:
    _check_options(module)
    return SimpleRNN(
        module.input_size,
        module.hidden_size,
        module.nonlinearity,
        use_bias=module.bias,
        return_sequences=True,
    )


def _linear(module: nn.Linear) -> Spec:
    return Dense(module.in_features, module.out_features, use_bias=module.bias is not None)


READERS: dict[type[nn.Module], tuple[str, Any]] = {
    nn.LSTM: ("LSTM", _lstm),
    nn.RNN: ("RNN", _rnn),
    nn.Linear: ("Linear", _linear),
}
"""Module class -> (name of its table, how its options are read)."""


def read(source: nn.Module) -> Model:
    """A lone `nn.LSTM` or `nn.RNN` (one layer, one direction, batch first) or `nn.Linear`.

    Raises:
        UnsupportedError: another module or option.
    """
    kind = type(source).__name__
    if type(source) not in READERS:
        known = ", ".join(f"nn.{cls.__name__}" for cls in READERS)
        raise UnsupportedError(f"torch {kind}", known, kind, "pass the layers one by one")
    if source._forward_hooks or source._forward_pre_hooks:
        do = "remove them, and apply what they do yourself"
        raise UnsupportedError(f"torch nn.{kind}", "a module without hooks", "forward hooks", do)
    flags = {p.requires_grad for p in source.parameters()}
    if len(flags) > 1:
        want, do = "parameters all frozen or none", "freeze the port's parameters yourself"
        raise UnsupportedError(f"torch nn.{kind}", want, "some with requires_grad=False", do)
    table, options = READERS[type(source)]
    spec: Spec = options(source)
    arrays = {name: to_numpy(tensor) for name, tensor in source.state_dict().items()}
    where = f"torch nn.{kind}"
    hub = unpack(TABLES[table], arrays, spec.sizes(), spec.absent(), where)
    name = table.lower()
    shape: Shape = (spec.sizes()["i"],) if isinstance(spec, Dense) else (None, spec.sizes()["i"])
    origin = Source("torch", torch.__version__, f"live nn.{kind}")
    return chain(name, [(name, spec, flags != {False})], shape, {name: hub}, origin, lone=True)


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor's values as numpy; bfloat16, which numpy lacks, widened to float32 exactly."""
    tensor = tensor.detach().cpu()
    return np.array((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> nn.Module:
    """The module that emitted `code` gives with these weights."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    built: nn.Module = code.build(tensors, getattr(torch, dtype))
    return built


def run(ported: nn.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Outputs for numpy inputs; the states that native recurrent modules add are left out."""
    with torch.no_grad():
        outputs = ported(*(torch.from_numpy(np.array(x, dtype)) for x in inputs))
    if isinstance(ported, nn.RNNBase):
        outputs = outputs[0]
    return [to_numpy(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]


def count(ported: nn.Module) -> int:
    """`sum(p.numel() for p in module.parameters())`."""
    return sum(p.numel() for p in ported.parameters())


def in_dtype(source: nn.Module, dtype: str) -> nn.Module:
    """A copy of a live module in evaluation mode that computes in `dtype`."""
    return copy.deepcopy(source).to(getattr(torch, dtype)).eval()


def weights(ported: nn.Module) -> dict[str, Array]:
    """What a built module holds, by name."""
    return {name: to_numpy(tensor) for name, tensor in ported.state_dict().items()}
