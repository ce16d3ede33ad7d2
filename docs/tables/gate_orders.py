"""Prints the gate order and the tensors of every recurrent layer, from the tables of slots.

In: the adapters' tables, and those of `examples/equinox_adapter`. Out: Markdown.

    python docs/tables/gate_orders.py LSTM
"""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from xlstm.counting.tensor_rows import _symbols as symbols
from xlstm.frameworks import registry
from xlstm.slots import Slot, Table

ROOT = Path(__file__).parents[2]
EQUINOX = ROOT / "examples" / "equinox_adapter" / "xlstm_equinox" / "adapter.py"


def tables() -> Iterator[tuple[str, str, Table]]:
    """Title of a framework, a layer and its table; one row for layers that share all tensors."""
    for name in registry.frameworks():
        adapter = registry.adapter(name)
        yield from ((adapter.title, layer, table) for layer, table in adapter.tables.items())
    found = runpy.run_path(str(EQUINOX))["TABLES"]
    yield from (("Equinox", layer, table) for layer, table in found.items())


def gates_of(slot: Slot) -> str:
    """The gates of a tensor, in its own order."""
    return slot.gates or str(slot.fixed.get("g", ""))


def order(table: Table) -> str:
    """The gate order of a layer: that of its tensors, or of their names if each has one gate."""
    found = dict.fromkeys(slot.gates for slot in table.slots if slot.gates)
    return " or ".join(" ".join(gates) for gates in found) or "by name"


def row(title: str, layer: str, table: Table) -> str:
    """A line of the table."""
    names: dict[tuple[str, str], list[str]] = {}  # by tensor and shape: some have one for each gate
    for slot in table.slots:
        if gates_of(slot):
            shape = symbols(slot, table)
            names.setdefault((slot.tensor, shape), []).append(f"`{table.prefix}{slot.name}`")
    cells = [f"{' '.join(found)} {shape}" for (_, shape), found in names.items()]
    return f"| {title} | {layer} | {order(table)} | {', '.join(cells)} |"


def page(layer: str) -> str:
    """The table of one layer."""
    lines = ["| framework | layer | gates | tensors of gates |", "|---|---|---|---|"]
    lines += [row(*found) for found in tables() if found[2].kind.name.startswith(layer)]
    return "\n".join(dict.fromkeys(lines))


if __name__ == "__main__":
    sys.stdout.write(f"{page(sys.argv[1])}\n")
