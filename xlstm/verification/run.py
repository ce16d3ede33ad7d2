"""Builds and runs one framework's side of a comparison; an exception becomes a verdict.

In: an adapter, trials (inputs with bounds), and the function that builds the object. Out: a `Run`.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.errors import MissingFrameworkError, XlstmError, printable
from xlstm.files.copies import clean_copy
from xlstm.files.port_folder import has_port
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import first_gap
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.precision import DTYPES as DTYPES
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array
from xlstm.porting.port import build
from xlstm.verification.bounds import EPS, FAILED, Bounds, Verdict, bounds, bounds_in, judge
from xlstm.verification.progress import Tell, silent

OUR_PORT = "our port"

SHORTENED = 300
"""Most characters of a framework's error in a report."""

Verdicts = dict[str, Verdict]

Allowed = dict[str, list[Bounds]]
"""Precision -> the bounds of every output."""


@dataclass(frozen=True)
class Trial:
    """Inputs, and the bounds of the reference's outputs for them.

    Attributes:
        label: its name among the trials.
        model: the model to run.
        names: of its outputs.
        arrays: one per input.
        allowed: dtype -> bounds of every output.
        unfit: the reason why no framework can run these inputs, "" if there is none.
    """

    label: str
    model: Model
    names: tuple[str, ...]
    arrays: Sequence[Array]
    allowed: Allowed
    unfit: str = ""

    def given(self, dtype: str) -> Sequence[Array]:
        """The arrays for a framework; half precision cannot represent all row numbers."""
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
    allowed: Allowed | None = None,
    room: int | None = None,
) -> Trial:
    """Inputs with the reference's bounds for them in each precision, unless they are `allowed`."""
    if allowed is None:
        allowed = bounds_in(model, arrays, {dtype: EPS[dtype] for dtype in dtypes}, room)
    return Trial(label, model, tuple(names or output_names(model)), arrays, allowed, unfit)


def output_names(model: Model) -> list[str]:
    """A name for each output of a run: the layers of the outputs, then those of the states."""
    names = [f"{edge.node}{f' [{edge.output}]' * bool(edge.output)}" for edge in model.outputs]
    for node in model.stateful:
        spec: Any = node.spec
        names += [f"{node.name} state {n}" for n in range(len(spec.state_shapes()))]
    return names


@dataclass
class Run:
    """The results of one model in one framework.

    Attributes:
        what: the object that ran: the original, or our port.
        verdicts: trial's label -> dtype -> the verdict on each output, in the model's order.
        parameters: in the framework's own count, None if it has none.
        weights: "" if its weights are bit for bit the source's, else the first difference; None if
            they were not compared.
        made: True if an object was built and run.
    """

    what: str
    verdicts: dict[str, dict[str, list[Verdict]]]
    parameters: int | None = None
    weights: str | None = None
    made: bool = False


Maker = Callable[[Any, str], tuple[Any, str]]
"""(live half, dtype) -> the object to run, and its description."""


def run(
    adapter: Adapter, trials: Sequence[Trial], make: Maker, tell: Tell = silent, part: str = ""
) -> Run:
    """Every trial of one model in every precision; a failure of one does not stop the others.

    Args:
        adapter: the framework.
        trials: inputs with their bounds.
        make: builds the object to run.
        tell: gets a line for each precision.
        part: end of that line.
    """
    found = Run(OUR_PORT, {trial.label: {} for trial in trials})
    model = trials[0].model
    for dtype in trials[0].allowed:
        tell(f"{adapter.title} {dtype}{part}")
        wanted = [one for one in trials if dtype in one.allowed]
        try:
            live: Any = adapter.live()
            inexact = live.inexact(dtype, model) if hasattr(live, "inexact") else ""
            if inexact:  # the verdicts of the other precision, marked as copies
                for each in (each for each in found.verdicts.values() if "float32" in each):
                    copies = (replace(v, ran=False) for v in each["float32"])
                    each[dtype] = [replace(v, detail=f"not run: {inexact}") for v in copies]
                continue
            made, found.what = make(live, dtype)
            found.made = True
        except Exception as error:  # a framework may raise anything; the report shows it
            for one in wanted:
                found.verdicts[one.label][dtype] = [failed(error)]
            continue
        for one in wanted:
            found.verdicts[one.label][dtype] = _one(live, made, one, dtype)
        _inspect(found, live, made, model, adapter, dtype)
    return found


def _one(live: Any, made: Any, trial: Trial, dtype: str) -> list[Verdict]:
    if trial.unfit:
        return [Verdict(FAILED, detail=trial.unfit)]
    try:
        model, arrays = trial.model, trial.given(dtype)
        # errors of operations in float32 are small beside the rounding of half precision
        asked = hasattr(live, "inexact_for") and dtype not in HALF
        known = live.inexact_for(model, dtype) if asked else {}
        own = trial.allowed[dtype]
        if known:  # wider bounds for inexact operations, in this precision alone
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
    """Counts parameters, and compares the weights of a port."""
    try:
        found.parameters = live.count(made)
        if found.what.startswith(OUR_PORT) and hasattr(live, "weights"):
            tensors = live.weights(made)
            found.weights = found.weights or first_gap(model, adapter, tensors, dtype)
    except Exception as error:  # as above
        found.weights = found.weights or failed(error).detail


MEMORY = re.compile(
    r"out of memory|can't allocate|cannot allocate|RESOURCE_EXHAUSTED|\bOOM\b", re.I
)


def failed(error: BaseException) -> Verdict:
    """The verdict for a framework's exception, with its text on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = printable(" ".join(lines))
    if isinstance(error, MemoryError) or MEMORY.search(message):
        message = f"out of memory; {message}".rstrip("; ")
    message = message if len(message) <= SHORTENED else f"{message[:SHORTENED]}..."
    # an error of ours says all; the class of another one says a part
    own = "" if isinstance(error, XlstmError) else f"{type(error).__name__}: "
    return Verdict(FAILED, detail=f"{own}{message}")


def maker(source: Any, model: Model, adapter: Adapter) -> Maker:
    """The function that builds the original if the framework opens it, else our port."""
    return functools.partial(_made, source, model, adapter)


def port_maker(model: Model, adapter: Adapter) -> Maker:
    """The function that builds our port."""
    return lambda _live, dtype: (build(model, adapter, dtype), OUR_PORT)


def _made(source: Any, model: Model, adapter: Adapter, live: Any, dtype: str) -> tuple[Any, str]:
    """The object to run, and its description."""
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
        with tempfile.TemporaryDirectory() as folder:  # a copy that h5py has written in full
            made = live.open_native(clean_copy(Path(source), Path(folder)), dtype)
        return made, "the original" + _on(live)
    except MissingFrameworkError:
        raise
    except Exception as error:  # Keras may raise anything for its own files
        message = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        return build(model, adapter, dtype), f"{OUR_PORT} (Keras does not open the file: {message})"


def _on(live: Any) -> str:
    return f", on {live.backend()}" if hasattr(live, "backend") else ""
