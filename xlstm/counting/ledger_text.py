"""A ledger as text for a terminal.

In: a `Ledger`. Out: tables of counts and tensors, and lines about differences.
"""

from __future__ import annotations

from xlstm.counting.ledger import Ledger
from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.rendering.tables import add, amount, grid, titles, to_text


def render_counts(ledger: Ledger) -> str:
    """Parameters by layer and framework, and the reason for every difference from the first."""
    table = grid(["layer", "kind", *titles(ledger.frameworks)], left=2)
    for layer in ledger.layers:
        counts = (amount(layer.params[name]) for name in ledger.frameworks)
        add(table, layer.path, layer.kind, *counts)
    table.end_section()
    add(table, "total", "", *(amount(ledger.total(name)) for name in ledger.frameworks))
    refused = [printable(why) for layer in ledger.layers for why in layer.refused.values()]
    lines = [*render_differences(ledger), *dict.fromkeys(refused), *render_beside(ledger)]
    lines += map(printable, ledger.notes)
    return to_text(table, *lines)


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


def render_beside(ledger: Ledger) -> list[str]:
    """Lines about parameters in the totals that do not train, and about tensors outside them."""
    fixed, outside = [], []
    for name, found in ledger.totals().items():
        adapter = registry.adapter(name)
        fixed += [f"{adapter.title} {found['non_trainable']:,}"] if found["non_trainable"] else []
        where = f" {adapter.collections[2]}".rstrip()
        outside += [f"{adapter.title}{where} {found['other']:,}"] if found["other"] else []
    lines = [f"of these not trainable: {', '.join(fixed)}"] if fixed else []
    lines += [f"beside these: {', '.join(outside)}"] if outside else []
    kept = ledger.optimizer
    return [*lines, *([kept.line(ledger.optimizer_formula())] if kept else [])]


def render_differences(ledger: Ledger) -> list[str]:
    """A line for each tensor in which a framework differs from the first one."""
    first = ledger.frameworks[0] if ledger.frameworks else ""
    return [
        f"{printable(layer.path)}, {registry.adapter(d.target).title} {d.tensor}: {d.reason}"
        for layer in ledger.layers
        for d in layer.differences
        if d.source == first
    ]
