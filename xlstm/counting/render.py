"""An explanation as text for a terminal, as Markdown, and as HTML for a notebook.

In: the fields of an explanation. Out: one text.
"""

from __future__ import annotations

import base64
import html
import textwrap
from collections.abc import Iterable, Sequence

from xlstm.counting.explanation import ExplanationData
from xlstm.counting.formulas import FormulaRow
from xlstm.counting.framework_formulas import native_count
from xlstm.counting.ledger import Difference
from xlstm.counting.operations import render as operations
from xlstm.counting.operations.render import Calls
from xlstm.counting.wording import number
from xlstm.frameworks import registry
from xlstm.rendering.tables import add, grid, screen_width, to_text

Cells = tuple[str, ...]


def _frameworks(found: ExplanationData) -> list[str]:
    """The formula of every framework, and the names of those that lack the layer."""
    lack = [c.title for c in found.columns if c.total is None]
    lines = [f"{one}." for one in found.formulas] or ["The formula is the textbook's."]
    if lack:
        lines.append(f"{', '.join(lack)} {'has' if len(lack) == 1 else 'have'} no such layer.")
    return lines


def counts_line(found: ExplanationData) -> str:
    """One line: the number of every framework, and that of a native layer beside an own cell.

    Both interfaces of Flax are one, if their numbers are equal.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for column in found.columns:
        if column.total is not None:
            native = native_count(found.ledger, column.framework)
            beside = f" ({native.name} {native.count:,})" if native else ""
            family, _, interface = column.title.partition(" ")
            key = (family, f"{column.total:,}{beside}")
            parts.setdefault(key, []).append(interface)
    texts = []
    for (family, count), interfaces in parts.items():
        names = [family, interfaces[0]] if len(interfaces) == 1 else [family]
        texts.append(" ".join([*filter(None, names), count]))
    return ", ".join(texts) or f"{found.total:,} by the formula; no framework has this layer"


def _mistakes(found: ExplanationData) -> list[str]:
    return [f"{m.count:,} = {m.formula}: {m.why}." for m in found.mistakes]


GOT = "Got another number?"


def _parts(rows: Iterable[FormulaRow]) -> list[Cells]:
    return [(row.what, row.formula, f"{row.count:,}") for row in rows]


def _tensors(found: ExplanationData) -> list[Cells]:
    """One row a tensor, with the framework's name in its first and its total after its last."""
    rows: list[Cells] = []
    for column in found.columns:
        own = [row for row in found.tensors if row.framework == column.framework]
        for place, row in enumerate(own):
            shapes = (row.symbols, str(row.shape))
            title = column.title if place == 0 else ""
            rows.append((title, row.name, *shapes, row.gates, f"{row.count:,}"))
        if column.total is None:
            continue
        rest = column.total - sum(row.count for row in own)
        rows += [("", f"{found.rest}, likewise", "", "", "", f"{rest:,}")] if rest else []
        rows.append(("", "total", "", "", "", f"{column.total:,}"))
    return rows


TENSORS = ("framework", "tensor", "shape", "in numbers", "gates", "parameters")
SPARE = ("in numbers", "gates")
"""Columns of tensors that a narrow screen leaves out."""
PARTS = ("part", "formula", "parameters")
GATES = ("gate", "formula", "parameters")


def _differences(found: ExplanationData) -> list[str]:
    """Lines about parameters that other frameworks have and the first has not, and the reverse."""
    ledger = found.ledger
    have = [name for name in ledger.frameworks if ledger.total(name) is not None]
    if len(have) < 2:
        return []
    base = next(c.title for c in found.columns if c.framework == have[0])
    alike: dict[tuple[str, str], list[tuple[str, Difference]]] = {}
    for layer in ledger.layers:
        for line in layer.differences:
            if line.source == have[0]:
                alike.setdefault((line.target, line.reason), []).append((layer.path, line))
    if not alike:
        return [f"All keep as many numbers as {base}."]
    return [f"Where they differ from {base}:", *(_difference(alike[key]) for key in alike)]


def _difference(lines: list[tuple[str, Difference]]) -> str:
    """One line for all tensors that differ for one reason."""
    first = lines[0][1]
    names = ", ".join(dict.fromkeys(line.tensor for _, line in lines))
    paths = list(dict.fromkeys(path for path, _ in lines))
    where = f" of each of the {len(paths)} layers" if len(paths) > 1 else ""
    times = f"{len(lines)} times " if len(lines) > 1 else ""
    return f"{registry.adapter(first.target).title} {names}{where}: {times}{first.reason}."


def _operations(found: ExplanationData) -> tuple[tuple[str, ...], list[Cells], list[str]]:
    """Heads and rows of the table of operations, and the meaning of its columns."""
    work = found.ledger.operations
    if work is None:
        return (), [], []
    heads = ("framework", *operations.headers(work))
    steps, batch = found.timesteps or 1, found.batch or 1
    # a Dense of every step has as many samples as there are steps
    calls = Calls(1, steps * batch) if found.stateless else Calls(steps, batch)
    return heads, operations.framework_rows(work, calls), operations.legend(work)


def _data(found: ExplanationData) -> str:
    """The data that the operations are for.

    A recurrent layer does the same at every step, so that the counts of one step are enough.
    """
    steps = f"{number(found.timesteps, 'step')} of " if found.timesteps else ""
    steps = steps or ("" if found.stateless else "one step of ")
    what = "sample" if found.stateless and not found.timesteps else "sequence"
    batch = f"a batch of {number(found.batch, what)}" if found.batch else f"one {what}"
    return f"Operations for {steps}{batch}, and bytes"


def _wrapped(line: str, indent: str = "") -> str:
    return textwrap.fill(
        line,
        screen_width(),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )


def text(found: ExplanationData) -> str:
    """Tables and lines, as wide as the screen at most."""

    def table(
        headers: Sequence[str], rows: Iterable[Cells], left: int, spare: Sequence[str] = ()
    ) -> object:
        made = grid(headers, left, spare)
        for row in rows:
            add(made, *row)
        return made

    heads = [f"{found.formula} = {found.numbers}", *_frameworks(found), found.sizes]
    parts: list[object] = [
        found.title,
        *(_wrapped(line, "  ") for line in heads),
        *(f"    {line}" for line in found.equations),
    ]
    if found.mistakes:
        parts += [GOT, *(_wrapped(line, "  ") for line in _mistakes(found))]
    parts.append(table(PARTS, _parts(found.breakdown), 2))
    if found.by_gate:
        parts.append(table(GATES, _parts(found.by_gate), 2))
    parts += [_wrapped(line) for line in found.lines]
    if found.tensors:
        parts.append(table(TENSORS, _tensors(found), 5, SPARE))
    parts += [_wrapped(line) for line in _differences(found)]
    headers, rows, legend = _operations(found)
    if rows:
        parts += ["", f"{_data(found)}:", table(headers, rows, 1), *map(_wrapped, legend)]
    return to_text(*parts)  # type: ignore[arg-type]


def _escaped(cell: str) -> str:
    for mark in "\\|*_[]":
        cell = cell.replace(mark, f"\\{mark}")
    return cell


def _markdown_table(headers: Sequence[str], rows: Iterable[Cells], left: int) -> list[str]:
    marks = ["---" if place < left else "---:" for place in range(len(headers))]
    lines = [headers, marks, *([_escaped(cell) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def markdown(found: ExplanationData) -> str:
    """Headings, tables and paragraphs."""
    lines = [f"## {found.title}", "", f"`{found.formula} = {found.numbers}`", ""]
    lines += [*(f"- {_escaped(line)}" for line in _frameworks(found)), ""]
    lines += [_escaped(found.sizes), ""]
    lines += ["```text", *found.equations, "```", ""]
    if found.mistakes:
        lines += [f"**{GOT}**", "", *(f"- {_escaped(line)}" for line in _mistakes(found)), ""]
    lines += _markdown_table(PARTS, _parts(found.breakdown), 2)
    if found.by_gate:
        lines += _markdown_table(GATES, _parts(found.by_gate), 2)
    lines += [line for why in found.lines for line in (_escaped(why), "")]
    lines += _markdown_table(TENSORS, _tensors(found), 5) if found.tensors else []
    differences = _differences(found)
    if differences:
        lines += [_escaped(differences[0]), ""]
        lines += [f"- {_escaped(line)}" for line in differences[1:]]
    headers, rows, legend = _operations(found)
    if rows:
        lines += ["", f"**{_data(found)}**", "", *_markdown_table(headers, rows, 1)]
        lines += [f"- {_escaped(line)}" for line in legend]
    return "\n".join(lines).rstrip() + "\n"


def page(found: ExplanationData, picture: str) -> str:
    """The text as HTML, with a picture above it.

    Args:
        found: the explanation.
        picture: SVG; "" for none.
    """
    image = ""
    if picture:
        # as an image: styles and names inside an inline SVG apply to the whole page
        data = base64.b64encode(picture.encode()).decode()
        alt = html.escape(found.title)
        image = f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
    return f"{image}<pre>{html.escape(text(found))}</pre>"
