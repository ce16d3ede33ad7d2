"""Runs of a suspect, which may fail in any way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlstm.diagnosing.case import Case
from xlstm.diagnosing.result import Finding
from xlstm.diagnosing.seen import Watched
from xlstm.inputs import row_numbers
from xlstm.model import Array, Model
from xlstm.reference import run as reference


def _given(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Inputs as a suspect takes them: whole numbers for embeddings, bools for masks."""
    numbers = row_numbers(model)
    pairs = zip(model.inputs, inputs, strict=True)
    return [x.astype(np.int64) if name in numbers else x for name, x in pairs]


def ran(case: Case) -> Watched | None:
    """One run of the suspect in float64, or else in float32; a finding where both fail.

    Where it fails, it is tried with as many samples as time steps: a suspect that takes one for the
    other then runs, and can be told.
    """
    given, first = case.inputs, ""
    for inputs in (given, _square(case.a, given)):
        case.inputs = inputs
        found, said = _once(case) if inputs else (None, "")
        if found is not None:
            return found
        first = first or said
    case.inputs = given
    text, fix = f"b fails on a's inputs: {first}", "Mend it first."
    case.findings.append(Finding("", None, "", "failed", text, fix, float("inf")))
    return None


def _once(case: Case) -> tuple[Watched | None, str]:
    """The run, or None and what was said."""
    assert case.b.run is not None
    given, said = _given(case.a, case.inputs), ""
    for dtype in ("float64", "float32"):
        try:
            found = case.b.run(given, dtype)
        except Exception as error:  # the suspect is somebody's own code
            said = said or (str(error).splitlines() or [""])[0] or type(error).__name__
            continue
        single = dtype == "float64" and any(y.dtype == np.float32 for y in found.outputs)
        case.dtype = "float32" if single else dtype
        return found, ""
    return None, said


def _square(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """The first samples and steps, as many of the one as of the other; nothing where none are."""
    free = [model.node(name).shape[:1] == (None,) for name in model.inputs]
    if not any(free):
        return []
    steps = [x.shape[1] for x, own in zip(inputs, free, strict=True) if own]
    size = min(len(inputs[0]), *steps)
    pairs = zip(inputs, free, strict=True)
    return [x[:size, :size] if own else x[:size] for x, own in pairs]


def steady(case: Case, first: Watched) -> Watched:
    """The run, or another one without dropout where two runs differ."""
    assert case.b.run is not None
    given = _given(case.a, case.inputs)
    second = case.b.run(given, case.dtype, seed=1)
    pairs = zip(first.outputs, second.outputs, strict=False)
    if all(np.array_equal(x, y, equal_nan=True) for x, y in pairs):
        return first
    gap = max(
        float(np.abs(x - y).max()) for x, y in zip(first.outputs, second.outputs, strict=True)
    )
    text = "Dropout is on: two runs of b on the same inputs differ."
    fix = "Call .eval() (training=False) before you compare."
    case.findings.append(Finding("", None, "", "dropout-on", text, fix, gap))
    return case.b.run(given, case.dtype, quiet=True)


def told(case: Case, read: Model) -> list[Array]:
    """What the suspect's own graph gives; nothing where it does not take these inputs."""
    try:
        return reference(read, case.inputs)[: len(read.outputs)]
    except Exception:  # another shape of input, say
        return []
