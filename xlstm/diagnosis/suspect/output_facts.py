"""Facts that are plain to see in a suspect's outputs, before any cause is looked for.

In: what the suspect gave, and the truth's outputs on the same inputs. Out: the outputs that can be
compared, and one line for each such fact: another number of outputs, whole or complex numbers,
another shape, NaN. The search for causes follows where it still makes sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xlstm.diagnosis.result import Finding
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.tolerance import apart
from xlstm.frameworks.recording import RunRecord
from xlstm.ir.layers import Bidirectional, Recurrent
from xlstm.ir.types import Array
from xlstm.reference import run
from xlstm.verification.run import output_names

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
