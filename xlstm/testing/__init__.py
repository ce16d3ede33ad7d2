"""Parity tests for pytest: a port equals its source, or the failure says why.

    from xlstm.testing import assert_parity
    assert_parity("model.keras", my_module)     AssertionError with the diagnosis

- `assert_parity` and the fixture `parity` of the pytest plugin (`plugin`) compare two models.
- `strategies` makes models, weights, masks and inputs for hypothesis (`pip install hypothesis`).
- `conformance` runs the cases that every adapter of a framework must pass.

Nothing of this is imported before it is used: pytest loads the plugin in every session.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlstm.testing import strategies as strategies
    from xlstm.testing.assertion import assert_parity as assert_parity
    from xlstm.testing.results import ParityResult as ParityResult

_PUBLIC = {
    "ParityResult": "results",
    "assert_parity": "assertion",
    "conformance": "adapter_cases",
}
"""Public name -> the module here that defines it; loaded on first use."""

_MODULES = ("strategies",)
"""Modules with public names of their own."""

__all__ = ["ParityResult", "assert_parity"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xlstm.testing.{name}")
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"xlstm.testing.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'xlstm.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_MODULES})
