"""`diagnose`: compares, bisects, names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xlstm import inputs as generated
from xlstm.diagnosing import direct, points, weights
from xlstm.diagnosing.altered import Layer, Values, before, layers_of, run, start
from xlstm.diagnosing.hypothesis import Hypothesis
from xlstm.diagnosing.measure import Gap, allowed, gap_of
from xlstm.diagnosing.naming import Naming
from xlstm.diagnosing.pairing import Paired, pair_arrays, pair_models
from xlstm.diagnosing.result import Diagnosis, Finding, Unexplained
from xlstm.diagnosing.search import Explained, Point, Search
from xlstm.diagnosing.seen import Watched
from xlstm.diagnosing.suspect import Suspect, suspect
from xlstm.given import arrays_for
from xlstm.inputs import row_numbers
from xlstm.model import Array, Edge, Model
from xlstm.porting import load
from xlstm.reference import Coverage
from xlstm.reference import run as reference

STEPS = 8
"""Time steps of the inputs that are made: many hypotheses are run."""


@dataclass
class Case:
    """One diagnosis while it is made.

    Attributes:
        a: the truth.
        b: the suspect.
        inputs: what both are given.
        findings: so far.
        unexplained: so far.
        tried: hypotheses so far.
    """

    a: Model
    b: Suspect
    inputs: list[Array]
    findings: list[Finding] = field(default_factory=list)
    unexplained: list[Unexplained] = field(default_factory=list)
    tried: int = 0
    dtype: str = "float64"
    max_ulp: float | None = None
    compared: list[str] = field(default_factory=list)


def diagnose(a: Any, b: Any, inputs: Any = None) -> Diagnosis:
    """Where two models that should agree part ways, and why.

    Goes layer by layer and step by step to the first place where they part, tries the known
    mistakes there, and names the one that explains it; then goes on from there.

    Args:
        a: the truth: anything that `load` takes.
        b: the suspect: anything that `load` takes; a PyTorch module that cannot be read; a state
            dict or a file of named arrays, whose weights alone are compared; or a function of numpy
            arrays, called with one array per input, batch first.
        inputs: arrays, or files of them, one per input of `a`; made from the model if not given.

    Returns:
        The diagnosis; `.ok` says whether the two are equal up to rounding.

    Raises:
        XlstmError: `a` cannot be read, `b` is nothing of a model's, or inputs that do not fit.

    >>> from xlstm.model import Dense, Source, chain
    >>> def model(*rows):
    ...     return chain("m", [("dense", Dense(2, 2, use_bias=False), True)], (2,),
    ...                  {"dense": {"kernel": np.array(rows)}}, Source("keras"))
    >>> diagnose(model([1.0, 2.0], [3.0, 4.0]), model([1.0, 3.0], [2.0, 4.0])).causes
    ('transposed',)
    """
    truth, other = load(a), suspect(b)
    made = generated.chosen(truth, STEPS)[0] if inputs is None else arrays_for(truth, inputs)
    case = Case(truth, other, made)
    if other.run is None and other.model is None:
        _weights_alone(case)
    elif not _inputs_differ(case):
        _whole(case)
    return _diagnosis(case, inputs is None)


def _diagnosis(case: Case, made: bool) -> Diagnosis:
    coverage = Coverage()
    reference(case.a, case.inputs, coverage=coverage)
    ran = "outputs" in case.compared
    recipe = f"made from the model, seed {generated.SEED}" if made else "given"
    return Diagnosis(
        case.a.name,
        case.b.title,
        tuple(case.findings),
        tuple(case.unexplained),
        tuple(case.compared),
        case.tried,
        tuple(coverage.unexercised()) if ran else (),
        recipe if ran else "",
        case.max_ulp,
    )


def _weights_alone(case: Case) -> None:
    """Compares arrays whose function is not known."""
    paired = pair_arrays(case.a, case.b.arrays or {})
    found, _, case.tried = weights.explain(case.a, paired, paired.naming)
    case.compared.append("weights")
    case.findings += [_of_weights(h, gap, paired.naming) for h, gap in found]
    _left_over(case, paired)


def _left_over(case: Case, paired: Paired) -> None:
    """Layers of the truth without weights in the suspect, and the suspect's arrays left over."""
    known = weights.facts(case.a, paired)
    missing = [name for name in case.a.weights if case.a.weights[name] and name not in known]
    if missing:
        text = f"no arrays of b are those of {', '.join(missing)} by their names and shapes"
        case.unexplained.append(Unexplained(missing[0], None, float("inf"), text))
    if paired.left:
        text = f"arrays of b that stand for nothing in a: {', '.join(paired.left)}"
        case.unexplained.append(Unexplained("", None, float("inf"), text))


def _of_weights(hypothesis: Hypothesis, gap: float, naming: Naming) -> Finding:
    said = hypothesis.say(naming)
    return Finding(hypothesis.layer, None, said.tensor, hypothesis.cause, said.text, said.fix, gap)


def _inputs_differ(case: Case) -> bool:
    model = case.b.model
    if model is None or len(model.inputs) == len(case.a.inputs):
        return False
    text = f"a has {len(case.a.inputs)} inputs and b has {len(model.inputs)}."
    case.findings.append(Finding("", None, "", "inputs", text, "Give both the same inputs."))
    case.compared.append("inputs")
    return True


def _given(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Inputs as a suspect takes them: whole numbers for embeddings, bools for masks."""
    numbers = row_numbers(model)
    pairs = zip(model.inputs, inputs, strict=True)
    return [x.astype(np.int64) if name in numbers else x for name, x in pairs]


def _ran(case: Case) -> Watched | None:
    """One run of the suspect in float64, or else in float32; a finding where both fail."""
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
        return found
    finding = Finding("", None, "", "failed", f"b fails on a's inputs: {said}", "Mend it first.")
    case.findings.append(finding)
    return None


def _steady(case: Case, first: Watched) -> Watched:
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


def _whole(case: Case) -> None:
    """Compares outputs, weights where they are known, and what lies between."""
    outputs: list[Array] = []
    gave: Watched | None = None
    case.compared.append("outputs")
    if case.b.run is not None:
        gave = _ran(case)
        if gave is None:
            return
        gave = _steady(case, gave)
        outputs = gave.outputs
    read = case.b.model
    if read is not None:
        told = _told(case, read)
        outputs = outputs or told
    outputs = _counted(case, outputs)
    if not outputs:
        return
    _search(
        case, outputs, gave, read if read is not None and _agrees(case, read, outputs) else None
    )


def _told(case: Case, read: Model) -> list[Array]:
    """What the suspect's own graph gives; nothing where it does not take these inputs."""
    try:
        return reference(read, case.inputs)[: len(read.outputs)]
    except Exception:  # another shape of input, say
        return []


def _agrees(case: Case, read: Model, outputs: Sequence[Array]) -> bool:
    """Whether a suspect gives what its own graph gives: then the graph tells what lies between."""
    told = _told(case, read)
    if len(told) != len(outputs):
        return False
    return (
        all(y.shape == t.shape for y, t in zip(outputs, told, strict=True))
        and _same(read, layers_of(read), start(read, case.inputs), outputs, case.dtype).same
    )


def _counted(case: Case, outputs: list[Array]) -> list[Array]:
    """As many outputs as the truth has; a finding where there are others."""
    want = len(case.a.outputs)
    if len(outputs) != want:
        specs: list[Any] = [node.spec for node in case.a.stateful]
        states = sum(len(spec.state_shapes()) for spec in specs)
        if len(outputs) != want + states:
            text = f"a has {want} output{'s' * (want > 1)} and b gives {len(outputs)}."
            fix = "Return the same outputs."
            case.findings.append(Finding("", None, "", "outputs", text, fix, float("inf")))
    return outputs[:want] if len(outputs) >= want else []


def _same(
    model: Model, layers: dict[str, Layer], values: Values, outputs: Sequence[Array], dtype: str
) -> Gap:
    """The worst gap of all outputs."""
    wanted = before(model, model.outputs, ())
    bounds = allowed(model, layers, values, model.outputs, dtype, wanted)
    gaps = [gap_of(y, b, dtype) for y, b in zip(outputs, bounds, strict=True)]
    return max(gaps, key=lambda gap: (not gap.same, gap.ratio))


def _search(case: Case, outputs: list[Array], gave: Watched | None, read: Model | None) -> None:
    """Bisects with all that is known, then with less, until everything is explained."""
    paired = _pairing(case, read)
    naming = paired.naming if paired.adapter else Naming(case.b.adapter)
    known, layers, case.tried = weights.explain(case.a, paired, naming)
    if paired.hub:
        case.compared.append("weights")
    seen = _points(case, paired, gave, read)
    end = Point(tuple(case.a.outputs), tuple(outputs))
    attempts = [(layers, [*seen, end], known), (layers, [end], known)]
    attempts += (
        [(layers_of(case.a), [*seen, end], []), (layers_of(case.a), [end], [])] if known else []
    )
    best: tuple[Search, list[Explained], list[tuple[Hypothesis, float]], Gap] | None = None
    for own, line, granted in attempts if seen else attempts[1::2] or attempts:
        tried = _attempt(case, own, line, naming, read, paired)
        final = _same(case.a, tried[0].layers, tried[0].start, outputs, case.dtype)
        if best is None or final.same:
            best = (*tried, granted, final)
        if final.same:
            break
    assert best is not None
    _conclude(case, *best, naming)
    _idle(case, read, paired, gave)


def _attempt(
    case: Case,
    layers: dict[str, Layer],
    line: Sequence[Point],
    naming: Naming,
    read: Model | None,
    paired: Paired,
) -> tuple[Search, list[Explained]]:
    search = Search(case.a, start(case.a, case.inputs), case.dtype, naming, dict(layers))
    if read is not None:
        search.direct = direct.suggested(case.a, read, paired.paths, layers, naming)
    found = [search.at(point) for point in line]
    case.tried += search.tried
    return search, found


def _pairing(case: Case, read: Model | None) -> Paired:
    """The suspect's weights by the truth's layers, as far as names and shapes tell."""
    b = case.b
    named = Paired(adapter=b.adapter)
    if b.arrays:
        named = pair_arrays(case.a, b.arrays, [b.adapter] if b.adapter else None)
    if read is None:
        return named
    pairs = pair_models(case.a, read, b.adapter)
    return replace(pairs, names={**pairs.names, **named.names}, modules=named.modules)


def _points(case: Case, paired: Paired, gave: Watched | None, read: Model | None) -> list[Point]:
    values = run(case.a, layers_of(case.a), start(case.a, case.inputs))
    known = {node.name: values[Edge(node.name)] for node in case.a.layers}
    if read is not None:
        return points.of_graph(case.a, read, paired.paths, case.inputs, known)
    return points.watched(case.a, paired, gave.gave, known) if gave else []


def _conclude(
    case: Case,
    search: Search,
    explained: list[Explained],
    granted: list[tuple[Hypothesis, float]],
    final: Gap,
    naming: Naming,
) -> None:
    """Findings in the order in which data meets them."""
    case.max_ulp = final.ulp if np.isfinite(final.ulp) else None
    found = [replace(_of_weights(h, gap, naming), after_ulp=case.max_ulp) for h, gap in granted]
    for one in explained:
        for hypothesis in one.found:
            said = hypothesis.say(naming)
            found.append(
                Finding(
                    hypothesis.layer, one.gap.step, said.tensor, hypothesis.cause,
                    said.text, said.fix, one.gap.most, one.left.ulp,
                )
            )  # fmt: skip
        if not one.gap.same and not one.found:
            _unknown(case, one)
    order = {node.name: number for number, node in enumerate(case.a.nodes)}
    case.findings += sorted(found, key=lambda finding: order.get(finding.layer, -1))
    if not final.same and all(one.gap.same or one.found for one in explained):
        _unknown(case, replace(explained[-1], gap=final))


def _unknown(case: Case, one: Explained) -> None:
    """A difference that nothing explains: which kind of difference it is."""
    y, node = one.point.values[0], one.point.edges[0].node
    own = run(case.a, layers_of(case.a), start(case.a, case.inputs))[one.point.edges[0]]
    layer = node if one.point.name else ""
    if y.shape != own.shape and not one.point.form:
        text = f"b's output has shape {y.shape}, a's has {own.shape}."
        case.findings.append(Finding(layer, None, "", "shape", text, "", float("inf")))
        return
    if np.isfinite(own).all() and not np.isfinite(y).all():
        text = "b gives NaN or infinity where a gives none."
        case.findings.append(Finding(layer, one.gap.step, "", "nan", text, "", float("inf")))
        return
    where = f"at {layer}" if layer else "at the outputs"
    step = f", first at step {one.gap.step}" if one.gap.step is not None else ""
    text = f"a and b part {where}{step}, by up to {one.gap.most:.3g}: none of the known causes "
    case.unexplained.append(
        Unexplained(layer, one.gap.step, one.gap.most, f"{text}explains it ({case.tried} tried)")
    )


def _idle(case: Case, read: Model | None, paired: Paired, gave: Watched | None) -> None:
    """Options that act in training only."""
    found = [*direct.idle_of(case.a, gave.gave if gave else (), paired.modules)]
    if read is not None and not found:
        found = [*direct.idle(case.a, read, paired.paths)]
    for layer, name, mine, theirs in found:
        text = f"Your {name} is {theirs:g}; a's is {mine:g}. It acts in training only."
        torch = " (PyTorch's momentum is 1 minus this)" if name == "momentum" else ""
        fix = f"Set it to {mine:g}{torch}."
        gap = abs(float(mine) - float(theirs))
        case.findings.append(Finding(layer, None, "", name, text, fix, gap, case.max_ulp))
