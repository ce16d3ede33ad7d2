"""Findings about weights, in the suspect's names; one for all of them where b was trained apart.

In: hypotheses that compared weights have shown. Out: findings.
"""

from __future__ import annotations

from collections.abc import Sequence

from xlstm.diagnosis.hypothesis import Hypothesis, parts
from xlstm.diagnosis.pairing.names import Naming
from xlstm.diagnosis.result import Finding
from xlstm.ir.graph import Model
from xlstm.ir.types import Array

FEW = 3
"""Tensors with other numbers from which on one finding may stand for all."""

NEARLY_ALL = 0.9
"""Share of a model's tensors that differ in a model that was trained further."""


def of_weights(
    model: Model, shown: Sequence[tuple[Hypothesis, float]], naming: Naming
) -> list[Finding]:
    """Returns the findings that compared weights alone have shown.

    Args:
        model: the truth.
        shown: hypotheses, each with the largest difference of its tensors.
        naming: the suspect's names.
    """
    kept, other = [], []
    for hypothesis, gap in shown:
        said, layer = hypothesis.say(naming), hypothesis.layer
        finding = Finding(layer, None, said.tensor, hypothesis.cause, said.text, said.fix, gap)
        kept.append(finding)
        other += [finding] if said.other else []
    if len(other) < FEW or not _trained(model, shown):
        return kept
    merged = {id(finding) for finding in other}
    one = _one(model, shown, naming, other)
    return [one, *(finding for finding in kept if id(finding) not in merged)]


def _trained(model: Model, shown: Sequence[tuple[Hypothesis, float]]) -> bool:
    """True if nearly all tensors differ that hold any number but zero."""
    every = {key for key, array in _tensors(model).items() if array.any()}
    return len(_changed(shown) & every) >= max(FEW, NEARLY_ALL * len(every))


def _one(
    model: Model,
    shown: Sequence[tuple[Hypothesis, float]],
    naming: Naming,
    merged: Sequence[Finding],
) -> Finding:
    """The finding for all tensors with other numbers."""
    changed, every = _changed(shown), _tensors(model)
    count = sum(_own(model, naming, *key) for key in every)
    bad = sum(_own(model, naming, *key) for key in every if key in changed)
    number = f"All {count}" if bad == count else f"{bad} of {count}"
    far = max(finding.before for finding in merged)
    text = f"{number} weight tensors differ, by up to {far:.3g}: b was trained further or apart."
    fix = "Compare b with the model that its weights are from, or copy all of a's weights."
    names = ", ".join(finding.tensor for finding in merged)
    return Finding("", None, names, merged[0].cause, text, fix, far)


def _changed(shown: Sequence[tuple[Hypothesis, float]]) -> set[tuple[str, str]]:
    """Layers and names of the tensors that differ."""
    return {(layer, tensor) for h, _ in shown for layer in h.layers for tensor in h.tensors}


def _tensors(model: Model) -> dict[tuple[str, str], Array]:
    """The tensors of a model by the names of layer and tensor; shared layers once."""
    nodes = [node for node in model.layers if not node.layer]
    return {
        (node.name, name): array
        for node in nodes
        for name, array in model.weights.get(node.name, {}).items()
    }


def _own(model: Model, naming: Naming, layer: str, tensor: str) -> int:
    """The number of the suspect's tensors that hold a tensor of the truth; 1 if unknown."""
    node = model.node(layer)
    slots = [
        name
        for part in parts(node.spec)
        if tensor.startswith(part.before) and tensor.removeprefix(part.before) in part.kind.tensors
        for _, name in naming.slots(node, part.before, tensor.removeprefix(part.before))
    ]
    return max(1, len({*slots}))
