"""Restores every global random state after a call, so that a user's seed keeps its effect.

Layers start from random weights before they get the trained ones, and Keras takes the seed of each
from Python's `random` (keras/src/random/seed_generator.py). In: a function of xlstm that builds or
runs models. Out: the same function, after which the states are those before the call.

    @unmoved
    def port(source, to): ...

The states are those of Python, numpy and every framework that xlstm uses. A thread that draws
numbers during the call draws the same numbers again after it.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

HOOK = "random_state"
"""Name of a live half's function that returns the function to restore its states."""

_lock = threading.RLock()
_calls = 0
_back: dict[str, Callable[[], object]] = {}
"""Functions that restore each state during calls: to the state before the first of them."""

_turned_to: dict[str, ModuleType] = {}
"""The live halves of this process that have states, each fully imported."""


class _Unmoved(contextlib.ContextDecorator):
    """Restores all global random states after a block, or after each call of a function."""

    def __enter__(self) -> None:
        _enter()

    def __exit__(self, *_error: object) -> None:
        _leave()


unmoved = _Unmoved()
"""As `with unmoved:` or `@unmoved`."""


def note(live: ModuleType) -> None:
    """Saves the states of a framework during a call, before the call uses it."""
    with _lock:
        if hasattr(live, HOOK):
            _turned_to[live.__name__] = live
            _take()


def _take() -> None:
    """Saves the states that are not saved yet, if a call is under way."""
    for name, live in _turned_to.items() if _calls else ():
        if name not in _back:
            _back[name] = getattr(live, HOOK)()


def _enter() -> None:
    global _calls
    with _lock:
        _calls += 1
        if _calls > 1:
            return
        _back["random"] = functools.partial(random.setstate, random.getstate())
        numpy: Any = sys.modules.get("numpy.random")
        if numpy is not None:  # before its import, no user has seeded it
            _back["numpy"] = functools.partial(numpy.set_state, numpy.get_state())
        _take()


def _leave() -> None:
    global _calls
    with _lock:
        _calls -= 1
        if _calls:
            return
        for back in _back.values():
            back()
        _back.clear()
