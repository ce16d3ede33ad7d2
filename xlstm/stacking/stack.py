"""Puts many models of one architecture into one object that runs all of them at once.

    many = stack({"a": "a.keras", "b": "b.keras"}, to="torch")
    y = many(x)  # (2, batch, ...)

In: models, and a target. Out: the target's object.
"""

from __future__ import annotations

import hashlib
import numbers
import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.custom_layers.register import registered_code
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import check_model, pack_model
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.python_source import module_of
from xlstm.ir.types import Array
from xlstm.porting.port import check_dtype
from xlstm.reading.load import load
from xlstm.stacking.difference import first_difference, renamed


@dataclass(frozen=True)
class StackMember:
    """One model of a stack, without its weights.

    Attributes:
        name: unlike any other model's.
        graph: of the model, with its own layer names and source, without weights.
    """

    name: str
    graph: Model


@dataclass(frozen=True)
class StackedModels:
    """Facts about a stack that its object does not have.

    Attributes:
        adapter: of the target, as its stacks are.
        graph: of the first model; those of the others differ in names only.
        members: the models, in the order of the first axis.
        dtype: name of the dtype that the stack computes in.
        chunk: the number of models that are run together, None for the default.
    """

    adapter: Adapter
    graph: Model
    members: tuple[StackMember, ...]
    dtype: str
    chunk: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, in order."""
        return tuple(member.name for member in self.members)


MODULE = "xlstm_stack_"
"""Start of the names of emitted modules of stacks."""

_MADE: dict[int, tuple[weakref.ref[Any], StackedModels]] = {}
"""Number (`id`) of each stack -> the stack, and its facts."""


@unmoved
def stack(
    models: Iterable[Any] | Mapping[str, Any],
    to: str = "torch",
    *,
    dtype: Any = None,
    chunk: int | None = None,
) -> Any:
    """One object that runs many models of one architecture at once.

    It is called as one model, `many(*inputs)`. An input is (batch, ...), the same for all models,
    or (models, batch, ...), one for each. Outputs are (models, batch, ...), in the dtype of the
    stack, in the order of `models`. They equal those of the single models within rounding, which
    `xlstm.stacking.reconcile` proves.

    The models are run in chunks whose weights fit into two thirds of the processor's second cache.

    Args:
        models: anything that `load` takes, each; or a mapping of names to them. Names of layers may
            differ, the graphs may not.
        to: "torch" for an `nn.Module`, "nnx" or "linen" for a callable with a dict of `weights`,
            "numpy" for a callable.
        dtype: as in `port`; None for the widest stored dtype of all models, at least float32.
        chunk: the number of models to run together; None to choose it from the cache's size.

    Raises:
        MissingFrameworkError: the target is not installed.
        UnsupportedError: a layer that cannot be stacked: one that keeps its states between calls,
            or one that the target has no exact form of.
        UsageError: no model, two of one name, a chunk that is not positive, or a model whose graph
            differs from the first one's. The message says where.
        XlstmError: as `load` raises.

    >>> import numpy as np, xlstm
    >>> many = xlstm.stack([xlstm.demo.path()] * 3, to="numpy")
    >>> many(np.zeros((1, 20, 1), np.float32)).shape
    (3, 1, 20)
    """
    adapter = _target(to)
    named = _named(models)
    whole = isinstance(chunk, numbers.Integral) and not isinstance(chunk, bool)
    if chunk is not None and not (whole and chunk >= 1):
        raise UsageError("chunk", "a number of models, at least 1", chunk, "pass None")
    read = {name: load(source) for name, source in named.items()}
    return made_of(read, adapter, dtype, chunk)


def made_of(
    models: Mapping[str, Model], adapter: Adapter, dtype: Any = None, chunk: int | None = None
) -> Any:
    """As `stack`, for models that are read, and the adapter of stacks."""
    graph = next(iter(models.values()))
    check_stackable(graph, adapter)
    for name, model in models.items():
        _check_same(graph, model, name)
    widest = np.result_type(*(model.compute_dtype() for model in models.values()))
    kind = check_dtype(graph, widest if dtype is None else dtype)
    same = {name: renamed(model, graph).astype(kind) for name, model in models.items()}
    members = tuple(StackMember(name, replace(model, weights={})) for name, model in models.items())
    first = replace(next(iter(same.values())), source=graph.source)
    facts = StackedModels(adapter, first, members, kind, chunk)
    live: Any = adapter.live()
    if adapter.emit is None:
        made = live.build_stack(list(same.values()), kind, chunk)
    else:
        made = build(first, adapter, stacked_weights(same.values(), adapter), kind, chunk)
    remember(made, replace(facts, graph=replace(first, weights={})))
    return made


def build(
    graph: Model, adapter: Adapter, weights: Mapping[str, Array], dtype: str, chunk: int | None
) -> Any:
    """The live object of a stack from its weights, (models, ...), by the names of one model's."""
    live: Any = adapter.live()
    assert adapter.emit is not None
    with registered_code(graph, adapter.name):
        text = adapter.emit(graph)
        name = f"{MODULE}{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        return live.build_stack(module_of(name, text), weights, dtype, chunk)


def stacked_weights(models: Iterable[Model], adapter: Adapter) -> dict[str, Array]:
    """The tensors of a target, the axis of models first; one copy of them is in memory."""
    found: dict[str, list[Array]] = {}
    for model in models:
        for name, array in pack_model(model, adapter).items():
            found.setdefault(name, []).append(array)
    return {name: np.stack(found.pop(name)) for name in [*found]}


def remember(made: Any, facts: StackedModels) -> None:
    """Stores the facts of a stack for as long as it lives."""
    number = id(made)
    _MADE[number] = weakref.ref(made, lambda _: _MADE.pop(number, None)), facts


def facts_of(made: Any) -> StackedModels:
    """The facts of a stack of this process.

    Raises:
        UsageError: another object.
    """
    reference, facts = _MADE.get(id(made), (None, None))
    if facts is None or reference is None or reference() is not made:
        got, do = type(made).__name__, "pass what xlstm.stack returned, or the folder of a stack"
        raise UsageError("stack", "a stack of this process", got, do)
    return facts


def _target(to: str) -> Adapter:
    """The adapter of a target's stacks.

    Raises:
        UsageError: a target that has none.
    """
    found = registry.adapter(to)
    if found.stacks is None:
        able = [name for name in registry.names() if registry.adapter(name).stacks]
        raise UsageError("stack", f"one of {', '.join(able)} for to=", to, "choose one of these")
    found.check_installed()
    adapter: Adapter = found.stacks()
    return adapter


def _named(models: Iterable[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Models by name: those of a mapping, else the end of a path, else a number."""
    if isinstance(models, (str, os.PathLike)):
        raise UsageError("stack", "several models", "one path", "pass a list of paths")
    if isinstance(models, Mapping):
        found = {str(name): model for name, model in models.items()}
        if len(found) < len(models):  # such as 1 and "1"
            got, do = "two of one name as text", "name them by different texts"
            raise UsageError("stack", "models of different names", got, do)
    else:
        every = list(models)
        ends = [Path(m).stem if isinstance(m, (str, os.PathLike)) else "" for m in every]
        named = len({*ends}) == len(ends) and "" not in ends
        found = {ends[n] if named else f"model_{n}": model for n, model in enumerate(every)}
    if not found:
        raise UsageError("stack", "at least one model", "none", "pass some")
    return found


def check_stackable(graph: Model, adapter: Adapter) -> None:
    """Raises UnsupportedError for the first layer of a graph that cannot be stacked."""
    if adapter.emit is not None:
        check_model(graph, adapter)
    if not graph.weights:
        want, do = "models with weights", "port one: all of them compute the same"
        raise UnsupportedError("stack", want, "a graph without weights", do)
    for node in graph.stateful:
        want, got = "a layer whose states end with a call", f"{node.spec.kind} with stateful=True"
        do = "port each model, and pass state= to its calls"
        raise UnsupportedError(f"stack, layer {node.name}", want, got, do)


def _check_same(first: Model, model: Model, name: str) -> None:
    found = first_difference(first, model)
    if found is not None:
        raise UsageError(f"stack, model {name}", found.expected, found.got, "stack it with its own")
