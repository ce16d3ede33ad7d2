r"""Parses YAML to plain data, from a parser's events within a budget.

In: a text. Out: data that JSON can express. Readers of YAML differ in the types of scalars without
quotes; only forms that have one type in all of them, and in JSON, are read.

    parse_yaml("units: 4\nname: lstm", "model.yaml", Budget())   # {"units": 4, "name": "lstm"}
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.guards import MAX_NESTING, check_data, finite, whole

MAX_YAML = 2**20
"""Largest YAML text: its parser is slow, and architectures are small."""

MAX_VALUES = 100_000
"""Most values, with those of aliases: real texts have thousands."""

LONGEST_NUMBER = 64
"""Most characters of a scalar that YAML may read as a number, a date or a bool."""

TAG = "tag:yaml.org,2002:"
TEXTS = {f"{TAG}{name}" for name in ("str", "python/str", "python/unicode")}
LISTS = {f"{TAG}{name}" for name in ("seq", "python/tuple")}
OBJECTS = {f"{TAG}map"}
"""Tags that are plain data; Keras's own writer marks tuples this way, and Python 2 its texts."""

PLAIN: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda _text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", whole),
    "float": (r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?", finite),
}
"""Type of a scalar in YAML -> the forms that are read, as JSON has them, and their values."""

NUMBERLIKE = re.compile(r"[-+]?([0-9][0-9_:]*\.?[0-9_]*|0[xb][0-9a-fA-F_]+)")
"""Numbers of any length in the forms of YAML."""


def parse_yaml(text: str, where: str, budget: Budget) -> Any:
    """YAML as plain data.

    An alias counts as all of its values, so that a small file cannot become huge data. Numbers in
    other forms than JSON's (octal, hexadecimal, base 60), dates, and words like `yes` are refused.

    Args:
        text: of the document.
        where: file or part of it, for messages.
        budget: limit of the cost.

    Raises:
        FileError: a text that is too large, not YAML, or has anything but plain data.

    >>> parse_yaml("{units: 4, name: lstm, rate: 1.0e-03}", "example", Budget())
    {'units': 4, 'name': 'lstm', 'rate': 0.001}
    """
    if len(text) > MAX_YAML:
        raise FileError(where, f"at most {MAX_YAML} characters", len(text), "check the file")
    budget.spend("characters", len(text), where)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = _Composer(where, budget).document(yaml.parse(text, loader))
    except FileError:
        raise
    except Exception as error:
        got = f"{type(error).__name__} ({error})"
        raise FileError(where, "JSON or YAML", got, "save the architecture again") from None
    check_data(data, where)
    return data


class _Open:
    """A list or object that is being filled.

    Attributes:
        value: the list or object.
        key: in an object, a list with the key that has no value yet, or an empty one.
        anchor: its name for aliases.
        before: number of values before it.
    """

    def __init__(self, value: Any, anchor: str | None, before: int) -> None:
        self.value, self.anchor, self.before = value, anchor, before
        self.key: list[Any] = []

    def put(self, value: Any) -> None:
        """Adds a value to a list, or a key or its value to an object."""
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key:
            self.value[self.key.pop()] = value
        elif isinstance(value, list | dict):
            raise yaml.YAMLError("a key that is no text")
        elif value in self.value:
            raise yaml.YAMLError("a key occurs twice")
        else:
            self.key.append(value)


class _Composer:
    """Builds data from the events of a parser, without recursion."""

    def __init__(self, where: str, budget: Budget) -> None:
        self._where, self._budget, self._count = where, budget, 0
        self._resolver: Any = yaml.resolver.Resolver()
        # name -> value, and the number of values in it
        self._anchors: dict[str, tuple[Any, int]] = {}

    def document(self, events: Iterable[yaml.Event]) -> Any:
        """The data of the one document."""
        top = _Open([], None, 0)
        around = [top]
        for event in events:
            if isinstance(event, yaml.CollectionEndEvent):
                self._close(around.pop())
            elif isinstance(event, yaml.NodeEvent):
                self._open(event, around)
            if len(around) > MAX_NESTING:
                raise yaml.YAMLError(f"more than {MAX_NESTING} levels")
        if len(top.value) != 1:
            raise yaml.YAMLError(f"{len(top.value)} documents")
        return top.value[0]

    def _open(self, event: yaml.NodeEvent, around: list[_Open]) -> None:
        before = self._count
        self._spend(1)
        if isinstance(event, yaml.AliasEvent):
            value = self._alias(event.anchor, around)
        else:
            value = self._value(event)
        around[-1].put(value)
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Open(value, event.anchor, before))
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            self._anchors[event.anchor] = value, 1

    def _close(self, closed: _Open) -> None:
        if closed.anchor:
            self._anchors[closed.anchor] = closed.value, self._count - closed.before

    def _spend(self, count: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES} values, aliases written out")
        self._budget.spend("values", count, self._where)

    def _alias(self, name: str | None, around: list[_Open]) -> Any:
        """A copy of the value of an alias."""
        if any(item.anchor == name for item in around):
            raise yaml.YAMLError("an alias inside the value that it stands for")
        if name not in self._anchors:
            raise yaml.YAMLError("an alias of nothing before it")
        value, count = self._anchors[name]
        self._spend(count)
        return copy.deepcopy(value)

    def _value(self, event: yaml.NodeEvent) -> Any:
        """An empty list or object, or the value of a scalar."""
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.SequenceStartEvent) and tag in (None, "!", *LISTS):
            return []
        if isinstance(event, yaml.MappingStartEvent) and tag in (None, "!", *OBJECTS):
            return {}
        if isinstance(event, yaml.ScalarEvent) and tag in (None, "!", *TEXTS):
            plain = tag is None and event.implicit[0]
            return self._scalar(event.value) if plain else event.value
        got = f"the tag {str(tag)[:LONGEST_NUMBER]}, which is no plain data"
        raise ConstructorError(None, None, got)

    def _scalar(self, text: str) -> Any:
        """The value of a scalar without quotes."""
        if len(text) > LONGEST_NUMBER and NUMBERLIKE.fullmatch(text):
            raise yaml.YAMLError(f"a number of {len(text):,} characters")
        if len(text) > LONGEST_NUMBER:
            return text
        # the type in PyYAML, which Keras's writer uses
        tag = self._resolver.resolve(yaml.ScalarNode, text, (True, False)).removeprefix(TAG)
        if tag == "str":
            return text
        form, read = PLAIN.get(tag, ("", str))
        if tag not in PLAIN or not re.fullmatch(form, text):
            got = f"{text}, which YAML takes for {tag}; write it as JSON does, or quote it"
            raise yaml.YAMLError(got)
        return read(text)
