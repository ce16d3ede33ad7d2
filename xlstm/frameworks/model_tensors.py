"""Converts canonical weights of a whole model to a framework's named tensors, and back.

In: a Model and an adapter. Out: names and shapes (`tensors`), arrays (`pack_model`), and canonical
weights (`unpack_model`).
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from xlstm.errors import UnsupportedError, WeightsError
from xlstm.files.description import Stored
from xlstm.frameworks.adapter import TRAINING, Adapter, WeightPlacement
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.kinds import Kind
from xlstm.ir.layers.custom import missing_source, unwrap_time_distributed
from xlstm.ir.lazy_weights import dtypes_of, renamed
from xlstm.ir.precision import cast
from xlstm.ir.types import Array
from xlstm.slots import (
    FOLD,
    Slot,
    Table,
    folds,
    pack,
    pack_slot,
    shape,
    split_bias_sides,
    unpack,
)


@dataclass(frozen=True)
class FrameworkTensor:
    """One framework tensor of a model: its owner, its full name, its shape, the layer's form."""

    node: Node
    slot: Slot
    name: str
    shape: tuple[int, ...]
    kind: Kind


class _Placed(NamedTuple):
    """One part of a layer with weights, and the paths before its parameters and its others."""

    node: Node
    place: WeightPlacement
    before: tuple[str, str]

    def name(self, slot: Slot) -> str:
        return self.before[slot.is_buffer] + self.place.slot_name(slot.name)

    def names(self) -> dict[str, str]:
        """Full name of each tensor, by the slot's own."""
        active = self.place.table.present_slots(self.place.part.missing_tensors())
        return {slot.name: self.name(slot) for slot in active}

    def hub(self, model: Model) -> Mapping[str, Array]:
        """The canonical tensors of this part, without the prefix of their names."""
        before, weights = self.place.before, model.weights[self.node.name]
        names = (name for name in weights if name.startswith(before))
        return renamed(weights, {name: name.removeprefix(before) for name in names})


def _placed(model: Model, adapter: Adapter, without: Container[str] = ()) -> Iterator[_Placed]:
    names = identifiers(model)
    for node in model.layers:
        if node.name in without or node.layer or not node.spec.weighted_parts:
            continue
        bare = model.lone and adapter.is_native_module(node.spec)
        path = "" if bare else f"{names[node.name]}."
        before = adapter.root + path, (adapter.other_root or adapter.root) + path
        for place in adapter.weight_placements(_with_any_mask(model, node)):
            inside = replace(place.table, prefix="") if bare else place.table
            yield _Placed(node, place._replace(table=inside), before)


def _with_any_mask(model: Model, node: Node) -> Node:
    """A node with a mask if any call of its layer has one: the port's layer must take it."""
    obeyed = node.mask or model.mask_of(node.name)
    return node if obeyed is node.mask else replace(node, mask=obeyed)


def check_supported(node: Node, adapter: Adapter) -> None:
    """Raises UnsupportedError if a framework has no exact form of a layer."""
    if why := missing_source(node.spec, adapter.name):
        where, want = f"port to {adapter.title}, layer {node.name}", "a layer with an exact form"
        raise UnsupportedError(where, want, why, "register it with that, or port elsewhere")
    if why := adapter.unsupported_reason(node):
        where, want = f"port to {adapter.title}, layer {node.name}", "a layer with an exact form"
        raise UnsupportedError(where, want, why, "port to another framework")
    name = trained_layer(node.spec)
    if name and name not in adapter.training:
        where, want = f"port to {adapter.title}, layer {node.name}", "a layer that trains as well"
        why = f"{name}, and the adapter of {adapter.title} does not say what ports do in training"
        raise UnsupportedError(where, want, why, "port to another framework")
    for _ in adapter.weight_placements(node):
        pass


def trained_layer(spec: L.LayerSpec) -> str:
    """The name of a layer that computes something else in training, "" for all others."""
    inner = unwrap_time_distributed(spec)
    if isinstance(inner, (L.Dropout, L.TrainingOnly)) and not inner.rate:
        return ""
    if isinstance(inner, (L.Attention, L.MultiHeadAttention)) and inner.dropout:
        return "Dropout"  # of the attention weights
    name = inner.layer if isinstance(inner, L.TrainingOnly) else inner.kind
    return name if name in TRAINING else ""


def training_notes(model: Model, adapter: Adapter) -> list[str]:
    """A note for each layer whose training the ports of an adapter leave out."""
    named = ((node.name, trained_layer(node.spec)) for node in model.layers)
    return [
        f"{name}: {layer} computes something else in training, which {adapter.title} leaves out"
        for name, layer in named
        if layer and not adapter.training.get(layer)
    ]


def check_model(model: Model, adapter: Adapter) -> None:
    """Raises UnsupportedError for the first layer that a framework has no exact form of."""
    for node in model.layers:
        check_supported(node, adapter)


def refusals(model: Model, adapter: Adapter) -> dict[str, str]:
    """Layers that a framework has no form of, and the reason."""
    found = {}
    for node in model.layers:
        try:
            check_supported(node, adapter)
        except UnsupportedError as error:
            found[node.name] = str(error)
    return found


def tensors(
    model: Model, adapter: Adapter, without: Container[str] = ()
) -> Iterator[FrameworkTensor]:
    """Every tensor of the port of `model` to a framework, in order; needs no weights.

    Args:
        model: any model.
        adapter: the framework.
        without: names of layers to leave out.

    Raises:
        UnsupportedError: the framework has no form of a layer that is not left out.
    """
    for placed in _placed(model, adapter, without):
        part, table = placed.place.part, placed.place.table
        for slot in table.present_slots(part.missing_tensors()):
            size = shape(slot, table.kind, part.sizes())
            yield FrameworkTensor(placed.node, slot, placed.name(slot), size, table.kind)


def counters(
    model: Model, adapter: Adapter, without: Container[str] = ()
) -> Iterator[tuple[Node, str]]:
    """The layers whose port counts steps of training, and the full name of that number."""
    for placed in _placed(model, adapter, without):
        for name in placed.place.table.counters:
            yield placed.node, placed.before[True] + placed.place.slot_name(name)


def pack_model(model: Model, adapter: Adapter) -> dict[str, Array]:
    """All weights as the framework's tensors, by full name."""
    packed: dict[str, Array] = {}
    for placed in _placed(model, adapter):
        part, table = placed.place.part, placed.place.table
        arrays = pack(table, placed.hub(model), part.sizes(), part.missing_tensors())
        names = placed.names()
        packed |= {names[name]: array for name, array in arrays.items()}
    return packed


def packed_tensors(model: Model, adapter: Adapter) -> list[Stored]:
    """As `pack_model`, in the same order, each array made when it is loaded.

    Arrays are views of the model's weights where the layouts allow it, so they may be strided.
    """
    found = []
    for placed in _placed(model, adapter):
        part, table, weights = placed.place.part, placed.place.table, placed.hub(model)
        absent, sizes = part.missing_tensors(), part.sizes()
        dtypes = dtypes_of(weights)
        rest = np.result_type(*dtypes.values())
        for slot in table.present_slots(absent):
            load = functools.partial(pack_slot, slot, table.kind, weights, sizes, absent)
            dtype = (rest if slot.tensor in absent else dtypes[slot.tensor]).name
            size = shape(slot, table.kind, sizes)
            found.append(Stored(placed.name(slot), size, dtype, load))
    return found


def beside(model: Model, adapter: Adapter, names: Iterable[str]) -> set[str]:
    """Names of tensors of a trained port that its function does not use.

    They are counts of training steps and states of random numbers, by the adapter's tables.

    Args:
        model: the source of the port.
        adapter: the framework.
        names: full names of a port's tensors.
    """
    counts = {name for _, name in counters(model, adapter)}
    layers = {adapter.root + name for name in identifiers(model).values()}
    seeds = tuple(f".{name}" for name in adapter.seeds)
    return {
        name
        for name in names
        if name in counts or (seeds and name.endswith(seeds) and _in(name, layers))
    }


def _in(name: str, layers: Container[str]) -> bool:
    """True if a name lies below one of these paths."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in layers for n in range(1, len(parts)))


def unwrapped(adapter: Adapter, arrays: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """The tensors under their names, then without the prefixes of modules around a port.

    Only a prefix of all names is removed, once for every module around another one.

    Args:
        adapter: the framework, whose `wrappers` has such prefixes.
        arrays: by full name.
    """
    yield arrays
    for start, kept in adapter.wrappers.items():
        inside = {name: array for name, array in arrays.items() if name not in kept}
        if inside and all(name.startswith(start) for name in inside):
            bare = {name.removeprefix(start): array for name, array in inside.items()}
            yield from unwrapped(adapter, bare)


def unpack_model(
    model: Model, adapter: Adapter, arrays: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """Canonical weights of every layer from the framework's tensors by full name.

    Tensors of a trained port that its function does not use are left out (`beside`).

    Raises:
        WeightsError: tensors missing, left over or of a wrong shape.
    """
    own = {name for placed in _placed(model, adapter) for name in placed.names().values()}
    arrays = next((named for named in unwrapped(adapter, arrays) if own & named.keys()), arrays)
    weights: dict[str, dict[str, Array]] = {}
    used = set[str]()
    for placed in _placed(model, adapter):
        part, table = placed.place.part, placed.place.table
        names = placed.names()
        mine = {slot: arrays[name] for slot, name in names.items() if name in arrays}
        used |= {names[slot] for slot in mine}
        where = f"layer {placed.node.name}"
        found = unpack(table, mine, part.sizes(), part.missing_tensors(), where)
        layer = weights.setdefault(placed.node.name, {})
        layer |= {placed.place.before + name: array for name, array in found.items()}
    others = set(arrays) - used
    if left := ", ".join(sorted(others - beside(model, adapter, others))):
        raise WeightsError(
            model.name, "every tensor used once", f"left over: {left}", "remove them"
        )
    return weights


def first_gap(model: Model, adapter: Adapter, arrays: Mapping[str, Array], dtype: str) -> str:
    """The first tensor in which a port's weights, read back, are not the source's; "" for none.

    If the port has one bias for two, it must be their sum; a second one for one must be zero.

    Raises:
        WeightsError: tensors missing, left over or of a wrong shape.
    """
    back = unpack_model(model, adapter, arrays)
    for placed in _placed(model, adapter):
        name, table = placed.node.name, placed.place.table
        for tensor, array in placed.hub(model).items():
            got = back[name][placed.place.before + tensor]
            if not _same(table, tensor, cast(array, dtype), got, dtype):
                return f"{name}: {placed.place.before}{tensor} is not the source's"
    return ""


def _same(table: Table, tensor: str, want: Array, got: Array, dtype: str) -> bool:
    if "s" not in table.kind.tensors[tensor]:
        return np.array_equal(got, want, equal_nan=True)
    if any(slot.fixed.get("s") == FOLD for slot in table.slots):
        # bfloat16 is stored in float32 arrays, whose sums have to be rounded
        want, got = (
            cast(split_bias_sides(table.kind, want), dtype),
            split_bias_sides(table.kind, got),
        )
    elif len(want) < len(got):
        want = np.concatenate([want, np.zeros_like(want)])
    return np.array_equal(got, want, equal_nan=True)


def fold_notes(model: Model, adapter: Adapter) -> list[str]:
    """A line for each layer whose two biases are added for this framework's single bias."""
    return [
        f"{placed.node.name}: both biases are not zero; they are added into the one bias that "
        f"{adapter.title} keeps{_which(placed.place.table)}, rounded once in the stored dtype"
        for placed in _placed(model, adapter)
        if any(slot.fixed.get("s") == FOLD for slot in placed.place.table.slots)
        and folds(placed.hub(model).get("bias"))
    ]


def _which(table: Table) -> str:
    """Names of the gates whose biases are added, "" for all."""
    folded = [slot for slot in table.slots if slot.fixed.get("s") == FOLD]
    gates = "".join(str(s.fixed.get("g", s.gates)) for s in folded)
    gates = "".join(
        gate for gate in gates if gate not in {g for s in folded for g in s.unfolded_gates}
    )
    return f" for gates {' and '.join(gates)}" if gates and gates != table.kind.gates else ""
