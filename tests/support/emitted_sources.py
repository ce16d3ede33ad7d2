"""Emitted modules that between them hold all that emitters write: for tests that look at each."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from cases import CASES, built
from cases_layers import CASES_LAYERS
from golden import MODELS

from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Model
from xlstm.ir.layers import Dense, Input

WORDS = re.compile(r"(?!self)\b[\w.]+(?=\()|\w+=|^class .*|^def .*", re.MULTILINE)
"""What is called, what arguments it is told, and what is defined."""


class Emitted(NamedTuple):
    """A module, and the model it is the port of; the name is fit for a file."""

    name: str
    model: Model
    text: str


def module_of(folder: Path) -> ModuleType:
    """Returns a folder's own model.py as a module that nobody knows by name."""
    spec = importlib.util.spec_from_file_location("somebodys_module", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def many() -> Model:
    """So many layers that some framework writes its module in another way."""
    graph = Builder()
    x = graph.add("x", Input((3,)))
    for number in range(64):
        x = graph.add(f"dense_{number}", Dense(3, 3), [x])
    return built(graph, [x])


def sources(framework: str) -> Iterator[Emitted]:
    """Modules in which something is called or named that none before them has."""
    models = {**{make.__name__: make() for make in MODELS}, **CASES, **CASES_LAYERS, "many": many()}
    seen: set[str] = set()
    for case, model in models.items():
        text = registry.adapter(framework).emit(model)
        words = {*WORDS.findall(text)}
        if not words <= seen:
            yield Emitted(f"{re.sub('[^0-9A-Za-z]', '_', case)}_{framework}", model, text)
        seen |= words
