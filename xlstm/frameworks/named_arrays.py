"""Builds models from arrays by name: the names show the framework, specs give the layers.

In: a state dict or a file's arrays, and a spec for each layer. Out: a Model, a chain of the layers.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from xlstm.errors import UnsupportedError, UsageError, WeightsError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import beside, tensors, unpack_model, unwrapped
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, chain
from xlstm.ir.source import Source
from xlstm.ir.types import Array, Shape

T = TypeVar("T")


def _input_shape(first: L.LayerSpec) -> Shape:
    features = first.weighted_parts[0][1].sizes().get("i") if first.weighted_parts else None
    if features is None:
        want = "a first layer with weights, which says the number of features"
        raise UsageError("layers", want, first.kind, "remove the layers before it")
    recurrent = isinstance(first, (L.Recurrent, L.Bidirectional, L.TimeDistributed))
    return (None, features) if recurrent else (features,)


def from_arrays(
    arrays: Mapping[str, object] | Sequence[object],
    layers: Mapping[str, L.LayerSpec],
    file: str = "",
) -> Model:
    """A chain of layers with the weights of a state dict or of a file of named arrays.

    Args:
        arrays: arrays by their names in one of the frameworks, such as "lstm.weight_ih_l0"
            (PyTorch), "lstm/lstm_cell/kernel" (Keras) or "params.lstm.cell.ii.kernel" (Flax
            Linen). The layers of one stacked module of PyTorch are called lstm_l0, lstm_l1 and so
            on. Or a list from `get_weights()` of Keras or `parameters()` of PyTorch, whose shapes
            must fit one framework alone; numpy's names arr_0, arr_1 stand for a list.
        layers: layer name -> spec, in order.
        file: name of the source in errors and reports.

    Raises:
        UsageError: no layers, or layers that do not chain.
        WeightsError: names of no framework, or shapes that do not fit.
    """
    if not layers or not all(isinstance(spec, L.LayerSpec) for spec in layers.values()):
        raise UsageError("layers", "layer names and specs of xlstm.model", layers, "name them all")
    listed = [(name, spec, True) for name, spec in layers.items()]
    shape = _input_shape(listed[0][1])
    bare = chain("model", listed, shape, {}, Source("", "", "named arrays", file))
    lone = replace(bare, lone=len(listed) == 1)
    if not isinstance(arrays, Mapping):
        arrays = {f"arr_{number}": array for number, array in enumerate(arrays)}
    named = {name: _plain(name, array) for name, array in flat(arrays)}
    if named and {*named} == {f"arr_{number}" for number in range(len(named))}:
        return _from_list(bare, [named[f"arr_{number}"] for number in range(len(named))])
    adapters = [*map(registry.adapter, registry.frameworks())]
    for model in (bare, lone):
        for adapter in adapters:
            for found in map(unstacked, unwrapped(adapter, named)):
                if _fit(model, adapter, found):
                    source = replace(model.source, framework=adapter.name)
                    weights = unpack_model(model, adapter, found)
                    return replace(model, source=source, weights=weights)
    for adapter in adapters:
        if respelled := _respelled(bare, adapter, named):
            source = replace(bare.source, framework=adapter.name)
            return replace(bare, source=source, weights=unpack_model(bare, adapter, respelled))
    raise _foreign(bare, named)


def _respelled(
    model: Model, adapter: Adapter, named: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The arrays under the names of a port's tensors, None unless each has one name that fits."""
    wanted = _names(model, adapter)
    if adapter.pattern is None or not wanted:
        return None
    ends: dict[str, list[str]] = {}
    for name in named:
        ends.setdefault(re.split(r"[./]", name)[-1].partition(":")[0], []).append(name)
    found = {}
    for name in wanted:
        pattern = adapter.pattern(name)
        fits = [
            other for other in ends.get(name.rpartition(".")[2], ()) if pattern.fullmatch(other)
        ]
        if len(fits) != 1:
            return None
        found[name] = fits[0]
    if sorted(found.values()) != sorted(named):
        return None
    return {name: named[other] for name, other in found.items()}


def _from_list(model: Model, arrays: Sequence[Array]) -> Model:
    """A chain with the arrays of a list, in the order of the one framework that has these shapes.

    Raises:
        WeightsError: the shapes fit no framework, or two.
    """
    fits: dict[str, Model] = {}
    every = map(registry.adapter, registry.frameworks())
    adapters = {adapter.name: adapter for adapter in every if adapter.listed}
    for name, adapter in adapters.items():
        source, names = replace(model.source, framework=name), _names(model, adapter)
        if names and len(names) == len(arrays):
            with contextlib.suppress(WeightsError):
                weights = unpack_model(model, adapter, dict(zip(names, arrays, strict=True)))
                fits[name] = replace(model, source=source, weights=weights)
    if len(fits) == 1:
        return next(iter(fits.values()))
    either = ", or ".join(
        f"{adapter.listed} of {adapter.title} ({', '.join(_shapes(model, adapter))})"
        for adapter in adapters.values()
        if not fits or adapter.name in fits
    )
    want = f"the shapes of one of {either}" if fits else f"the shapes of {either}"
    got = ", ".join(str(array.shape) for array in arrays)
    do = "name the arrays" if fits else "give all arrays, in the order of the layers"
    raise WeightsError("list of arrays", want, f"both: {got}" if fits else got, do)


def _shapes(model: Model, adapter: Adapter) -> list[str]:
    """The shapes of a model's tensors in one framework."""
    try:
        return [str(tensor.shape) for tensor in tensors(model, adapter)]
    except UnsupportedError:
        return []


def _fit(model: Model, adapter: Adapter, names: Collection[str]) -> bool:
    """True if these are the names of all tensors of a model in one framework."""
    own = set(_names(model, adapter))
    others = set(names) - own
    return bool(own) and own <= set(names) and others == beside(model, adapter, others)


STACKED = re.compile(r"^(.*?)((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?$")
"""PyTorch's names of the layers of one module: lstm.weight_ih_l1_reverse."""


def flat(arrays: Mapping[Any, object], below: str = "") -> Iterator[tuple[str, object]]:
    """Every array with its full name; names of nested mappings are joined with dots."""
    for name, found in arrays.items():
        if isinstance(found, Mapping):
            yield from flat(found, f"{below}{name}.")
        else:
            yield f"{below}{name}", found


def unstacked(arrays: Mapping[str, T]) -> dict[str, T]:
    """The arrays, with names of a chain for the layers of a stacked module of PyTorch.

    >>> list(unstacked({"lstm.weight_ih_l0": np.zeros(1), "lstm.weight_ih_l1": np.zeros(1)}))
    ['lstm_l0.weight_ih_l0', 'lstm_l1.weight_ih_l0']
    """
    parts = {name: found.groups() for name in arrays if (found := STACKED.match(name))}
    stacks = {before for before, _, number, _ in parts.values() if number != "0"}
    named = {}
    for name, array in arrays.items():
        before, tensor, number, back = parts.get(name, ("", "", "", None))
        module = before.rstrip(".").replace(".", "_")
        if tensor and before in stacks:
            module = f"{module or 'rnn'}_l{number}"
        named[f"{module}.{tensor}_l0{back or ''}" if module else name] = array
    return named


def _plain(name: object, array: object) -> Array:
    try:
        found = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors that numpy cannot convert
        message = str(error).partition("\n")[0] or type(error).__name__
        do = "pass numpy arrays, such as tensor.detach().cpu().numpy()"
        raise WeightsError(name, "an array of numbers", message, do) from None
    if found.dtype.kind not in "fiub":
        raise WeightsError(name, "an array of numbers", f"dtype {found.dtype}", "pass numpy arrays")
    return found


def _names(model: Model, adapter: Adapter) -> list[str]:
    """Names of a model's tensors in one framework, none if that has no form of a layer."""
    try:
        return [tensor.name for tensor in tensors(model, adapter)]
    except UnsupportedError:
        return []


def _foreign(model: Model, named: Mapping[str, Array]) -> WeightsError:
    wanted = "; ".join(
        f"{adapter.title}: {', '.join(found)}"
        for adapter in map(registry.adapter, registry.frameworks())
        if (found := _names(model, adapter))
    )
    got = ", ".join(named) or "none"
    return WeightsError(
        "arrays", f"the names of one framework ({wanted})", got, "rename the arrays"
    )
