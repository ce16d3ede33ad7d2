"""Counts every parameter in every framework, from the slot tables alone, and explains differences.

A difference is broken down tensor by tensor by comparing cells: one cell is a gate's part of one
bias side, or a whole kernel. Each cell that one framework has and another has not is in a line of
its own, so the lines add up to the difference by construction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlstm.counting.operations.model_operations import ModelOperations, count_operations
from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.frameworks.model_tensors import counters, refusals, tensors
from xlstm.ir.graph import Model, Node
from xlstm.ir.source import Optimizer
from xlstm.rendering.notebook import markup
from xlstm.rendering.tables import Grid, add, amount, grid, titles, to_text
from xlstm.slots import FOLD, Slot, Table, shape


@dataclass(frozen=True)
class TensorCount:
    """One tensor of one framework.

    Attributes:
        name: its full name.
        shape: its shape.
        count: number of elements.
        trainable: True if training changes it by gradients.
        role: kernel, recurrent, bias, statistic, state (a number that counts steps), ...
        other: True if the framework's own one-liner leaves it out (a buffer, a batch statistic).
        collection: the framework's name of its group: "parameters", "batch_stats", ...
        shared: another name of the same tensor, under which it is counted; this one counts 0.
    """

    name: str
    shape: tuple[int, ...]
    count: int
    trainable: bool
    role: str
    other: bool = False
    collection: str = ""
    shared: str = ""


@dataclass(frozen=True)
class Difference:
    """Parameters that one framework has more (below zero: less) in one tensor, and the reason."""

    source: str
    target: str
    tensor: str
    delta: int
    reason: str


@dataclass(frozen=True)
class NativeCount:
    """The native layer beside an own cell of a port, whose number of parameters is another.

    Attributes:
        own: class of the own cell, whose number is in the count.
        name: the native class, with its module.
        count: its parameters, of all parts of the layer.
        why: the reason of the difference.
    """

    own: str
    name: str
    count: int
    why: str

    def __str__(self) -> str:
        return f"own {self.own}; {self.name} itself has {self.count:,}: {self.why}"


@dataclass(frozen=True)
class LayerCount:
    """One layer in every framework; None where a framework refuses it, with the reason.

    `native` has, by framework, native layers with another number than the own cell of a port.
    """

    path: str
    kind: str
    params: dict[str, int | None]
    tensors: dict[str, tuple[TensorCount, ...]]
    differences: tuple[Difference, ...]
    refused: dict[str, str]
    native: dict[str, NativeCount] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Ledger:
    """Every parameter of a model in the frameworks of a call.

    Attributes:
        frameworks: in the order of the columns.
        layers: every layer of the model that has weights of its own, and every other.
        optimizer: state that the source has for further training; not part of any total, as in
            Keras's `count_params()`.
        notes: other facts: tensors with two names, values that are no arrays.
        warnings: for the user, about the source.
        operations: those of every layer, None unless a call asks for them.
    """

    frameworks: tuple[str, ...]
    layers: tuple[LayerCount, ...]
    optimizer: Optimizer | None = None
    notes: tuple[str, ...] = ()
    operations: ModelOperations | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The table that `xlstm count` prints."""
        return render_counts(self, details=False)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {amount(self.total(name))}" for name in self.frameworks)
        return f"<Ledger of {len(self.layers)} layers: {counts}>"

    def _repr_html_(self) -> str:
        return markup(counted(self), count_table(self), *reasons(self))

    def total(self, framework: str) -> int | None:
        """Number of parameters by the framework's own one-liner; None where refused."""
        counts = [layer.params[framework] for layer in self.layers]
        return None if None in counts else sum(filter(None, counts))

    def trainable(self, framework: str) -> int | None:
        """Those of `total` that training changes."""
        if self.total(framework) is None:
            return None
        tensors = (t for layer in self.layers for t in layer.tensors[framework])
        return sum(t.count for t in tensors if t.trainable and not t.other)

    def other(self, framework: str) -> int | None:
        """Number of statistics that `total` leaves out; None where a layer is refused."""
        if self.total(framework) is None:
            return None
        tensors = (t for layer in self.layers for t in layer.tensors[framework])
        return sum(t.count for t in tensors if t.other)

    def totals(self) -> dict[str, dict[str, int | None]]:
        """Totals of every framework; None where it refuses a layer."""
        found: dict[str, dict[str, int | None]] = {}
        for name in self.frameworks:
            total, trainable = self.total(name), self.trainable(name)
            rest = None if total is None or trainable is None else total - trainable
            found[name] = {
                "total": total,
                "trainable": trainable,
                "non_trainable": rest,
                "other": self.other(name),
            }
        return found

    def collections(self, framework: str) -> dict[str, int]:
        """The framework's name of a group of tensors -> its size, those outside `total` too."""
        found: Counter[str] = Counter()
        for layer in self.layers:
            for t in layer.tensors[framework]:
                found[t.collection] += t.count
        return dict(found)

    def to_json(self) -> dict[str, Any]:
        """The ledger as plain data, in the form that `xlstm count --json` prints."""
        return {
            "layers": [
                {
                    "path": layer.path,
                    "kind": layer.kind,
                    "params": layer.params,
                    "refused": layer.refused,
                    "native": {name: vars(found) for name, found in layer.native.items()},
                    "tensors": {
                        name: [{**vars(t), "shape": list(t.shape)} for t in found]
                        for name, found in layer.tensors.items()
                    },
                    "differences": [
                        dict(zip(("from", "to", "tensor", "delta", "reason"), line, strict=True))
                        for line in (vars(line).values() for line in layer.differences)
                    ],
                }
                for layer in self.layers
            ],
            "totals": self.totals(),
            "collections": {
                name: None if self.total(name) is None else self.collections(name)
                for name in self.frameworks
            },
            "optimizer": None
            if self.optimizer is None
            else {**self.optimizer.to_json(), "formula": self.optimizer_formula()},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            **({"operations": self.operations.to_json()} if self.operations else {}),
        }

    def optimizer_formula(self) -> str:
        """The formula of the optimizer's count, "" where there is none."""
        if self.optimizer is None:
            return ""
        for name in self.frameworks:  # the optimizer belongs to one of them
            tensors = (t for layer in self.layers for t in layer.tensors[name] if t.trainable)
            if found := self.optimizer.formula(t.count for t in tensors if t.count):
                return found
        return ""


def count_model(model: Model, frameworks: Iterable[str], *, operations: bool = False) -> Ledger:
    """The ledger of a Model.

    Args:
        model: the model; only the shapes of its weights are used.
        frameworks: names; adapters without tables are left out.
        operations: True to count operations too.
    """
    frameworks = [*frameworks]
    adapters = {name: registry.adapter(name) for name in frameworks}
    adapters = {name: adapter for name, adapter in adapters.items() if adapter.tables}
    refused = {name: refusals(model, adapter) for name, adapter in adapters.items()}
    tensors = {name: _by_node(model, adapters[name], refused[name]) for name in adapters}
    layers = (
        _layer(
            node,
            adapters,
            {name: tensors[name].get(node.name, ()) for name in adapters},
            {name: refused[name][node.name] for name in adapters if node.name in refused[name]},
            model.source.framework,
        )
        for node in model.layers
        if not node.layer
    )
    work = count_operations(model, frameworks) if operations else None
    said = tuple(filter(None, [model.source.code_warning]))
    optimizer = model.source.optimizer
    return Ledger(tuple(adapters), tuple(layers), optimizer, operations=work, warnings=said)


def _by_node(
    model: Model, adapter: Adapter, refused: Mapping[str, str]
) -> dict[str, tuple[TensorCount, ...]]:
    found: dict[str, list[TensorCount]] = {}
    for t in tensors(model, adapter, refused):
        tensor, size = t.slot.tensor, math.prod(t.shape)
        fixed = tensor in t.kind.statistics
        role = "statistic" if fixed else tensor
        trains = t.node.trainable and not fixed
        place = 2 if t.slot.is_buffer else 0 if trains else 1
        called = adapter.collections[place]
        counted = TensorCount(t.name, t.shape, size, trains, role, t.slot.is_buffer, called)
        found.setdefault(t.node.name, []).append(counted)
    for node, name in counters(model, adapter, refused):
        called = adapter.collections[2]
        counted = TensorCount(name, (), 1, False, "state", other=True, collection=called)
        found[node.name].append(counted)
    return {name: tuple(items) for name, items in found.items()}


def _layer(
    node: Node,
    adapters: dict[str, Adapter],
    tensors: dict[str, tuple[TensorCount, ...]],
    refused: dict[str, str],
    source: str,
) -> LayerCount:
    params = {
        name: None if name in refused else sum(t.count for t in tensors[name] if not t.other)
        for name in adapters
    }
    names = [name for name in adapters if name not in refused and node.spec.weighted_parts]
    lines = differences(
        [(adapters[name], [*adapters[name].weight_placements(node)]) for name in names], source
    )
    native = {name: _native(node, adapters[name]) for name in names}
    others = {name: found for name, found in native.items() if found is not None}
    return LayerCount(node.name, node.spec.title, params, tensors, lines, refused, others)


def _native(node: Node, adapter: Adapter) -> NativeCount | None:
    """The native layer beside the own cells of a port, None if their numbers are equal."""
    places = [*adapter.weight_placements(node)]
    found = [adapter.native_layer(place.part) for place in places]
    one = next(filter(None, found), None)
    if one is None:
        return None
    pairs = zip(places, found, strict=True)
    counts = (native.count if native else _placed(place) for place, native in pairs)
    return NativeCount(one.own, one.name, sum(counts), one.why)


def _placed(place: WeightPlacement) -> int:
    """The number of parameters of a part."""
    slots = place.table.present_slots(place.part.missing_tensors())
    sizes = place.part.sizes()
    return sum(math.prod(shape(s, place.table.kind, sizes)) for s in slots if not s.is_buffer)


Cell = tuple[str, str, int]
"""Canonical tensor, gate ("" for all that have none), bias side."""


def _cells(table: Table, slot: Slot) -> list[Cell]:
    has_gates = "g" in table.kind.tensors[slot.tensor]
    gates = slot.fixed.get("g", slot.gates if has_gates else "")
    side = slot.fixed.get("s", 0)
    sides = (0, 1) if "s" in slot.axes else (0 if side == FOLD else int(side),)
    return [(slot.tensor, gate, number) for number in sides for gate in str(gates) or [""]]


def differences(
    sides: Sequence[tuple[Adapter, Sequence[WeightPlacement]]], source: str = ""
) -> tuple[Difference, ...]:
    """The lines of one layer between all frameworks, part by part.

    Args:
        sides: each framework, and its places for the parts of the layer.
        source: the framework of the model, "" if there is none: ports go both ways.
    """
    first = next(((a, places) for a, places in sides if a.name == source), None)
    return tuple(
        line
        for number, (a, ours) in enumerate(sides)
        for b, theirs in sides[number + 1 :]
        for part, (mine, other) in enumerate(zip(ours, theirs, strict=True))
        for line in _part_differences(
            (a, mine), (b, other), (first[0], first[1][part]) if first else None
        )
    )


Side = tuple[Adapter, WeightPlacement]
"""A framework, and its place for a part of a layer."""


def _part_differences(a: Side, b: Side, source: Side | None) -> list[Difference]:
    ours, theirs = _with_cells(a), _with_cells(b)
    first = _with_cells(source) if source else None
    more = (_line(a, b, slot, 1, own, first) for slot, own in _apart(theirs, ours))
    less = (_line(a, b, slot, -1, own, first) for slot, own in _apart(ours, theirs))
    return [*more, *less]


Cells = Sequence[tuple[Slot, list[Cell]]]
"""The slots of a part, each with its cells."""


def _with_cells(side: Side) -> Cells:
    return [(slot, _cells(side[1].table, slot)) for slot in _slots(side)]


def _slots(side: Side) -> tuple[Slot, ...]:
    """The slots of a part that the framework's own count includes."""
    active = side[1].table.present_slots(side[1].part.missing_tensors())
    return tuple(slot for slot in active if not slot.is_buffer)


def _apart(side: Cells, other: Cells) -> Iterator[tuple[Slot, list[Cell]]]:
    """The slots with cells that the other side does not have, and those cells."""
    known = {cell for _, cells in other for cell in cells}
    for slot, cells in side:
        own = [cell for cell in cells if cell not in known]
        if own:
            yield slot, own


def _line(
    a: Side, b: Side, slot: Slot, sign: int, own: list[Cell], source: Cells | None
) -> Difference:
    """The line of one slot, whose cells `own` only its side of the comparison has."""
    (adapter, place), other = (b, a) if sign > 0 else (a, b)
    sizes, axes = place.part.sizes(), place.table.kind.tensors[slot.tensor]
    units = math.prod(sizes[axis] for axis in axes if axis not in "sg")  # numbers in one cell
    delta = sign * len(own) * units
    mark = "" if sign > 0 else "-"
    formula = f" = {mark}{len(own)} x {units}" if len(own) > 1 else ""
    has = None if source is None else {cell for _, cells in source for cell in cells}
    like = None if has is None else "holder" if has.issuperset(own) else "other"
    reason = _reason(adapter.title, other[0], place, own, like)
    name = place.slot_name(slot.name)
    return Difference(a[0].name, b[0].name, name, delta, f"{delta:+,}{formula}: {reason}")


def _moved(holder: str, other: Adapter, source: str | None) -> str:
    """The content of a second bias in ports.

    Args:
        holder: title of the framework that has it.
        other: the framework that has one bias.
        source: "holder" or "other", if the model comes from one that has as many biases; None if
            there is no model.
    """
    if source == "holder":
        return f"a port to {other.title} stores the sum"
    if source == "other":
        return "a port from one bias sets it to 0"
    return (
        f"ports from {holder} to {other.title} store the sum, "
        f"ports from {other.title} to {holder} set it to 0"
    )


def _reason(
    holder: str,
    other: Adapter,
    place: WeightPlacement,
    own: list[Cell],
    source: str | None = None,
) -> str:
    if "bias" in place.part.missing_tensors():
        return f"{holder} has this bias also if the layer has none; ports set it to 0"
    gates = "".join(gate for _, gate, _ in own)
    if own[0][2] == 1 and gates and place.table.kind.apart == gates:
        return (
            f"{holder} has a bias of gate {gates} that the reset gate multiplies; "
            "no other bias can replace it, unless it is 0"
        )
    if own[0][2] == 1:
        some = gates and sorted(gates) != sorted(place.table.kind.gates)
        which = f" for gates {' and '.join(gates)}" if some else ""
        return (
            f"{holder} adds this second bias{which} to the first; {_moved(holder, other, source)}"
        )
    if own[0][0] in place.table.kind.statistics:
        return (
            f"{holder} counts this statistic among the parameters (it does not train); "
            f"{other.title} keeps it apart, in {other.collections[2]}"
        )
    return f"{holder} keeps numbers here that the other does not"


def render_counts(ledger: Ledger, *, details: bool = True) -> str:
    """Returns the counts as text: a summary, a table, and the reasons of differences.

    Args:
        ledger: the counts.
        details: True for a line for each differing tensor, False for one line for each reason.
    """
    return to_text(counted(ledger), count_table(ledger), *reasons(ledger, details=details))


def count_table(ledger: Ledger) -> Grid:
    """Returns a row for each layer with its number in every framework, and the sums."""
    table = grid(["layer", "kind", *titles(ledger.frameworks)], left=2)
    for layer in ledger.layers:
        counts = (amount(layer.params[name]) for name in ledger.frameworks)
        add(table, layer.path, layer.kind, *counts)
    table.end_section()
    add(table, "total", "", *(amount(ledger.total(name)) for name in ledger.frameworks))
    return table


def reasons(ledger: Ledger, *, details: bool = False) -> list[str]:
    """Returns a line for each reason of a difference, and those about other tensors.

    Args:
        ledger: the counts.
        details: True for a line for each differing tensor, False for one line for each reason.
    """
    refused = [printable(why) for layer in ledger.layers for why in layer.refused.values()]
    every = [*_first_differences(ledger)]
    lines = [_single_line(*one) for one in every] if details else [*_grouped_lines(every)]
    lines += native_lines(ledger)
    return [*lines, *dict.fromkeys(refused), *_beside(ledger), *map(printable, ledger.notes)]


def native_lines(ledger: Ledger) -> list[str]:
    """Returns a line for each framework with layers that are own cells of another number."""
    found: dict[tuple[str, str, str, str], list[tuple[str, int, int]]] = {}
    for layer in ledger.layers:
        for name, native in layer.native.items():
            key = (registry.adapter(name).title, native.own, native.name, native.why)
            sizes = (layer.path, layer.params[name] or 0, native.count)
            found.setdefault(key, []).append(sizes)
    lines = []
    for (title, own, name, why), layers in found.items():
        paths, owns, natives = zip(*layers, strict=True)
        where = printable(paths[0]) if len(paths) == 1 else f"{len(paths)} layers"
        lines.append(
            f"{where}, {title}: {sum(owns):,} of the port's own {own}; "
            f"{name} itself has {sum(natives):,}: {why}"
        )
    return lines


def counted(ledger: Ledger) -> str:
    """Returns one line: the number of parameters in every framework."""
    same: dict[int, list[str]] = {}
    for name in ledger.frameworks:
        total = ledger.total(name)
        if total is not None:
            same.setdefault(total, []).append(registry.adapter(name).title)
    parts = [f"{total:,} in {', '.join(titles)}" for total, titles in same.items()]
    return f"Parameters: {'; '.join(parts) or 'none'}."


def _first_differences(ledger: Ledger) -> Iterator[tuple[LayerCount, Difference]]:
    """Yields the differences from the first framework, with their layers."""
    for layer in ledger.layers:
        for line in layer.differences:
            if line.source == ledger.frameworks[0]:
                yield layer, line


def _single_line(layer: LayerCount, d: Difference) -> str:
    title = registry.adapter(d.target).title
    return f"{printable(layer.path)}, {title} {d.tensor}: {d.reason}"


def _grouped_lines(every: Iterable[tuple[LayerCount, Difference]]) -> Iterator[str]:
    """Yields a line for each framework and reason, with the sum over all layers."""
    alike: dict[tuple[str, str], list[tuple[LayerCount, Difference]]] = {}
    for layer, d in every:
        _, _, why = d.reason.partition(": ")
        alike.setdefault((d.target, why or d.reason), []).append((layer, d))
    for (target, why), found in alike.items():
        if len(found) == 1:
            yield _single_line(*found[0])
            continue
        paths = list(dict.fromkeys(layer.path for layer, _ in found))
        where = f"{len(paths)} layers" if len(paths) > 1 else printable(paths[0])
        total = sum(d.delta for _, d in found)
        yield f"{where}, {registry.adapter(target).title}: {total:+,} in all: {why}"


def render_tensors(ledger: Ledger) -> str:
    """Every tensor of every framework: name, shape, number, role, and group."""
    found = []
    for name in ledger.frameworks:
        title = registry.adapter(name).title
        table = grid([title, "shape", "role", "belongs to", "trains", "parameters"], left=5)
        for t in (t for layer in ledger.layers for t in layer.tensors[name]):
            trains = "yes" if t.trainable else "no"
            add(table, t.name, t.shape, t.role, t.collection, trains, amount(t.count))
        found.append(table)
    return to_text(*found)


def _beside(ledger: Ledger) -> list[str]:
    """Lines about parameters in the totals that do not train, and about tensors outside them."""
    fixed, outside = [], []
    for name, found in ledger.totals().items():
        adapter = registry.adapter(name)
        fixed += [f"{adapter.title} {found['non_trainable']:,}"] if found["non_trainable"] else []
        where = f" {adapter.collections[2]}".rstrip()
        outside += [f"{adapter.title}{where} {found['other']:,}"] if found["other"] else []
    lines = [f"not trainable: {', '.join(fixed)}"] if fixed else []
    lines += [f"beside these: {', '.join(outside)}"] if outside else []
    kept = ledger.optimizer
    return [*lines, *([kept.line(ledger.optimizer_formula())] if kept else [])]
