"""Runs every framework against the float64 reference and says: equal up to rounding, or not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlstm import inputs as generated
from xlstm import registry
from xlstm.adapter import Adapter
from xlstm.errors import UsageError
from xlstm.folder import has_port
from xlstm.given import arrays_for
from xlstm.ledger import Ledger, count
from xlstm.mapping import first_gap
from xlstm.model import Array, Model
from xlstm.parity import EPS, FAILED, Bounds, Verdict, bounds, judge, worst_of
from xlstm.porting import build, load
from xlstm.reference import Coverage, run
from xlstm.report import FrameworkReport, Report

DTYPES = ("float32", "float64")

OUR_PORT = "our port"


def reconcile(
    source: Any,
    frameworks: str | Iterable[str] | None = None,
    inputs: Any = None,
) -> Report:
    """Compares frameworks with the reference: outputs in float32 and float64, weights, and counts.

    Args:
        source: anything that `load` takes. The column of the framework that `source` comes from
            runs the original where that is possible: a Keras 3 file that Keras opens, a live Keras
            model, a live torch module. Every other column runs our port, and says so.
        frameworks: names, or one name; all that are installed if not given.
        inputs: arrays, batch first, as `xlstm.given.arrays_for` takes them: files, a mapping by
            input name, a list, or one array; made from the model if not given.

    Returns:
        A report; `.ok` says whether all agree, `.check()` raises where they do not.

    Raises:
        MissingFrameworkError: a framework that was named is not installed.
        UsageError: an unknown framework, or inputs that do not fit the model.
        XlstmError: as `load` raises.
    """
    model = load(source)
    adapters = _adapters([frameworks] if isinstance(frameworks, str) else frameworks)
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
    if not found:
        raise UsageError("frameworks", "at least one name", "none", "name some, or leave it out")
    return found


def _inputs(model: Model, inputs: Any) -> tuple[list[Array], list[str], bool]:
    """The arrays to run, what they do not exercise, and whether the caller gave them."""
    if inputs is None:
        return *_generated(model), False
    arrays = arrays_for(model, inputs)
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
    verdicts: dict[str, Verdict] = {}
    parameters, weights, what = None, "", OUR_PORT
    for dtype in DTYPES:
        try:
            live: Any = adapter.live()
            inexact = live.inexact(dtype, model) if hasattr(live, "inexact") else ""
            if inexact:
                verdicts[dtype] = replace(verdicts["float32"], detail=f"not run: {inexact}")
                continue
            made, what = _made(source, model, adapter, dtype)
            known = live.inexact_for(model, dtype) if hasattr(live, "inexact_for") else {}
            mine = _widened(model, arrays, allowed, dtype, known)
            found = _judge(live.run(made, arrays, dtype), mine, dtype)
            verdicts[dtype] = replace(found, detail=found.detail or "; ".join(known))
            parameters = live.count(made)
            if what.startswith(OUR_PORT) and hasattr(live, "weights"):
                weights = weights or first_gap(model, adapter, live.weights(made), dtype)
        except Exception as error:  # a framework may fail in any way; the report says how
            verdicts[dtype] = Verdict(FAILED, detail=f"{type(error).__name__}: {error}")
    return FrameworkReport(
        adapter.name, adapter.title, adapter.version, what, verdicts, parameters, weights
    )


def _widened(
    model: Model,
    arrays: Sequence[Array],
    allowed: dict[str, list[Bounds]],
    dtype: str,
    known: dict[str, float],
) -> dict[str, list[Bounds]]:
    """Bounds that leave room for operations known to be inexact, in this precision alone."""
    if not known:
        return allowed
    return {**allowed, "wide": bounds(model, arrays, dtype, max(EPS[dtype], *known.values()))}


def _judge(outputs: list[Array], allowed: dict[str, list[Bounds]], dtype: str) -> Verdict:
    own = allowed.get("wide", allowed[dtype])
    if len(outputs) != len(own):
        return Verdict(FAILED, detail=f"{len(outputs)} outputs, the model has {len(own)}")
    pairs = zip(outputs, own, allowed["float64"], strict=True)
    return worst_of([judge(y, mine, exact, dtype) for y, mine, exact in pairs])


def _made(source: Any, model: Model, adapter: Adapter, dtype: str) -> tuple[Any, str]:
    """The object to run, and what it is: the original where the framework opens it, or our port."""
    live: Any = adapter.live()
    path = isinstance(source, (str, os.PathLike))
    live_source = not path and not isinstance(source, Model)
    live_source = live_source and not (model.lone and adapter.name == "keras")
    if adapter.name == model.source.framework and live_source and hasattr(live, "in_dtype"):
        return live.in_dtype(source, dtype), "the original" + _on(live)
    if adapter.name != "keras" or model.source.framework != "keras":
        return build(model, adapter, dtype), OUR_PORT
    version = model.source.version
    if path and has_port(Path(source)):
        return build(model, adapter, dtype), OUR_PORT
    if not path or not version.startswith("3."):
        why = f" to Keras 3 (the file is of Keras {version})" if path else ""
        return build(model, adapter, dtype), OUR_PORT + why
    try:
        return _open_natively(live, Path(source), dtype), "the original" + _on(live)
    except Exception as error:  # Keras may fail on its own files in any way
        said = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        return build(model, adapter, dtype), f"{OUR_PORT} (Keras does not open the file: {said})"


def _on(live: Any) -> str:
    return f", on {live.backend()}" if hasattr(live, "backend") else ""


def _open_natively(live: Any, path: Path, dtype: str) -> Any:
    """The model as Keras itself opens it; Keras goes by the extension, which may lie."""
    if path.is_dir():
        return live.open_native(path, dtype)
    with open(path, "rb") as file:
        suffix = ".keras" if file.read(4) == b"PK\x03\x04" else ".h5"
    if path.suffix == suffix:
        return live.open_native(path, dtype)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"model{suffix}")
        shutil.copyfile(path, copy)
        return live.open_native(copy, dtype)


def _counts_agree(ledger: Ledger, found: dict[str, FrameworkReport]) -> bool:
    return all(
        report.parameters is None or report.parameters == ledger.total(name)
        for name, report in found.items()
        if name in ledger.frameworks
    )
