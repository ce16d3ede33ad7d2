"""Live models whose wiring is a class of the user: what to say of them; imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlstm.errors import UnsupportedError, XlstmError
from xlstm.model import Model

WIRED = ("Sequential", "Functional")
"""Classes of Keras whose configs say how their layers are wired."""


def is_wired(model: Any) -> bool:
    """Whether the config of a live model says how its layers are wired; a subclass has its own."""
    return type(model).__name__ in WIRED


def by_hand(model: Any, read: Callable[[Any], Model]) -> UnsupportedError:
    """The error for a subclassed model: which of its layers port as they are, and which do not.

    Args:
        model: a live model.
        read: gives the Model of one layer of it.
    """
    known, others = [], []
    for layer in model.layers:
        name = f"{layer.name} ({type(layer).__name__})"
        try:
            read(layer)
            known.append((layer.name, name))
        except XlstmError as error:
            others.append(f"{name}: {error.got}")
    do = "the wiring is yours to write"
    if known:
        example = f'xlstm.port(model.get_layer("{known[0][0]}"), to)'
        names = ", ".join(name for _, name in known)
        do = f"port its layers one by one, such as {example}; {do}; known: {names}"
    got = "a class of your own, whose call() is code that no config holds"
    if others:
        got += f" (and layers that are not known: {', '.join(others)})"
    where = f"keras {type(model).__name__}"
    return UnsupportedError(where, "a Sequential or functional model", got, do)
