"""The product's source as a tree of modules, none of them imported: imports, circles, lines, names.

In: a folder that holds `xlstm/` and `converters/`. Out: `Module` by name, from which
`structure_rules` and `benchmarks/structure.py` tell their rules and numbers.

    modules = read_tree(ROOT)
    modules["xlstm.ir.graph"].imports     # {"xlstm.errors", "xlstm.ir.types", ...}
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOTS = ("xlstm", "converters")
"""Folders of the product; `converters` is installed as `xlstm.converters`."""

Graph = Mapping[str, set[str]]
"""Module -> the modules that it imports."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
"""Tokens that are no code."""


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes:
        name: as it is imported ("xlstm.converters.torch.slots").
        path: below the tree ("converters/torch/slots.py").
        text: its source.
    """

    name: str
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def is_package(self) -> bool:
        """True for `__init__.py`."""
        return self.path.endswith("__init__.py")

    @property
    def folder(self) -> str:
        """Path of its folder."""
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return self.path.rpartition("/")[2].removesuffix(".py")

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())

    @cached_property
    def docstring_lines(self) -> set[int]:
        """Numbers of the lines of docstrings, those of attributes and constants included."""
        found = set[int]()
        for node in ast.walk(self.tree):
            value = node.value if isinstance(node, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
        return found

    @cached_property
    def comment_lines(self) -> set[int]:
        """Numbers of the lines with a comment, those after code included."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def code_lines(self) -> set[int]:
        """Numbers of the lines that are neither blank, nor comments alone, nor docstrings."""
        found = set[int]()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in LAYOUT:
                found.update(range(token.start[0], token.end[0] + 1))
        return found - self.docstring_lines

    def functions(self) -> Iterator[Function]:
        """Functions and methods, those inside others included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def classes(self) -> Iterator[ast.ClassDef]:
        """Classes, those inside others included."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def docstrings(self) -> Iterator[tuple[str, str]]:
        """Name and docstring of the module, its classes and its functions, where they have one."""
        for node in (self.tree, *self.classes(), *self.functions()):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", ""), text


def read_tree(root: Path) -> dict[str, Module]:
    """The product's modules by name."""
    found = {}
    for top in ROOTS:
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            name = ".".join(("xlstm", *parts) if top == "converters" else parts)
            text = path.read_text(encoding="utf-8")
            found[name] = Module(name, path.relative_to(root).as_posix(), text)
    return found


def import_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Every module with the product's modules that it names in an import, wherever that stands."""
    return {
        module.name: set(_targets(module, modules)) - {module.name} for module in modules.values()
    }


def _targets(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                # a module of a package is meant before the package itself
                names = (f"{base}.{alias.name}", base)
                yield from [name for name in names if name in modules][:1]
        elif isinstance(node, ast.Call) and (name := _module_string(node)) in modules:
            yield name


def _base(module: Module, node: ast.ImportFrom) -> str:
    """Full name of the module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _module_string(node: ast.Call) -> str:
    """The text that `import_module` is called with, "" for other calls."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    first = node.args[0] if node.args else None
    if name == "import_module" and isinstance(first, ast.Constant):
        return str(first.value)
    return ""


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """The groups of modules that import each other in a circle, largest first.

    They are the strongly connected components of more than one module, found as Tarjan does; the
    stack is explicit, since chains of imports may be longer than Python recurses.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    waiting: list[str] = []
    found = []
    for start in graph:
        if start in order:
            continue
        order[start] = low[start] = len(order)
        waiting.append(start)
        path = [(start, iter(sorted(graph[start])))]
        while path:
            name, rest = path[-1]
            target = next(rest, None)
            if target is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == order[name]:
                    place = waiting.index(name)
                    found.append(tuple(sorted(waiting[place:])))
                    del waiting[place:]
            elif target not in order:
                order[target] = low[target] = len(order)
                waiting.append(target)
                path.append((target, iter(sorted(graph[target]))))
            elif target in waiting:
                low[name] = min(low[name], order[target])
    groups = [group for group in found if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))
