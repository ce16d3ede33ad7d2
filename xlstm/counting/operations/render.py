"""Operations as tables of text.

In: a `ModelOperations`. Out: rows; frameworks with equal work share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xlstm.counting.operations.model_operations import EQUATIONS, ModelOperations, Work
from xlstm.counting.operations.polynomial import ZERO, Polynomial
from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.rendering.tables import add, grid, to_text

LEGEND = (
    "multiply adds: of matrix products and convolutions. Tools that print FLOPs often count two.",
    "elementwise: sums, products, comparisons, selects. Other functions: calls, by their names.",
    "weight bytes: those read at each step of a recurrent layer, once by another layer, whatever "
    "the batch.",
)


def legend(found: ModelOperations) -> list[str]:
    """The meaning of the columns."""
    return [
        *LEGEND,
        f"state bytes: those of h and of an LSTM's c. A number has {found.itemsize} bytes.",
    ]


@dataclass(frozen=True)
class Calls:
    """The data that counts are for.

    Attributes:
        steps: steps of a sequence; None for a symbol, and one sequence.
        batch: sequences of a batch.
    """

    steps: int | None = None
    batch: int = 1

    def text(self, count: Polynomial) -> str:
        """A count for these data."""
        if self.steps is None:
            return str(count.of_one())
        return f"{count.at(T=self.steps, B=self.batch):,}"


ONE = Calls()


def headers(found: ModelOperations) -> tuple[str, ...]:
    """Heads of the columns of counts: one for each function that is called."""
    return ("multiply adds", "elementwise", *_functions(found), "weight bytes", "state bytes")


def render_operations(found: ModelOperations) -> str:
    """The operations of every layer, and of the model, for one sequence."""
    table = grid(["layer", "in", *headers(found)], left=2)
    blank = ["unknown"] * len(headers(found))
    for layer in found.layers:
        for place, (names, work) in enumerate(_groups(found, layer.work)):
            add(table, "" if place else layer.path, names, *_cells(found, work))
        if layer.reason:
            add(table, layer.path, "", *blank)
    table.end_section()
    totals = totals_by_framework(found)
    for place, (names, work) in enumerate(totals):
        *counts, _, state = _cells(found, work)
        add(table, "" if place else "total", names, *counts, "", state)
    if not totals:
        add(table, "total", "", *blank)
    reasons = [f"{layer.path}: {layer.reason}" for layer in found.layers if layer.reason]
    read = [f"{names}: {ONE.text(work.weights_read)}" for names, work in totals]
    lines = [f"bytes of weights read in a call, whatever the batch: {'; '.join(read)}"]
    facts = map(printable, (*reasons, *found.notes))
    return to_text(_headline(totals), table, *facts, *(lines if read else ()), *legend(found))


def _headline(totals: Sequence[tuple[str, Work]]) -> str:
    """One line: the multiply-adds of the model, and the data that all counts are for."""
    found = dict.fromkeys(ONE.text(work.products) for _, work in totals)
    # a count that is not in proportion to the batch gets no rule
    linear = all(b == 1 for _, work in totals for _, b in work.products.terms)
    more = " For a batch, times its sequences." if found and linear else ""
    return f"Multiply-adds for one sequence: {' or '.join(found) or 'unknown'}.{more}"


def framework_rows(found: ModelOperations, calls: Calls = ONE) -> list[tuple[str, ...]]:
    """Names of frameworks with equal totals, and the cells below `headers`, for some data."""
    return [(names, *_cells(found, work, calls)) for names, work in totals_by_framework(found)]


def totals_by_framework(found: ModelOperations) -> list[tuple[str, Work]]:
    """Names of frameworks with equal totals, and these; a framework that refuses is left out."""
    totals = {name: found.total(name) for name in (*found.frameworks, EQUATIONS)}
    return _groups(found, {name: work for name, work in totals.items() if work is not None})


def _groups(found: ModelOperations, work: Mapping[str, Work]) -> list[tuple[str, Work]]:
    """Names of frameworks with equal work, and it; the equations where no framework has it."""
    groups: dict[tuple[str, ...], list[str]] = {}
    own = [name for name in found.frameworks if name in work]
    for name in own or [EQUATIONS] * (EQUATIONS in work):
        groups.setdefault(_cells(found, work[name]), []).append(name)
    return [(_titles(names, found.frameworks, own), work[names[0]]) for names in groups.values()]


def _titles(names: Sequence[str], frameworks: Sequence[str], own: Sequence[str]) -> str:
    """The frameworks `names` in words, of which `own` have the layer."""
    if names == [EQUATIONS]:
        return "the equations"
    others = [name for name in frameworks if name not in names]
    if len(frameworks) > 1 and not others:
        return "all"
    if len(names) > 1 and len(others) == 1 and others[0] in own:
        return f"all but {registry.adapter(others[0]).title}"
    return ", ".join(registry.adapter(name).title for name in names)


def _functions(found: ModelOperations) -> list[str]:
    """Names of the functions that are called, in order."""
    return [*dict.fromkeys(_called(work for layer in found.layers for work in layer.work.values()))]


def _called(works: Iterable[Work]) -> Iterable[str]:
    return (name for work in works for name, _ in work.calls)


def _cells(found: ModelOperations, work: Work, of: Calls = ONE) -> tuple[str, ...]:
    calls = dict(work.calls)
    counts = (calls.get(name, ZERO) for name in _functions(found))
    ends = (f"{work.weight_bytes:,}", of.text(work.state_bytes))
    return (of.text(work.products), of.text(work.elementwise), *map(of.text, counts), *ends)
