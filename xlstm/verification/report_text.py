"""The verdicts of a comparison as text for a terminal.

In: the frameworks' parts of a report. Out: a table and lines below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xlstm.errors import printable
from xlstm.rendering.tables import add, grid, to_text
from xlstm.rendering.text_table import Grid
from xlstm.verification.bounds import Verdict
from xlstm.verification.results import FrameworkReport

WORST = ("failed", "different", "undecided", "rounding")
"""Verdicts, the worst first."""


def render_verdicts(
    frameworks: Collection[FrameworkReport],
    undecidable: Iterable[str],
    notes: Iterable[str],
    *,
    several: bool,
) -> str:
    """One row per framework and precision; then all comparisons other than outputs.

    Args:
        frameworks: their parts of a comparison.
        undecidable: lines about time steps without a verdict.
        notes: lines that end the text.
        several: True for a model with several outputs: the worst one is named.
    """
    headers = ["framework", "precision", "verdict", "max difference", "of its bound", "ULP"]
    table = grid(headers, left=3)
    details = []
    for found in frameworks:
        for dtype, v in found.verdicts.items():
            word = v.verdict if v.ran else "not run"
            add(table, f"{found.title} {found.version}", dtype, word, *_figures(v))
            details += _details(f"{found.title} {dtype}", v, several)
        besides = {"hidden states": found.layers, "gradients": found.gradients}
        for part, every in {**besides, "one step of SGD": found.steps}.items():
            for dtype, verdicts in every.items():
                worst = min(verdicts.values(), key=lambda v: (WORST.index(v.verdict), -v.ratio))
                details += _details(f"{found.title} {dtype}, {part}", worst, True)
        details += [f"{found.title}: {found.weights}"] if found.weights else []
        details += [f"{found.title}, {line}" for line in found.step_notes]
    ran = dict.fromkeys(f"{f.title} ran {f.what}." for f in frameworks if f.what)
    lines = [*details, *undecidable, *ran, *notes]
    return to_text(table, *_parts(frameworks), *map(printable, lines))


def _figures(v: Verdict) -> tuple[str, str, str]:
    if v.verdict == "failed" or not v.ran:
        return "-", "-", "-"
    return f"{v.max_abs:.2e}", f"{100 * v.ratio:.0f} %", f"{v.max_ulp:.1f}"


def _details(where: str, v: Verdict, several: bool) -> list[str]:
    """Lines that do not fit in a row: the failure, and the worst output."""
    step = "" if v.step is None else f", time step {v.step}"
    lines = []
    if v.ran and v.output and (several or v.verdict not in ("rounding", "failed")):
        worst = "the worst" if v.verdict != "rounding" else "nearest to its bound"
        lines.append(f"{where}: {worst} is {v.output}{step}")
    return [*lines, f"{where}: {v.detail}"] if v.detail else lines


def _parts(frameworks: Collection[FrameworkReport]) -> list[Grid | str]:
    """A table for each kind of comparison other than outputs."""
    titles = {"shapes": "inputs", "layers": "hidden states", "gradients": "gradients"}
    titles["steps"] = "one step of SGD"
    parts: list[Grid | str] = []
    for key, title in titles.items():
        table = grid([title, "framework", "precision", "verdict", "of its bound"], left=4)
        for found in frameworks:
            for a, verdicts in getattr(found, key).items():
                for b, v in verdicts.items():
                    name, dtype = (a, b) if key == "shapes" else (b, a)
                    word = v.verdict if v.ran else "not run"
                    add(table, name, found.title, dtype, word, _figures(v)[1])
        parts += [table] if len(table.rows) > 1 else []
    return parts
