"""Tables and sentences of a fleet's report, for a terminal and for the page.

In: a `FleetSummary`. Out: a `Grid`, or a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from xlstm.errors import printable
from xlstm.fleets.summary import ArchitectureGroup, FleetSummary, title_of
from xlstm.rendering.tables import Grid, add, amount, grid

SHOWN = 3
"""Names of a group that are shown."""


def some(names: Iterable[str]) -> str:
    """The first names of a group, and the number of the others.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    every = [printable(name)[:200] for name in names]
    rest = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + rest


def layers_text(layers: Iterable[str]) -> str:
    """Kinds of layers in order, equal neighbours as one.

    >>> layers_text(["LSTM", "LSTM", "Dense"])
    '2 LSTM, Dense'
    """
    runs = [(kind, len(list(same))) for kind, same in groupby(layers)]
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in runs) or "-"


def architecture_table(groups: Iterable[ArchitectureGroup]) -> Grid:
    """A row for each architecture: models, outcomes, and parameters in each framework."""
    groups = list(groups)
    names = sorted({name for group in groups for name in group.counts})
    table = grid(["architecture", "outcomes", "models", *map(title_of, names)], left=2)
    for group in groups:
        outcomes = ", ".join(f"{n:,} {word}" for word, n in sorted(group.outcomes.items()))
        counts = (amount(group.counts.get(name)) for name in names)
        add(table, layers_text(group.layers), outcomes, f"{len(group.names):,}", *counts)
    return table


def parameter_table(report: FleetSummary) -> Grid:
    """A row for each framework with the parameters of all models."""
    table = grid(["framework", "parameters of all models"])
    for name, count in report.parameters.items():
        add(table, title_of(name), f"{count:,}")
    return table


def slowest_table(report: FleetSummary) -> Grid:
    """A row for each of the slowest models."""
    table = grid(["slowest models", "layers", "seconds"], left=2)
    for name, seconds, layers in report.slowest:
        add(table, name, layers_text(layers), f"{seconds:.2f}")
    return table


def cost_line(report: FleetSummary) -> str:
    """A sentence about time and memory."""
    each = report.cpu_seconds / max(report.total, 1)
    return (
        f"{report.cpu_seconds:,.1f} s of CPU, {each:.3f} s a model; the largest worker had "
        f"{report.peak_memory / 2**20:,.0f} MiB."
    )
