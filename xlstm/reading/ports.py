"""Reads ports: folders that `save` wrote, live ports of this process, and objects of a folder.

A folder is read from its graph and weights; no code of it is run.

An object of a folder is recognised by its class. Its code must equal that of `model.py` beside the
weights, and that file must be the one that is written for the graph in the weights. Then the object
computes the graph with its present weights, if its layers are those that its class builds; this is
checked for PyTorch.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.files.arrays.safe_tensors import open_safetensors
from xlstm.files.free_memory import check_memory
from xlstm.files.guards import as_text, open_regular
from xlstm.files.port_folder import CONFIG, SOURCE, graph_beside, graph_data, has_port, weights_of
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import unpack_model
from xlstm.ir.batch_axes import as_ported
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES
from xlstm.ir.python_source import parse
from xlstm.ir.serialize import from_json
from xlstm.ir.source import NOT_READ, Source
from xlstm.ir.types import Array

PORTS: dict[str, Model] = {}
"""Name of each emitted module of this process -> the graph that it was written from."""

_MADE: dict[int, tuple[weakref.ref[Any], Model]] = {}
"""Number (`id`) of each live port -> the port, and the graph that it was built from."""


def remember(port: Any, graph: Model) -> None:
    """Stores the graph of a port for as long as the port lives.

    The emitted module does not identify it: models of other files, or with other layer names, may
    be written as the same module.
    """
    whose, number = _whose(port), id(_whose(port))
    if type(whose).__module__ in PORTS:
        with contextlib.suppress(TypeError):  # a class without weak references
            _MADE[number] = weakref.ref(whose, lambda _: _MADE.pop(number, None)), graph


def _whose(port: Any) -> Any:
    """The module of a port: the first of Flax Linen's pair, all of the others."""
    return port[0] if isinstance(port, tuple) else port


def _graph_of(port: Any) -> Model | None:
    """The graph of a port of this process, None for others; a copy has the graph of its module."""
    whose = _whose(port)
    shared = PORTS.get(type(whose).__module__)
    made, graph = _MADE.get(id(whose), (None, None))
    return graph if shared and made and made() is whose else shared


def read_port(source: Any, owner: Adapter) -> Model | None:
    """The model of a port of this process, with its present weights; None for others."""
    graph = _graph_of(source)
    if graph is None:
        return None
    live: Any = owner.live()
    found = _live_source(graph, owner)
    weights = unpack_model(graph, owner, live.weights(source))
    return as_ported(replace(graph, weights=weights, source=found))


def _live_source(graph: Model, owner: Adapter) -> Source:
    """The source of a live port, from that of its graph."""
    kind, notes = f"live port to {owner.title}", notes_of_model(graph.source)
    return replace(graph.source, container=kind, optimizer=None, notes=notes)


def read_emitted(source: Any, owner: Adapter) -> Model | None:
    """The model of an object from a ported folder's `load()`; None for others.

    None too if the folder's files do not match the object's class, because they were changed or
    another version wrote them, or if layers of the object were replaced.

    Args:
        source: a live object of `owner`.
        owner: the framework.

    Raises:
        WeightsError: weights of other names or shapes than the class has.
    """
    whose = source[0] if isinstance(source, tuple) else source
    folder = folder_of(whose)
    if folder is None:
        return None
    try:
        graph = read_folder(folder) if target_of(folder) is owner else None
        text = (folder / SOURCE).read_text("utf-8")
        if graph is None or not same_code(text, owner, graph) or not _runs(type(whose), text):
            return None
    except (XlstmError, OSError, SyntaxError, ValueError):
        return None
    live: Any = owner.live()
    if hasattr(live, "as_made") and not live.as_made(source):
        return None
    found = _live_source(graph, owner)
    weights = unpack_model(graph, owner, live.weights(source))
    return as_ported(replace(graph, weights=weights, source=found))


def folder_of(live: object) -> Path | None:
    """The ported folder whose `model.py` defines the class of an object."""
    first = next(_functions(type(live)), None)
    path = Path(first.__code__.co_filename) if first else Path()
    return path.parent if path.name == SOURCE and has_port(path.parent) else None


def _functions(cls: type) -> Iterator[FunctionType]:
    """The functions that the body of a class defines."""
    for value in vars(cls).values():
        function = _function(value)
        if function and function.__qualname__.startswith(f"{cls.__qualname__}."):
            yield function


def _function(value: object) -> FunctionType | None:
    """The function below decorators, or the getter of a property; None for other objects."""
    value = value.fget if isinstance(value, property) else value
    value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, FunctionType) else None


def emitted_for(data: bytes, graph: Model, adapter: Adapter) -> bool:
    """True if a model.py is exactly the one that is written for a graph.

    A port may have been saved in another dtype than the one that it was written for.
    """
    return any(data == text.encode() for text in _texts(graph, adapter))


ROOM = 2**14
"""Characters that comments and formatting may add to twice the text of emitted code."""


def same_code(text: str, owner: Adapter, graph: Model) -> bool:
    """True if a file has the code that is written for a graph; docstrings and comments may differ.

    A text of more than twice the length of that code, plus ROOM, is not parsed.

    Raises:
        SyntaxError: no Python; ValueError, RecursionError and MemoryError too.
    """
    texts = [*_texts(graph, owner)]
    if len(text) > 2 * max(map(len, texts), default=0) + ROOM:
        return False
    bare = _bare(text)
    return any(_bare(other) == bare for other in texts)


def _texts(graph: Model, adapter: Adapter) -> Iterator[str]:
    """The text that is written for a graph, and those for weights of other dtypes."""
    own = graph.compute_dtype().name
    for dtype in (own, *(name for name in DTYPES if name != own)):
        if adapter.emit is not None:
            yield adapter.emit(
                graph if dtype == own else replace(graph, weights=_zeros(graph, dtype))
            )


def _zeros(graph: Model, dtype: str) -> dict[str, dict[str, Array]]:
    """Weights of a dtype that need no memory."""
    zero = np.zeros((), dtype)
    return {
        layer: {name: np.broadcast_to(zero, array.shape) for name, array in arrays.items()}
        for layer, arrays in graph.weights.items()
    }


def _bare(text: str) -> str:
    """The tree of a module without docstrings, which may name other versions."""
    tree = parse(text)
    for item in ast.walk(tree):
        holds = isinstance(item, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if holds and ast.get_docstring(item) is not None:  # type: ignore[arg-type]
            item.body = item.body[1:]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _runs(cls: type, text: str) -> bool:
    """True if the code of a class's module is that of a text."""
    first = next(_functions(cls))
    module_globals = first.__globals__
    found = dict(_codes(compile(text, SOURCE, "exec", dont_inherit=True)))
    return f"{cls.__name__}.{first.__name__}" in found and all(
        _held(module_globals, name) == code for name, code in found.items()
    )


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """The code of every function of a module and of its classes, by qualified name."""
    for item in code.co_consts:
        if isinstance(item, CodeType) and "<" not in item.co_qualname:
            # the body of a class has no local variables
            if item.co_flags & inspect.CO_NEWLOCALS and item.co_flags & inspect.CO_OPTIMIZED:
                yield item.co_qualname, item
            else:
                yield from _codes(item)


def _held(names: dict[str, Any], path: str) -> CodeType | None:
    """The present code of a qualified name."""
    owner, _, name = path.rpartition(".")
    function = _function(vars(names[owner]).get(name) if owner in names else names.get(path))
    return function.__code__ if function else None


def check_plain(path: Path, options: Sequence[str]) -> None:
    """Raises UsageError for options of source files in a call with a ported folder."""
    if options:
        names = ", ".join(f"{name}=" for name in options)
        want = f"a file of Keras for {names}"
        raise UsageError(path.name, want, "a ported folder, whose graph is known", "remove it")


def read_folder(path: Path, budget: Budget | None = None, *, numbers: bool = True) -> Model:
    """The model of a ported folder; its code is not run.

    Args:
        path: of the folder.
        budget: limit of the cost of reading it; a new one if None.
        numbers: True to read the weights, False for zeros that need no memory.

    Raises:
        FileError: weights that are damaged or have no graph.
        WeightsError: weights that do not fit the graph.
    """
    file, budget = weights_of(path), budget or Budget()
    with open_regular(file) as stream:
        found = open_safetensors(stream, str(file), budget)
        tensors = found.tensors
        if numbers:
            check_memory(tensors.values(), str(file))
        arrays = {name: t.load() if numbers else t.zeros() for name, t in tensors.items()}
    data = graph_beside(found.metadata, path, budget)
    if not data:
        want, got = "a graph in the metadata", f"none, and none in {CONFIG}"
        raise FileError(file, want, got, "port the model again with xlstm")
    model = from_json(data.get("graph"), {}, str(file), budget)
    adapter = _target(as_text(data.get("to"), str(file)), file)
    model = replace(model, source=replace(model.source, notes=notes_of_model(model.source)))
    return replace(model, weights=unpack_model(model, adapter, arrays))


def notes_of_model(source: Source) -> tuple[str, ...]:
    """The notes of a source that hold for its ports too, without those about the file itself."""
    return tuple(line for line in source.notes if not line.startswith(NOT_READ))


def target_of(path: Path) -> Adapter:
    """The target of a ported folder, by its graph.

    Raises:
        FileError: as `read_folder`.
    """
    file = weights_of(path)
    return _target(as_text(graph_data(path, Budget()).get("to"), str(file)), file)


def _target(name: str, file: Path) -> Adapter:
    if name in registry.names() and registry.adapter(name).emit is not None:
        return registry.adapter(name)
    raise FileError(file, "the weights of a known framework", name, "install its adapter")
