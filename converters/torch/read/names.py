"""Names of PyTorch's functions and tensor methods, and the handlers that add their specs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

# each registers its handlers in OPERATIONS and MODULES
from . import attention as _attention  # noqa: F401
from . import modules as _modules  # noqa: F401
from . import operations as _operations  # noqa: F401
from . import recurrent as _recurrent  # noqa: F401
from .values import OPERATIONS

VIEWS = ("getitem", "view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze")
"""Functions whose result may share memory with the input, in another shape."""


def _known() -> dict[Any, str]:
    found: dict[Any, str] = {getattr: "getattr"}
    for place in (operator, torch, functional):
        found |= {getattr(place, name): name for name in OPERATIONS if hasattr(place, name)}
    found[torch.linalg.norm] = "linalg_norm"
    found[torch.linalg.vector_norm] = "linalg_vector_norm"
    for name in ("add", "sub", "mul", "truediv"):
        found[getattr(operator, f"i{name}")] = f"{name}_"
    for name in ("relu_", "tanh_", "sigmoid_"):
        found[getattr(torch, name)] = name
    return found


FUNCTIONS = _known()
"""Function -> its name, with an underscore where it changes its input in place."""


def name_of(target: Any, op: str) -> str:
    """Returns the name of a function or method, "" without a handler; a last "_" stays."""
    name = FUNCTIONS.get(target, "") if op == "call_function" else str(target)
    return name if name in OPERATIONS or name.removesuffix("_") in OPERATIONS else ""


def handler(name: str) -> Callable[..., Any]:
    """Returns the handler for a function of this name."""
    return OPERATIONS[name if name in OPERATIONS else name.removesuffix("_")]
