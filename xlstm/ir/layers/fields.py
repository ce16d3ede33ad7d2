"""Checks every field of a dataclass against its type, and every text in it against a rule.

A graph may come from a file, and its options become source that is run. So each field is checked
when the object is constructed, and a text has a rule beside its type:

    padding: Annotated[str, OneOf(("valid", "same"))] = "valid"

A text without a rule is a bug of xlstm: a TypeError at the construction of the first such object.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.errors import UnsupportedError, UsageError

Check = Callable[[str, Any], None]
"""Raises for a value that does not fit; the text names its place."""


@dataclass(frozen=True)
class OneOf:
    """A text that is one of `names`."""

    names: tuple[str, ...]

    def check(self, where: str, text: str) -> None:
        """Raises UnsupportedError for a text that is none of them."""
        if text not in self.names:
            names = ", ".join(name or '""' for name in self.names)
            raise UnsupportedError(where, f"one of {names}", repr(text), "use one of these")


@dataclass(frozen=True)
class Like:
    """A text that `pattern` matches in full; `words` describe it for people."""

    words: str
    pattern: str

    def check(self, where: str, text: str) -> None:
        """Raises UsageError for a text that does not match."""
        if not re.fullmatch(self.pattern, text):
            raise UsageError(where, self.words, repr(text), "change it")


@dataclass(frozen=True)
class AnyText:
    """A text that people or files choose freely.

    It reaches emitted source as an identifier (`xlstm.ir.identifiers`) or quoted
    (`xlstm.ir.literals`).
    """

    def check(self, where: str, text: str) -> None:
        """Raises nothing."""


Rule = OneOf | Like | AnyText

MOST_AXES = 64
"""Most axes of a numpy array, and so the longest tuple of whole numbers: sizes, axes, positions."""

LISTS = frozenset({"Optimizer.sizes"})
"""Tuples of whole numbers of any length, which are no axes of an array."""

MOST_BITS = 1000
"""Most bits of a whole number, which may be a product of sizes; Python writes no 5,000 digits."""


def check_fields(thing: Any) -> None:
    """Checks every field of a dataclass.

    Raises:
        UsageError: a value of another type than its field.
        UnsupportedError: a text that its field may not have.
        TypeError: a field whose type has no check, such as a text without a rule.
    """
    cls: Any = type(thing)
    for name, where, check in checks(cls):
        check(where, getattr(thing, name))


@functools.cache
def checks(cls: type) -> tuple[tuple[str, str, Check], ...]:
    """Name, place in words, and check of each field of a dataclass or a NamedTuple.

    Raises:
        TypeError: as `check_fields`.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    if dataclasses.is_dataclass(cls):
        names = [item.name for item in dataclasses.fields(cls)]
    else:
        names = [*cls._fields]  # type: ignore[attr-defined]
    places = [f"{cls.__name__}.{name}" for name in names]
    return tuple(
        (n, where, _check(where, hints[n])) for n, where in zip(names, places, strict=True)
    )


def _check(where: str, hint: Any) -> Check:
    """The check of a type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated and args[0] is str:
        (rule,) = (extra for extra in args[1:] if isinstance(extra, Rule))
        return functools.partial(_text, rule)
    if hint in NUMBERS:
        return NUMBERS[hint]
    if origin in (types.UnionType, typing.Union) and len(args) == 2 and type(None) in args:
        (kind,) = (arg for arg in args if arg is not type(None))
        return functools.partial(_optional, _check(where, kind))
    if origin is tuple and len(args) == 2 and args[1] is ...:
        axes = args[0] in (int, int | None) and where not in LISTS
        most = MOST_AXES if axes else None
        return functools.partial(_tuple, _check(where, args[0]), most)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, value = (_check(where, arg) for arg in args)
        # a mapping may compute its arrays on demand
        array = typing.get_origin(args[1]) is np.ndarray
        return functools.partial(_mapping, key, None if array else value)
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return functools.partial(_named, hint)
    kind = origin or hint
    wide = kind in (Any, object) or not isinstance(kind, type)
    if wide or issubclass(kind, (str, bytes, list, tuple, dict, set, frozenset)):
        raise TypeError(f"{where}: {hint} has no check; a str needs a rule of {__name__}")
    return functools.partial(_instance, kind)


def _refuse(where: str, want: str, value: object) -> typing.NoReturn:
    try:
        got = repr(value)
    except ValueError:  # it contains a number of thousands of digits
        got = f"a {type(value).__name__} of numbers that are too large"
    raise UsageError(where, want, got, "change it")


def _text(rule: Rule, where: str, value: Any) -> None:
    if type(value) is not str:
        _refuse(where, "a text", value)
    rule.check(where, value)


def _whole(where: str, value: Any) -> None:
    if type(value) is not int:
        _refuse(where, "a whole number", value)
    if value.bit_length() > MOST_BITS:
        got = f"one of {value.bit_length()} bits"
        raise UsageError(where, f"a whole number of {MOST_BITS} bits at most", got, "change it")


def _number(where: str, value: Any) -> None:
    if type(value) is int:
        _whole(where, value)
    elif not isinstance(value, float) or not math.isfinite(value):
        _refuse(where, "a finite number", value)  # JSON has no other, nor has emitted source


def _switch(where: str, value: Any) -> None:
    if type(value) is not bool:
        _refuse(where, "True or False", value)


NUMBERS: dict[Any, Check] = {int: _whole, float: _number, bool: _switch}


def _optional(check: Check, where: str, value: Any) -> None:
    if value is not None:
        check(where, value)


def _tuple(check: Check, most: int | None, where: str, value: Any) -> None:
    if type(value) is not tuple:
        _refuse(where, "a tuple", value)
    if most is not None and len(value) > most:
        raise UsageError(where, f"{most} whole numbers at most", f"{len(value):,}", "remove some")
    for item in value:
        check(where, item)


def _mapping(key: Check, value: Check | None, where: str, found: Any) -> None:
    if not isinstance(found, Mapping):
        _refuse(where, "a mapping", found)
    for name in found:
        key(where, name)
        if value is not None:
            value(where, found[name])


def _named(kind: type, where: str, value: Any) -> None:
    _instance(kind, where, value)
    for name, place, check in checks(kind):
        check(place, getattr(value, name))


def _instance(kind: type, where: str, value: Any) -> None:
    if not isinstance(value, kind):
        raise UsageError(where, f"a {kind.__name__}", type(value).__name__, "change it")
