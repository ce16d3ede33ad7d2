"""Finds the hypotheses that explain what a suspect gives at one point of the truth's graph."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from xlstm.diagnosis.altered_model import Layer, Layers, Values, before, run, untouched
from xlstm.diagnosis.hypothesis import Hypothesis, Mistake, pieces
from xlstm.diagnosis.mistakes.table import AFTER, INSIDE, ROWS, TOGETHER, hypotheses
from xlstm.diagnosis.pairing.names import Naming
from xlstm.diagnosis.search.fit import fitted_inputs, fitted_outputs, readers, seen_rows
from xlstm.diagnosis.state import Effort
from xlstm.diagnosis.suspect.module_facts import Facts, contradicts
from xlstm.diagnosis.tolerance import Gap, allowed, apart, gap_of
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array

NEAR = {"float64": 1e-7, "float32": 2e-3}
"""Relative difference up to which a hypothesis is looked at closely."""

CONFIRMED = 12
"""Hypotheses that are looked at closely, at most."""

BATCHWISE = ("batch-first", "batchnorm-mode")
"""Causes that make one sample depend on the others."""


@dataclass(frozen=True)
class Checkpoint:
    """A place of the truth's graph, and what the suspect gives there.

    Attributes:
        edges: the truth's.
        values: the suspect's arrays there.
        form: "" for the layer's output; "sequence" for every step of a layer that returns the last
            one; "linear" for what a layer's activation is given.
        name: the suspect's name of the layer.
    """

    edges: tuple[Edge, ...]
    values: tuple[Array, ...]
    form: str = ""
    name: str = ""


@dataclass(frozen=True)
class Explained:
    """The result at one point: the mistakes, and the gap before and after them."""

    point: Checkpoint
    found: tuple[Hypothesis, ...]
    gap: Gap
    left: Gap


Found = tuple[tuple[Hypothesis, ...], Gap]
"""Mistakes that together explain something, and the gap that is left."""


@dataclass
class Memory:
    """Results that the walks through one graph share.

    Attributes:
        effort: what may be spent on hypotheses.
        gaps: a place of a walk -> the gap there, before anything was looked for.
        single: a place of a walk -> what single mistakes explain of it, None for nothing.
    """

    effort: Effort = field(default_factory=Effort)
    gaps: dict[Hashable, Gap] = field(default_factory=dict)
    single: dict[Hashable, Found | None] = field(default_factory=dict)


@dataclass
class Search:
    """One walk through the truth's graph.

    Attributes:
        model: the truth.
        start: values of its inputs.
        dtype: what the suspect computes in.
        naming: the suspect's names.
        layers: as they are altered so far.
        direct: hypotheses that what is read of the suspect suggests, tried before the table.
        pins: the suspect's values at points that lie behind.
        tried: how many hypotheses were tried.
        memory: shared with other walks.
        pairs: whether pairs of mistakes are looked for too.
        passed: places of this walk that lie behind, and what was found at them.
        facts: the suspect's own modules, which no hypothesis may contradict.
    """

    model: Model
    start: Values
    dtype: str
    naming: Naming
    layers: dict[str, Layer]
    direct: Sequence[Hypothesis] = ()
    pins: Values = field(default_factory=dict)
    tried: int = 0
    memory: Memory = field(default_factory=Memory)
    pairs: bool = False
    passed: tuple[Hashable, ...] = ()
    facts: Facts = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.passed = (id(self.layers),)
        self.first = self.layers
        self.layers = dict(self.layers)

    def at(self, point: Checkpoint) -> Explained:
        """Looks for what explains the suspect at a point, and takes it for granted after it."""
        known = {edge.node for edge in self.pins}
        wanted = before(self.model, point.edges, known)
        values = {**self.start, **self.pins}
        self.passed += (id(point),)
        gap = self.memory.gaps.get(self.passed)
        if gap is None:
            gap = self._gap(point, self.layers, values, wanted)
            self.memory.gaps[self.passed] = gap
        if gap.same:
            self._pin(point, values, wanted)
            return Explained(point, (), gap, gap)
        found, left = self._explain(point, values, wanted) or ((), gap)
        self.passed += tuple((h.cause, h.rule, h.layer) for h in found)
        for hypothesis in found:
            self.layers.update(hypothesis.layers)
            self._unpin(hypothesis.layers)
        if any(edge in values and edge not in self.pins for edge in point.edges):
            wanted = before(self.model, point.edges, {edge.node for edge in self.pins})
        self._pin(point, {**self.start, **self.pins}, wanted)
        return Explained(point, found, gap, left)

    def possible(
        self, layers: Mapping[str, Layer], nodes: Iterable[Node], rows: Iterable[Mistake]
    ) -> Iterator[Hypothesis]:
        """Hypotheses of some rows that no module of the suspect's contradicts."""
        for hypothesis in hypotheses(self.model, layers, nodes, self.naming, rows):
            if not contradicts(hypothesis, layers, self.facts):
                yield hypothesis

    def _unpin(self, owners: Container[str]) -> None:
        """Forgets the values that depend on layers which turn out to be altered."""
        for edge in [e for e in self.pins if self.model.node(e.node).owner in owners]:
            del self.pins[edge]

    def _pin(self, point: Checkpoint, values: Values, wanted: frozenset[str]) -> None:
        """Takes the suspect's values for granted; masks beside them are the altered model's."""
        if point.form:
            return
        for edge, y in zip(point.edges, point.values, strict=True):
            node = self.model.node(edge.node)
            if len(node.shapes) > 1:
                found = run(self.model, self.layers, values, wanted=wanted)
                beside = (Edge(node.name, number) for number in range(len(node.shapes)))
                self.pins.update({e: found[e] for e in beside if e not in self.pins})
            self.pins[edge] = y

    def _gap(
        self, point: Checkpoint, layers: Layers, values: Values, wanted: frozenset[str]
    ) -> Gap:
        """The distance of the suspect from an altered model at a point."""
        seen = _as_seen(self.model, layers, point)
        bounds = allowed(self.model, seen, values, point.edges, self.dtype, wanted)
        gaps = [gap_of(y, b, self.dtype) for y, b in zip(point.values, bounds, strict=True)]
        worst = max(gaps, key=lambda gap: (not gap.same, gap.ratio))
        return worst

    def _explain(self, point: Checkpoint, values: Values, wanted: frozenset[str]) -> Found | None:
        """Mistakes that together explain a point; None, where none do."""
        inside = [node for node in self.model.layers if node.name in wanted]
        current = run(self.model, _as_seen(self.model, self.layers, point), values, wanted=wanted)
        trial = _Trial(self, point, values, wanted)
        if self.passed not in self.memory.single:
            alone = self._alone(trial, inside, current) or self._behind(point, wanted)
            alone = alone or self._scaled(trial, current)
            self.memory.single[self.passed] = alone or self._of_input(trial, inside, current)
        found = self.memory.single[self.passed]
        return found or (trial.pairs(inside, current) if self.pairs else None)

    def _alone(self, trial: _Trial, inside: list[Node], current: Values) -> Found | None:
        """One mistake, or the same one in several layers, that explains a point."""
        near = [h for h in self.direct if h.layer in {node.owner for node in inside}]
        altered = [n for n in inside if self.layers[n.owner] is not self.first[n.owner]]
        again = [*self.possible(self.first, altered, AFTER[:1])]
        for chosen in (near, again, [*self.possible(self.layers, inside, ROWS)]):
            for options in (_single(chosen), _everywhere(chosen)):
                found = trial.best(options, current)
                if found is not None:
                    return found
        return None

    def _scaled(self, trial: _Trial, current: Values) -> Found | None:
        """Numbers that the suspect's own output shows: a factor, a summand, rows of a table."""
        point = trial.point
        node = self.model.node(point.edges[0].node)
        if point.form or len(point.edges) > 1 or node.owner not in self.layers:
            return None
        mine, other = current[point.edges[0]], point.values[0]
        layer, found = self.layers[node.owner], []
        if node.inputs and node.inputs[0] in current:
            found = [*seen_rows(node, layer, current[node.inputs[0]], other, self.dtype)]
        return trial.best(_single([*found, *fitted_outputs(node, layer, mine, other)]), current)

    def _of_input(self, trial: _Trial, inside: list[Node], current: Values) -> Found | None:
        """A factor and a summand of an input of the model's."""
        for node in readers(self.model, inside):
            layer, x = self.layers[node.owner], current[node.inputs[0]]
            found = fitted_inputs(node, layer, x, partial(trial.gap, node.owner, current))
            best = trial.best(_single(found), current)
            if best is not None:
                return best
        return None

    def _behind(self, point: Checkpoint, wanted: frozenset[str]) -> Found | None:
        """An activation after a layer that lies behind: what the layer gave does not show it."""
        inside = [node for node in self.model.layers if node.name in wanted]
        read = {edge.node for node in inside for edge in node.inputs} | {
            e.node for e in point.edges
        }
        for node in self.model.layers:
            if node.name not in read or Edge(node.name) not in self.pins:
                continue
            pins = {e: y for e, y in self.pins.items() if self.model.node(e.node) is not node}
            values = {**self.start, **pins}
            more = before(self.model, point.edges, {edge.node for edge in pins})
            current = run(self.model, _as_seen(self.model, self.layers, point), values, wanted=more)
            trial = _Trial(self, point, values, more)
            after = [
                hypothesis
                for layers in (self.first, self.layers)  # as it was, and as it is altered
                for hypothesis in self.possible(layers, [node], AFTER)
            ]
            best = trial.best(_single(after), current)
            for first in () if best else (h for h in after if not h.rare):
                own = {**self.layers, **first.layers}
                later = [*self.possible(own, inside, INSIDE)]
                best = best or trial.pair(first, later, current)
            if best is not None:
                return best
        return None


class _Trial:
    """Hypotheses put to the test at one point."""

    def __init__(
        self, search: Search, point: Checkpoint, values: Values, wanted: frozenset[str]
    ) -> None:
        self.search, self.point, self.values, self.wanted = search, point, values, wanted
        self.model, self.effort = search.model, search.memory.effort

    def run(
        self, layers: Layers, current: Values, changed: Iterable[str], paired: bool = False
    ) -> Values | None:
        """Values of an altered model, None where it cannot be run; `paired` with two mistakes."""
        self.search.tried += 1
        seen = _as_seen(self.model, layers, self.point)
        kept = untouched(self.model, current, {*changed})
        again = (name for name in self.wanted if Edge(name) not in kept)
        self.effort.spend(again, paired)
        try:
            return run(self.model, seen, kept, wanted=self.wanted)
        except (ValueError, KeyError, IndexError, TypeError, AssertionError):
            return None

    def residual(self, values: Values | None) -> float:
        """The distance of the suspect from these values."""
        if values is None:
            return float("inf")
        pairs = zip(self.point.edges, self.point.values, strict=True)
        return max(apart(values[e], y) if e in values else float("inf") for e, y in pairs)

    def gap(self, owner: str, current: Values, layer: Layer) -> Array | None:
        """One altered layer's output minus the suspect's, flat; None where it fails."""
        if self.effort.spent:
            return None
        values = self.run({**self.search.layers, owner: layer}, current, {owner})
        pairs = [*zip(self.point.edges, self.point.values, strict=True)]
        if values is None or any(values[e].shape != y.shape for e, y in pairs):
            return None
        return np.concatenate([(values[e] - y).ravel() for e, y in pairs])

    def best(self, options: Iterator[tuple[Hypothesis, ...]], current: Values) -> Found | None:
        """The first of the hypotheses that come near which is equal up to rounding."""
        near: list[tuple[float, int, tuple[Hypothesis, ...]]] = []
        for number, chosen in enumerate(options):
            if self.effort.spent:
                break
            altered = {k: v for h in chosen for k, v in h.layers.items()}
            found = self.run({**self.search.layers, **altered}, current, altered)
            residual = self.residual(found)
            if residual < NEAR[self.search.dtype]:
                near.append((residual, number, chosen))
        return self._closest(near)

    def _closest(self, near: list[tuple[float, int, tuple[Hypothesis, ...]]]) -> Found | None:
        least = min((residual for residual, _, _ in near), default=0.0)
        near.sort(key=lambda one: (one[0] > 10 * least + 1e-13, one[1]))
        for _, _, chosen in near[:CONFIRMED]:
            altered = {k: v for h in chosen for k, v in h.layers.items()}
            layers = {**self.search.layers, **altered}
            gap = self.search._gap(self.point, layers, self.values, self.wanted)
            if gap.same:
                return chosen, gap
        return None

    def pairs(self, nodes: Sequence[Node], current: Values) -> Found | None:
        """Two mistakes at once, the second one in the first one's layer or after it."""
        owners = [*dict.fromkeys(node.owner for node in nodes)]
        every = {owner: [*self._likely(self.search.layers, owner)] for owner in owners}
        for number, owner in enumerate(owners):
            later = [second for after in owners[number + 1 :] for second in every[after]]
            for first in every[owner]:
                own = self._likely({**self.search.layers, **first.layers}, first.layer)
                found = self.pair(first, (*own, *later), current)
                if found is not None or self.effort.without_pairs:
                    return found
        return None

    def pair(self, first: Hypothesis, later: Sequence[Hypothesis], current: Values) -> Found | None:
        """A second mistake that explains the point together with a first one."""
        layers = {**self.search.layers, **first.layers}
        values = self.run(layers, current, first.layers)
        near: list[tuple[float, int, tuple[Hypothesis, ...]]] = []
        if values is None:
            return None
        for number, second in enumerate(later):
            found = self.run({**layers, **second.layers}, values, second.layers, paired=True)
            residual = self.residual(found)
            if residual < NEAR[self.search.dtype]:
                near.append((residual, number, (first, second)))
            if self.effort.without_pairs:
                break
        return self._closest(near)

    def _likely(self, layers: Layers, owner: str) -> Iterator[Hypothesis]:
        """Mistakes of one layer that are worth a try together with others."""
        found = self.search.possible(layers, [self.model.node(owner)], TOGETHER)
        return (hypothesis for hypothesis in found if not hypothesis.rare)


def _single(found: Iterable[Hypothesis]) -> Iterator[tuple[Hypothesis, ...]]:
    for hypothesis in found:
        yield (hypothesis,)


def _everywhere(found: Iterable[Hypothesis]) -> Iterator[tuple[Hypothesis, ...]]:
    """The same mistake in all layers that it can be made in."""
    rules: dict[tuple[str, str], list[Hypothesis]] = {}
    for hypothesis in found:
        rules.setdefault((hypothesis.cause, hypothesis.rule), []).append(hypothesis)
    for same in rules.values():
        yield from _alike(same)


def _alike(same: list[Hypothesis]) -> Iterator[tuple[Hypothesis, ...]]:
    """One mistake in several layers: in all, and in those of one kind."""
    found = {h.layer: h for h in same}
    kinds: dict[str, list[Hypothesis]] = {}
    for name, hypothesis in found.items():
        kinds.setdefault(hypothesis.layers[name].spec.kind, []).append(hypothesis)
    for group in ([*found.values()], *(kinds.values() if len(kinds) > 1 else ())):
        if len(group) > 1:
            yield tuple(group)


def _as_seen(model: Model, layers: Layers, point: Checkpoint) -> Layers:
    """Layers as a point sees them: a sequence for the last step, no activation."""
    if not point.form:
        return layers
    owner = model.node(point.edges[0].node).owner
    layer = layers[owner]
    changed = {"sequence": {"return_sequences": True}, "linear": {"activation": "linear"}}
    (piece, *_) = pieces(layer.spec)
    spec = piece.rebuild([replace(s, **changed[point.form]) for s in piece.specs])  # type: ignore[arg-type]
    return {**layers, owner: replace(layer, spec=spec)}
