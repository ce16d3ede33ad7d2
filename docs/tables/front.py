"""Draws the picture of README.md: python docs/tables/front.py > docs/front.svg.

It shows the parameters of the example model in four frameworks, and how far each port is from the
float64 reference. Every number comes from `xlstm.reconcile` on this machine.
"""

from __future__ import annotations

import html
import sys

import xlstm
from xlstm.counting.ledger import Ledger
from xlstm.verification.report import Report

FRAMEWORKS = {"keras": "Keras", "torch": "PyTorch", "nnx": "Flax NNX", "linen": "Flax Linen"}

PAGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" \
viewBox="0 0 {wide} {high}" role="img">
<title>{title}</title>
<style>
text {{ font: 13px Arial, Helvetica, "DejaVu Sans", sans-serif; fill: #1a1a1a }}
text.end {{ text-anchor: end }} text.soft {{ fill: #6a6a6a }} text.strong {{ font-weight: bold }}
text.equal {{ fill: #006644; font-weight: bold }} text.different {{ fill: #b00020 }}
rect.page {{ fill: #ffffff }} line {{ stroke: #cccccc; stroke-width: 1 }}
@media screen and (prefers-color-scheme: dark) {{
text {{ fill: #e8e8e8 }} text.soft {{ fill: #a0a0a0 }} text.equal {{ fill: #4cc38a }}
text.different {{ fill: #ff7a7a }} rect.page {{ fill: #161616 }} line {{ stroke: #444444 }}
}}
</style>
<rect class="page" width="{wide}" height="{high}" rx="6"/>
{parts}
</svg>
"""

WIDE, LEFT, LINE = 720, 20, 24
COLUMNS = (330, 450, 570, 700)
"""Right ends of the columns of the frameworks."""


def text(x: int, y: int, words: str, kind: str = "") -> str:
    """Returns one text of the picture."""
    return f'<text class="{kind}" x="{x}" y="{y}">{html.escape(words)}</text>'


def rule(y: int) -> str:
    """Returns a line across the picture."""
    return f'<line x1="{LEFT}" x2="{WIDE - LEFT}" y1="{y}" y2="{y}"/>'


def row(y: int, label: str, cells: list[str], kind: str = "") -> list[str]:
    """Returns a line of the table: its label and a text in each column."""
    places = zip(COLUMNS, cells, strict=True)
    return [text(LEFT, y, label), *(text(x, y, cell, f"end {kind}") for x, cell in places)]


def reason(ledger: Ledger) -> str:
    """Returns the reason for the parameters that PyTorch has more than Keras."""
    pairs = [d for layer in ledger.layers for d in layer.differences]
    [found] = [d for d in pairs if (d.source, d.target) == ("keras", "torch")]
    return f"{found.tensor}: {found.reason.partition(';')[0]}"


def draw(report: Report) -> str:
    """Returns the picture as the text of an SVG document."""
    ledger = report.ledger
    title = "The example model: LSTM(20, relu) and Dense(20)"
    y = 30
    parts = [text(LEFT, y, title, "strong")]
    y += LINE + 4
    parts += row(y, "parameters", list(FRAMEWORKS.values()), "soft")
    parts.append(rule(y + 8))
    for layer in ledger.layers:
        y += LINE
        parts += row(y, layer.kind, [f"{layer.params[key]:,}" for key in FRAMEWORKS])
    y += LINE
    parts += row(y, "total", [f"{ledger.total(key):,}" for key in FRAMEWORKS], "strong")
    y += LINE - 6
    parts += [text(LEFT, y, reason(ledger), "soft"), rule(y + 8)]
    for precision in ("float32", "float64"):
        y += LINE
        runs = [report.frameworks[key].verdicts[precision] for key in FRAMEWORKS]
        parts += row(y, f"{precision}, outputs", [run.outcome for run in runs], runs[0].outcome)
        y += LINE - 6
        parts += row(y, "largest difference", [f"{run.max_abs:.0e}" for run in runs], "soft")
        y += LINE - 6
        parts += row(y, "allowed by rounding", [f"{run.bound:.0e}" for run in runs], "soft")
    high = y + 20
    return PAGE.format(wide=WIDE, high=high, title=html.escape(title), parts="\n".join(parts))


if __name__ == "__main__":
    sys.stdout.write(draw(xlstm.reconcile(xlstm.demo.path(), list(FRAMEWORKS))))
