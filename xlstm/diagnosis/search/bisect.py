"""Goes from point to point, with all that is known of the suspect, then with less.

In: the state of a diagnosis and the suspect's outputs. Out: findings in that state. The first
answer, whether the two differ and in their weights, is one line before any cause is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Layer, layers_of, run, start
from xlstm.diagnosis.first_difference import of_outputs
from xlstm.diagnosis.hypothesis import Hypothesis, parts
from xlstm.diagnosis.pairing import weights
from xlstm.diagnosis.pairing.names import Naming, listed
from xlstm.diagnosis.pairing.tensors import Paired, pair_arrays, pair_models
from xlstm.diagnosis.result import NO_STEP, Finding, Unexplained
from xlstm.diagnosis.search import checkpoints, graph_differences
from xlstm.diagnosis.search.outcome import Granted, Outcome, SearchPlan, same, simplest
from xlstm.diagnosis.search.search import Checkpoint, Explained, Memory, Search
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.suspect.module_facts import Facts, consistent, native_modules
from xlstm.diagnosis.tolerance import Gap
from xlstm.diagnosis.weight_findings import of_weights
from xlstm.frameworks.recording import RunRecord
from xlstm.ir.graph import Edge, Model
from xlstm.ir.types import Array
from xlstm.reference import Coverage
from xlstm.reference import run as reference
from xlstm.verification.bounds import EPS


class _Known(NamedTuple):
    """The facts known of a suspect, and what walks remember, by their precision."""

    naming: Naming
    read: Model | None
    paired: Paired
    memories: Mapping[str, Memory]
    facts: Facts


ROUNDED = Finding(
    "",
    None,
    "",
    "float32",
    "The outputs are equal up to rounding in float32, not in float64: a constant, or the sum of two"
    " biases, is rounded on the way.",
)
"""The note where a suspect agrees up to rounding in float32, and not in float64."""


def bisect(
    case: DiagnosisState, outputs: list[Array], gave: RunRecord | None, read: Model | None
) -> None:
    """Finds what explains the suspect, and writes it into the case.

    Args:
        case: what is compared.
        outputs: the suspect's.
        gave: its run, None for a graph that only the reference runs.
        read: its graph, where it tells what the suspect computes.
    """
    paired = _pairing(case, read)
    naming = paired.naming if paired.adapter else Naming(case.b.adapter)
    end = Checkpoint(tuple(case.a.outputs), tuple(outputs))
    values = start(case.a, case.inputs)
    first_answer(case, paired, same(case.a, layers_of(case.a), values, end.values, case.dtype))
    granted, layers, case.tried = weights.explain(case.a, paired, naming)
    if paired.hub:
        case.compared.append("weights")
    seen = _points(case, paired, gave, read)
    line = (*seen, end)
    facts = native_modules(paired.modules, gave.gave if gave else ())
    known = _Known(naming, read, paired, {dtype: Memory(case.effort) for dtype in EPS}, facts)
    best = _agreeing(case, end, layers, granted, case.dtype)
    if best is not None and seen and read is not None and _hidden(case):
        plan = SearchPlan(layers, line, granted, case.dtype)
        best = _options(_followed(case, plan, known)) or best
    best = best or _searched(case, layers, line, granted, known)
    other = {layer for hypothesis, _ in granted for layer in hypothesis.layers}
    naming = replace(naming, equal=frozenset(paired.hub.keys() - other))
    best = simplest(case, best, naming)
    if best.plan.dtype != case.dtype:
        case.dtype = best.plan.dtype
        case.notes.append(ROUNDED)
    _conclude(case, best, naming, facts)
    _idle(case, read, paired, gave)


def _hidden(case: DiagnosisState) -> bool:
    """True if the inputs leave something out, behind which a difference may hide."""
    coverage = Coverage()
    reference(case.a, case.inputs, coverage=coverage)
    return bool(coverage.unexercised())


def _agreeing(
    case: DiagnosisState, end: Checkpoint, layers: dict[str, Layer], granted: Granted, dtype: str
) -> Outcome | None:
    """The end of it where outputs agree, whatever was seen inside; None where they do not."""
    values = start(case.a, case.inputs)
    for own, known in ((layers, granted), (layers_of(case.a), [])):
        final = same(case.a, own, values, end.values, dtype)
        if final.same and not (final.blurred and dtype != case.dtype):
            return Outcome(SearchPlan(own, (end,), known, dtype), own, [], final)
        if not granted:
            return None
    return None


def _searched(
    case: DiagnosisState,
    layers: dict[str, Layer],
    line: tuple[Checkpoint, ...],
    granted: Granted,
    known: _Known,
) -> Outcome:
    """The first outcome that explains the outputs, or else the first of all.

    A weight that was rounded to float32 on the way, as two biases are where they are added up, is
    no mistake, but float64 shows it: what float64 cannot explain is looked at in float32 again.
    Pairs of mistakes are tried where nothing else helps.
    """
    first: Outcome | None = None
    for dtype in dict.fromkeys((case.dtype, "float32")):
        agreed = _agreeing(case, line[-1], layers, granted, dtype) if first else None
        if agreed is not None:
            return agreed
        for plan in _plans(case, layers, line, granted, dtype):
            outcome = _followed(case, plan, known)
            if outcome.final.same and not (outcome.final.blurred and dtype != case.dtype):
                return outcome
            first = first or outcome
    for plan in _plans(case, layers, line, granted, case.dtype) if _alike(case, line[-1]) else ():
        outcome = _followed(case, replace(plan, pairs=True), known)
        if outcome.final.same:
            return outcome
    assert first is not None
    return first


def _plans(
    case: DiagnosisState,
    layers: dict[str, Layer],
    line: tuple[Checkpoint, ...],
    granted: Granted,
    dtype: str,
) -> Iterator[SearchPlan]:
    """The plans: with all that is known of the suspect, then with less."""
    lines = [line, line[-1:]] if len(line) > 1 else [line]
    for points_ in lines:
        yield SearchPlan(layers, points_, granted, dtype)
    for points_ in lines if granted else ():
        yield SearchPlan(layers_of(case.a), points_, [], dtype)


def _alike(case: DiagnosisState, end: Checkpoint) -> bool:
    """True if two mistakes may explain it: they make neither NaN nor another shape."""
    values = run(case.a, layers_of(case.a), start(case.a, case.inputs))
    shapes = [(y.shape, bool(np.isfinite(y).all())) for y in end.values]
    return shapes == [(values[edge].shape, True) for edge in case.a.outputs]


def _followed(case: DiagnosisState, plan: SearchPlan, known: _Known) -> Outcome:
    """The findings of a walk along the points of a plan."""
    naming, read = known.naming, known.read
    search = Search(case.a, start(case.a, case.inputs), plan.dtype, naming, plan.layers)
    search.memory, search.pairs, search.facts = known.memories[plan.dtype], plan.pairs, known.facts
    if read is not None:
        search.direct = graph_differences.suggested(
            case.a, read, known.paired.paths, plan.layers, naming
        )
    explained = [search.at(point) for point in plan.line]
    case.tried += search.tried
    final = same(case.a, search.layers, search.start, plan.line[-1].values, plan.dtype)
    return Outcome(plan, search.layers, explained, final, tuple(search.direct))


def _options(outcome: Outcome) -> Outcome | None:
    """An outcome that overturns outputs that agree: options differ, and their effect is hidden."""
    found = [hypothesis for one in outcome.explained for hypothesis in one.found]
    clear = all(one.gap.same or one.found for one in outcome.explained) and outcome.final.same
    real = all(any(h is option for option in outcome.direct) for h in found)
    return outcome if found and clear and real else None


def _pairing(case: DiagnosisState, read: Model | None) -> Paired:
    """The suspect's weights by the truth's layers, as far as names and shapes tell."""
    b = case.b
    named = Paired(adapter=b.adapter)
    if b.arrays:
        named = pair_arrays(case.a, b.arrays, [b.adapter] if b.adapter else None)
    if read is None:
        return named
    pairs = pair_models(case.a, read, b.adapter)
    names = {**pairs.names, **named.names}
    return replace(pairs, names=names, modules=named.modules, tables=named.tables)


def _points(
    case: DiagnosisState, paired: Paired, gave: RunRecord | None, read: Model | None
) -> list[Checkpoint]:
    values = run(case.a, layers_of(case.a), start(case.a, case.inputs))
    known = {node.name: values[Edge(node.name)] for node in case.a.layers}
    if read is not None:
        return checkpoints.of_graph(case.a, read, paired.paths, case.inputs, known)
    return checkpoints.watched(case.a, paired, gave.gave, known) if gave else []


def _conclude(case: DiagnosisState, best: Outcome, naming: Naming, facts: Facts) -> None:
    """Findings in the order in which data meets them."""
    final = best.final
    numbers = all(np.isfinite(y).any() for y in best.plan.line[-1].values)
    case.max_ulp = final.ulp if np.isfinite(final.ulp) and numbers else None
    case.ratio, case.first = final.ratio, ""
    if best.plan.granted or best.explained:
        values, outputs = start(case.a, case.inputs), best.plan.line[-1].values
        case.ratio, case.first = of_outputs(
            case.a, layers_of(case.a), values, outputs, best.plan.dtype
        )
    found = [
        replace(finding, after_ulp=case.max_ulp)
        for finding in of_weights(case.a, best.plan.granted, naming)
    ]
    every = [h for one in best.explained for h in one.found]
    outside = {h.layer for h in every if h.cause == "activation-outside"}
    for number, one in enumerate(best.explained):
        for hypothesis in one.found:
            # another activation inside a layer is part of one that came to light after it
            if hypothesis.layer not in outside or hypothesis.cause not in INSIDE:
                proven = any(hypothesis is option for option in best.direct)
                found.append(_finding(hypothesis, one, naming, facts, proven))
        if not (one.gap.same or one.found or final.same):
            _unknown(case, one, between(one, best.explained[:number], naming.equal))
    if final.blurred:
        text = f"{NO_STEP}; pass other inputs"
        case.unexplained.append(Unexplained("", None, final.most, text))
    order = {node.name: number for number, node in enumerate(case.a.nodes)}
    case.findings += sorted(found, key=lambda finding: order.get(finding.layer, -1))
    if not final.same and all(one.gap.same or one.found for one in best.explained):
        last = replace(best.explained[-1], gap=final)
        _unknown(case, last, between(last, best.explained[:-1], naming.equal))


INSIDE = ("activation", "gate-activation", "hard-sigmoid")
"""Causes of another activation inside a layer."""


def _finding(
    hypothesis: Hypothesis, one: Explained, naming: Naming, facts: Facts, proven: bool
) -> Finding:
    """A mistake that was found by running; `proven` where options of the suspect's show it.

    What outputs alone tell is said to explain them, and no more.
    """
    said, layer = consistent(hypothesis, hypothesis.say(naming), facts), hypothesis.layer
    text, fix = said.text, said.fix
    if layer in naming.equal and hypothesis.of_weights() and hypothesis.cause not in OF_CODE:
        text = f"Your arrays are a's, but your code acts as if they were not: {text}"
        fix = "Correct the code that reads them."
        # the change seen in a kernel may be one of the layer's input instead
        whole = hypothesis.cause in ("negated-weights", "scaled-weights")
        some = hypothesis.cause in ("reordered-weights", "lost-weights") and " input" in text
        if (whole or some) and all(name.endswith("kernel") for name in hypothesis.tensors):
            text += " The layer's input so changed would do the same."
            fix = "Correct the code that reads them, or the layer's input."
    text = text if proven or one.point.name else f"This would explain it: {text}"
    gap, ulp = one.gap, one.left.ulp
    return Finding(layer, gap.step, said.tensor, hypothesis.cause, text, fix, gap.most, ulp)


OF_CODE = ("update-gate", "forget-bias", "gate-order")
"""Causes that are altered weights to the reference, and whose sentences speak of code."""


def _unknown(case: DiagnosisState, one: Explained, between: str) -> None:
    """A difference that nothing explains: which kind of difference it is, and where to look."""
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
    text = f"a and b differ {where}{step}, by up to {one.gap.most:.3g}: none of the known causes "
    tried = f"({case.tried} tried{case.effort.stopped})"
    text = " ".join(filter(None, (f"{text}explains it {tried}.", case.about, between)))
    case.unexplained.append(Unexplained(layer, one.gap.step, one.gap.most, text))


def _idle(case: DiagnosisState, read: Model | None, paired: Paired, gave: RunRecord | None) -> None:
    """Notes of options that act in training only."""
    found = [*graph_differences.idle_of(case.a, gave.gave if gave else (), paired.modules)]
    if read is not None and not found:
        found = [*graph_differences.idle(case.a, read, paired.paths)]
    for layer, name, mine, theirs in found:
        text = f"Your {name} is {theirs:g}; a's is {mine:g}. It acts in training only."
        torch = " (PyTorch's momentum is 1 minus this)" if name == "momentum" else ""
        fix = f"Set it to {mine:g}{torch}."
        gap = abs(float(mine) - float(theirs))
        case.notes.append(Finding(layer, None, "", name, text, fix, gap, case.max_ulp))
    if read is not None and case.b.run is None and bool(case.a.stateful) != bool(read.stateful):
        case.notes.append(_kept_states(case.a))


def _kept_states(a: Model) -> Finding:
    """The note that one of two graphs keeps its states, which no first call shows."""
    keeps, other = ("a", "b") if a.stateful else ("b", "a")
    layer = a.stateful[0].name if a.stateful else ""
    text = f"{keeps} keeps its states between calls, {other} does not: second calls differ."
    fix = f"Set stateful={bool(a.stateful)} in b, if states are to be kept as in a."
    return Finding(layer, None, "", "stateful", text, fix)


def first_answer(case: DiagnosisState, paired: Paired, gap: Gap) -> None:
    """Tells the first answer, and keeps what it says of the weights."""
    about = _weights(case, paired)
    if gap.same:
        case.effort.tell("[3/3] the outputs are equal up to rounding")
        return
    far = f"the outputs differ by up to {gap.most:.3g}" if gap.most < float("inf") else ""
    far = far or "the outputs have other shapes, or no numbers"
    case.effort.tell(f"[3/3] different: {'; '.join(filter(None, (far, about)))}")
    case.about = f"{about[:1].upper()}{about[1:]}."


def _weights(case: DiagnosisState, paired: Paired) -> str:
    """A phrase about the suspect's weights."""
    own = [n for n in case.a.layers if not n.layer and parts(n.spec) and case.a.weights.get(n.name)]
    if not own:
        return "there are no weights: the mistake is in the code"
    known = weights.facts(case.a, paired)
    bad = [
        node.name
        for node in own
        if node.name in known
        and weights.differing(case.a, node, case.a.weights[node.name], known[node.name])
    ]
    if bad:
        return f"the weights of {listed(bad)} differ"
    if missing := [node.name for node in own if node.name not in known]:
        return f"the weights of {listed(missing)} are not known by their names in b"
    where = (
        "the code of forward" if case.b.run is not None else "the options or the order of layers"
    )
    return f"all weights are equal: the mistake is in {where}"


def between(one: Explained, before: Sequence[Explained], equal: frozenset[str]) -> str:
    """A sentence about where to look, for a difference without a known cause; "" for none.

    Args:
        one: the difference.
        before: what was seen before it.
        equal: layers whose weights are a's.
    """
    layer = one.point.edges[0].node if one.point.name else ""
    same = [seen.point.name for seen in before if seen.gap.same and seen.point.name]
    if any(not seen.gap.same for seen in before) or not (same or layer):
        return ""
    if not layer:
        return f"All layers up to your {same[-1]} agree: look at the lines after it."
    own = "" if layer not in equal else f"your {one.point.name} has a's weights"
    last = f"your {same[-1]} gives what a's does" if same else ""
    said = ", and ".join(filter(None, (own, last)))
    if not said:
        return ""
    after = f"between {same[-1]} and {one.point.name}" if same else f"before {one.point.name}"
    return f"{said[:1].upper()}{said[1:]}: look at the lines {after}, and at that layer's own code."
