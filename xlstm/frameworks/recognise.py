"""Recognises layers by the names and shapes of their arrays: counts without a model.

A state dict, a safetensors file or a Flax checkpoint contains no options. Its names show the
framework. Its shapes show the kind of layer and the sizes, if only one layer has such shapes. Other
arrays are counted in their own framework alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from xlstm.errors import UsageError, WeightsError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.array_tree import leaves
from xlstm.frameworks.named_arrays import STACKED, unstacked
from xlstm.ir import layers as L
from xlstm.ir.graph import Node
from xlstm.slots import Shaped, Slot, Table, check, sizes_of

CELL = re.compile(r"(\w+_)?(lstm|gru|rnn)(_\w+)?_cell(_\d+)?")
"""Last part of the path of a recurrent cell in the default names of every framework."""

LONGEST = 200
"""Characters of a cell's name."""

CELL_PARTS = ("gates", "candidate", "projection")
"""Layers inside cells of TensorFlow 1."""


def spec_of(form: str, sizes: Mapping[str, int], use_bias: bool) -> L.LayerSpec | None:
    """The layer of a form of weights, None if the sizes do not define it."""
    i, h, j, o = (sizes.get(axis, 0) for axis in "ihjo")
    found: dict[str, L.LayerSpec] = {}
    if h:
        found = {
            "LSTM": L.LSTM(i, h, use_bias=use_bias),
            "GRU": L.GRU(i, h, use_bias=use_bias),
            "GRU, reset_after=False": L.GRU(i, h, use_bias=use_bias, reset_after=False),
            "SimpleRNN": L.SimpleRNN(i, h, use_bias=use_bias),
        }
        if 0 < j < h:
            found["LSTM with projection"] = L.LSTM(i, h, use_bias=use_bias, projection=j)
    elif o and i and use_bias:  # a matrix without a bias could be an embedding
        found = {"Dense": L.Dense(i, o, use_bias=use_bias)}
    elif o and use_bias:
        found = {"BatchNorm": L.BatchNorm(o)}
    return found.get(form)


@dataclass(frozen=True)
class Group:
    """The arrays of one layer.

    Attributes:
        path: of the layer.
        spec: of the layer, as far as shapes define it.
        names: slot name -> the array's name.
        table: the table of these slots; None for a cell that no table has.
    """

    path: str
    spec: L.LayerSpec
    names: Mapping[str, str]
    table: Table | None = None


def plain_name(name: str) -> str:
    """A name with dots between its parts, PyTorch's layer number put before the tensor's name.

    >>> plain_name("rnn/lstm/kernel:0"), plain_name("gru.weight_ih_l1")
    ('rnn.lstm.kernel', 'gru.l1.weight_ih_l0')
    """
    name = name.replace("/", ".").removesuffix(":0")
    found = STACKED.match(name)
    if not found:
        return name
    before, tensor, number, back = found.groups()
    place = f"{before}l{number}{back or ''}." if number != "0" or back else before
    return f"{place}{tensor}_l0"


class _Ends:
    """An index of names by their last parts, so that no table has to search all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = names
        self._found: dict[int, dict[str, list[str]]] = {}

    def prefixes(self, end: str) -> list[str]:
        """The text before the end of each name, in order; "" for the end alone."""
        parts = end.count(".") + 1
        if parts not in self._found:
            found = self._found[parts] = {}
            for name in self._names:
                found.setdefault(".".join(name.rsplit(".", parts)[-parts:]), []).append(name)
        return [name.removesuffix(end) for name in self._found[parts].get(end, [])]


def _called(adapter: Adapter, prefix: str, slot: Slot) -> str:
    """A tensor's name; statistics may have another root."""
    if slot.is_buffer and adapter.other_root:
        prefix = adapter.other_root + prefix.removeprefix(adapter.root)
    return prefix + slot.name


def _native(adapter: Adapter, spec: L.LayerSpec) -> bool:
    """True if a layer is one of the framework's own: files of others have no other layers."""
    return not (isinstance(spec, L.Recurrent) and adapter.own_cell_reason(Node("", spec)))


def _in_cell(path: str, spec: L.LayerSpec) -> bool:
    """True for the shapes of a dense layer under the name of a cell, which may be its gates."""
    *above, last = path.rsplit(".", 2)
    named = above[-1] if above and last in CELL_PARTS else last
    # the pattern is slow for a name that repeats its words a million times
    return isinstance(spec, L.Dense) and len(named) < LONGEST and bool(CELL.fullmatch(named))


def _proven(
    adapter: Adapter,
    table: Table,
    prefix: str,
    names: Mapping[str, str],
    arrays: Mapping[str, Shaped],
) -> Group | None:
    """The layer of a table's slots below a prefix, None unless names and shapes fit."""
    path = prefix.removeprefix(adapter.root).removesuffix(table.prefix).rstrip(".")
    for absent in (frozenset[str](), frozenset({"bias"})):
        slots = table.present_slots(absent)
        left = (_called(adapter, prefix, slot) for slot in table.slots if slot.tensor in absent)
        if any(name in names for name in left):
            continue  # a bias of another shape belongs to another layer
        called = {s.name: _called(adapter, prefix, s) for s in slots}
        mine = {slot: names[name] for slot, name in called.items() if name in names}
        if len(mine) != len(slots):
            continue
        shapes = {slot: arrays[name] for slot, name in mine.items()}
        if any(slot.rank != len(shapes[slot.name].shape) for slot in slots):
            continue  # raising an error for each of thousands of arrays is slow
        try:
            sizes = sizes_of(table, shapes)
            check(table, shapes, sizes, absent, prefix)
        except WeightsError:
            continue
        spec = spec_of(table.kind.name, sizes, not absent)
        if isinstance(spec, L.GRU) and spec.reset_after and not absent and table.bias_sides == 1:
            spec = replace(spec, hidden_bias=False)
        if spec is not None and _native(adapter, spec) and not _in_cell(path, spec):
            mine |= {c: names[prefix + c] for c in table.counters if prefix + c in names}
            return Group(path or table.kind.name, spec, mine, table)
    return None


def groups(adapter: Adapter, arrays: Mapping[str, Shaped]) -> list[Group]:
    """The layers that one framework's names prove; each array belongs to one at most."""
    plain = {name: plain_name(name) for name in arrays}
    names = {plain_name: name for name, plain_name in plain.items()}
    ends = _Ends([*names])
    found: list[Group] = []
    for table in sorted(adapter.tables.values(), key=lambda table: -len(table.slots)):
        first = table.slots[0]
        for prefix in ends.prefixes(first.name):
            name = names.get(_called(adapter, prefix, first))
            if name is not None and len(arrays[name].shape) != first.rank:
                continue
            group = _proven(adapter, table, prefix, names, arrays)
            if group is not None:
                found.append(group)
                for name in group.names.values():
                    names.pop(plain[name], None)
    order = {name: number for number, name in enumerate(arrays)}
    return sorted(found, key=lambda group: min(order[name] for name in group.names.values()))


def numbered(adapter: Adapter, arrays: Mapping[str, Shaped]) -> list[Group]:
    """The layers of arrays whose names are numbers, as in new weights files of Keras.

    Their order is that of the tables, and the path must contain the class or a cell.
    """
    below: dict[str, dict[int, str]] = {}
    for name in arrays:
        path, _, last = name.rpartition("/")
        if path and last.isdecimal() and len(last) < 3:
            below.setdefault(path, {})[int(last)] = name
    found = []
    for path, names in below.items():
        if sorted(names) == [*range(len(names))]:
            ordered = [names[number] for number in sorted(names)]
            fits = [*_in_order(adapter, path, ordered, arrays)]
            found += fits[:1] if len({group.spec for group in fits}) == 1 else []
    return found


def _in_order(
    adapter: Adapter, path: str, ordered: Sequence[str], arrays: Mapping[str, Shaped]
) -> Iterator[Group]:
    """Possible layers of arrays in the order of a table, by shapes and the words of a path."""
    words = re.sub(r"_\d+(?=/|$)", "", path).split("/")
    for table in adapter.default.values():
        slots = adapter.tables[table].slots
        for number in {len(slots), len([s for s in slots if s.tensor != "bias"])}:
            names = {s.name: name for s, name in zip(slots, ordered, strict=False)}
            if number == len(ordered) == len(names):
                called = {slot: slot for slot in names}
                shapes = {slot: arrays[name] for slot, name in names.items()}
                group = _proven(adapter, adapter.tables[table], "", called, shapes)
                if group and (_word(group.spec) in words or "cell" in words):
                    yield replace(group, path=path, names=names)


def _word(spec: L.LayerSpec) -> str:
    """The class of a layer in the spelling of Keras's paths."""
    return "batch_normalization" if isinstance(spec, L.BatchNorm) else snake(spec.kind)


def snake(name: str) -> str:
    """The default name of Keras for layers of a class.

    >>> snake("SimpleRNN"), snake("LSTM")
    ('simple_rnn', 'lstm')
    """
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def framework_of(arrays: Mapping[str, Shaped]) -> tuple[Adapter, list[Group]]:
    """The framework whose names explain the most arrays, and the layers that they prove.

    Raises:
        WeightsError: no array belongs to a layer of any framework.
    """
    every = map(registry.adapter, registry.frameworks())
    known = [(adapter, groups(adapter, arrays)) for adapter in every]

    def explained(pair: tuple[Adapter, list[Group]]) -> tuple[int, bool]:
        root = pair[0].root
        rooted = bool(root) and all(name.startswith(root) for name in arrays)
        return sum(len(group.names) for group in pair[1]), rooted

    best = max(known, key=explained)
    if not best[1]:
        want = "arrays named as Keras, PyTorch or Flax name those of recurrent or dense layers"
        size = sum(math.prod(array.shape) for array in arrays.values())
        names = ", ".join(list(arrays)[:8]) or "none"
        got = f"{names}: {size:,} numbers in {len(arrays)} arrays of no framework's names"
        raise WeightsError("count", want, got, "load them with layers=")
    return best


def missing_layers_error(arrays: Mapping[str, object], where: str = "load") -> UsageError:
    """The error for named arrays without layers: the specs that they prove, to be completed."""
    want = "layers= for a mapping or file of arrays"
    try:
        named = unstacked(leaves(arrays).arrays)
        found = {g.path.replace(".", "/"): g.spec for g in framework_of(named)[1]}
    except WeightsError:
        return UsageError(where, want, "none", 'pass layers={"lstm": xlstm.model.LSTM(3, 4)}')
    halves = {path.removesuffix("/l0_reverse") for path in found if path.endswith("/l0_reverse")}
    texts = [
        f'"{path}": {_both(spec) if path in halves else _spec_text(spec)}'
        for path, spec in found.items()
        if not path.endswith("/l0_reverse")
    ]
    do = "shapes do not say activations and which output is taken: pass, with your options, "
    return UsageError(where, want, "none", f"{do}layers={{{', '.join(texts)}}}, of xlstm.model")


def _both(spec: L.LayerSpec) -> str:
    return f"Bidirectional({_spec_text(spec)}, {_spec_text(spec, ', go_backwards=True')})"


def _spec_text(spec: L.LayerSpec, more: str = "") -> str:
    """The source text of a spec, as far as shapes define it."""
    sizes = [size for axis, size in spec.sizes().items() if axis in "iho"]
    use_bias = getattr(spec, "use_bias", True)
    more += "" if use_bias else ", use_bias=False"
    more += ", reset_after=False" if not getattr(spec, "reset_after", True) else ""
    more += f", projection={found}" if (found := getattr(spec, "projection", 0)) else ""
    return f"{spec.kind}({', '.join(map(str, sizes))}{more})"
