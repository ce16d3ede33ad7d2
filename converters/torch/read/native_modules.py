"""Reads the modules of `torch.nn` that are layers of their own: LSTM, GRU, RNN, cells, Linear.

read(nn.LSTM(3, 4, num_layers=2)).layers    two LSTM nodes, lstm_l0 and lstm_l1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.batch_axes import on_axes
from xlstm.ir.graph import Model, chain
from xlstm.ir.source import Source
from xlstm.ir.types import Array, Shape
from xlstm.slots import unpack

from ..live.arrays import to_numpy, weights
from ..slots import TABLES

LAYERS: dict[type[nn.Module], tuple[str, Callable[..., L.Recurrent]]] = {
    nn.LSTM: ("LSTM", L.LSTM),
    nn.GRU: ("GRU", L.GRU),
    nn.RNN: ("RNN", L.SimpleRNN),
    nn.LSTMCell: ("LSTM", L.LSTM),
    nn.GRUCell: ("GRU", L.GRU),
    nn.RNNCell: ("RNN", L.SimpleRNN),
}
"""Recurrent module class -> (name of its table, its spec)."""

READABLE = (*LAYERS, nn.Linear)


@dataclass
class _Found:
    """The layers of a module, in order, with their weights."""

    layers: list[tuple[str, L.LayerSpec, bool]] = field(default_factory=list)
    weights: dict[str, dict[str, Array]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _refuse(source: nn.Module, want: str, got: str, do: str) -> UnsupportedError:
    return UnsupportedError(f"torch {_name(source)}", want, got, do)


def _name(source: nn.Module) -> str:
    kind = type(source).__name__
    return f"nn.{kind}" if type(source) in READABLE else kind


def _check(source: nn.Module) -> None:
    """Raises UnsupportedError for a module that may compute something else than its class."""
    if parametrize.is_parametrized(source):
        do = "remove them with torch.nn.utils.parametrize.remove_parametrizations"
        raise _refuse(source, "plain parameters", "parametrizations", do)
    if "quantized" in type(source).__module__:
        do = "read the module before it was quantized"
        raise _refuse(source, "floating-point weights", "a quantized module", do)
    if type(source) not in READABLE:
        known = ", ".join(f"nn.{cls.__name__}" for cls in READABLE)
        raise _refuse(source, known, type(source).__name__, "pass the layers one by one")
    if source._forward_hooks or source._forward_pre_hooks or "forward" in vars(source):
        do = "remove them, and apply what they do yourself"
        got = "forward hooks (weight_norm adds one)"
        raise _refuse(source, "a module without hooks", got, do)
    wrong = [name for name, p in source.named_parameters() if p.is_meta or p.is_sparse]
    wrong += [name for name, p in source.named_parameters() if not p.is_floating_point()]
    if wrong:
        got = f"others in {', '.join(wrong)}"
        raise _refuse(source, "dense real weights that are there", got, "load its weights first")


def _trainable(source: nn.Module, names: Sequence[str]) -> bool:
    """True if training changes the parameters of one layer: all or none of them."""
    flags = {source.get_parameter(name).requires_grad for name in names}
    if len(flags) > 1:
        want, do = "parameters all frozen or none", "freeze the port's parameters yourself"
        raise _refuse(source, want, "some with requires_grad=False", do)
    return flags != {False}


def _linear(source: nn.Linear) -> _Found:
    spec = L.Dense(source.in_features, source.out_features, use_bias=source.bias is not None)
    arrays = weights(source)
    canonical = unpack(
        TABLES["Linear"], arrays, spec.sizes(), spec.missing_tensors(), "torch nn.Linear"
    )
    return _Found([("linear", spec, _trainable(source, list(arrays)))], {"linear": canonical})


def _options(source: nn.RNNBase | nn.RNNCellBase) -> dict[str, Any]:
    """Returns the options that all layers of a recurrent module share."""
    found: dict[str, Any] = {"use_bias": bool(source.bias), "return_sequences": True}
    if isinstance(source, (nn.RNN, nn.RNNCell)):
        found["activation"] = source.nonlinearity
    if isinstance(source, nn.LSTM):
        found["projection"] = source.proj_size
    return found


def stack(source: nn.RNNBase | nn.RNNCellBase) -> _Found:
    """Returns the layers of a recurrent module one by one, with its Dropout between them."""
    found = _Found()
    name, make = LAYERS[type(source)]
    several = isinstance(source, nn.RNNBase) and source.num_layers > 1
    features = source.input_size
    for number in range(source.num_layers if isinstance(source, nn.RNNBase) else 1):
        end = f"_l{number}" if several else ""
        if number and source.dropout:
            rate = float(source.dropout)
            found.layers.append((f"dropout_l{number - 1}", L.Dropout(rate), True))
        own = make(features, source.hidden_size, **_options(source))
        features = _add(found, source, f"{name.lower()}{end}", own, number)
    if isinstance(source, nn.RNNCellBase):
        found.notes.append(
            f"{name}Cell, one step of it, is read as the layer that walks along a sequence with it"
        )
    return found


def _add(found: _Found, source: nn.Module, name: str, spec: L.Recurrent, number: int) -> int:
    """Adds one layer of a stack; returns the size of its output."""
    if not getattr(source, "bidirectional", False):
        canonical, names = _tensors(source, spec, number)
        whole: L.LayerSpec = spec
    else:
        canonical, names = _tensors(source, spec, number, before="forward_")
        more, others = _tensors(source, spec, number, "_reverse", before="backward_")
        canonical, names = canonical | more, names + others
        whole = L.Bidirectional(spec, replace(spec, go_backwards=True))
    found.layers.append((name, whole, _trainable(source, names)))
    found.weights[name] = canonical
    return whole.output_shape((None, spec.features))[-1] or 0


def _tensors(
    source: nn.Module, spec: L.Recurrent, number: int, direction: str = "", before: str = ""
) -> tuple[dict[str, Array], list[str]]:
    """Returns canonical tensors of one direction of one layer, and the names of its parameters."""
    table = TABLES[
        "LSTM with projection" if "projection" in spec.weight_kind else LAYERS[type(source)][0]
    ]
    mark = f"_l{number}{direction}" if isinstance(source, nn.RNNBase) else ""
    slots = table.present_slots(spec.missing_tensors())
    names = {slot.name: slot.name.replace("_l0", mark) for slot in slots}
    arrays = {slot: to_numpy(source.get_parameter(name)) for slot, name in names.items()}
    canonical = unpack(
        table, arrays, spec.sizes(), spec.missing_tensors(), f"torch {_name(source)}"
    )
    return {before + tensor: array for tensor, array in canonical.items()}, [*names.values()]


def read(source: nn.RNNBase | nn.RNNCellBase | nn.Linear) -> Model:
    """Returns a chain of the module's layers.

    Raises:
        UnsupportedError: hooks or parametrizations that change it.
    """
    _check(source)
    found = _linear(source) if isinstance(source, nn.Linear) else stack(source)
    name, first, _ = found.layers[0]
    features = first.weighted_parts[0][1].sizes()["i"]
    shape: Shape = (features,) if isinstance(first, L.Dense) else (None, features)
    container = f"live nn.{type(source).__name__}"
    origin = Source("torch", str(torch.__version__), container, notes=tuple(found.notes))
    late = int(not getattr(source, "batch_first", True))
    lone = len(found.layers) == 1 and not late
    title = name if len(found.layers) == 1 else name.removesuffix("_l0")
    made = chain(title, found.layers, shape, found.weights, origin, lone=lone)
    return on_axes(made, [late], [late])
