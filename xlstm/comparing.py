"""Runs every framework against the float64 reference and says: equal up to rounding, or not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlstm import inputs as generated
from xlstm import registry
from xlstm.adapter import Adapter
from xlstm.errors import UsageError
from xlstm.ledger import Ledger, count
from xlstm.model import Array, Model
from xlstm.parity import FAILED, UNDECIDED, Bounds, Verdict, bounds, judge, worst_of
from xlstm.porting import build, load
from xlstm.reference import Coverage, run
from xlstm.reference.run import check_inputs
from xlstm.report import FrameworkReport, Report

DTYPES = ("float32", "float64")


def reconcile(
    source: Any,
    frameworks: Iterable[str] | None = None,
    inputs: Sequence[Array] | Array | None = None,
) -> Report:
    """Compares frameworks with the reference: outputs in float32 and float64, and counts.

    Args:
        source: anything that `load` takes. The column of the framework that `source` comes from
            runs the original where that is possible (a Keras 3 file, a live Keras model).
        frameworks: names; all that are installed if not given.
        inputs: arrays, batch first, one per model input; made from the model if not given.

    Returns:
        A report; `.ok` says whether all agree, `.check()` raises where they do not.

    Raises:
        MissingFrameworkError: a framework that was named is not installed.
        UsageError: an unknown framework, or inputs that do not fit the model.
        XlstmError: as `load` raises.
    """
    model = load(source)
    adapters = _adapters(frameworks)
    arrays, left, given = _inputs(model, inputs)
    allowed = {dtype: bounds(model, arrays, dtype) for dtype in DTYPES}
    ledger = count(model, adapters)
    found = {name: _framework(source, model, a, arrays, allowed) for name, a in adapters.items()}
    recipe = "given" if given else f"made from the model, seed {generated.SEED}"
    return Report(model, ledger, found, tuple(left), recipe, _counts_agree(ledger, found))


def _adapters(frameworks: Iterable[str] | None) -> dict[str, Adapter]:
    if frameworks is None:
        every = {name: registry.adapter(name) for name in registry.FRAMEWORKS}
        return {name: adapter for name, adapter in every.items() if adapter.installed}
    found = {name: registry.adapter(name) for name in frameworks}
    for adapter in found.values():
        if not adapter.tables:
            where, got = f"framework {adapter.name}", "the reference itself"
            raise UsageError(where, "a framework to compare", got, "leave it out")
        adapter.check_installed()
    return found


def _inputs(
    model: Model, inputs: Sequence[Array] | Array | None
) -> tuple[list[Array], list[str], bool]:
    """The arrays to run, what they do not exercise, and whether the caller gave them."""
    if inputs is None:
        return *_generated(model), False
    arrays = [np.asarray(x) for x in ([inputs] if isinstance(inputs, np.ndarray) else inputs)]
    check_inputs(model, arrays)
    if not all(array.size for array in arrays):
        raise UsageError("inputs", "arrays with elements", "an empty one", "pass other inputs")
    coverage = Coverage()
    run(model, arrays, coverage=coverage)
    return arrays, coverage.unexercised(), True


def _generated(model: Model) -> tuple[list[Array], list[str]]:
    """Inputs long enough to say much and short enough that some step can be decided."""
    arrays, left = generated.chosen(model)
    if not generated.has_free_axis(model):
        return arrays, left
    for steps in generated.shorter(generated.STEPS):
        if all(b.sharp.any() for b in bounds(model, arrays, "float64")):
            break
        arrays, left = generated.chosen(model, steps)
    return arrays, left


def _framework(
    source: Any,
    model: Model,
    adapter: Adapter,
    arrays: Sequence[Array],
    allowed: dict[str, list[Bounds]],
) -> FrameworkReport:
    """One framework's verdicts; whatever goes wrong in it is its own line and hides no other."""
    verdicts, parameters, what = {}, None, ""
    for dtype in DTYPES:
        try:
            made, what = _made(source, model, adapter, dtype)
            live: Any = adapter.live()
            outputs = _run(live, made, arrays, dtype)
            parameters = live.count(made) if hasattr(live, "count") else None
            verdicts[dtype] = _judge(outputs, allowed, dtype)
        except Exception as error:  # a framework may fail in any way; the report says how
            verdicts[dtype] = Verdict(FAILED, detail=f"{type(error).__name__}: {error}")
    return FrameworkReport(adapter.name, adapter.title, adapter.version, what, verdicts, parameters)


def _judge(outputs: list[Array], allowed: dict[str, list[Bounds]], dtype: str) -> Verdict:
    if len(outputs) != len(allowed[dtype]):
        return Verdict(
            FAILED, detail=f"{len(outputs)} outputs, the model has {len(allowed[dtype])}"
        )
    pairs = zip(outputs, allowed[dtype], allowed["float64"], strict=True)
    return worst_of([judge(y, mine, exact, dtype) for y, mine, exact in pairs])


def _run(live: Any, made: Any, arrays: Sequence[Array], dtype: str) -> list[Array]:
    outputs: list[Array] = live.run(made, arrays, dtype)
    return outputs


def _made(source: Any, model: Model, adapter: Adapter, dtype: str) -> tuple[Any, str]:
    """The object to run, and what it is: the original where the framework opens it, or our port."""
    if adapter.name == "keras" and model.source.framework == "keras":
        original = _original(source, model, adapter, dtype)
        if original is not None:
            return original, f"the original, on {_live(adapter).backend()}"
        version = model.source.version or "an older version"
        return build(model, adapter, dtype), f"our port to Keras 3 (the file is of Keras {version})"
    return build(model, adapter, dtype), "our port"


def _live(adapter: Adapter) -> Any:
    return adapter.live()


def _original(source: Any, model: Model, adapter: Adapter, dtype: str) -> Any:
    """The Keras model itself where Keras 3 computes what the file means, else None."""
    live = _live(adapter)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_file() and model.source.version.startswith("3."):
            return live.open_native(path, dtype)
        return None
    if isinstance(source, Model) or model.lone:
        return None
    return live.in_dtype(source, dtype)


def _counts_agree(ledger: Ledger, found: dict[str, FrameworkReport]) -> bool:
    return all(
        report.parameters is None or report.parameters == ledger.total(name)
        for name, report in found.items()
        if name in ledger.frameworks
    )


__all__ = ["FAILED", "UNDECIDED", "reconcile"]
