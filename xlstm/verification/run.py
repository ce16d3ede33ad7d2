"""Builds and runs one framework's side of a comparison; whatever goes wrong is a verdict."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.errors import MissingFrameworkError, printable
from xlstm.files.copies import clean_copy
from xlstm.files.port_folder import has_port
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import first_gap
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.precision import DTYPES as DTYPES
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array
from xlstm.porting.port import build
from xlstm.verification.bounds import EPS, FAILED, Bounds, Verdict, bounds, judge, worst_of

OUR_PORT = "our port"

SHORTENED = 300
"""Characters of a framework's own words that a report repeats."""

Verdicts = dict[str, Verdict]


@dataclass(frozen=True)
class Trial:
    """Inputs, and what the reference makes of them.

    Attributes:
        label: what tells it from others.
        model: what is run.
        names: of its outputs.
        arrays: one per input.
        allowed: dtype -> bounds of every output.
        unfit: why no framework can be right with these inputs, "" where nothing is wrong.
    """

    label: str
    model: Model
    names: tuple[str, ...]
    arrays: Sequence[Array]
    allowed: dict[str, list[Bounds]]
    unfit: str = ""

    def given(self, dtype: str) -> Sequence[Array]:
        """The arrays as a framework gets them: half precision does not hold all row numbers."""
        if dtype not in HALF:
            return self.arrays
        numbers = row_numbers(self.model)
        pairs = zip(self.model.inputs, self.arrays, strict=True)
        return [x.astype(np.int32) if name in numbers else x for name, x in pairs]


def trial(
    model: Model,
    arrays: Sequence[Array],
    label: str = "",
    names: Sequence[str] = (),
    unfit: str = "",
    dtypes: Iterable[str] = DTYPES,
) -> Trial:
    """Inputs with the reference's bounds for them in each precision."""
    allowed = {dtype: bounds(model, arrays, dtype) for dtype in dtypes}
    return Trial(label, model, tuple(names or output_names(model)), arrays, allowed, unfit)


def output_names(model: Model) -> list[str]:
    """A name for each output of a run: the layer that gives it, then the states that are kept."""
    names = [f"{edge.node}{f' [{edge.output}]' * bool(edge.output)}" for edge in model.outputs]
    for node in model.stateful:
        spec: Any = node.spec
        names += [f"{node.name} state {n}" for n in range(len(spec.state_shapes()))]
    return names


@dataclass
class Run:
    """The results of one model in one framework.

    Attributes:
        what: what ran: the original, or our port.
        verdicts: trial's label -> dtype -> the verdict on each output, in the model's order.
        parameters: as the framework counts them, None if it cannot.
        weights: "" where what it holds is bit for bit the source's, else what is not; None where
            they were not compared.
        made: whether anything was made and run at all.
    """

    what: str
    verdicts: dict[str, dict[str, list[Verdict]]]
    parameters: int | None = None
    weights: str | None = None
    made: bool = False


Maker = Callable[[Any, str], tuple[Any, str]]
"""(live half, dtype) -> what is run, and what it is."""


def run(adapter: Adapter, trials: Sequence[Trial], make: Maker) -> Run:
    """Every trial of one model in every precision; a failure of one hides no other."""
    found = Run(OUR_PORT, {trial.label: {} for trial in trials})
    model = trials[0].model
    for dtype in trials[0].allowed:
        wanted = [one for one in trials if dtype in one.allowed]
        try:
            live: Any = adapter.live()
            inexact = live.inexact(dtype, model) if hasattr(live, "inexact") else ""
            if inexact:
                _skip(found, dtype, inexact)
                continue
            made, found.what = make(live, dtype)
            found.made = True
        except Exception as error:  # a framework may fail in any way; the report says how
            for one in wanted:
                found.verdicts[one.label][dtype] = [failed(error)]
            continue
        for one in wanted:
            found.verdicts[one.label][dtype] = _one(live, made, one, dtype)
        _inspect(found, live, made, model, adapter, dtype)
    return found


def _skip(found: Run, dtype: str, why: str) -> None:
    """Takes over the other precision's verdicts, and says so."""
    for each in found.verdicts.values():
        if held := each.get("float32"):
            each[dtype] = [replace(v, detail=f"not run: {why}", ran=False) for v in held]


def _one(live: Any, made: Any, trial: Trial, dtype: str) -> list[Verdict]:
    if trial.unfit:
        return [Verdict(FAILED, detail=trial.unfit)]
    try:
        model, arrays = trial.model, trial.given(dtype)
        # what is inexact in float32 is nothing beside the rounding of half of it
        asked = hasattr(live, "inexact_for") and dtype not in HALF
        known = live.inexact_for(model, dtype) if asked else {}
        own = trial.allowed[dtype]
        if known:  # room for operations known to be inexact, in this precision alone
            own = bounds(model, arrays, dtype, max(EPS[dtype], *known.values()))
        verdicts = judged(live.run(made, arrays, dtype), own, trial, dtype)
        return [replace(v, detail=v.detail or "; ".join(known)) for v in verdicts]
    except Exception as error:  # as above
        return [failed(error)]


def judged(
    outputs: Sequence[Array], own: Sequence[Bounds], trial: Trial, dtype: str
) -> list[Verdict]:
    """The verdict on each output of a run."""
    if len(outputs) != len(own):
        return [Verdict(FAILED, detail=f"{len(outputs)} outputs, the model has {len(own)}")]
    exact = own if dtype in HALF else trial.allowed["float64"]
    columns = zip(outputs, own, exact, trial.names, strict=True)
    return [judge(y, mine, sharp, dtype).named(name) for y, mine, sharp, name in columns]


def _inspect(found: Run, live: Any, made: Any, model: Model, adapter: Adapter, dtype: str) -> None:
    """Counts parameters, and looks at the weights that a port holds."""
    try:
        found.parameters = live.count(made)
        if found.what.startswith(OUR_PORT) and hasattr(live, "weights"):
            held = live.weights(made)
            found.weights = found.weights or first_gap(model, adapter, held, dtype)
    except Exception as error:  # as above
        found.weights = found.weights or failed(error).detail


MEMORY = re.compile(
    r"out of memory|can't allocate|cannot allocate|RESOURCE_EXHAUSTED|\bOOM\b", re.I
)


def failed(error: BaseException) -> Verdict:
    """A failure in a framework's own words, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = printable(" ".join(lines))
    if isinstance(error, MemoryError) or MEMORY.search(said):
        said = f"out of memory; {said}".rstrip("; ")
    said = said if len(said) <= SHORTENED else f"{said[:SHORTENED]}..."
    return Verdict(FAILED, detail=f"{type(error).__name__}: {said}")


def worst(verdicts: dict[str, list[Verdict]]) -> Verdicts:
    """Dtype -> the worst of all outputs."""
    return {dtype: worst_of(every) for dtype, every in verdicts.items()}


def maker(source: Any, model: Model, adapter: Adapter) -> Maker:
    """Makes the original where the framework opens it, else our port."""
    return lambda live, dtype: _made(source, model, adapter, live, dtype)


def port_maker(model: Model, adapter: Adapter) -> Maker:
    """Makes our port."""
    return lambda _live, dtype: (build(model, adapter, dtype), OUR_PORT)


def _made(source: Any, model: Model, adapter: Adapter, live: Any, dtype: str) -> tuple[Any, str]:
    """The object to run, and what it is."""
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
    except MissingFrameworkError:
        raise
    except Exception as error:  # Keras may fail on its own files in any way
        said = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        return build(model, adapter, dtype), f"{OUR_PORT} (Keras does not open the file: {said})"


def _on(live: Any) -> str:
    return f", on {live.backend()}" if hasattr(live, "backend") else ""


def _open_natively(live: Any, path: Path, dtype: str) -> Any:
    """The model as Keras itself opens it, from a copy of which h5py wrote every byte."""
    with tempfile.TemporaryDirectory() as folder:
        return live.open_native(clean_copy(path, Path(folder)), dtype)
