"""Runs of a suspect, which may fail in any way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.result import Finding
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.suspect.models import Suspect
from xlstm.diagnosis.suspect.slow import waited
from xlstm.diagnosis.suspect.unsteady_layer import Look, by_weights, nowhere
from xlstm.diagnosis.tolerance import apart
from xlstm.frameworks.recording import RunRecord
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.types import Array
from xlstm.reference import run


def _given(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Inputs as a suspect takes them: whole numbers for embeddings, bools for masks."""
    numbers = row_numbers(model)
    pairs = zip(model.inputs, inputs, strict=True)
    return [x.astype(_kind(name in numbers, x), copy=False) for name, x in pairs]


def _kind(number: bool, x: Array) -> Any:
    """Whole numbers that are no row numbers are values, as a layer takes them."""
    if number:
        return np.int64
    return np.float64 if x.dtype.kind in "iu" else x.dtype


def ran(case: DiagnosisState) -> RunRecord | None:
    """One run of the suspect in float64, or else in float32; a finding where both fail.

    Where it fails, it is tried with as many samples as time steps: a suspect that takes one for the
    other then runs, and can be told.
    """
    given, first = case.inputs, ""
    for inputs in (given, _square(case.a, given)):
        case.inputs = inputs
        found, said = _once(case) if inputs else (None, "")
        if found is not None:
            case.failed = first
            return found
        first = first or said
    case.inputs = given
    fails(case, f"b fails on a's inputs: {first}", "Mend it first.")
    return None


def fails(case: DiagnosisState, text: str, fix: str) -> None:
    """Writes down that the suspect cannot be run."""
    case.findings.append(Finding("", None, "", "failed", text, fix, float("inf")))


def still_fails(case: DiagnosisState) -> None:
    """A finding for a first failure that nothing found since then explains."""
    if case.failed and not case.findings and not case.unexplained:
        text = f"b fails on a's inputs: {case.failed}. It runs, and agrees, with as many samples as"
        fails(case, f"{text} time steps.", "Look for where it takes one for the other.")


def _once(case: DiagnosisState) -> tuple[RunRecord | None, str]:
    """The run, or None and what was said."""
    found, said = attempt(case.b, _given(case.a, case.inputs))
    if found is None:
        return None, said
    case.dtype = said
    return found, ""


def attempt(
    b: Suspect, inputs: Sequence[Array], dtypes: Sequence[str] = ("float64", "float32")
) -> tuple[RunRecord | None, str]:
    """A run in the first precision that works, and what it computed in; or None, and why."""
    said = ""
    for dtype in dtypes:
        try:
            found = _run(b, inputs, dtype)
        except FAILURES as error:
            said = _said(error)
            continue
        single = dtype == "float64" and any(map(_single, found.outputs))
        return found, "float32" if single else dtype
    return None, said


FAILURES = (Exception, SystemExit)
"""The ways in which somebody's own code may end: in any, but for the user's interrupt."""


def _single(y: Array) -> bool:
    """True if numbers were computed in float32, or came through it, whatever holds them now."""
    if y.dtype == np.float32 or y.dtype.kind != "f":
        return y.dtype == np.float32
    with np.errstate(over="ignore"):
        short = np.array_equal(y, y.astype(np.float32), equal_nan=True)
    return short and bool((y != np.round(y)).any())


def _said(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    if isinstance(error, _NoNumbersError):
        return str(error)
    return ": ".join(filter(None, (type(error).__name__, *str(error).splitlines()[:1])))


class _NoNumbersError(Exception):
    """A suspect gives no arrays of numbers."""


def _run(b: Suspect, inputs: Sequence[Array], dtype: str, **options: Any) -> RunRecord:
    """A run of the suspect.

    Raises:
        _NoNumbersError: what it gives is no array of numbers.
        Exception: the suspect's own.
    """
    assert b.run is not None
    shapes = ", ".join(str(x.shape) for x in inputs)
    with waited(f"b, called in {dtype} with inputs {shapes},"):
        found = b.run(inputs, dtype, **options)
    for y in found.outputs:
        if y.dtype.kind not in "fiubVc":
            raise _NoNumbersError(f"it gives {_what(y)} where an array of numbers is wanted")
    return found


def _what(y: Array) -> str:
    """Names the content of an array that has no numbers."""
    if y.dtype.kind == "O":
        return type(y.item()).__name__ if y.size == 1 else "objects"
    return {"U": "text", "S": "bytes"}.get(y.dtype.kind, f"{y.dtype} numbers")


def _square(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """The first samples and steps, as many of the one as of the other; nothing where none are."""
    free = [model.node(name).shape[:1] == (None,) for name in model.inputs]
    if not any(free):
        return []
    steps = [x.shape[1] for x, own in zip(inputs, free, strict=True) if own]
    size = min(len(inputs[0]), *steps)
    pairs = zip(inputs, free, strict=True)
    return [x[:size, :size] if own else x[:size] for x, own in pairs]


def steady(case: DiagnosisState, first: RunRecord) -> RunRecord | None:
    """The run, or another one without dropout where two runs differ; None where that helps not."""
    given, look = _given(case.a, case.inputs), by_weights(case)
    wrong, found = repeated(case.b, given, first, case.dtype, look)
    case.findings += [wrong] if wrong else []
    return found


def repeated(
    b: Suspect, given: Sequence[Array], first: RunRecord, dtype: str, look: Look = nowhere
) -> tuple[Finding | None, RunRecord | None]:
    """A finding where a second run differs or fails, and the run to compare, None for none.

    `look` finds the layer that differs.
    """
    try:
        second = _run(b, given, dtype, seed=1)
        if gap := between(first, second):
            wrong, found = _quiet(b, given, dtype, gap)
            layer, more = look(first, second)
            return replace(wrong, layer=layer, text=f"{wrong.text} {more}".strip()), found
        return None, first
    except FAILURES as error:
        text = f"b runs once, and fails when it is called again: {_said(error)}"
        return Finding("", None, "", "failed", text, "Mend it first.", float("inf")), None


def _quiet(
    b: Suspect, given: Sequence[Array], dtype: str, gap: float
) -> tuple[Finding, RunRecord | None]:
    """A run with dropout off, and a finding: dropout was on, or runs differ for another reason."""
    found, other = (_run(b, given, dtype, quiet=True, seed=seed) for seed in (0, 1))
    if between(found, other):
        text = "Two runs of b on the same inputs differ: it draws random numbers, or it keeps"
        text += " something from one call for the next."
        fix = "Call .eval(); in PyTorch F.dropout needs training=self.training. Start states anew "
        fix += "in every call."
        return Finding("", None, "", "not-repeatable", text, fix, gap), None
    text = "Dropout is on: two runs of b on the same inputs differ."
    fix = "Call .eval() (training=False) before you compare."
    return Finding("", None, "", "dropout-on", text, fix, gap), found


def between(one: RunRecord, other: RunRecord) -> float:
    """The largest difference of two runs; infinite where their shapes or their NaNs differ."""
    gaps = [0.0]
    for x, y in zip(one.outputs, other.outputs, strict=False):
        if not np.array_equal(x, y, equal_nan=True):
            gaps.append(apart(x, y) or float("inf"))
    return max(gaps) if len(one.outputs) == len(other.outputs) else float("inf")


def told(case: DiagnosisState, read: Model) -> tuple[list[Array], str]:
    """The outputs of the suspect's own graph; none where it does not take these inputs, and why."""
    try:
        return run(read, case.inputs)[: len(read.outputs)], ""
    except Exception as error:  # another shape of input, say
        return [], _said(error)
