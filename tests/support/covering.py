"""The fewest cases that show everything: for tests whose every case is slow.

In: cases, as models by name, and a framework's writer. Out: names of some, which hold every kind of
layer with every value of its options, beside a mask and without one, and every class, function and
argument that any case has in its written source.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping

from xlstm.ir.graph import Model
from xlstm.ir.layers import LayerSpec


def options(spec: LayerSpec) -> Iterator[str]:
    """Each option of a layer as text, those of the layers inside it included."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, LayerSpec):
            yield from (f"{spec.kind} {field.name} {one}" for one in options(value))
        elif isinstance(value, (bool, str, type(None))):
            yield f"{spec.kind} {field.name}={value}"
        else:
            yield f"{spec.kind} {field.name} {_form(value)}"


def _form(value: object) -> str:
    """The number of values, and for each one if it is 0, 1 or more."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_form, value))})"
    return str(min(max(value, -1), 2)) if isinstance(value, int) else type(value).__name__


def written(text: str) -> Iterator[str]:
    """Each definition and each argument of a call; of values those that are words or truths."""
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
            yield f"def {item.name}"
        elif isinstance(item, ast.Call):
            called = _called(item.func)
            yield called
            for one in item.keywords:
                value = getattr(one.value, "value", None)
                said = value if isinstance(value, (bool, str)) and one.arg != "name" else "any"
                yield f"{called} {one.arg}={said}"


def _called(function: ast.expr) -> str:
    """Name of a function; of a layer that is called at once that of its class, with brackets."""
    if isinstance(function, ast.Call):
        return f"{_called(function.func)}()"
    return getattr(function, "attr", getattr(function, "id", ""))


def shown(model: Model, emit: Callable[[Model], str]) -> set[str]:
    """All that a model shows."""
    found = set(written(emit(model)))
    for node in model.nodes:
        seen = "masked" if node.mask else "seen"
        started = "started" if node.states else "zeros"
        found.add(f"{node.spec.kind} {len(node.shape)} axes {seen} {started} {bool(node.layer)}")
        found |= {f"{one} {seen}" for one in options(node.spec)}
    return found


def cover(cases: Mapping[str, Model], emit: Callable[[Model], str]) -> list[str]:
    """Names of cases that together show what all show, found one by one: the richest first."""
    left = {name: shown(model, emit) for name, model in cases.items()}
    found = []
    while any(left.values()):
        best = max(left, key=lambda name: len(left[name]))
        found.append(best)
        gone = left[best]
        left = {name: rest - gone for name, rest in left.items()}
    return sorted(found, key=list(cases).index)
