"""Pairs the suspect's tensors and layers with those of the truth."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from xlstm.diagnosis.hypothesis import Part, parts
from xlstm.diagnosis.pairing.cells import Cell, cells
from xlstm.diagnosis.pairing.names import Naming
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.frameworks.recognise import plain_name
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Bidirectional, TimeDistributed
from xlstm.ir.types import Array
from xlstm.slots import FOLD, Slot, Table, shape, unpack

Key = tuple[str, str]
"""Owner of a layer, and what the names of a part's hub tensors start with."""


@dataclass(frozen=True)
class Paired:
    """The suspect's tensors by the truth's layers.

    Attributes:
        hub: the suspect's hub tensors, by owner and then by name, as far as they are known.
        names: (owner, part, slot) -> the suspect's name of a tensor.
        paths: owner -> the suspect's name of the layer.
        turned: owner and hub tensor of what has its axes the other way round.
        left: names that stand for nothing in the truth.
        adapter: the framework whose names they are.
        modules: owner -> path of the suspect's module that has its weights.
        tables: owner and part -> the table of a cell of the suspect's own, by its own names.
        layouts: owner and part -> the slots that hold the part, in the suspect's own axes.
    """

    hub: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    names: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    turned: frozenset[Key] = frozenset()
    left: tuple[str, ...] = ()
    adapter: Adapter | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[Key, Table] = field(default_factory=dict)
    layouts: Mapping[Key, Table] = field(default_factory=dict)

    def unread(self, owner: str) -> bool:
        """True if arrays beside a layer's own belong to no layer: they may be the ones it lacks."""
        path = self.paths.get(owner)
        return path is not None and any(re.sub(LAST, "", name) == path for name in self.left)

    @property
    def naming(self) -> Naming:
        """The same for sentences."""
        return Naming(self.adapter, self.names, self.tables)


class _Match:
    """One part of the truth and the suspect's arrays that are its slots; or a cell of its own."""

    def __init__(
        self, table: Table, slots: dict[str, str], turned: set[str], cell: Cell | None = None
    ) -> None:
        self.table, self.slots, self.turned, self.cell = table, slots, turned, cell


def pair_arrays(
    model: Model, arrays: Mapping[str, Array], adapters: Sequence[Adapter] | None = None
) -> Paired:
    """Arrays by a framework's names as the truth's hub tensors.

    Each part of each layer takes the first prefix that has all its slots in its shapes (a name that
    holds the layer's own goes first). The framework is the one that explains the most arrays.
    """
    every = adapters or [*map(registry.adapter, registry.frameworks())]
    found = [_pair(model, arrays, adapter) for adapter in every]
    return min(found, key=lambda paired: (len(paired.left), not paired.names))


def _pair(model: Model, arrays: Mapping[str, Array], adapter: Adapter) -> Paired:
    left = _plain_names(arrays, adapter)
    canonical: dict[str, dict[str, Array]] = {}
    names: dict[tuple[str, str, str], str] = {}
    paths: dict[str, str] = {}
    turned = set[Key]()
    tables: dict[Key, Table] = {}
    layouts: dict[Key, Table] = {}
    for node in (node for node in model.layers if not node.layer):
        for part in parts(node.spec):
            own = model.weights.get(node.name, {})
            own = {
                n.removeprefix(part.before): x for n, x in own.items() if n.startswith(part.before)
            }
            match = _match(node, part, left, arrays, adapter, own)
            if match is None:
                continue
            if match.cell is not None:
                tables[node.name, part.before] = match.table
            layouts[node.name, part.before] = _layout(match)
            canonical.setdefault(node.name, {}).update(_hub(part, match, arrays))
            names |= {(node.name, part.before, slot): n for slot, n in match.slots.items()}
            # the suspect's name of the layer that owns the match
            last = LAST if match.cell is None else r"\.?[^.]*\.[^.]*$"
            path = re.sub(last, "", next(iter(match.slots.values())))
            paths[node.name] = _common(paths.get(node.name, path), path)
            turned |= {(node.name, part.before + tensor) for tensor in match.turned}
            taken = match.cell.taken if match.cell else {*match.slots.values()}
            left = {plain: name for plain, name in left.items() if name not in taken}
    rest = tuple(left.values())
    found = canonical, names, paths, frozenset(turned), rest, adapter, paths, tables, layouts
    return Paired(*found)


def _plain_names(arrays: Mapping[str, Array], adapter: Adapter) -> dict[str, str]:
    """Plain name -> name, without the collections that part the tensors of one layer.

    Linen has the scale of a BatchNorm below `params` and its mean below `batch_stats`.
    """
    plain = {name: plain_name(name) for name in arrays if not name.endswith(IGNORED)}
    roots = adapter.root, adapter.other_root
    if not all(any(x.startswith(root) for x in plain.values()) for root in roots if root):
        return {x: name for name, x in plain.items()}
    bare = {name: x.removeprefix(roots[0]).removeprefix(roots[1]) for name, x in plain.items()}
    found = {x: name for name, x in bare.items()}
    return found if len(found) == len(plain) else {x: name for name, x in plain.items()}


LAST = r"[./]?[^./]*$"
"""The last part of a tensor's name."""

IGNORED = ("num_batches_tracked",)
"""Tensors that stand for nothing in the hub."""


def _common(path: str, other: str) -> str:
    """The path above two paths; a module that has both halves of a layer is one path."""
    names = zip(path.split("."), other.split("."), strict=False)
    return ".".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], names))


def _match(
    node: Node,
    part: Part,
    names: Mapping[str, str],
    arrays: Mapping[str, Array],
    adapter: Adapter,
    own: Mapping[str, Array],
) -> _Match | None:
    """The arrays of one part whose hub tensors in the truth are `own`, None if none fit."""
    found: list[_Match] = []
    for table in _tables(node, part, adapter):
        for absent in (frozenset[str](), frozenset({"bias"}), frozenset({"beta"})):
            slots = table.present_slots(absent)
            for prefix in _prefixes(slots, names):
                mine = {slot.name: names[prefix + slot.name] for slot in slots}
                turned = _fits(part, slots, {s: arrays[n] for s, n in mine.items()})
                if turned is not None:
                    found.append(_Match(table, mine, turned))
            if found:
                break
    linear = not found and adapter.name == "torch"
    for cell in cells(part, names.values(), arrays, own) if linear else ():
        found.append(_Match(cell.table, {n: n for n in cell.arrays}, set(), cell))
    place = {name: number for number, name in enumerate(arrays)}

    def order(match: _Match) -> tuple[bool, bool, int, int]:
        first = next(iter(match.slots.values()))
        # a half of a layer is named as such, or is not
        back = part.before == "backward_"
        other = back != bool(re.search(r"reverse|backward", first)) and bool(part.before)
        return (
            other,
            node.name not in re.split(r"[./]", first),
            place.get(first, 0),
            -len(match.slots),
        )

    return min(found, key=order, default=None)


def _tables(node: Node, part: Part, adapter: Adapter) -> Iterator[Table]:
    """Tables of a framework for one kind of layer."""
    for table in adapter.tables.values():
        if table.kind is part.kind or table.kind.name == part.kind.name:
            yield table
            yield replace(table, prefix="")
            yield from _one_bias(table)


def _one_bias(table: Table) -> Iterator[Table]:
    """A table of two biases with one, where both may be added: cells written by hand have one.

    A gate that keeps h's product apart has that bias of its own: Equinox's GRU has `bias` and
    `bias_n`.
    """
    sides, gate = [slot for slot in table.slots if slot.tensor == "bias"], table.kind.apart
    if len(sides) == 2:
        one = [replace(sides[0], name="bias")]
        if gate:
            one = [replace(one[0], fixed={"s": FOLD}, unfolded_gates=gate)]
            one.append(Slot(f"bias_{gate}", "bias", "h", fixed={"s": 1, "g": gate}))
        yield replace(table, slots=(*(s for s in table.slots if s not in sides), *one))


def _prefixes(slots: Sequence[Slot], names: Mapping[str, str]) -> Iterator[str]:
    for name in names:
        if slots and (name == slots[0].name or name.endswith(f".{slots[0].name}")):
            prefix = name.removesuffix(slots[0].name)
            if all(prefix + slot.name in names for slot in slots):
                yield prefix


def _fits(part: Part, slots: Sequence[Slot], arrays: Mapping[str, Array]) -> set[str] | None:
    """Hub tensors whose arrays are the other way round, None where some array does not fit."""
    sizes, turned = part.spec.sizes(), set()
    for slot in slots:
        want, got = shape(slot, part.kind, sizes), arrays[slot.name].shape
        if got != want and got[::-1] == want and len(got) == 2:
            turned.add(slot.tensor)
        elif got != want:
            return None
    return turned


def _layout(match: _Match) -> Table:
    """The slots of a match, with the axes that the suspect's arrays have."""
    slots = (slot for slot in match.table.slots if slot.name in match.slots)
    turned = (turned_slot(slot) if slot.tensor in match.turned else slot for slot in slots)
    return replace(match.table, slots=tuple(turned))


def turned_slot(slot: Slot) -> Slot:
    """Returns a slot with its axes in the other order.

    >>> turned_slot(Slot("kernel", "kernel", "i(gh)")).axes
    '(gh)i'
    """
    groups = [f"({group})" if len(group) > 1 else group for group in slot.groups()]
    return replace(slot, axes="".join(groups[::-1]))


def _hub(part: Part, match: _Match, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One part's hub tensors; a missing bias is one of zeros."""
    arrays = {**arrays, **(match.cell.arrays if match.cell else {})}
    named = {slot: np.asarray(arrays[name]) for slot, name in match.slots.items()}
    try:
        found = unpack(_layout(match), named, part.spec.sizes(), frozenset(), "b")
    except WeightsError:
        return {}
    return {part.before + tensor: array for tensor, array in found.items()}


def _key(node: Node) -> tuple[object, ...]:
    spec = node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
    halves = spec.halves if isinstance(spec, Bidirectional) else (spec,)
    return type(spec), *((type(h), *sorted(h.sizes().items())) for h in halves)


def pair_nodes(a: Model, b: Model) -> dict[str, str]:
    """Owner in a -> owner in b, for layers with weights: by name, else in order by kind and sizes.

    >>> from xlstm.model import Dense, Source, chain
    >>> def model(*names):
    ...     return chain("m", [(n, Dense(2, 2), True) for n in names], (2,), {}, Source(""))
    >>> pair_nodes(model("a", "b"), model("c", "d"))
    {'a': 'c', 'b': 'd'}
    """
    mine = [node for node in a.layers if not node.layer and parts(node.spec)]
    others = [node for node in b.layers if not node.layer and parts(node.spec)]
    by_name = {node.name: node for node in others}
    if all(n.name in by_name and _key(by_name[n.name]) == _key(n) for n in mine):
        return {node.name: node.name for node in mine}
    found, position = {}, 0
    for node in mine:
        rest = (k for k in range(position, len(others)) if _key(others[k]) == _key(node))
        at = next(rest, None)
        if at is not None:
            found[node.name], position = others[at].name, at + 1
    return found


def pair_models(a: Model, b: Model, adapter: Adapter | None) -> Paired:
    """The weights of a suspect that is read as a graph, by the truth's layers."""
    pairs = pair_nodes(a, b)
    names: dict[tuple[str, str, str], str] = {}
    for mine, other in pairs.items():
        node = b.node(other)
        for place in _places(adapter, node):
            for slot in place.table.present_slots(place.part.missing_tensors()):
                names[mine, place.before, slot.name] = f"{other}.{place.slot_name(slot.name)}"
    canonical = {mine: b.weights.get(other, {}) for mine, other in pairs.items()}
    return Paired(canonical, names, pairs, adapter=adapter)


def _places(adapter: Adapter | None, node: Node) -> list[WeightPlacement]:
    try:
        return list(adapter.weight_placements(node)) if adapter else []
    except UnsupportedError:
        return []
