"""Adapters by name: a table of strings, each imported on demand.

adapter("torch").title      "PyTorch"; PyTorch itself is not imported
canonical("TensorFlow")     "keras": names that people use
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from typing import Any

from xlstm.errors import UsageError
from xlstm.frameworks.adapter import Adapter, resolve
from xlstm.frameworks.distributions import entry_points
from xlstm.slots import Table

ADAPTERS: dict[str, str] = {
    "keras": "xlstm.converters.keras.adapter:ADAPTER",
    "torch": "xlstm.converters.torch.adapter:ADAPTER",
    "nnx": "xlstm.converters.flax.adapter:NNX",
    "linen": "xlstm.converters.flax.adapter:LINEN",
    "numpy": "xlstm.converters.numpy.adapter:ADAPTER",
}
"""Name -> "module:attribute" of our own adapters."""

EXPORTED = {"onnx": "port to torch, then export the port with torch.onnx (docs/howto/serve.md)"}
"""Formats that are no framework -> how to get there."""

GROUP = "xlstm.adapters"
"""Entry-point group under which other distributions register adapters."""


_TEMPORARY: dict[str, Adapter] = {}
"""Adapters that `temporarily` adds, by name; they come before all others of the name."""


@contextlib.contextmanager
def temporarily(one: Adapter) -> Iterator[None]:
    """Lets every function find an adapter by its name inside the context, without an entry point.

    Tests of an adapter need it before its distribution is installed.

    Args:
        one: the adapter; inside the context it replaces another one of its name.
    """
    before = _TEMPORARY.get(one.name)
    _TEMPORARY[one.name] = one
    try:
        yield
    finally:
        del _TEMPORARY[one.name]
        _TEMPORARY.update({} if before is None else {one.name: before})


def names() -> list[str]:
    """Names of all adapters, those of other distributions included."""
    found = entry_points(GROUP)
    return [*dict.fromkeys((*ADAPTERS, *(entry.name for entry in found), *_TEMPORARY))]


def frameworks() -> list[str]:
    """Names of all adapters with slots: they are counted and compared when none are named."""
    return [name for name in names() if adapter(name).tables]


def adapter(name: str) -> Adapter:
    """The cold half of the adapter called `name`; imports no framework.

    Raises:
        UsageError: no adapter of that name, or another distribution's adapter that is broken.
    """
    if isinstance(name, str) and name in _TEMPORARY:
        return _TEMPORARY[name]
    if isinstance(name, str) and name in ADAPTERS:
        return _checked(name, resolve(ADAPTERS[name]))
    for entry in entry_points(GROUP):
        if entry.name == name:
            return _checked(name, _loaded(entry))
    if not isinstance(name, str):
        want, got = f"a name, one of {', '.join(names())}", f"a {type(name).__name__}"
        do = "to compare a model of your own with another one, call xlstm.diagnose(a, b)"
        raise UsageError("framework", want, got, do)
    return adapter(_alias(name))


def canonical(name: str) -> str:
    """Returns the name of the adapter that a user means.

    >>> canonical("PyTorch"), canonical("nnx")
    ('torch', 'nnx')

    Raises:
        UsageError: no adapter of that name, or several.
    """
    adapter(name)
    return name if name in names() else _alias(name)


def canonicals(wanted: Iterable[str]) -> list[str]:
    """Returns the names of the adapters that a user means, each once."""
    return list(dict.fromkeys(map(canonical, wanted)))


def _alias(name: str) -> str:
    """The name of an adapter for another spelling.

    Raises:
        UsageError: there is none, or several fit.
    """
    low, known = name.strip().lower(), names()
    found = [own for own in known if low == own or low in adapter(own).aliases]
    if len(found) == 1:
        return found[0]
    if found:
        titles = [f"{own} for {adapter(own).title}" for own in found]
        raise UsageError("framework", " or ".join(found), repr(name), f"use {', '.join(titles)}")
    if low in EXPORTED:
        raise UsageError("framework", "one of " + ", ".join(known), repr(name), EXPORTED[low])
    near = difflib.get_close_matches(
        low, [*known, *(a for n in known for a in adapter(n).aliases)], 1
    )
    do = f"did you mean {near[0]}?" if near else "use one of these names"
    raise UsageError("framework", "one of " + ", ".join(known), repr(name), do)


def _loaded(entry: importlib.metadata.EntryPoint) -> Any:
    """The object of an entry point. Without this error, nothing would name the distribution."""
    try:
        return entry.load()
    except Exception as error:
        owner = entry.dist.name if entry.dist else entry.value
        got, do = f"{type(error).__name__}: {error}", f"correct or uninstall {owner}"
        want = f"{entry.value} to be imported"
        raise UsageError(f"adapter {entry.name}", want, got, do) from error


def _checked(name: str, found: Any) -> Adapter:
    if not isinstance(found, Adapter):
        raise UsageError(
            f"adapter {name}",
            "an xlstm.frameworks.adapter.Adapter",
            type(found).__name__,
            "correct the package that registers it",
        )
    return found


def table(path: str) -> Table:
    """The slot table at "framework.Layer", as in "torch.LSTM".

    Raises:
        UsageError: no such framework or layer.
    """
    framework, _, layer = path.partition(".")
    tables = adapter(framework).tables
    if layer not in tables:
        raise UsageError(
            f"layer {path!r}",
            "one of " + ", ".join(f"{framework}.{name}" for name in tables),
            repr(layer),
            "use one of these names",
        )
    return tables[layer]


def owner(obj: Any) -> Adapter | None:
    """The adapter whose framework `obj` belongs to, None if there is none."""
    # a model of Flax Linen is a pair: (module, variables)
    first = obj[0] if isinstance(obj, tuple) and len(obj) == 2 else obj
    return owner_of(type(first))


def owner_of(kind: type) -> Adapter | None:
    """The adapter whose framework a class belongs to, None if there is none."""
    for name in names():
        found = adapter(name)
        if found.root_modules and found.has(kind):
            return found
    return None
