"""Texts of single commands: the content of a file, the files of a port, the demo.

In: a Model, an outline or a report. Out: a text for a terminal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlstm.errors import printable
from xlstm.files.description import Outline
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Bidirectional, LayerSpec, TimeDistributed
from xlstm.ir.types import Array
from xlstm.rendering.tables import add, amount, grid, kind_text, shape_text, to_text

if TYPE_CHECKING:  # a port without verification does without these modules
    from xlstm.verification.report import Report


def render_model(model: Model) -> str:
    """The text about a model that was read: container, layers with options and weights, notes."""
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
    """The text about the content of a file, and if it can be ported."""
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
    own: LayerSpec = spec
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
    """The text that `xlstm port` prints at its end."""
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
    """The text that `xlstm demo` prints: counts, proof, and the output of each port."""
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
