"""Ports trained LSTMs between Keras, PyTorch and JAX/Flax, counts them, and proves it.

>>> import xlstm
>>> xlstm.count(xlstm.demo.path()).total("keras")
2180
"""

from __future__ import annotations

from xlstm._interrupt import end_early

end_early()  # before any other import: each may take as long as a Ctrl-C needs

import importlib  # noqa: E402
import os  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from xlstm import _version  # noqa: E402

__version__ = _version.VERSION

if TYPE_CHECKING:
    from xlstm import demo as demo
    from xlstm import diagnosing as diagnosing
    from xlstm import errors as errors
    from xlstm import inputs as inputs
    from xlstm import model as model
    from xlstm import parity as parity
    from xlstm.counting.count import count
    from xlstm.counting.explain import Explanation, explain
    from xlstm.counting.ledger import Ledger
    from xlstm.custom_layers.register import register_layer, unregister_layer
    from xlstm.decoding.split import split
    from xlstm.diagnosis import Diagnosis, diagnose
    from xlstm.diagnosis.same import same
    from xlstm.fleets.run import fleet
    from xlstm.frameworks.imports import require
    from xlstm.handover.files import save
    from xlstm.ir.graph import Model
    from xlstm.ir.layer_code import LayerCode
    from xlstm.porting.convert_weights import convert_weights
    from xlstm.porting.port import port
    from xlstm.reading.load import load
    from xlstm.runtime.compile import compile  # noqa: A004
    from xlstm.stacking import stack, unstack
    from xlstm.verification import folder  # noqa: F401
    from xlstm.verification.reconcile import reconcile
    from xlstm.verification.report import Report

_PUBLIC = {
    "Diagnosis": "diagnosis",
    "Explanation": "counting.explain",
    "LayerCode": "ir.layer_code",
    "Ledger": "counting.ledger",
    "explain": "counting.explain",
    "fleet": "fleets.run",
    "Model": "ir.graph",
    "Report": "verification.report",
    "compile": "runtime.compile",
    "convert_weights": "porting.convert_weights",
    "count": "counting.count",
    "diagnose": "diagnosis",
    "load": "reading.load",
    "port": "porting.port",
    "reconcile": "verification.reconcile",
    "register_layer": "custom_layers.register",
    "require": "frameworks.imports",
    "same": "diagnosis.same",
    "save": "handover.files",
    "split": "decoding.split",
    "stack": "stacking",
    "unstack": "stacking",
    "unregister_layer": "custom_layers.register",
}
"""Public name -> our module that defines it; loaded on first use, so that the import is fast."""

_MODULES = ("demo", "diagnosing", "errors", "inputs", "model", "parity", "proof")
"""Modules with public names of their own."""

__all__ = [
    "Diagnosis",
    "Explanation",
    "LayerCode",
    "Ledger",
    "Model",
    "Report",
    "compile",
    "convert_weights",
    "count",
    "demo",
    "diagnose",
    "errors",
    "explain",
    "fleet",
    "load",
    "port",
    "reconcile",
    "register_layer",
    "require",
    "same",
    "save",
    "split",
    "stack",
    "unregister_layer",
    "unstack",
]


def _find_converters() -> None:
    """Lets the `xlstm` of a clone that is not installed find `converters` beside it.

    Installed, that folder is the package `xlstm.converters`. Python, started in a clone, takes the
    clone's `xlstm` before an installed one, whose adapters would then not be found.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    clone = os.path.dirname(here)
    beside = os.path.isfile(os.path.join(clone, "converters", "torch", "slots.py"))
    if beside and not os.path.isdir(os.path.join(here, "converters")):
        __path__.append(clone)


_find_converters()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xlstm.{name}")
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"xlstm.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'xlstm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
