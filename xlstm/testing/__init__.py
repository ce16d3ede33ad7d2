"""Tests of ports and of adapters, for the test suites of other projects.

`conformance(adapter)` of `adapter_cases` yields the cases that an adapter has to pass. Names are
loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = {"conformance": "xlstm.testing.adapter_cases"}
"""Public name -> its module."""


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)
