"""The tables of the study, as Markdown."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mutators.study import Judged, Tried, is_false_alarm
from xlstm._version import VERSION

Outcomes = list[tuple[Any, Any]]
PACKAGES = ("numpy", "torch", "keras", "tensorflow", "jax", "flax")


def by_kind(outcomes: Iterable[Any]) -> dict[str, list[Any]]:
    """Outcomes by kind, in the order in which kinds come first."""
    found: dict[str, list[Any]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.kind, []).append(outcome)
    return found


def share(part: int, whole: int) -> str:
    """A percentage that is 100 only if nothing is missing."""
    if not whole:
        return "-"
    return "100 %" if part == whole else f"{min(100 * part / whole, 99.99):.2f} %"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def real(found: Sequence[Tried]) -> list[Tried]:
    """Mutants that are another function than the right port."""
    return [one for one in found if one.caught or not one.same]


def _count(found: Iterable[Any], holds: Callable[[Any], Any]) -> int:
    return sum(bool(holds(one)) for one in found)


def wrong_row(kind: str, found: Sequence[Tried]) -> list[Any]:
    """One kind of error: how many, caught, and how."""
    every, shown = real(found), [one.nearest for one in found if one.by_outputs and not one.failed]
    # a momentum acts in training only, yet it can be read from the module and named
    asked = [one for one in every or found if one.said is not None]
    readable = [one for one in every if one.by_weights is not None]
    return [
        kind,
        len(every),
        len(found) - len(every),
        share(_count(every, lambda one: one.caught), len(every)),
        share(_count(every, lambda one: one.by_outputs), len(every)),
        f"{_count(readable, lambda one: one.by_weights)} of {len(readable)}",
        share(_count(asked, lambda one: one.named), len(asked)),
        f"{min(shown):.2g}" if shown else "-",
    ]


WRONG = (
    "error",
    "mutants",
    "same function, left out",
    "caught",
    "by outputs alone",
    "weights differ, where read",
    "cause named",
    "least caught: difference over bound",
)


def right_row(kind: str, found: Sequence[Judged]) -> list[Any]:
    """One kind of right ports."""
    return [
        kind,
        len(found),
        _count(found, is_false_alarm),
        _count(found, lambda one: one.verdict == "undecided"),
        _count(found, lambda one: one.undecidable_from is not None),
        f"{max((one.ratio for one in found), default=0):.2f}",
    ]


RIGHT = (
    "right ports",
    "ports",
    "false alarms",
    "undecided",
    "some steps undecidable",
    "largest difference over bound",
)


def _tables(wrong: list[Tried], right: list[Judged]) -> str:
    parts = []
    if wrong:
        rows = [wrong_row(kind, found) for kind, found in by_kind(wrong).items()]
        parts.append(table(WRONG, [*rows, wrong_row("**all**", wrong)]))
    if right:
        rows = [right_row(kind, found) for kind, found in by_kind(right).items()]
        parts.append(table(RIGHT, [*rows, right_row("**all**", right)]))
    return "\n".join(parts)


def totals(wrong: list[Tried], right: list[Judged]) -> str:
    """The sentences that docs/proof.md quotes."""
    lines = []
    if wrong:
        every = real(wrong)
        asked = [one for one in every if one.said is not None]
        lines.append(
            f"{len(every):,} wrong ports: {share(_count(every, lambda o: o.caught), len(every))} "
            f"caught ({share(_count(every, lambda o: o.by_outputs), len(every))} by their outputs "
            f"alone), {share(_count(asked, lambda o: o.named), len(asked))} with their cause named."
        )
    if right:
        undecided = _count(right, lambda one: one.verdict == "undecided")
        lines.append(
            f"{len(right):,} right ports: {_count(right, is_false_alarm)} false alarms, "
            f"{undecided} undecided; the largest difference was "
            f"{max(one.ratio for one in right):.2f} of its bound."
        )
    return "\n".join(lines) + "\n"


def looked(outcomes: Outcomes) -> list[str]:
    """A line for everything that is not as it should be."""
    lines = []
    for unit, one in outcomes:
        where = f"{unit.name or unit.make}, {unit.framework}, seed {unit.seed}"
        if isinstance(one, Judged):
            if is_false_alarm(one):
                lines.append(
                    f"false alarm: {one.kind}, {one.name}, {where}: {' '.join(one.note.split())}"
                )
        elif not one.caught and not one.same:
            lines.append(f"missed: {one.kind}, {one.name}, {where}: {one.nearest:.2g} of the bound")
        elif one.said is not None and not one.named and not one.same:
            said = ", ".join(one.said) or "nothing"
            lines.append(f"misnamed: {one.kind}, {one.name}, {where}: {said}")
    return lines


def report(outcomes: dict[str, Outcomes], given: Any, seconds: float) -> tuple[str, int]:
    """The text of benchmarks/power.md, and how many wrong ports were missed or right ones not."""
    wrong = [one for _, one in outcomes["A"]]
    right = [one for _, one in outcomes["B"]]
    lines = looked([*outcomes["A"], *outcomes["B"]])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    closing = (
        f"xlstm {VERSION}, seed {given.seed}, Python {platform.python_version()}, {versions}; "
        f"{seconds:.0f} s with {given.jobs} process{'es' if given.jobs > 1 else ''}."
    )
    shown = "\n".join(f"- {line}" for line in lines) + "\n\n" if lines else ""
    text = f"{HEAD}\n{totals(wrong, right)}\n{_tables(wrong, right)}\n{shown}{closing}\n"
    return text, _count(lines, lambda line: not line.startswith("misnamed"))


HEAD = """# Power of the verdict

Written by `python benchmarks/power.py --write`.

Wrong ports: a port is caught if its outputs differ by more than the bound ("by outputs alone": all
that can be said of a port whose weights nobody can read), if its weights compared apart differ, or
if the report lists what the inputs could not show. Errors of code leave the weights right. "Cause
named": by `xlstm.diagnose`, in the right layer, for permuted gates with their order. A mutant that
computes what the right port computes is left out; that is found by running both side by side on
inputs of their own. BatchNorm's momentum is such a one: it acts in training only, and is named all
the same. The last column is the smallest difference over its bound among those that outputs show.

Right ports: a false alarm is a verdict `different` or `failed`, a weight called wrong, or, for
ports written by hand, anything that `xlstm.diagnose` says.
"""
