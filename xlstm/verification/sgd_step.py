"""Compares one step of plain SGD, by each framework's own optimizer, with slopes of the reference.

A step is linear in the gradient: the change of a weight over the learning rate is judged as a
gradient (`xlstm.verification.gradients`), with a wider bound for the rounding of stored weights. If
a framework has two biases for one, each gets the whole gradient: their sum changes twice as much.
The slot table shows these biases; the mean of both is compared with the slope, and the report gives
advice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.frameworks.model_tensors import refusals, tensors
from xlstm.ir.graph import Model, Node
from xlstm.ir.kinds import Kind
from xlstm.ir.layers.custom import kind_of
from xlstm.ir.types import Array
from xlstm.porting.port import build
from xlstm.slots import FOLD, Slot
from xlstm.verification.bounds import DIFFERENT, ROUNDING, Verdict
from xlstm.verification.finite_differences import WIDE
from xlstm.verification.finite_differences import DiffTarget as Spot
from xlstm.verification.gradients import Own, Slopes, by_precision, read_back, verdict_on
from xlstm.verification.results import FrameworkReport

RATE = 2.0**-7
"""Learning rate: about SGD's usual 0.01, and the same number in every precision."""

BIASES = "s"
"""First axis of canonical tensors that have two sides, each added to the same sum."""


def stepped(
    report: FrameworkReport, model: Model, adapter: Adapter, slopes: Slopes
) -> FrameworkReport:
    """A framework's part of a report with one step of SGD, and notes about it.

    Args:
        report: the part so far; it is returned unchanged if the framework is not installed.
        model: the source of the port.
        adapter: the framework.
        slopes: of the reference; its inputs and factors make the loss.
    """
    if report.missing:
        return report
    found = steps(model, adapter, slopes)
    said = tuple(notes(model, adapter)) if found and not refusals(model, adapter) else ()
    return replace(report, steps=found, step_notes=said)


def steps(model: Model, adapter: Adapter, slopes: Slopes) -> dict[str, dict[str, Verdict]]:
    """Dtype -> tensor -> the verdict on its change in one step."""

    def one(live: Any, dtype: str, eps: float) -> dict[str, Verdict]:
        made = build(model, adapter, dtype)
        before = live.weights(made)
        after = live.step(made, slopes.arrays, slopes.at.factors, RATE, dtype)
        step = _step(model, adapter, before, after)
        owns = _owns(model, adapter, step, slopes)
        moved = ((n, verdict_on(slopes, own, eps, dtype)) for n, own in owns)
        return step.still | {n: replace(verdict, output=n) for n, verdict in moved}

    return by_precision(model, adapter, slopes, "step", one)


@dataclass(frozen=True)
class _Step:
    """The changes of a framework's tensors in one step, by name.

    Attributes:
        moved: the changes over the learning rate: the gradient of the step.
        kept: size of the stored numbers, over the learning rate.
        still: verdicts on tensors that must not change: statistics, and frozen weights.
    """

    moved: Mapping[str, Array]
    kept: Mapping[str, Array]
    still: dict[str, Verdict]


def _step(
    model: Model, adapter: Adapter, before: Mapping[str, Array], after: Mapping[str, Array]
) -> _Step:
    moved, kept, still = {}, {}, {}
    for tensor in tensors(model, adapter):
        old, new = before[tensor.name].astype(WIDE), after[tensor.name].astype(WIDE)
        fixed = tensor.slot.tensor in tensor.kind.statistics
        if fixed or (adapter.keeps_frozen and not tensor.node.trainable):
            gap = float(np.abs(new - old).max(initial=0.0))
            name, why = f"{tensor.name} (not trained)", "" if gap == 0 else "a step moves it"
            word = DIFFERENT if why else ROUNDING
            still[name] = Verdict(word, max_abs=gap, ratio=float(gap != 0), detail=why, output=name)
        else:
            moved[tensor.name] = (old - new) / WIDE(RATE)
            kept[tensor.name] = np.maximum(np.abs(old), np.abs(new)) / WIDE(RATE)
    return _Step(moved, kept, still)


def _owns(model: Model, adapter: Adapter, step: _Step, slopes: Slopes) -> Iterator[tuple[str, Own]]:
    """The gradient of each canonical tensor by a step; of a bias with two sides, of their sum."""
    hub, there = read_back(model, adapter, step.moved)
    kept, _ = read_back(model, adapter, step.kept)
    for spot in (place for place in slopes.places if place.tensor):
        found = (held[spot.owner][spot.tensor] for held in (hub, there, kept))
        name, own = spot.name, Own(spot, *found)
        if spot.side is not None:
            apart = _apart(model, spot)
            own = _side(own, spot.side, apart)
            name = name if apart.any() else f"{spot.owner}.{spot.tensor}"
        if own.mask is not None and own.mask.any():
            yield name, own


def _side(own: Own, side: int, apart: Array) -> Own:
    """One bias: the mean of its sides, as each moves by the gradient; separate sides stay."""
    moved, there, kept = (np.asarray(part) for part in own[1:])
    if side >= len(moved):
        return own._replace(gradient=moved[0], mask=np.zeros(there.shape[1:]), kept=kept[0])
    factor = np.maximum(there.sum(axis=0), 1)
    summed = [np.where(apart, part[side], part.sum(axis=0) / factor) for part in (moved, kept)]
    mask = np.where(apart, there[side], there.any(axis=0) & (side == 0))
    return Own(own.place, summed[0], mask, summed[1])


def _apart(model: Model, spot: Spot) -> Array:
    """A mask of the places where the two sides of a bias are two numbers, not terms of one sum."""
    array = model.weights[spot.owner][spot.tensor]
    for before, part in model.node(spot.owner).spec.weighted_parts:
        kind = kind_of(part)
        axes = kind.tensors.get(spot.tensor.removeprefix(before), "")
        if spot.tensor.startswith(before) and axes:
            return np.broadcast_to(_gates_apart(kind, axes), array.shape[1:])
    return np.zeros(array.shape[1:], bool)


def _gates_apart(kind: Kind, axes: str) -> Array:
    """A mask of the gates with separate biases, in a shape that fits a bias of one side."""
    if "g" not in axes:
        return np.zeros((1,) * (len(axes) - 1), bool)
    gates = np.array([gate in kind.apart for gate in kind.gates])
    return gates.reshape([-1 if axis == "g" else 1 for axis in axes[1:]])


def notes(model: Model, adapter: Adapter) -> Iterator[str]:
    """Sentences about steps of plain SGD that differ from the source, with advice.

    Args:
        model: the source of the port.
        adapter: the framework of the port.
    """
    there, source = _marks(model, adapter), _source_marks(model)
    for node in (node for node in model.layers if not node.layer):
        places = list(adapter.weight_placements(node))
        if not node.trainable and places:
            yield _frozen(node, adapter)
            if adapter.keeps_frozen:
                continue
        for place in places:
            for line in _biases(place, there[node.name], source[node.name]):
                yield f"{node.name}: {line.format(_source(model))}"


Marks = Mapping[str, Mapping[str, Array]]
"""Layer -> canonical tensor -> 1 where a framework has a number of its own, 0 elsewhere."""


def _marks(model: Model, adapter: Adapter) -> Marks:
    ones = {tensor.name: np.ones(tensor.shape) for tensor in tensors(model, adapter)}
    return read_back(model, adapter, ones)[1]


def _source_marks(model: Model) -> Marks:
    """The marks of the source's framework; ones in the weights' shapes where no table exists."""
    if model.source.framework in registry.frameworks():
        adapter = registry.adapter(model.source.framework)
        if not refusals(model, adapter):
            return _marks(model, adapter)
    held = model.weights.items()
    return {name: {t: np.ones(a.shape) for t, a in layer.items()} for name, layer in held}


def _frozen(node: Node, adapter: Adapter) -> str:
    if adapter.keeps_frozen:
        return f"{node.name}: not trainable, and does not move"
    return (
        f"{node.name}: not trainable in the source; {adapter.title} has no mark for that and moves "
        "it; do not pass it to the optimizer"
    )


def _biases(
    place: WeightPlacement, there: Mapping[str, Array], source: Mapping[str, Array]
) -> Iterator[str]:
    """Sentences about the biases of one part of a layer; "{}" stands for their owner."""
    absent, kind = place.part.missing_tensors(), place.table.kind
    for tensor in (name for name, axes in kind.tensors.items() if axes.startswith(BIASES)):
        slots = [slot for slot in place.table.present_slots(absent) if slot.tensor == tensor]
        if tensor not in absent:
            mine, theirs = (held[place.before + tensor] for held in (there, source))
            yield from _sides(place, slots, mine, theirs, _gates_apart(kind, kind.tensors[tensor]))
        elif slots:
            why = "a bias that the layer does not have, moves; do not pass it to the optimizer"
            yield f"{_names(place, slots)}, {why}"


def _sides(
    place: WeightPlacement, slots: Sequence[Slot], there: Array, source: Array, apart: Array
) -> Iterator[str]:
    """Sentences where a framework has more or fewer sides of a bias than the source."""
    more = (there.sum(axis=0) - source.sum(axis=0)) * ~apart
    if (more > 0).any():
        yield (
            f"{_names(place, slots)} both get the gradient; their sum moves 2 x as far as {{}} one "
            "bias under plain SGD; train one of them, or halve its learning rate"
        )
    if (more < 0).any():
        kind, folded = place.table.kind, [slot for slot in slots if slot.fixed.get("s") == FOLD]
        gates = " and ".join(gate for gate in kind.gates if gate not in kind.apart)
        some = f" for gates {gates}" if apart.any() else ""
        yield (
            f"{_names(place, folded)}: one bias for the two in {{}} layer{some}, which both get the"
            " gradient; their sum moves 2 x as far under plain SGD; double the learning rate here"
        )
    second = [side[1] if len(side) == 2 else np.zeros_like(side[0]) for side in (there, source)]
    if ((second[0] > second[1]) & apart).any():
        slots = [slot for slot in slots if slot.fixed.get("s") == 1 or BIASES in slot.axes]
        yield (
            f"gate {place.table.kind.apart} of {_names(place, slots)} moves, and {{}} layer has "
            "no such bias; set its gradient to zero"
        )


def _names(place: WeightPlacement, slots: Sequence[Slot]) -> str:
    return " and ".join(place.slot_name(slot.name) for slot in slots)


def _source(model: Model) -> str:
    """The name of the source's framework in the genitive."""
    known = model.source.framework in registry.frameworks()
    return f"{registry.adapter(model.source.framework).title}'s" if known else "the source's"
