"""Registered layers in emitted source: their texts, imports and calls; imports no framework.

In: a registered layer. Out: its constructor, and its text and imports for the module.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xlstm.errors import UsageError
from xlstm.ir.layer_code import defined
from xlstm.ir.layers import Custom
from xlstm.ir.python_source import parse

from .source import WIDTH, Argument, CallExpr, ModuleSource, call, imports, statement


def made(spec: Custom, framework: str, parts: ModuleSource) -> CallExpr:
    """Returns the constructor of a registered layer; adds its text and imports once."""
    code = spec.registered.code[framework]
    parts.add_helper(code.body)
    parts.imports |= {*code.imports}
    parts.registered = True
    shapes = dict(zip(spec.names, spec.shapes, strict=True))
    return call(code.class_name, *code.literals(spec.options, shapes, spec.layer))


def arguments(
    spec: Custom, framework: str, inputs: Iterable[Argument], mask: str = ""
) -> tuple[Argument, ...]:
    """Returns the arguments of a registered layer's call."""
    tensors = tuple(inputs)
    if spec.registered.code[framework].listed and len(tensors) > 1:
        tensors = (f"[{', '.join(map(str, tensors))}]",)
    return (*tensors, ("mask", mask)) if mask else tensors


def assigned(outputs: tuple[str, ...], value: CallExpr) -> list[str]:
    """Returns lines that set the variables of a layer's outputs; empty if nothing reads one."""
    return [] if {*outputs} == {"_"} else statement(f"{', '.join(outputs)} = ", value, 8)


@dataclass(frozen=True)
class _Import:
    """One imported name: `from module import name as bound`, or `import module as bound`."""

    module: str
    name: str
    bound: str

    @property
    def target(self) -> str:
        """Imported object, the same for all forms of the import."""
        return f"{self.module}.{self.name}".rstrip(".")


def _read(lines: Iterable[str]) -> Iterator[_Import]:
    for item in parse("\n".join(lines)).body:
        if isinstance(item, ast.Import):
            yield from (_Import(a.name, "", a.asname or a.name) for a in item.names)
        elif isinstance(item, ast.ImportFrom):
            module = item.module or ""
            yield from (_Import(module, a.name, a.asname or a.name) for a in item.names)


def merged(lines: list[str], parts: ModuleSource) -> list[str]:
    """Returns the import lines of a module with those of the registered layers in it.

    Raises:
        UsageError: a name with two meanings.
    """
    return import_lines([*lines, *sorted(parts.imports)]) if parts.imports else lines


def import_lines(lines: Iterable[str]) -> list[str]:
    """Returns import lines in isort's order, one per module; each may import several names.

    Raises:
        UsageError: a name with two meanings.
    """
    found: dict[str, _Import] = {}
    for own in _read(lines):
        known = found.setdefault(own.bound, own)
        if known.target != own.target:
            got = f"{known.target} and {own.target}"
            where, want = f"LayerCode.source, import of {own.bound}", "a name of one thing"
            raise UsageError(where, want, got, "import it under another name")
    blocks: tuple[list[str], ...] = ([], [], [])
    for text in _written(found.values()):
        package = text.split()[1].split(".")[0]
        kind = 0 if package == "__future__" else 1 if package in sys.stdlib_module_names else 2
        blocks[kind].append(text)
    future = [*blocks[0], ""] if blocks[0] else []
    return [*future, *imports(blocks[1], blocks[2])]


def _written(found: Iterable[_Import]) -> Iterator[str]:
    """Yields import statements, one per module for imported names."""
    by_module: dict[str, list[_Import]] = {}
    for own in found:
        if own.name:
            by_module.setdefault(own.module, []).append(own)
        else:
            yield f"import {own.module}" + (f" as {own.bound}" if own.bound != own.module else "")
    for module, names in by_module.items():
        listed = sorted(names, key=_order)
        texts = [f"{n.name} as {n.bound}" if n.bound != n.name else n.name for n in listed]
        line = f"from {module} import {', '.join(texts)}"
        broken = [f"from {module} import (", *(f"    {text}," for text in texts), ")"]
        yield line if len(line) <= WIDTH else "\n".join(broken)


def _order(own: _Import) -> tuple[int, str]:
    """Returns a sort key: constants, then classes, then the rest, as linters sort them."""
    constant = own.name.isupper() and len(own.name) > 1
    return (0 if constant else 1 if own.name[:1].isupper() else 2), own.name


def checked(text: str, parts: ModuleSource) -> str:
    """Returns a module's text after a check of its names.

    Raises:
        UsageError: a registered layer's text defines a name that the rest of the module has.
    """
    if parts.registered:
        twice = [name for name, count in Counter(defined(text)).items() if count > 1]
        if twice:
            want = "names that the ported module does not use"
            got, do = f"{', '.join(twice)} twice", "rename them in the text"
            raise UsageError("LayerCode.source", want, got, do)
    return text
