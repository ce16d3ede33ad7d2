"""Python source as syntax trees and as modules, in a process of many threads.

>>> [type(item).__name__ for item in parse("import ast").body]
['Import']
"""

from __future__ import annotations

import ast
import linecache
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

Result = TypeVar("Result")

TRIES = 100
"""Attempts at a syntax tree while other threads of the process parse too."""

_PARSING = threading.RLock()
"""Lock of the parser: threads of this package wait, and need no second try."""

_MAKING: dict[str, threading.RLock] = {}
"""Name of a module -> the lock of the thread that builds it."""


def parse(text: str) -> ast.Module:
    """The syntax tree of a module's text.

    Raises:
        SyntaxError: no Python.
        ValueError: a text with null bytes.
    """
    with _PARSING:
        return steady(lambda: ast.parse(text))


def steady(call: Callable[[], Result]) -> Result:
    """The result of a call that parses Python, such as numpy's reader of array headers.

    CPython 3.11 counts the depth of a tree in one place for all threads (Python/Python-ast.c,
    `state->recursion_depth`). A thread that takes over meanwhile, as garbage collection lets it,
    upsets the count, and the tree is refused. The call is then repeated.

    Args:
        call: a function that may be called several times.
    """
    for _ in range(TRIES):
        try:
            return call()
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return call()


def forget_module(name: str) -> None:
    """Frees the module of a text, unless something else still uses it."""
    sys.modules.pop(name, None)
    linecache.cache.pop(f"<{name}>", None)
    _MAKING.pop(name, None)


def module_of(name: str, text: str) -> ModuleType:
    """The module of a text, known to `sys.modules` and `linecache`; executed by the first caller.

    Flax and `dataclasses` look classes up in `sys.modules` while the text is executed: the module
    must be there before its text has run. Other threads that ask for it wait.
    """
    with _MAKING.setdefault(name, threading.RLock()):
        if name in sys.modules:
            return sys.modules[name]
        module = ModuleType(name)
        file = module.__file__ = f"<{name}>"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        sys.modules[name] = module
        try:
            exec(compile(text, file, "exec"), module.__dict__)  # noqa: S102  our own text
        except BaseException:
            del sys.modules[name]
            raise
        return module
