"""`diagnose`: compares, bisects, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import layers_of, run, start
from xlstm.diagnosis.pairing import weights
from xlstm.diagnosis.pairing.tensors import pair_arrays
from xlstm.diagnosis.result import Diagnosis, Finding, Unexplained
from xlstm.diagnosis.search.bisect import bisect
from xlstm.diagnosis.search.outcome import same
from xlstm.diagnosis.state import (
    STEPS,
    DiagnosisState,
    Effort,
    check_effort,
)
from xlstm.diagnosis.suspect.functions import is_function, of_functions
from xlstm.diagnosis.suspect.models import Suspect, suspect
from xlstm.diagnosis.suspect.module_facts import misfits
from xlstm.diagnosis.suspect.runs import fails, glanced, own_outputs, ran, steady, still_fails
from xlstm.diagnosis.weight_findings import of_weights
from xlstm.errors import UsageError
from xlstm.frameworks.random_state import unmoved
from xlstm.frameworks.recording import RunRecord
from xlstm.ir.batch_axes import late
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Array, Shape
from xlstm.porting.folder_code import modified_model_file
from xlstm.reading.load import load
from xlstm.reference import Coverage
from xlstm.reference import run as reference
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import blurred_steps, bounds
from xlstm.verification.inputs import MEMORY, Limits, check_cost, check_memory, costs_of, fitted
from xlstm.verification.progress import Tell, silent
from xlstm.verification.run import output_names
from xlstm.verification.user_inputs import arrays_for, out_of_range_id

RUNS = 100
"""Runs of the truth and of what may be wrong with it, about."""


def diagnose(
    a: Any,
    b: Any,
    inputs: Any = None,
    *,
    memory: float = MEMORY,
    effort: float = 1.0,
    progress: Tell = silent,
) -> Diagnosis:
    """Finds the layer at which two models that should agree differ, and the cause.

    Goes layer by layer and step by step to the first place where they part, tries the known
    mistakes there, and names the one that explains it; then goes on from there.

    Args:
        a: the truth: anything that `load` takes; or a function of numpy arrays, of which nothing
            but its outputs is known: where the two part and by how much is said, and no causes.
        b: the suspect: anything that `load` takes; a PyTorch module that cannot be read; a state
            dict or a file of named arrays, whose weights alone are compared; or a function of numpy
            arrays, called with one array per input, batch first.
        inputs: arrays, or files of them, one per input of `a`; made from the model if not given.
            Two functions need them.
        memory: bytes that runs of `a` may take, as in `xlstm.reconcile`.
        effort: how long to look for causes that single mistakes do not explain: 1 is some seconds,
            10 ten times as much, and 0 only compares.
        progress: is called with one line of text for each step, as soon as it is known whether the
            two differ, and then while causes are looked for.

    Returns:
        The diagnosis; `.ok` says whether the two are equal up to rounding.

    Raises:
        XlstmError: `a` cannot be read, `b` is nothing of a model's, inputs do not fit, or runs
            would need more than `memory`.

    >>> import numpy as np
    >>> from xlstm.model import Dense, Source, chain
    >>> def model(*rows):
    ...     return chain("m", [("dense", Dense(2, 2, use_bias=False), True)], (2,),
    ...                  {"dense": {"kernel": np.array(rows)}}, Source("keras"))
    >>> diagnose(model([1.0, 2.0], [3.0, 4.0]), model([1.0, 3.0], [2.0, 4.0])).causes
    ('transposed',)
    """
    limits, allowed = Limits(check_memory(memory), RUNS), Effort({}, check_effort(effort), progress)
    if is_function(a):
        with unmoved:
            other = suspect(b)
            return of_functions(a, other, inputs, lambda: _own(other, limits))
    with unmoved:
        progress("[1/3] reading a and b")
        truth, other = load(a), suspect(b, a)
        try:
            code = [*filter(None, map(modified_model_file, (a, b)))]
            return _compared(truth, other, inputs, code, limits, allowed)
        except MemoryError:
            want, do = "inputs that fit in memory", "pass fewer samples or shorter ones"
            raise UsageError(truth.name, want, "out of memory", do) from None


def _compared(
    truth: Model,
    other: Suspect,
    inputs: Any,
    code: Sequence[str],
    limits: Limits,
    effort: Effort,
) -> Diagnosis:
    alone = other.run is None and other.model is None
    effort.tell("[2/3] comparing weights" if alone else "[2/3] running a and b")
    made: list[Array] = []
    if inputs is not None:
        made = arrays_for(truth, inputs)
    elif not alone:
        made = made_inputs(truth, other, limits)
    if wrong := out_of_range_id(truth, made) if made else "":
        raise UsageError("inputs", "row numbers that the embedding has", wrong, "pass others")
    effort.costs = costs_of(truth, [array.shape for array in made]) if made else {}
    case = DiagnosisState(truth, other, made, effort=effort)
    if alone:
        _weights_alone(case)
        return _diagnosis(case, inputs is None)
    for model in (truth, other.model):
        if model is not None and len(model.inputs) == len(made):
            check_cost(model, made, limits)
    if not _inputs_differ(case):
        _whole(case)
        still_fails(case)
    for said in code:
        case.unexplained.append(Unexplained("", None, float("inf"), said))
    return _diagnosis(case, inputs is None)


def _own(other: Suspect, limits: Limits) -> list[Array]:
    """Inputs made for the suspect itself, where the truth does not tell which it takes."""
    assert other.model is not None
    return made_inputs(other.model, Suspect(other.title), limits)


def made_inputs(model: Model, other: Suspect, limits: Limits) -> list[Array]:
    """Inputs that the suspect takes too, short enough for some step to be decided."""
    # the one length that the suspect has of axes that may have any in the truth
    pairs = zip(_asked(model), _asked(other.model) if other.model else [], strict=False)
    sizes = {n for a, b in pairs for m, n in zip(a, b, strict=False) if m is None and n is not None}
    if len(sizes) == 1:
        recipe = fitted(model, generated.Recipe(sizes.pop()), limits, shorten=False)
        return generated.best_of(model, recipe)[0]
    recipe = fitted(model, generated.Recipe(STEPS), limits)
    arrays = generated.best_of(model, recipe)[0]
    for steps in generated.shorter(recipe.steps) if generated.has_free_axis(model) else ():
        if all(found.sharp.any() for found in bounds(model, arrays, "float64")):
            break
        arrays = generated.best_of(model, recipe._replace(steps=steps))[0]
    return arrays


def _diagnosis(case: DiagnosisState, made: bool) -> Diagnosis:
    coverage = Coverage()
    was_run = "outputs" in case.compared
    if was_run:
        reference(case.a, case.inputs, coverage=coverage)
    recipe = f"made from the model, seed {generated.SEED}" if made else "given"
    if (shapes := late(case.a)[0]) and not made:
        recipe += f", taken as batch first, though a's source takes {shapes}"
    # time steps of the truth's outputs that cannot be decided, where others can
    limits = bounds(case.a, case.inputs, "float64") if was_run else []
    pairs = zip(output_names(case.a), limits, strict=False)
    steps = ((name, blurred_steps(found, found)) for name, found in pairs if found.y.ndim > 2)
    blurred = "; ".join(f"{name} {found}" for name, found in steps if found)
    return Diagnosis(
        case.a.name,
        case.b.title,
        tuple(case.findings),
        tuple(case.unexplained),
        tuple(case.compared),
        case.tried,
        tuple(coverage.unexercised()) if was_run else (),
        recipe if was_run else "",
        case.max_ulp,
        case.dtype if was_run else "",
        blurred if was_run else "",
        tuple(case.notes),
        tuple(t for c, t in case.seen.items() if c not in {f.cause for f in case.findings}),
        case.ratio,
        case.first,
    )


def _weights_alone(case: DiagnosisState) -> None:
    """Compares arrays whose function is not known; says what is missing and what is left over."""
    paired = pair_arrays(case.a, case.b.arrays or {})
    found, _, case.tried = weights.explain(case.a, paired, paired.naming, alone=True)
    case.compared.append("weights")
    case.findings += of_weights(case.a, found, paired.naming)
    known = weights.facts(case.a, paired)
    missing = [name for name in case.a.weights if case.a.weights[name] and name not in known]
    if missing:
        text = f"no arrays of b are those of {', '.join(missing)} by their names and shapes"
        case.unexplained.append(Unexplained(missing[0], None, float("inf"), text))
    if paired.left:
        text = f"arrays of b that stand for nothing in a: {', '.join(paired.left)}"
        case.unexplained.append(Unexplained("", None, float("inf"), text))


def _inputs_differ(case: DiagnosisState, failed: bool = False) -> bool:
    """True if the suspect takes other inputs; a finding where it does. `failed`: it did not run."""
    model = case.b.model
    if model is None:
        return False
    own, others = _asked(case.a), _asked(model)
    text = f"a has {len(own)} inputs and b has {len(others)}."
    if len(own) == len(others):
        pairs = [(a, b) for a, b in zip(own, others, strict=True) if not _meets(a, b)]
        # of code that runs the shape is only what a trace of it tells
        if not pairs or (case.b.run is not None and not failed):
            return False
        text = " ".join(f"a takes inputs of shape {a} a sample, b of {b}." for a, b in pairs)
    case.findings.append(Finding("", None, "", "inputs", text, "Give both the same inputs."))
    case.compared.append("inputs")
    return True


def _asked(model: Model) -> list[Shape]:
    """The shape of one sample of each input of a model."""
    return [model.shape(Edge(name)) for name in model.inputs]


def _meets(a: Shape, b: Shape) -> bool:
    """True if some input is of both shapes; None stands for any size."""
    return len(a) == len(b) and all(None in (m, n) or m == n for m, n in zip(a, b, strict=True))


def _whole(case: DiagnosisState) -> None:
    """Compares outputs, weights where they are known, and what lies between."""
    outputs: list[Array] = []
    gave: RunRecord | None = None
    if _without_numbers(case):
        return
    case.compared.append("outputs")
    if case.b.run is not None:
        gave = ran(case)
        if gave is None:
            # other inputs say more than how it failed
            case.findings = case.findings[-1:] if _inputs_differ(case, True) else case.findings
            return
        case.findings += misfits(case, gave)
        gave = None if case.findings else steady(case, gave)
        if gave is None:
            return
        outputs = gave.outputs
    read = case.b.model
    if read is not None:
        outputs, message = (outputs, "") if outputs else own_outputs(case, read)
        if message:
            fails(case, f"b does not take a's inputs: {message}", "Give both the same inputs.")
            return
    outputs = glanced(case, outputs, gave)
    if not outputs:
        return
    if read is not None:
        # its graph tells what lies between where it gives what the suspect gives
        own, _ = own_outputs(case, read)
        shapes = [y.shape for y in own] == [y.shape for y in outputs]
        values = start(read, case.inputs) if shapes else {}
        if not shapes or not same(read, layers_of(read), values, outputs, case.dtype).same:
            read = None
    bisect(case, outputs, gave, read)


def _without_numbers(case: DiagnosisState) -> bool:
    """True if the truth gives nothing that could be compared; a finding where it does."""
    values = run(case.a, layers_of(case.a), start(case.a, case.inputs))
    if any(np.isfinite(values[edge]).any() for edge in case.a.outputs):
        return False
    bad = (node.name for node in case.a.layers if not np.isfinite(values[Edge(node.name)]).all())
    layer = next(bad, "")
    text = "a itself gives NaN or infinity from here on: no output is left to compare."
    fix = "Pass inputs for which a gives finite numbers, or correct a's weights."
    case.findings.append(Finding(layer, None, "", "nan", text, fix, float("inf")))
    return True
