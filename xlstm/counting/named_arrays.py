"""Counts arrays by name without a model.

In: arrays with their names. Out: a ledger. Layers that names and shapes prove are counted in every
framework, all other arrays in their own framework alone, with the reason.

    count_leaves(leaves(module.state_dict())).total("torch")
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from xlstm.counting.ledger import (
    Difference,
    LayerCount,
    Ledger,
    TensorCount,
    count_model,
    differences,
)
from xlstm.files import describe
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.frameworks.array_tree import Leaf, Leaves, leaf_of
from xlstm.frameworks.recognise import Group, framework_of, groups, numbered
from xlstm.ir.graph import Node, chain
from xlstm.ir.identifiers import identifier
from xlstm.ir.kinds import BATCH_NORM
from xlstm.ir.layers import GRU, LSTM, LayerSpec, Recurrent
from xlstm.ir.source import Source, optimizer_of
from xlstm.slots import Shaped

OPEN = "names and shapes do not prove which layer this is; load it with layers="

T = TypeVar("T")

ANY = "any"
"""Name of a layer that is counted once for all equal ones."""


def count_leaves(
    found: Leaves,
    frameworks: Iterable[str],
    own: Adapter | None = None,
    notes: Sequence[str] = (),
) -> Ledger:
    """Counts arrays in every framework, as far as they prove their layers.

    Args:
        found: the arrays.
        frameworks: the columns.
        own: the framework of the arrays; None to find it by their names.
        notes: other facts about them.

    Raises:
        WeightsError: the framework is unknown, and no array belongs to a layer.
    """
    own, layers = _layers_of(found, own)
    names = [name for name in dict.fromkeys(frameworks) if registry.adapter(name).tables]
    counting = _Counting(own, found.arrays, tuple(names))
    counted = [counting.layer(group) for group in layers]
    taken = {name for group in layers for name in group.names.values()}
    seeds = tuple(f".{name}" for name in own.seeds)  # states of random numbers
    left = [name for name in found.arrays if name not in taken and not name.endswith(seeds)]
    counted += [counting.open(name) for name in left]
    all_notes = [*notes, *counting.notes]
    if found.plain:
        all_notes.append(f"no arrays, not counted: {', '.join(found.plain)}")
    return Ledger(
        tuple(names), tuple(counted), optimizer_of(None, found.optimizer), tuple(all_notes)
    )


def count_weights(path: Path, frameworks: Iterable[str]) -> Ledger:
    """Counts the weights of a Keras file without an architecture.

    Raises:
        FileError: as `describe` raises.
    """
    with contextlib.closing(describe(path)) as description:
        found = {
            f"{key}/{stored.name}": leaf
            for key, every in description.weights.items()
            for stored in every
            if (leaf := leaf_of(stored)) and key.rpartition("/")[2] != "seed_generator"
        }
        own = registry.adapter(description.framework)
        why = (
            f"{description.container}: layers are recognised from names and shapes; "
            "with architecture= each is counted in every framework"
        )
        ledger = count_leaves(Leaves(found), frameworks, own, [why])
        return replace(ledger, optimizer=description.optimizer)


def _layers_of(found: Leaves, own: Adapter | None) -> tuple[Adapter, list[Group]]:
    """The framework of arrays, and the layers that they prove."""
    old = cells(found.arrays)
    inside = {name for group in old for name in group.names.values()}
    others = {name: leaf for name, leaf in found.arrays.items() if name not in inside}
    if own is not None:
        return own, [*groups(own, others), *numbered(own, others), *old]
    holders = {holder.name for kind in found.types() if (holder := registry.owner_of(kind))}
    for adapter in map(registry.adapter, holders if len(holders) == 1 else ()):
        if layers := groups(adapter, others):  # else they may be another framework's, by name
            return adapter, [*layers, *old]
    if old and not any(groups(registry.adapter(name), others) for name in registry.frameworks()):
        return registry.adapter(CELLS), old
    own, layers = framework_of(others)
    return own, [*layers, *old]


@dataclass
class _Counting:
    """Counts arrays of one framework, each tensor once, under the first of its names.

    Attributes:
        own: the framework.
        arrays: by name.
        names: the columns.
        known: layers that are counted already.
        owners: memory of a tensor -> the name that it is counted under.
        notes: for the ledger.
    """

    own: Adapter
    arrays: Mapping[str, Leaf]
    names: tuple[str, ...]
    known: dict[LayerSpec, tuple[Node, LayerCount]] = field(default_factory=dict)
    owners: dict[Hashable, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def layer(self, group: Group) -> LayerCount:
        """A proven layer in every framework; in its own under the names of the arrays."""
        found = self._like(group)
        table = group.table
        slots = {slot.name: slot for slot in table.slots} if table else {}
        there = []
        for key, name in group.names.items():
            slot = slots.get(key)
            role = slot.tensor if slot else "state" if table else key.rpartition(".")[2]
            role = "statistic" if table and role in table.kind.statistics else role
            other = slot.is_buffer if slot else table is not None
            there.append(self._tensor(name, role, other=other))
        params = {**found.params, self.own.name: _size(there)}
        found = replace(
            found,
            params=_only(params, self.names),
            tensors=_only({**found.tensors, self.own.name: tuple(there)}, self.names),
        )
        return self._tied(found, there) if any(t.shared for t in there) else found

    def _tied(self, found: LayerCount, there: Sequence[TensorCount]) -> LayerCount:
        """A layer with some or all tensors counted under another one."""
        if all(t.shared for t in there):  # the same layer under another name
            tensors = {n: t if n == self.own.name else () for n, t in found.tensors.items()}
            params: dict[str, int | None] = dict.fromkeys(found.params, 0)
            return replace(found, params=params, tensors=tensors, differences=(), refused={})
        first = next(t for t in there if t.shared)
        why = (
            f"layer {found.path}: {first.name} is {first.shared}, too; "
            "the arrays do not say if a port ties them"
        )
        return self._alone(found, why)

    def _alone(self, found: LayerCount, why: str) -> LayerCount:
        """A layer that is counted in its own framework alone."""
        own, others = self.own.name, [name for name in self.names if name != self.own.name]
        return replace(
            found,
            params={n: found.params[n] if n == own else None for n in self.names},
            tensors={n: found.tensors[n] if n == own else () for n in self.names},
            differences=(),
            refused=dict.fromkeys(others, why),
        )

    def _like(self, group: Group) -> LayerCount:
        """A single layer in every framework, in its own with the tensors of the group's table."""
        spec, path, own = group.spec, group.path, identifier(group.path)
        if spec not in self.known:
            width = spec.sizes().get("i", spec.sizes().get("o"))
            sample = (None, width) if isinstance(spec, Recurrent) else (width,)
            model = chain(ANY, [(ANY, spec, True)], sample, {}, Source(""), lone=True)
            (found,) = count_model(model, (*self.names, self.own.name)).layers
            self.known[spec] = model.layers[0], found
        node, found = self.known[spec]
        tensors = {
            name: tuple(replace(t, name=t.name.replace(f"{ANY}.", f"{own}.", 1)) for t in every)
            for name, every in found.tensors.items()
        }
        refused = {n: w.replace(f"layer {ANY}", f"layer {path}") for n, w in found.refused.items()}
        lines = found.differences if group.table is None else self._lines(group, node, found)
        lines = tuple(d for d in lines if {d.source, d.target} <= {*self.names})
        kind = f"{found.kind} of TensorFlow 1" if group.table is None else found.kind
        return replace(
            found,
            path=path,
            kind=kind,
            tensors=tensors,
            refused=_only(refused, self.names),
            differences=lines,
            # the arrays in their own framework are counted as they are, not as a port has them
            native={n: one for n, one in found.native.items() if n != self.own.name},
        )

    def _lines(self, group: Group, node: Node, found: LayerCount) -> tuple[Difference, ...]:
        """The lines of a layer, with the tensors of the group's table in its own framework."""
        sides = []
        for name in found.params:
            adapter = registry.adapter(name)
            if name == self.own.name and group.table is not None:
                sides.append((adapter, [WeightPlacement("", group.spec, group.table, "{}")]))
            elif name not in found.refused:
                sides.append((adapter, [*adapter.weight_placements(node)]))
        return differences(sides, self.own.name)

    def open(self, name: str) -> LayerCount:
        """An array without a proven layer."""
        leaf = self.arrays[name]
        slots = (slot for table in self.own.tables.values() for slot in table.slots)
        # a framework that separates parameters from others trains no whole numbers
        apart = leaf.whole and any(slot.is_buffer for slot in slots)
        other = _is_statistic(self.own, name) or apart
        tensor = self._tensor(name, "statistic" if other else "", other=other)
        there: dict[str, tuple[TensorCount, ...]] = {self.own.name: (tensor,)}
        tensors = {own: there.get(own, ()) for own in self.names}
        params: dict[str, int | None] = {self.own.name: _size([tensor])}
        found = LayerCount(name, "?", params, tensors, (), {})
        is_same = f"it is {tensor.shared}, too" if tensor.shared else OPEN
        return self._alone(found, f"{name} {leaf.shape}: {is_same}")

    def _tensor(self, name: str, role: str, *, other: bool) -> TensorCount:
        """An array in its framework's count, with 0 elements if another name counts them."""
        leaf = self.arrays[name]
        other = other if leaf.other is None else leaf.other
        fixed = other or role == "statistic"
        trains = not fixed if leaf.trainable is None else leaf.trainable and not fixed
        called = leaf.collection or self.own.collections[2 if other else int(not trains)]
        size, memory = math.prod(leaf.shape), leaf.memory
        first = name if memory is None else self.owners.setdefault(memory, name)
        shared = "" if first == name else first
        if shared:
            self.notes.append(f"{name} is {shared}: one tensor of {size:,} numbers, counted once")
        size = 0 if shared else size
        return TensorCount(name, leaf.shape, size, trains, role, other, called, shared)


def _size(tensors: Iterable[TensorCount]) -> int:
    return sum(t.count for t in tensors if not t.other)


def _only(found: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """The values of a mapping for these names, in their order."""
    return {name: found[name] for name in names if name in found}


def _is_statistic(own: Adapter, name: str) -> bool:
    """True if an array's name shows that the framework does not count it as a parameter."""
    if own.other_root:
        return name.startswith(own.other_root)
    norms = [table for table in own.tables.values() if table.kind is BATCH_NORM]
    names = {slot.name for table in norms for slot in table.slots if slot.is_buffer}
    return name.split(".")[-1] in names.union(*(table.counters for table in norms))


CELLS = "keras"
"""The framework whose column has cells of TensorFlow 1: Keras has as many parameters."""

LSTM_CELL = re.compile(r"(basic_)?lstm_cell(_\d+)?")
GRU_CELL = re.compile(r"gru_cell(_\d+)?")

LSTM_NAMES = frozenset({"kernel", "bias"})
GRU_NAMES = frozenset({"gates.kernel", "gates.bias", "candidate.kernel", "candidate.bias"})


def cells(arrays: Mapping[str, Shaped]) -> list[Group]:
    """Recurrent cells of TensorFlow 1 among arrays, each as one layer, for counting alone.

    They have the kernel of the input on top of that of the state in one matrix, which no slot
    covers. A dense layer has the same shapes: the name must be that of a cell, with no other arrays
    beside it, as in rnn/basic_lstm_cell/kernel (m + n, 4 n), rnn/basic_lstm_cell/bias (4 n,).

    >>> import numpy as np
    >>> arrays = {"rnn/lstm_cell/kernel": np.ones((7, 16)), "rnn/lstm_cell/bias": np.ones(16)}
    >>> [(group.path, sorted(group.spec.sizes().items())) for group in cells(arrays)]
    [('rnn.lstm_cell', [('h', 4), ('i', 3), ('j', 4)])]
    """
    below: dict[str, dict[str, str]] = {}  # path of a cell -> end of a name -> the whole name
    for name in arrays:
        parts = name.replace("/", ".").removesuffix(":0").rsplit(".", 2)
        for number in range(1, len(parts)):
            last = parts[number - 1].rpartition(".")[2]
            if LSTM_CELL.fullmatch(last) or GRU_CELL.fullmatch(last):
                path, end = ".".join(parts[:number]), ".".join(parts[number:])
                below.setdefault(path, {})[end] = name
    found = []
    for path, names in below.items():
        spec = _spec(path.rpartition(".")[2], {key: arrays[n].shape for key, n in names.items()})
        if spec is not None:
            found.append(Group(path, spec, names))
    return found


def _spec(last: str, shapes: Mapping[str, tuple[int, ...]]) -> LayerSpec | None:
    """The layer of arrays of these shapes under the name of a cell, None unless they fit."""
    if LSTM_CELL.fullmatch(last) and shapes.keys() == LSTM_NAMES:
        m, n = _sizes(shapes["kernel"], shapes["bias"], 4)
        return LSTM(m, n) if m > 0 else None
    if GRU_CELL.fullmatch(last) and shapes.keys() == GRU_NAMES:
        m, n = _sizes(shapes["gates.kernel"], shapes["gates.bias"], 2)
        again = _sizes(shapes["candidate.kernel"], shapes["candidate.bias"], 1)
        return GRU(m, n, reset_after=False) if m > 0 and (m, n) == again else None
    return None


def _sizes(kernel: tuple[int, ...], bias: tuple[int, ...], gates: int) -> tuple[int, int]:
    """Features and units of a kernel (m + n, gates n) and its bias; no features if none fit."""
    n, rest = divmod(bias[0] if len(bias) == 1 else 0, gates)
    fits = len(kernel) == 2 and kernel[1] == gates * n > 0 and not rest
    return (kernel[0] - n if fits else 0), n
