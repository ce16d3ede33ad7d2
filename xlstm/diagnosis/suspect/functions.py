"""Two things that can only be called: whether they agree, where they part, and by how much.

Of a function nothing is known but its outputs, so no causes are looked for. The size of rounding
errors is taken from the truth itself: from its runs in both precisions and on inputs that are moved
by one rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.diagnosis.first_difference import first_element
from xlstm.diagnosis.result import NO_STEP, Diagnosis, Finding, Unexplained
from xlstm.diagnosis.suspect.models import Suspect, is_compiled, of_function
from xlstm.diagnosis.suspect.runs import SAME, amiss, as_called, attempt, between, repeated, unlike
from xlstm.diagnosis.tolerance import Gap, gap_of
from xlstm.errors import UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.recording import RunRecord
from xlstm.ir.types import Array
from xlstm.reading.load import KERAS_2
from xlstm.reference import run as reference
from xlstm.verification.bounds import EPS, PERTURBATIONS, Bounds, bounds_from
from xlstm.verification.user_inputs import loose_arrays

SLACK = 8
"""Factor on bounds: sums inside a function may have any order and length, which nothing tells."""

NO_CAUSES = "Of a function only the outputs are known: no causes were looked for."


def is_function(thing: Any) -> bool:
    """True if a thing is called with arrays, and is no model of a framework's, nor a class."""
    kinds = [base.__module__ for base in type(thing).__mro__]
    if not callable(thing) or isinstance(thing, type):
        return False
    owner = registry.owner(thing)
    if owner is not None:
        return is_compiled(thing, owner)
    return not any(kind.startswith(KERAS_2) for kind in kinds)


def of_functions(
    a: Callable[..., Any],
    b: Suspect,
    inputs: Any,
    make: Callable[[], Sequence[Array]],
) -> Diagnosis:
    """Compares a function with whatever can be run.

    Args:
        a: the truth, called with one array per input, batch first.
        b: the suspect.
        inputs: an array, or a list of one per input; None where `make` is to make them.
        make: makes inputs for the suspect, where it is a model.

    Raises:
        UsageError: no inputs and a suspect that does not tell them, a suspect without a function,
            or a truth that fails on them or gives no two runs alike.
    """
    if b.run is None and b.model is None:
        do = "pass the model or function that computes with them"
        raise UsageError("diagnose", "something to run beside a function", b.title, do)
    if inputs is None and b.model is None:
        do = "pass inputs=, one array per argument, batch first"
        raise UsageError("inputs", "one array for each argument", "none", do)
    arrays = [*make()] if inputs is None else loose_arrays(inputs)
    truth = of_function(a, registry.owner(a))
    recipe = "given" if inputs is not None else "made from b"
    made = Diagnosis(truth.title, b.title, inputs=recipe)
    gave = _truth(truth, arrays)
    message, other = _suspect(b, arrays)
    if other is None:
        return replace(made, findings=(message,))
    dtype = "float32" if "float32" in (gave.dtype, other.dtype) else "float64"
    made = replace(made, precision=dtype)
    if wrong := _plain(gave.outputs, other.outputs):
        return replace(made, findings=(*wrong,))
    return _judged(made, truth, arrays, gave, other, dtype)


@dataclass(frozen=True)
class _Ran:
    """Outputs of a run, and the precision that they were computed in."""

    outputs: list[Array]
    dtype: str


def _truth(a: Suspect, arrays: Sequence[Array]) -> _Ran:
    found, message = attempt(a, arrays)
    if found is None:
        do = "correct it, or pass inputs that it accepts"
        raise UsageError("a", "a function that runs on these inputs", message, do)
    again = attempt(a, arrays)[0]
    if again is None or between(found, again):
        do = "give it a fixed seed, and start its states from zeros in every call"
        raise UsageError("a", "the same outputs from every run", "two that differ", do)
    return _Ran(found.outputs, message)


def _suspect(b: Suspect, arrays: Sequence[Array]) -> tuple[Finding, _Ran | None]:
    """The suspect's run, or why it cannot be compared."""
    nothing = Finding("", None, "", "failed", "")
    if b.run is None:
        assert b.model is not None
        return nothing, _Ran([*reference(b.model, arrays)][: len(b.model.outputs)], "float64")
    if b.model is not None and len(b.model.inputs) == len(arrays):
        arrays = as_called(b.model, arrays)
    found, message = attempt(b, arrays)
    if found is None:
        text = f"b fails on these inputs: {message}"
        return Finding("", None, "", "failed", text, "Correct this first.", float("inf")), None
    wrong, steady = repeated(b, arrays, found, message)
    if wrong is not None or steady is None:
        return wrong or nothing, None
    return nothing, _Ran(steady.outputs, message)


def _plain(truth: Sequence[Array], outputs: Sequence[Array]) -> list[Finding]:
    """The plain differences: another number of outputs, other numbers, other shapes, NaN."""
    inf = float("inf")
    if len(truth) != len(outputs):
        text = f"a gives {len(truth)} output{'s' * (len(truth) != 1)} and b gives {len(outputs)}."
        return [Finding("", None, "", "outputs", text, SAME, inf)]
    if text := unlike(outputs, truth):
        return [Finding("", None, "", "outputs", text, SAME, inf)]
    return [
        Finding("", None, "", cause, text, "", inf)
        for n, (want, y) in enumerate(zip(truth, outputs, strict=True))
        for cause, text in amiss(y, want, f"output {n}" if len(truth) > 1 else "output")
    ]


def _judged(
    made: Diagnosis, a: Suspect, arrays: Sequence[Array], gave: _Ran, other: _Ran, dtype: str
) -> Diagnosis:
    """The diagnosis of outputs of the same shapes."""
    allowed = {name: _bounds(a, arrays, gave.outputs, name) for name in {dtype, "float64"}}
    pairs = zip(allowed[dtype], allowed["float64"], strict=True)
    gaps = [gap_of(y, pair, dtype) for y, pair in zip(other.outputs, pairs, strict=True)]
    several = len(gaps) > 1
    parts = tuple(
        _part(f"output {n}" if several else "output", want, y, gap, bounds)
        for n, (want, y, gap, bounds) in enumerate(
            zip(gave.outputs, other.outputs, gaps, allowed[dtype], strict=True)
        )
        if not gap.same
    )
    blurred = [gap.most for gap in gaps if gap.blurred]
    if blurred:
        text = f"{NO_STEP}; pass other inputs"
        parts = (*parts, Unexplained("", None, max(blurred), text))
    ratio = max((gap.ratio for gap in gaps), default=0.0)
    ulp = max((gap.ulp for gap in gaps), default=0.0)
    return replace(made, unexplained=parts, max_ulp=ulp, ratio=ratio)


def _bounds(
    a: Suspect, arrays: Sequence[Array], outputs: Sequence[Array], dtype: str
) -> list[Bounds]:
    """The rounding error of each output in one precision, as far as the truth tells."""
    eps, runs = EPS[dtype], []
    for seed in range(PERTURBATIONS):
        rng = np.random.default_rng(seed)
        moved = [_moved(x, eps, rng) for x in arrays]
        runs.append(attempt(a, moved)[0])
    if dtype == "float32":
        runs.append(attempt(a, arrays, ("float32",))[0])
    alike = [found.outputs for found in runs if found is not None and _shapes(found, outputs)]
    found = [
        bounds_from(np.asarray(y, np.float64), [run[n] for run in alike] or [y], dtype)
        for n, y in enumerate(outputs)
    ]
    return [replace(bounds, step=SLACK * bounds.step) for bounds in found]


def _moved(x: Array, eps: float, rng: np.random.Generator) -> Array:
    return x * (1 + eps * rng.uniform(-1, 1, x.shape)) if x.dtype.kind == "f" else x


def _shapes(found: RunRecord, outputs: Sequence[Array]) -> bool:
    return [y.shape for y in found.outputs] == [y.shape for y in outputs]


def _part(name: str, want: Array, y: Array, gap: Gap, bounds: Bounds) -> Unexplained:
    """The place at which one output differs, and by how much."""
    found = first_element(name, y, bounds)
    first = found.place or (0,) * y.ndim
    text = (
        f"a and b differ in {found.wrong} of {y.size} numbers of their {name}, by up to "
        f"{gap.most:.3g}; first at {list(first)}, where a gives {float(want[first]):.12g} and b "
        f"{float(y[first]):.12g} (allowed {float(np.max(bounds.step)):.2g}). {NO_CAUSES}"
    )
    return Unexplained("", gap.step, gap.most, text)
