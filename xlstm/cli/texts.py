"""Rows and texts of single commands: the layers of a file, the demo.

In: a Model, an outline or a report. Out: rows of a table, or a text for a terminal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from xlstm.files.description import Outline
from xlstm.frameworks import registry
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Bidirectional, LayerSpec, TimeDistributed
from xlstm.ir.types import Array
from xlstm.rendering.tables import kind_text, shape_text, to_text

if TYPE_CHECKING:  # a port without verification does without these modules
    from xlstm.verification.report import Report


def model_rows(model: Model) -> tuple[dict[str, str], ...]:
    """Returns a row for each layer of a model that was read, by header."""
    rows = []
    for node in model.layers:
        weights = ", ".join(
            f"{name} {shape_text(array.shape)} {array.dtype}"
            for name, array in model.weights.get(node.name, {}).items()
        )
        row = {"layer": node.name, "kind": kind_text(node), "options": _options(node)}
        rows.append({**row, "output": shape_text(node.shape), "weights": weights})
    return tuple(rows)


def outline_rows(outline: Outline) -> tuple[dict[str, str], ...]:
    """Returns a row for each layer of a file, by header."""
    rows = []
    for layer in outline.layers:
        arrays = ", ".join(f"{name} {shape} {dtype}" for name, shape, dtype in layer.arrays)
        row = {"layer": layer.name, "kind": layer.kind}
        rows.append({**row, "options": layer.options or layer.proven, "weights": arrays})
    return tuple(rows)


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
    text += ["initial state from another layer"] if node.states else []
    text += [] if node.trainable else ["not trainable"]
    return ", ".join(text)


def render_demo(
    report: Report, memories: Mapping[str, Array], missing: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The text that `xlstm demo` prints: counts, proof, and the output of each port.

    Args:
        report: the comparison.
        memories: framework -> output of its port.
        missing: title of each framework that is not installed -> the command that installs it.
    """
    answers = [
        f"{registry.adapter(name).title:>10}: {' '.join(f'{round(float(y)) + 0}' for y in found)}"
        for name, found in memories.items()
    ]
    head = "The example model: LSTM(20, relu) + Dense(20), trained in Keras to memorise 0 ... 380."
    left = [f"Not installed: {title}. To add it: {do}" for title, do in missing.items()]
    asked = to_text("Asked for the sequence, each port answers:", *answers, *left)
    return "\n".join([to_text(report.summary(), ""), report.text(head=head), asked])
