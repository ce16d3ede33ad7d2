"""Ports a model to a live object of another framework.

In: anything that `load` takes, and a target. Out: the target's object, such as an `nn.Module`.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from xlstm.custom_layers.register import registered_code
from xlstm.errors import UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import check_model, pack_model
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.batch_axes import warn_of_axes
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.python_source import forget_module, module_of
from xlstm.porting.config_file import config_of
from xlstm.reading.load import load
from xlstm.reading.ports import PORTS, remember


def code_of(model: Model, adapter: Adapter, text: str | None = None) -> ModuleType:
    """The emitted source of a model as a module, known to `sys.modules` and `linecache`.

    It is the text that `save` writes, or `text`; so getsource, pickle and tracing tools work on it.
    """
    if adapter.emit is None:
        raise UsageError(f"adapter {adapter.name}", "a target with source", "none", "use port")
    check_model(model, adapter)
    text = adapter.emit(model) if text is None else text
    name = module_name(text)
    module = module_of(name, text)
    known, graph = PORTS.get(name), replace(model, weights={})
    if known is not None and known.source != graph.source:  # a copy may be of either
        graph = replace(graph, source=replace(graph.source, file="", sha256=""))
    PORTS[name] = graph
    return module


def module_name(text: str) -> str:
    """The name of the module of an emitted source in this process."""
    return f"xlstm_port_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def forget_code(text: str) -> None:
    """Frees the module of an emitted source, for processes that build many ports.

    A port of it that still lives works, and is no longer read as a port by `load`.
    """
    forget_module(module_name(text))
    PORTS.pop(module_name(text), None)


def check_dtype(model: Model, dtype: Any) -> str:
    """The name of the dtype to compute in: `dtype`, or the model's own if None."""
    try:
        name = np.dtype(dtype or model.compute_dtype()).name
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in (*DTYPES, *HALF):
        want = f"{', '.join((*DTYPES, *HALF[:-1]))} or {HALF[-1]}"
        raise UsageError("dtype", want, name, "use one of these")
    return name


@unmoved
def port(source: Any, to: str, *, dtype: Any = None) -> Any:
    """The live object of another framework that computes the same as `source`.

    Its inputs and outputs are batch first. Warns (AxesWarning) if those of the source are not.

    Args:
        source: anything that `load` takes.
        to: "torch" for an `nn.Module` in eval mode, "nnx" for an `nnx.Module`, "linen" for a pair
            (module, variables), "keras" for a `keras.Model`, "numpy" for a callable.
        dtype: "float32", "float64", "bfloat16" or "float16" to compute in (numpy has the first two
            only); None for the widest stored dtype, at least float32. Weights are cast before any
            table is applied.

    Raises:
        MissingFrameworkError: the target is not installed.
        XlstmError: as `load` raises.
    """
    adapter, model = registry.adapter(to), load(source)
    warn_of_axes(model)
    made = build(model, adapter, dtype)
    if hasattr(made, "_hub_mixin_config"):  # `save_pretrained` writes it
        made._hub_mixin_config = config_of(model, adapter, check_dtype(model, dtype))
    return made


def build(model: Model, adapter: Adapter, dtype: Any = None, text: str | None = None) -> Any:
    """As `port`, for a Model and an adapter; from the source `text`, if it is not None."""
    name = check_dtype(model, dtype)
    live: Any = adapter.live()
    if adapter.emit is None:
        return live.build_model(model, name)
    if name in HALF and hasattr(live, "check_half"):
        live.check_half(model, name)
    with registered_code(model, adapter.name):
        with getattr(live, "running", contextlib.nullcontext)():
            code = code_of(model, adapter, text)
        weights = pack_model(model if dtype is None else model.astype(name), adapter)
        made = live.build(code, weights, name)
    remember(made, replace(model, weights={}))
    return made
