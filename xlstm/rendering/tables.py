"""Text for a terminal: counts, verdicts and descriptions of models as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlstm.errors import printable
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Bidirectional, Model, Node, Spec, TimeDistributed
from xlstm.ir.types import Array, Shape
from xlstm.rendering.text_table import Grid, wrapped

if TYPE_CHECKING:
    from xlstm.counting.ledger import Ledger
    from xlstm.files.outline import Outline
    from xlstm.verification.bounds import Verdict
    from xlstm.verification.report import Report

WIDTH = 100

WORST = ("failed", "different", "undecided", "rounding")
"""Verdicts, the worst first."""


def to_text(*parts: Grid | str) -> str:
    """Tables and lines as plain text of at most WIDTH columns."""
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Grid):
            lines += part.lines(WIDTH)
        else:
            lines += (line for own in part.split("\n") for line in wrapped(own, WIDTH))
    return "\n".join(lines)


def grid(headers: Iterable[str], left: int = 1) -> Grid:
    """An empty table; the first `left` columns are flush left, the others right."""
    return Grid([*headers], left)


def add(table: Grid, *cells: object) -> None:
    """A row of plain texts, what cannot be printed escaped, and the end of long ones left out."""
    table.add(*(_cell(str(cell)) for cell in cells))


LONGEST = 2000
"""Characters of a cell: more fill a terminal, and a file may call a layer by millions."""


def _cell(text: str) -> str:
    return printable(text) if len(text) <= LONGEST else f"{printable(text[:LONGEST])}..."


def _titles(names: Iterable[str]) -> list[str]:
    return [registry.adapter(name).title for name in names]


def shape_text(shape: Shape) -> str:
    """(None, 3) as "(any, 3)"."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def kind_text(node: Node) -> str:
    """The kind of a layer, with what it wraps."""
    spec = node.spec
    if isinstance(spec, TimeDistributed):
        return f"{spec.kind}({spec.layer.title})"
    if isinstance(spec, Bidirectional):
        names = dict.fromkeys(half.kind for half in spec.halves)
        return f"{spec.kind}({', '.join(names)})"
    return spec.title


def render_counts(ledger: Ledger) -> str:
    """Parameters by layer and framework, and the reason for every difference from the first."""
    table = grid(["layer", "kind", *_titles(ledger.frameworks)], left=2)
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
    """Every tensor of every framework: name, shape, number, role, and what it belongs to."""
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
    """What the totals hold that does not train, and what there is outside them."""
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


def amount(number: int | None) -> str:
    """A number of parameters; a dash where the framework refuses the layer."""
    return "-" if number is None else f"{number:,}"


def render_differences(ledger: Ledger) -> list[str]:
    """A line for each tensor in which a framework differs from the first one."""
    first = ledger.frameworks[0] if ledger.frameworks else ""
    return [
        f"{printable(layer.path)}, {registry.adapter(d.target).title} {d.tensor}: {d.reason}"
        for layer in ledger.layers
        for d in layer.differences
        if d.source == first
    ]


def render_verdicts(report: Report) -> str:
    """One row per framework and precision; then what was compared besides the outputs."""
    headers = ["framework", "precision", "verdict", "max difference", "of its bound", "ULP"]
    table = grid(headers, left=3)
    details = []
    for found in report.frameworks.values():
        for dtype, v in found.verdicts.items():
            word = v.verdict if v.ran else "not run"
            add(table, f"{found.title} {found.version}", dtype, word, *_figures(v))
            details += _details(f"{found.title} {dtype}", v, len(report.model.outputs) > 1)
        besides = {"hidden states": found.layers, "gradients": found.gradients}
        for part, every in {**besides, "one step of SGD": found.steps}.items():
            for dtype, verdicts in every.items():
                worst = min(verdicts.values(), key=lambda v: (WORST.index(v.verdict), -v.ratio))
                details += _details(f"{found.title} {dtype}, {part}", worst, True)
        details += [f"{found.title}: {found.weights}"] if found.weights else []
        details += [f"{found.title}, {line}" for line in found.step_notes]
    what = dict.fromkeys(f"{f.title} ran {f.what}." for f in report.frameworks.values() if f.what)
    lines = [
        *details,
        *report.undecidable(),
        *what,
        *warnings_of(report.model),
        *report.unexercised,
    ]
    lines.append(f"Inputs: {report.inputs}. Reference: float64 numpy, independent of all tables.")
    if not report.counts_ok:
        lines.append("The counts above differ from the frameworks' own: this is a bug, report it.")
    return to_text(table, *_parts(report), *map(printable, lines))


def _figures(v: Verdict) -> tuple[str, str, str]:
    if v.verdict == "failed" or not v.ran:
        return "-", "-", "-"
    return f"{v.max_abs:.2e}", f"{100 * v.ratio:.0f} %", f"{v.max_ulp:.1f}"


def _details(where: str, v: Verdict, several: bool) -> list[str]:
    """What a row has no room for: what failed, and which output is the worst."""
    step = "" if v.step is None else f", time step {v.step}"
    lines = []
    if v.ran and v.output and (several or v.verdict not in ("rounding", "failed")):
        worst = "the worst" if v.verdict != "rounding" else "nearest to its bound"
        lines.append(f"{where}: {worst} is {v.output}{step}")
    return [*lines, f"{where}: {v.detail}"] if v.detail else lines


def _parts(report: Report) -> list[Grid | str]:
    """A table for each kind of thing that was compared besides the outputs."""
    titles = {"shapes": "inputs", "layers": "hidden states", "gradients": "gradients"}
    titles["steps"] = "one step of SGD"
    parts: list[Grid | str] = []
    for key, title in titles.items():
        table = grid([title, "framework", "precision", "verdict", "of its bound"], left=4)
        for found in report.frameworks.values():
            for a, verdicts in getattr(found, key).items():
                for b, v in verdicts.items():
                    name, dtype = (a, b) if key == "shapes" else (b, a)
                    word = v.verdict if v.ran else "not run"
                    add(table, name, found.title, dtype, word, _figures(v)[1])
        parts += [table] if len(table.rows) > 1 else []
    return parts


def render_model(model: Model) -> str:
    """What was recognised in a file: container, layers with options and weights, notes."""
    source = model.source
    head = f"{source.file or model.name}: {source.container}, {source.framework} {source.version}"
    table = grid(["layer", "kind", "options", "output", "weights"], left=5)
    for node in model.layers:
        weights = ", ".join(
            f"{name} {shape_text(array.shape)} {array.dtype}"
            for name, array in model.weights.get(node.name, {}).items()
        )
        add(table, node.name, kind_text(node), _options(node), shape_text(node.shape), weights)
    start = model.node(model.inputs[0])
    lines = [f"input: {shape_text(start.shape)} a sample"]
    lines += [f"note: {line}" for line in source.notes]
    lines += [f"warning: {line}" for line in warnings_of(model)]
    return to_text(printable(head), table, *map(printable, lines))


def render_outline(outline: Outline, notes: Iterable[str], verdict: str) -> str:
    """What a file holds, whether or not it can be ported, and whether it can."""
    backend = f" on {outline.backend}" if outline.backend else ""
    head = f"{outline.file}: {outline.container}, written by {outline.writer}{backend}"
    table = grid(["layer", "kind", "options", "weights"], left=4)
    for layer in outline.layers:
        arrays = ", ".join(f"{name} {shape} {dtype}" for name, shape, dtype in layer.arrays)
        add(table, layer.name, layer.kind, layer.options or layer.proven, arrays)
    lines = [f"not read: {', '.join(outline.ignored)}"] if outline.ignored else []
    lines += [f"note: {line}" for line in notes]
    lines += [f"warning: {line}" for line in (*outline.warnings, *outline.nonfinite)]
    return to_text(printable(head), table, *map(printable, [*lines, verdict]))


def _options(node: Node) -> str:
    spec = node.spec
    own: Spec = spec
    text = []
    if isinstance(spec, TimeDistributed):
        own = spec.layer
    elif isinstance(spec, Bidirectional):
        own = spec.forward
        text.append(f"merge={spec.merge}")
    defaults = {f.name: f.default for f in dataclasses.fields(own)}
    always = ("activation", "gate_activation", "units")
    for key, value in vars(own).items():
        if key in always or (key not in ("features", "layer") and value != defaults.get(key)):
            text.append(key if value is True else f"{key}={value}")
    text += ["masked"] if node.mask else []
    text += ["initial state given"] if node.states else []
    text += [] if node.trainable else ["not trainable"]
    return ", ".join(text)


def render_port(model: Model, adapter: Adapter, folder: Path, report: dict[str, Any]) -> str:
    """What `xlstm port` says when it is done."""
    files = ", ".join(sorted(item.name for item in folder.iterdir()))
    totals = report["counts"]["totals"]
    named = dict.fromkeys(n for n in (model.source.framework, adapter.name) if n in totals)
    counts = " and ".join(
        f"{amount(totals[n]['total'])} in {registry.adapter(n).title}" for n in named
    )
    lines = [f"{model.name} -> {adapter.title}: {folder} ({files})", f"parameters: {counts}"]
    lines += [f"note: {line}" for line in report["notes"]]
    lines += [f"warning: {line}" for line in report["warnings"]]
    found = report["verification"]
    if isinstance(found, str):
        lines.append(found if adapter.installed else f"{found}: {adapter.title} is not installed")
    else:
        lines += _verified(adapter, found)
    return to_text(*map(printable, lines))


def _verified(adapter: Adapter, found: dict[str, Any]) -> list[str]:
    lines = []
    for dtype in ("float32", "float64"):
        v = found["frameworks"][adapter.name][dtype]
        gap = f"max difference {v['max_abs']:.2e}, bound {v['bound']:.2e}"
        lines.append(f"{dtype}: {v['verdict']} ({v['detail'] or gap})")
    return [*lines, *found["unexercised"]]


def render_demo(report: Report, memories: dict[str, Array]) -> str:
    """What `xlstm demo` prints: counts, proof, and what each port remembers."""
    answers = [
        f"{registry.adapter(name).title:>10}: {' '.join(f'{round(float(y)) + 0}' for y in found)}"
        for name, found in memories.items()
    ]
    head = "The example model: LSTM(20, relu) + Dense(20), trained in Keras to memorise 0 ... 380."
    return "\n".join(
        [
            to_text(head),
            str(report),
            to_text("Asked for the sequence, each port answers:", *answers),
            "equal up to rounding" if report.ok else "NOT shown to be equal",
        ]
    )
