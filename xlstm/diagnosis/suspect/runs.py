"""Runs of a suspect, which may fail in any way, and facts that are plain to see in its outputs.

In: a suspect and inputs. Out: a run that can be compared, or a finding: it fails, two runs differ,
another number of outputs, whole or complex numbers, another shape, NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.pairing.tensors import pair_arrays
from xlstm.diagnosis.result import Finding
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.suspect.models import Suspect, waited
from xlstm.diagnosis.tolerance import apart
from xlstm.frameworks.recording import LayerRecord, RunRecord
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.layers import Bidirectional, Dropout, Recurrent
from xlstm.ir.types import Array
from xlstm.reference import run
from xlstm.verification.run import output_names


class Unsteady(NamedTuple):
    """The truth's layer that stands for the first one to differ, and a sentence about it."""

    layer: str = ""
    text: str = ""


Look = Callable[[RunRecord, RunRecord], Unsteady]
"""Compares two runs of the same suspect on the same inputs."""


def nowhere(_one: RunRecord, _other: RunRecord) -> Unsteady:
    """No layer: nothing is known of a suspect but its outputs."""
    return Unsteady()


def as_called(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Converts inputs to what a suspect takes: whole numbers for embeddings, bools for masks."""
    numbers = row_numbers(model)
    pairs = zip(model.inputs, inputs, strict=True)
    return [
        # whole numbers that are no row numbers are values, as a layer takes them
        x.astype(np.int64 if name in numbers else np.float64, copy=False)
        if name in numbers or x.dtype.kind in "iu"
        else x
        for name, x in pairs
    ]


def ran(case: DiagnosisState) -> RunRecord | None:
    """One run of the suspect in float64, or else in float32; a finding where both fail.

    Where it fails, it is tried with as many samples as time steps: a suspect that takes one for the
    other then runs, and that mistake can be found.
    """
    given, first = case.inputs, ""
    for inputs in (given, _square(case.a, given)):
        case.inputs = inputs
        found, said = attempt(case.b, as_called(case.a, inputs)) if inputs else (None, "")
        if found is not None:
            case.failed, case.dtype = first, said
            return found
        first = first or said
    case.inputs = given
    fails(case, f"b fails on a's inputs: {first}", "Correct this first.")
    return None


def fails(case: DiagnosisState, text: str, fix: str) -> None:
    """Writes down that the suspect cannot be run."""
    case.findings.append(Finding("", None, "", "failed", text, fix, float("inf")))


def still_fails(case: DiagnosisState) -> None:
    """A finding for a first failure that nothing found since then explains."""
    if case.failed and not case.findings and not case.unexplained:
        text = f"b fails on a's inputs: {case.failed}. It runs, and agrees, with as many samples as"
        fails(case, f"{text} time steps.", "Look for where it takes one for the other.")


def attempt(
    b: Suspect, inputs: Sequence[Array], dtypes: Sequence[str] = ("float64", "float32")
) -> tuple[RunRecord | None, str]:
    """A run in the first precision that works, and what it computed in; or None, and why."""
    message = ""
    for dtype in dtypes:
        try:
            found = _run(b, inputs, dtype)
        except FAILURES as error:
            message = _said(error)
            continue
        single = dtype == "float64" and any(map(_single, found.outputs))
        return found, "float32" if single else dtype
    return None, message


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
            what = {"U": "text", "S": "bytes", "O": "objects"}.get(
                y.dtype.kind, f"{y.dtype} numbers"
            )
            what = type(y.item()).__name__ if y.dtype.kind == "O" and y.size == 1 else what
            raise _NoNumbersError(f"it gives {what} where an array of numbers is wanted")
    return found


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
    arrays, look = as_called(case.a, case.inputs), by_weights(case)
    wrong, found = repeated(case.b, arrays, first, case.dtype, look)
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
        return Finding("", None, "", "failed", text, "Correct this first.", float("inf")), None


def _quiet(
    b: Suspect, arrays: Sequence[Array], dtype: str, gap: float
) -> tuple[Finding, RunRecord | None]:
    """A run with dropout off, and a finding: dropout was on, or runs differ for another reason."""
    found, other = (_run(b, arrays, dtype, quiet=True, seed=seed) for seed in (0, 1))
    if between(found, other):
        text = "Two runs of b on the same inputs differ: it draws random numbers, or it keeps"
        text += " something from one call for the next."
        fix = "Call .eval(); in PyTorch F.dropout needs training=self.training. Start "
        fix += "states from zeros in every call."
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


def own_outputs(case: DiagnosisState, read: Model) -> tuple[list[Array], str]:
    """The outputs of the suspect's own graph; none where it does not take these inputs, and why."""
    try:
        return run(read, case.inputs)[: len(read.outputs)], ""
    except Exception as error:  # another shape of input, say
        return [], _said(error)


def by_weights(case: DiagnosisState) -> Look:
    """A comparison that knows the truth's layers by the paths of their weights."""

    def look(one: RunRecord, other: RunRecord) -> Unsteady:
        arrays = case.b.arrays
        if not arrays or not one.gave:
            return Unsteady()
        paired = pair_arrays(case.a, arrays, [case.b.adapter] if case.b.adapter else None)
        owners = {path: owner for owner, path in {**paired.paths, **paired.modules}.items()}
        second = {gave.name: gave for gave in other.gave}
        for gave in one.gave:
            again = second.get(gave.name)
            same = again is None or np.array_equal(gave.output, again.output, equal_nan=True)
            if gave.name in owners and again is not None and not same:
                layer = _after_dropout(case.a, owners[gave.name], gave, again)
                return Unsteady(layer, _first_gap(gave, again))
        return Unsteady()

    return look


def _after_dropout(model: Model, owner: str, one: LayerRecord, other: LayerRecord) -> str:
    """A layer, or the truth's own Dropout right before it where what it reads differs."""
    edges = model.node(owner).inputs
    before = model.node(edges[0].node) if edges else None
    x, y = one.read, other.read
    same = x is not None and y is not None and np.array_equal(x, y, equal_nan=True)
    return owner if same or not before or not isinstance(before.spec, Dropout) else before.name


def _first_gap(one: LayerRecord, other: LayerRecord) -> str:
    """The layer from which on runs differ, and the look of dropout where it has that."""
    x, y = one.read, other.read
    if x is None or y is None or x.shape != y.shape:
        return f"They differ from {one.name} on."
    if np.array_equal(x, y, equal_nan=True):
        return f"They differ from {one.name} on, though it gets the same numbers."
    # dropout: equal but for numbers that are zeros in one of them
    if np.minimum(np.abs(x), np.abs(y))[x != y].any():
        return f"They differ before {one.name}: it gets other numbers in each run."
    share = float((x == 0).mean())
    text = f"They differ before {one.name}: {share:.0%} of the numbers that it gets are zeros,"
    return f"{text} others in each run, as dropout makes them."


SAME = "Return the same outputs."

ORDINALS = ("first", "second", "third", "fourth", "fifth")


def glanced(case: DiagnosisState, outputs: list[Array], gave: RunRecord | None) -> list[Array]:
    """As many outputs as the truth has; none where nothing is left to look for."""
    truth = [np.asarray(y) for y in run(case.a, case.inputs)][: len(case.a.outputs)]
    outputs = _counted(case, outputs, truth, "" if gave is None else gave.form or "")
    if wrong := unlike(outputs, truth):
        found(case, "outputs", wrong, SAME)
        return []
    if gave is not None and gave.form is not None and not case.findings:
        _packed(case, gave.form, len(outputs))
    names = output_names(case.a) if len(truth) > 1 else [""]
    for name, y, want in zip(names, outputs, truth, strict=False):
        for cause, text in amiss(y, want, f"output {name}".strip()):
            case.seen.setdefault(cause, text)
    return outputs


def found(case: DiagnosisState, cause: str, text: str, fix: str) -> None:
    """Writes down what is seen as a finding: nothing explains it further."""
    case.findings.append(Finding("", None, "", cause, text, fix, float("inf")))


def unlike(outputs: Sequence[Array], truth: Sequence[Array]) -> str:
    """The sentence for numbers of another kind than the truth's; "" where there are none."""
    kinds = [f"dtype {y.dtype}" for y in outputs if np.iscomplexobj(y)]
    if kinds:
        return f"b gives complex numbers ({', '.join(dict.fromkeys(kinds))}), a gives real ones."
    for y, want in zip(outputs, truth, strict=False):
        if y.dtype.kind in "biu" and want.dtype.kind != "b" and _fractions(want):
            word = "True and False" if y.dtype.kind == "b" else "whole numbers"
            return f"b gives {word} (dtype {y.dtype}), a gives fractions."
    return ""


def _fractions(y: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((y[np.isfinite(y)] % 1 != 0).any())


def amiss(y: Array, want: Array, output: str) -> list[tuple[str, str]]:
    """Cause and sentence for another shape, or for NaN that the truth has not."""
    if y.shape != want.shape:
        return [("shape", f"b's {output} has shape {y.shape}, a's has {want.shape}.")]
    bad = ~np.isfinite(np.asarray(y, np.float64)) & np.isfinite(np.asarray(want, np.float64))
    if not bad.any():
        return []
    step = f", first at step {int(np.argwhere(bad)[:, 1].min())}" if y.ndim > 2 else ""
    much = f"{int(bad.sum())} of {y.size} numbers of its {output}{step}"
    return [("nan", f"b gives NaN or infinity in {much}; a gives none there.")]


def _counted(
    case: DiagnosisState, outputs: list[Array], truth: list[Array], form: str
) -> list[Array]:
    """The outputs to compare; a finding where others follow that are no states."""
    want = len(truth)
    specs: list[Any] = [node.spec for node in case.a.layers]
    stateful = [spec for spec in specs if isinstance(spec, (Recurrent, Bidirectional))]
    sizes = {shape[-1] for spec in stateful for shape in spec.state_shapes()}
    states = all(y.ndim > 1 and y.shape[-1] in sizes for y in outputs[want:])
    kept = outputs[:want]
    if want == 1 < len(outputs):
        # of several outputs the one that is nearest is meant, and the first of equals
        alike = [y for y in outputs if y.shape == truth[0].shape and y.dtype.kind != "c"]
        kept = [min(alike, key=lambda y: apart(truth[0], y))] if alike else kept
        states &= kept[0] is outputs[0]
    if len(outputs) < want or not states:
        how = f" ({form})" if form else ""
        text = f"a has {want} output{'s' * (want > 1)} and b gives {len(outputs)}{how}."
        if len(outputs) > want == 1:
            place = next(n for n, y in enumerate(outputs) if y is kept[0])
            text += f" The {ORDINALS[place]} is compared." if place < len(ORDINALS) else ""
        found(case, "outputs", text, SAME)
    return kept if len(outputs) >= want else []


def _packed(case: DiagnosisState, form: str, count: int) -> None:
    """A note where outputs of the right number come in another container."""
    own = f"a dict ({', '.join(map(str, case.a.keys))})" if case.a.keys else ""
    lone = "the array itself" if count == 1 else f"{count} arrays"
    alike = form == own if own or form.startswith("a dict") else count > 1 or " of 1" not in form
    if not alike:
        text = f"b gives {form or lone}, a gives {own or lone}; the numbers in it are compared."
        case.notes.append(Finding("", None, "", "outputs", text))
