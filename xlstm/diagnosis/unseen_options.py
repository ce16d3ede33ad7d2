"""Options in which two graphs differ though no input of a comparison may show it.

In: two models. Out: a sentence for each such option. A limit that no number reaches, or a state
that acts in the second call only, leaves the outputs of one run equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from xlstm.ir.graph import Model
from xlstm.ir.layers import LayerSpec

OTHERS = ("dropout", "recurrent_dropout", "rate", "momentum", "forget_offset")
"""Numbers that act in training only, or that are a part of a bias, which is compared."""

Option = tuple[str, str]
"""Kind of a layer, and name of a field."""


def unseen_options(a: Model, b: Model) -> tuple[str, ...]:
    """Returns a sentence for each number, or state, that the layers of two models differ in.

    Layers of one kind are compared in no order. If one model has more of a kind, they are left to
    the outputs: another framework may write a layer as two.

    >>> from xlstm.model import Relu, Source, chain
    >>> def model(top):
    ...     return chain("m", [("relu", Relu(top), True)], (2,), {}, Source("keras"))
    >>> unseen_options(model(6.0), model(7.0))
    ('Relu: top is 6 in a and 7 in b',)
    """
    found = [f"{count} are stateful in {name}" for name, count in _stateful(a, b)]
    lines = [f"recurrent layers: {' and '.join(found)}"] if found else []
    mine, theirs = _options(a), _options(b)
    for option in mine.keys() & theirs.keys():
        one, other = mine[option], theirs[option]
        if one.total() == other.total() and one != other:
            kind, name = option
            was, now = _words(one - other), _words(other - one)
            lines.append(f"{kind}: {name} is {was} in a and {now} in b")
    return tuple(sorted(lines))


def _stateful(a: Model, b: Model) -> list[tuple[str, int]]:
    """The number of stateful layers of each model, where they differ."""
    mine, theirs = len(a.stateful), len(b.stateful)
    return [("a", mine), ("b", theirs)] if mine != theirs else []


def _options(model: Model) -> dict[Option, Counter[Any]]:
    """The numbers of all layers by option; in float32, as frameworks may store them."""
    found: dict[Option, Counter[Any]] = {}
    for node in model.layers:
        for option, value in _numbers(node.spec):
            number = None if value is None else float(np.float32(value))
            found.setdefault(option, Counter())[number] += 1
    return found


def _numbers(spec: LayerSpec) -> Iterator[tuple[Option, float | None]]:
    for field in fields(spec):
        value = getattr(spec, field.name)
        number = value is None or isinstance(value, (int, float))
        if isinstance(value, LayerSpec):
            yield from _numbers(value)
        elif number and "float" in str(field.type) and field.name not in OTHERS:
            yield (spec.kind, field.name), value


def _words(numbers: Counter[Any]) -> str:
    """Numbers in words.

    >>> _words(Counter({0.5: 2, None: 1}))
    '0.5, 0.5, None'
    """
    return ", ".join("None" if n is None else f"{n:.9g}" for n in numbers.elements())
