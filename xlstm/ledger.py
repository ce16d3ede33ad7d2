"""Counts every parameter in every framework, from the slot tables alone, and explains differences.

A difference is broken down tensor by tensor by comparing cells: one cell is a gate's part of one
bias side, or a whole kernel. What one framework keeps and another does not is a line of its own, so
the lines add up to the difference by construction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xlstm import registry
from xlstm.adapter import Adapter
from xlstm.layout import FOLD, Slot, Table
from xlstm.mapping import refusals, tensors
from xlstm.model import Model, Node
from xlstm.porting import load


@dataclass(frozen=True)
class TensorCount:
    """One tensor of one framework: full name, shape, number of elements, trainable or not."""

    name: str
    shape: tuple[int, ...]
    count: int
    trainable: bool
    role: str


@dataclass(frozen=True)
class Difference:
    """What one framework keeps more (or less, below zero) than another, in one tensor, and why."""

    source: str
    target: str
    tensor: str
    delta: int
    reason: str


@dataclass(frozen=True)
class LayerCount:
    """One layer in every framework; None where a framework refuses it, with the reason."""

    path: str
    kind: str
    params: dict[str, int | None]
    tensors: dict[str, tuple[TensorCount, ...]]
    differences: tuple[Difference, ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class Ledger:
    """Every parameter of a model in every framework that was asked for."""

    frameworks: tuple[str, ...]
    layers: tuple[LayerCount, ...]

    def total(self, framework: str) -> int | None:
        """Number of parameters, as the framework's own one-liner gives it; None where refused."""
        counts = [layer.params[framework] for layer in self.layers]
        return None if None in counts else sum(filter(None, counts))

    def trainable(self, framework: str) -> int | None:
        """Those of `total` that training changes."""
        if self.total(framework) is None:
            return None
        held = (t for layer in self.layers for t in layer.tensors[framework])
        return sum(t.count for t in held if t.trainable)

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
                "other": 0,
            }
        return found

    def to_json(self) -> dict[str, Any]:
        """The ledger as plain data, in the form that `xlstm count --json` prints."""
        return {"layers": [_layer_json(layer) for layer in self.layers], "totals": self.totals()}


def _layer_json(layer: LayerCount) -> dict[str, Any]:
    return {
        "path": layer.path,
        "kind": layer.kind,
        "params": layer.params,
        "refused": layer.refused,
        "tensors": {
            name: [{**asdict(t), "shape": list(t.shape)} for t in found]
            for name, found in layer.tensors.items()
        },
        "differences": [
            {
                "from": d.source,
                "to": d.target,
                "tensor": d.tensor,
                "delta": d.delta,
                "reason": d.reason,
            }
            for d in layer.differences
        ],
    }


def count(source: Any, frameworks: Iterable[str] = registry.FRAMEWORKS) -> Ledger:
    """Counts every parameter of `source` in each framework and explains every difference.

    The column of a framework counts the module that `port` builds. No framework is imported.

    Args:
        source: anything that `load` takes; a file or a Model needs no framework.
        frameworks: names of the frameworks to count in; adapters without tables are left out.

    Raises:
        UsageError: an unknown framework.
        XlstmError: as `load` raises.
    """
    model = load(source)
    adapters = {name: registry.adapter(name) for name in dict.fromkeys(frameworks)}
    adapters = {name: adapter for name, adapter in adapters.items() if adapter.tables}
    refused = {name: refusals(model, adapter) for name, adapter in adapters.items()}
    held = {name: _by_node(model, adapters[name], refused[name]) for name in adapters}
    layers = (
        _layer(
            node,
            adapters,
            {name: held[name].get(node.name, ()) for name in adapters},
            {name: refused[name][node.name] for name in adapters if node.name in refused[name]},
        )
        for node in model.layers
    )
    return Ledger(tuple(adapters), tuple(layers))


def _by_node(
    model: Model, adapter: Adapter, refused: Mapping[str, str]
) -> dict[str, tuple[TensorCount, ...]]:
    found: dict[str, list[TensorCount]] = {}
    for t in tensors(model, adapter, refused):
        role = t.slot.tensor
        size = math.prod(t.shape)
        found.setdefault(t.node.name, []).append(
            TensorCount(t.name, t.shape, size, t.node.trainable, role)
        )
    return {name: tuple(items) for name, items in found.items()}


def _layer(
    node: Node,
    adapters: dict[str, Adapter],
    held: dict[str, tuple[TensorCount, ...]],
    refused: dict[str, str],
) -> LayerCount:
    params = {
        name: None if name in refused else sum(t.count for t in held[name]) for name in adapters
    }
    names = [name for name in adapters if name not in refused]
    differences = tuple(
        line
        for number, a in enumerate(names)
        for b in names[number + 1 :]
        for line in _differences(node, adapters[a], adapters[b])
    )
    return LayerCount(node.name, node.spec.kind, params, held, differences, refused)


Cell = tuple[str, str, int]
"""Hub tensor, gate ("" for all that have none), bias side."""


def _cells(table: Table, slot: Slot) -> list[Cell]:
    has_gates = "g" in table.kind.tensors[slot.tensor]
    gates = slot.at.get("g", slot.gates if has_gates else "")
    side = slot.at.get("s", 0)
    return [(slot.tensor, gate, 0 if side == FOLD else int(side)) for gate in str(gates) or [""]]


def _differences(node: Node, a: Adapter, b: Adapter) -> list[Difference]:
    ta, tb = a.table(node.spec), b.table(node.spec)
    if ta is None or tb is None:
        return []
    absent = node.spec.core.absent()
    cells_a = Counter(cell for slot in ta.active(absent) for cell in _cells(ta, slot))
    cells_b = Counter(cell for slot in tb.active(absent) for cell in _cells(tb, slot))
    more = [_line(node, a, b, tb, slot, 1, cells_a) for slot in tb.active(absent)]
    less = [_line(node, a, b, ta, slot, -1, cells_b) for slot in ta.active(absent)]
    return [line for line in (*more, *less) if line is not None]


def _line(
    node: Node, a: Adapter, b: Adapter, table: Table, slot: Slot, sign: int, other: Counter[Cell]
) -> Difference | None:
    """The line of one slot for the cells that only its side of the comparison has."""
    own = [cell for cell in _cells(table, slot) if cell not in other]
    if not own:
        return None
    units = node.spec.core.sizes()["h"]
    delta = sign * len(own) * units
    holder = (b if sign > 0 else a).title
    mark = "" if sign > 0 else "-"
    formula = f" = {mark}{len(own)} x {units}" if len(own) > 1 else ""
    reason = _reason(holder, own[0][2], node.spec.core.absent())
    return Difference(a.name, b.name, slot.name, delta, f"{delta:+,}{formula}: {reason}")


def _reason(holder: str, side: int, absent: frozenset[str]) -> str:
    if "bias" in absent:
        return f"{holder} has this bias even where the layer has none; the port leaves it zero"
    if side == 1:
        return (
            f"{holder} keeps a second bias, on the recurrent product; it only adds to the first: "
            "zero after a port from one bias, added to the first in a port to one"
        )
    return f"{holder} keeps a bias here that the other does not"
