"""The tensors of one layer in every framework, and their content, without a file.

In: an `ExplainedLayer`. Out: rows with name, shape, gates and role of each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xlstm.counting.formulas import ExplainedLayer
from xlstm.counting.ledger import Ledger
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.graph import Node
from xlstm.slots import Slot, Table, shape


@dataclass(frozen=True)
class TensorRow:
    """One tensor of one framework.

    Attributes:
        framework: its name, "cudnn" for Keras 2's layer on cuDNN.
        name: the framework's own name.
        shape: with numbers.
        symbols: the shape with m, n and p.
        gates: letters of its gates, in the framework's order, "" for none.
        axis: the axis that the gates, or the units, run along.
        role: kernel, recurrent, bias or projection.
        part: "" or the half of a bidirectional layer, "forward_" or "backward_".
        count: number of elements.
    """

    framework: str
    name: str
    shape: tuple[int, ...]
    symbols: str
    gates: str
    axis: int
    role: str
    part: str
    count: int


@dataclass(frozen=True)
class Column:
    """One framework, and its number of parameters of all layers; None if it has no such layer."""

    framework: str
    title: str
    total: int | None


def columns(case: ExplainedLayer, ledger: Ledger, total: int) -> list[Column]:
    """Keras 2's layer on cuDNN first if the user asks for it, then the frameworks of today."""
    found = [Column("cudnn", f"Keras 2 {case.name}", total)] if _old_tables(case) else []
    for name in ledger.frameworks:
        adapter = registry.adapter(name)
        title = f"{adapter.title} 3" if found and name == "keras" else adapter.title
        found.append(Column(name, title, ledger.total(name)))
    return found


def _old_tables(case: ExplainedLayer) -> dict[str, Table]:
    """The table of a layer that Keras has removed, by the form of its weights."""
    tables = registry.adapter("keras").tables
    return {case.spec.weight_kind: tables[case.name]} if case.name.startswith("CuDNN") else {}


def tensors(case: ExplainedLayer, name: str) -> list[TensorRow]:
    """Every tensor of the first layer in each framework that has the layer."""
    keras = registry.adapter("keras")
    node = Node(name, case.stack[0])
    found = _rows(keras, node, "cudnn", _old_tables(case)) if _old_tables(case) else []
    for framework in registry.frameworks():
        try:
            found += _rows(registry.adapter(framework), node, framework, {})
        except UnsupportedError:
            continue
    return found


def _rows(
    adapter: Adapter, node: Node, framework: str, tables: dict[str, Table]
) -> list[TensorRow]:
    rows = []
    for place in adapter.weight_placements(node):
        part = place.part
        table = tables.get(part.weight_kind, place.table)
        for slot in table.present_slots(part.missing_tensors()):
            size = shape(slot, table.kind, part.sizes())
            gates = (slot.gates or str(slot.fixed.get("g", ""))) if table.kind.gates else ""
            rows.append(
                TensorRow(
                    framework=framework,
                    name=place._replace(table=table).slot_name(slot.name),
                    shape=size,
                    symbols=_symbols(slot, table, part.sizes()),
                    gates=" ".join(gates * (2 if "sg" in slot.axes else 1)),
                    axis=_axis(slot),
                    role=slot.tensor,
                    part=place.before,
                    count=math.prod(size),
                )
            )
    return rows


def _axis(slot: Slot) -> int:
    """The axis of the gates, or of the units of a tensor without gates."""
    groups = slot.groups()
    found = [k for mark in "gho" for k, group in enumerate(groups) if mark in group]
    return found[0] if found else 0


def _symbols(slot: Slot, table: Table, own: Mapping[str, int] | None = None) -> str:
    """Shape of a tensor with m, n and p for numbers; axes of a window have their sizes."""
    projected = "projection" in table.kind.tensors
    letters = {"i": "m", "h": "n", "o": "n", "j": "p" if projected else "n"}
    letters |= dict(zip(slot.reshape[0], "mn", strict=False))
    letters |= {axis: str(size) for axis, size in (own or {}).items() if axis in "abc"}
    sizes = {"g": len(table.kind.gates), "s": 2}
    axes = []
    for group in slot.groups():
        times = math.prod(sizes.get(axis, 1) for axis in group)
        rest = [letters.get(axis, axis) for axis in group if axis not in sizes]
        axes.append(" ".join(([str(times)] if times > 1 or not rest else []) + rest))
    return f"({', '.join(axes)})"
