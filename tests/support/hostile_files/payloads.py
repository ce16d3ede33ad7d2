"""Texts that would be code if an emitter wrote them as they are, and what finds them if it did."""

from __future__ import annotations

import ast
import copy
import dataclasses
import io
import tokenize
from collections.abc import Iterator
from typing import Any

from xlstm.ir.layers import LayerSpec

MARK = "RAN"
"""In every payload; emitted source may have it in string constants only."""

CODE = f'__import__("pathlib").Path("{MARK}").touch()'

PAYLOADS = {
    "expression": CODE,
    "dtype": f'int32" if not {CODE} else "int32',
    "apostrophe": f"x' if {CODE} else 'x",
    "call": f'x"), {CODE}, ("',
    "docstring": f'"""\n{CODE}\n"""',
    "newline": f"x\n{CODE}\n",
    "indented": f"x\n        {CODE}\n",
    "return": f"x\r{CODE}",
    "import": f"x\nimport {MARK}\n",
    "semicolon": f"x; {CODE}",
    "comment": f"x # {MARK}",
    "backslash": f"{MARK}\\",
    "escaped quote": f'{MARK}\\"); {CODE}',
    "braces": f"{{{CODE}}}",
    "line separator": f"x\u2028{CODE}",
    "next line": f"x\x85{CODE}",
    "form feed": f"x\x0c{CODE}",
    "nul": f"{MARK}\0",
    "surrogate": f"{MARK}\ud800",
    "right to left": f"{MARK}\u202e",
}
"""By what each of them tries."""

POLYGLOT = f"RAN\\'\" + {CODE} + \"'\n\u2028\x85\"\"\"\n{CODE}\n'''# {{{CODE}}}"
"""Valid inside no quotes and in none: wherever it is written as it is, the text is broken."""


def comments(text: str) -> str:
    """All comments of a source text."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(token.string for token in tokens if token.type == tokenize.COMMENT)


def check(text: str, *, named: bool = False) -> None:
    """Asserts that emitted source has a payload nowhere but in string constants.

    `named` where identifiers may be made of one, as those of layers are.
    """
    tree = ast.parse(text)
    compile(tree, "model.py", "exec")
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            assert MARK not in (ast.get_docstring(node) or ""), text
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    dump = ast.dump(tree)
    assert "id='__import__'" not in dump, text
    assert f"alias(name='{MARK}'" not in dump, text
    assert named or MARK not in dump, text


def evils(value: Any, payload: str) -> Iterator[Any]:
    """A value with the payload in its place, or in the place of each part of it."""
    yield payload
    if isinstance(value, tuple):
        yield (*value, payload)
        for number, item in enumerate(value):
            for evil in evils(item, payload):
                yield (*value[:number], evil, *value[number + 1 :])


def forged(thing: Any, name: str, value: Any) -> Any:
    """A copy of a dataclass with another value in a field, which nothing checks."""
    made = copy.copy(thing)
    object.__setattr__(made, name, value)
    return made


def forgeries(spec: LayerSpec, payload: str) -> Iterator[tuple[str, LayerSpec]]:
    """Copies of a spec with the payload in each place of each field, layers inside it included."""
    for item in dataclasses.fields(spec):
        value = getattr(spec, item.name)
        if isinstance(value, LayerSpec):
            inner = forgeries(value, payload)
            yield from ((f"{item.name}.{n}", forged(spec, item.name, own)) for n, own in inner)
        yield from ((item.name, forged(spec, item.name, evil)) for evil in evils(value, payload))
