"""Ports trained LSTMs between Keras, PyTorch and JAX/Flax, counts them, and proves it.

>>> import xlstm
>>> xlstm.count(xlstm.demo.path()).total("keras")
2180
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from xlstm import _version

__version__ = _version.VERSION

if TYPE_CHECKING:
    from xlstm import demo as demo
    from xlstm import diagnosing as diagnosing
    from xlstm import errors as errors
    from xlstm import inputs as inputs
    from xlstm import model as model
    from xlstm import proof as proof
    from xlstm.comparing import reconcile
    from xlstm.custom import register_layer, unregister_layer
    from xlstm.diagnosing import Diagnosis, diagnose
    from xlstm.explaining import Explanation, explain
    from xlstm.layer_code import LayerCode
    from xlstm.ledger import Ledger, count
    from xlstm.model import Model
    from xlstm.porting import convert_weights, load, port
    from xlstm.report import Report
    from xlstm.requiring import require
    from xlstm.saving import save
    from xlstm.splitting import split

_PUBLIC = {
    "Diagnosis": "diagnosing",
    "Explanation": "explaining",
    "LayerCode": "layer_code",
    "Ledger": "ledger",
    "explain": "explaining",
    "Model": "model",
    "Report": "report",
    "convert_weights": "porting",
    "count": "ledger",
    "diagnose": "diagnosing",
    "load": "porting",
    "port": "porting",
    "reconcile": "comparing",
    "register_layer": "custom",
    "require": "requiring",
    "save": "saving",
    "split": "splitting",
    "unregister_layer": "custom",
}
"""Public name -> our module that defines it; loaded on first use, so that importing is quick."""

_MODULES = ("demo", "diagnosing", "errors", "inputs", "model", "proof")

__all__ = [
    "Diagnosis",
    "Explanation",
    "LayerCode",
    "Ledger",
    "Model",
    "Report",
    "convert_weights",
    "count",
    "demo",
    "diagnose",
    "errors",
    "explain",
    "load",
    "port",
    "reconcile",
    "register_layer",
    "require",
    "save",
    "split",
    "unregister_layer",
]


def _find_converters() -> None:
    """Lets the `xlstm` of a clone that is not installed find `converters` beside it.

    Installed, that folder is the package `xlstm.converters`. Python, started in a clone, takes the
    clone's `xlstm` before an installed one, whose adapters would then not be found.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    clone = os.path.dirname(here)
    beside = os.path.isfile(os.path.join(clone, "converters", "torch_tables.py"))
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
