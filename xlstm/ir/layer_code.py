"""The source text of a registered layer in one framework.

In: the text of a module. Out: its imports, its body, the name of its class, the arguments of the
class as literals. The text is parsed here, and never run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xlstm.errors import UsageError
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse

WHERE = "LayerCode"

ARGUMENTS = "(config, shapes) -> arguments by name"

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every tensor of a layer, by its name."""


@dataclass(frozen=True)
class LayerCode:
    r"""A registered layer in one framework: the text of its class, and the class's arguments.

    The text is that of a module: import lines, then helpers of the class, then the class as the
    last one. Emitted modules contain it once, unchanged, with its imports among their own, and need
    nothing else. The class must have the tensors under their registered names, in the same shapes:
    as `nn.Parameter` in PyTorch, `nnx.Param` in NNX, by `self.param` in Linen and
    `self.add_weight(name=...)` in Keras. It is called with the layer's inputs one by one, and with
    `mask=` if the layer uses masks and there is one; several outputs are a tuple. A Keras class
    takes `name`, `dtype` and `trainable` as all layers do, passes its dtype to layers inside it,
    and needs `get_config` for `model.keras`. All tensors count as parameters. A class computes as
    in evaluation: Linen's classes get no argument for training.

    Attributes:
        source: the text.
        arguments: (config, shapes) -> arguments of the class by name; `shapes` has the shape of
            each tensor by name. Values are numbers, texts, bools, None, or lists, tuples and dicts
            of these. They are written as literals, so that no text of a file becomes code. None for
            a class without arguments.
        listed: True if several inputs are passed as one list.

    >>> code = LayerCode("from torch import nn\n\n\nclass Half(nn.Module):\n    pass\n")
    >>> code.class_name, code.imports
    ('Half', ('from torch import nn',))
    """

    source: str
    arguments: Callable[[Mapping[str, Any], Shapes], Mapping[str, Any]] | None = None
    listed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            got = type(self.source).__name__
            raise UsageError(f"{WHERE}.source", "the text of a class", got, "pass its source")
        if self.arguments is not None and not callable(self.arguments):
            want, got = f"a function {ARGUMENTS}", repr(self.arguments)
            raise UsageError(f"{WHERE}.arguments", want, got, "pass a function")
        _taken_apart(self.source)

    @property
    def class_name(self) -> str:
        """Name of the last class of the text."""
        return _taken_apart(self.source).class_name

    @property
    def imports(self) -> tuple[str, ...]:
        """The import lines at its start, one each."""
        return _taken_apart(self.source).imports

    @property
    def body(self) -> str:
        """The text after its imports."""
        return _taken_apart(self.source).body

    @property
    def names(self) -> frozenset[str]:
        """Names that the text defines at its top level."""
        return _taken_apart(self.source).names

    def literals(
        self, config: Mapping[str, Any], shapes: Shapes, layer: str
    ) -> list[tuple[str, str]]:
        """Arguments of the class by name, as source text.

        Raises:
            UsageError: the function fails, or returns a value that is no literal.
        """
        where = f"register_layer {layer}, arguments"
        try:
            found = {} if self.arguments is None else dict(self.arguments(config, shapes))
        except Exception as error:
            want, got = f"a function {ARGUMENTS}", f"{type(error).__name__}: {error}"
            raise UsageError(where, want, got, "correct the function") from error
        if not all(isinstance(key, str) and key.isidentifier() for key in found):
            raise UsageError(where, "names of arguments", f"{[*found]}", "correct the function")
        return [(key, literal(value, where)) for key, value in found.items()]


@dataclass(frozen=True)
class _Text:
    """The parts of a source text."""

    class_name: str
    imports: tuple[str, ...]
    body: str
    names: frozenset[str]


@functools.cache
def _taken_apart(source: str) -> _Text:
    """The parts of a module's text.

    Raises:
        UsageError: no Python, no class, or imports that work in no other file.
    """
    try:
        body = parse(source).body
    except (SyntaxError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise UsageError(f"{WHERE}.source", "Python source", got, "correct the source") from None
    doc = bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    rest = body[1:] if doc else body
    leading = []
    while rest and isinstance(rest[0], (ast.Import, ast.ImportFrom)):
        leading.append(rest[0])
        rest = rest[1:]
    classes = [item.name for item in rest if isinstance(item, ast.ClassDef)]
    if not classes:
        got = "no class after its imports"
        raise UsageError(f"{WHERE}.source", "the text of a class", got, "pass its source")
    lines = tuple(line for item in leading for line in _lines(item))
    before = leading[-1:] or (body[:1] if doc else [])
    start = before[0].end_lineno if before else 0
    text = "\n".join(source.splitlines()[start:]).strip("\n")
    return _Text(classes[-1], lines, text, frozenset(_defined(rest)))


def _lines(item: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """An import, one name a line.

    Raises:
        UsageError: an import that works in no other file, or `import *`.
    """
    relative = isinstance(item, ast.ImportFrom) and item.level
    if relative or any(alias.name == "*" for alias in item.names):
        want, got = "imports by whole names", ast.unparse(item)
        raise UsageError(f"{WHERE}.source", want, got, "write them out")
    before = f"from {item.module} " if isinstance(item, ast.ImportFrom) else ""
    for alias in item.names:
        yield f"{before}import {ast.unparse(alias)}"


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements set at the top level of a module."""
    for item in body:
        if isinstance(item, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield item.name
        elif isinstance(item, (ast.Assign, ast.AnnAssign)):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name))


def defined(text: str) -> Iterator[str]:
    """Names that a module's text sets at its top level, imports included, repeated if set twice."""
    body = parse(text).body
    yield from _defined(body)
    for item in body:
        if isinstance(item, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in item.names)
