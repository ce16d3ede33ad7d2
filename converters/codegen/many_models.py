"""Turns the source of one model's port into that of many models in one call.

In: the emitted text of one model, and a template with what runs many. Out: the text of `model.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse

from .custom_layers import import_lines
from .source import docstring, join, origin, template_sources

FILE = "stacked.safetensors"
"""File of the weights of many models, the axis of models first."""


def ranks(model: Model) -> str:
    """Returns the tuple of the number of axes of each input of one model, the batch included."""
    specs = [model.node(name).spec for name in model.inputs]
    return literal(tuple(len(spec.shape) + 1 for spec in specs if isinstance(spec, L.Input)))


def stacked_source(
    model: Model,
    one: str,
    template: str,
    drop: Sequence[str],
    names: Sequence[str],
    lines: Sequence[str],
    renamed: Mapping[str, str],
) -> str:
    """Returns the source text of `model.py` for many models.

    Args:
        model: one of them.
        one: the text that a port of it has.
        template: the file, below `converters`, of the text that runs many.
        drop: functions and classes of `one` that are left out.
        names: functions and classes of the template, in the order of the text.
        lines: of the docstring, after the first one.
        renamed: text in `one` -> its replacement.
    """
    parts = [text for name, text in _definitions(one) if name not in drop]
    for old, new in renamed.items():
        parts = [text.replace(old, new) for text in parts]
    own = template_sources(template)
    texts = [re.sub(r"  # type: ignore\[[\w-]+\]", "", own[name]) for name in names]
    constants = [f"RANKS = {ranks(model)}", '"""Axes of each input of one model."""']
    blocks = [*([text] for text in parts), *([text] for text in texts)]
    whole = join([constants, *blocks])
    imports = [*_imports(one), *_imports(_text(template))]
    head = docstring(f"Many models of one architecture, ported from {origin(model)}.", *lines)
    used = import_lines(_used(imports, whole))
    return join([[*head, *used[:-1], *constants], *blocks])


def _definitions(text: str) -> Iterator[tuple[str, str]]:
    """Yields name and source of each function, class and constant of a module."""
    lines = text.split("\n")
    for item in parse(text).body:
        if isinstance(item, (ast.Import, ast.ImportFrom)) or _is_text(item):
            continue
        decorators = getattr(item, "decorator_list", ())
        first = min([item.lineno, *(d.lineno for d in decorators)])
        yield getattr(item, "name", ""), "\n".join(lines[first - 1 : item.end_lineno])


def _is_text(item: ast.stmt) -> bool:
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)


def _imports(text: str) -> Iterator[str]:
    """Yields the imports of a module, one name each."""
    for item in parse(text).body:
        if isinstance(item, ast.Import):
            yield from (ast.unparse(ast.Import([name])) for name in item.names)
        elif isinstance(item, ast.ImportFrom) and item.level == 0:
            module = item.module
            yield from (ast.unparse(ast.ImportFrom(module, [name], 0)) for name in item.names)


def _used(imports: Sequence[str], text: str) -> list[str]:
    """Returns the imports whose names a text has."""
    found = {item.id for item in ast.walk(parse(text)) if isinstance(item, ast.Name)}
    return [line for line in dict.fromkeys(imports) if line.split()[-1].split(".")[0] in found]


def _text(template: str) -> str:
    return resources.files("xlstm.converters").joinpath(template).read_text("utf-8")
