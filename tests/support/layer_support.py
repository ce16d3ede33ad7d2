"""Each framework's answer to each layer: written as source, or refused with a reason.

In: models that hold layers of every kind. Out: `Answers` of an adapter, and what is missing in
them: kinds of layers without an answer, weights without a slot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from xlstm.counting.support import REFUSED, verdict
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.graph import Model
from xlstm.ir.kinds import Kind


@dataclass
class Answers:
    """One framework's answers.

    Attributes:
        written: kinds of layers that stand in a model whose source was emitted.
        refused: kinds of layers that were refused with a reason.
        refused_forms: `LayerSpec.weight_kind` of the weights of those.
        failures: what was neither, in words.
    """

    written: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    refused_forms: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


def answers(adapter: Adapter, models: Iterable[Model]) -> Answers:
    """The answers to all layers of the models."""
    found = Answers()
    for model in models:
        _add_model(found, adapter, model)
    return found


def _add_model(found: Answers, adapter: Adapter, model: Model) -> None:
    verdicts = [(node.spec, verdict(node, adapter)) for node in model.layers]
    refused = [(spec, said) for spec, said in verdicts if said.word == REFUSED]
    for spec, said in refused:
        found.refused.add(spec.kind)
        found.refused_forms |= {part.weight_kind for _, part in spec.weighted_parts}
        found.failures += [f"{spec.kind}: refused without a reason"] * (not said.why)
    if refused:
        return
    kinds = {spec.kind for spec, _ in verdicts}
    assert adapter.emit is not None
    try:
        compile(adapter.emit(model), "model.py", "exec")
    except Exception as error:  # noqa: BLE001  a writer may fail in any way
        name = f"{', '.join(sorted(kinds))}: neither refused nor written"
        found.failures.append(f"{name}: {type(error).__name__}: {error}")
    else:
        found.written |= kinds


def kinds_without_answer(found: Answers, kinds: Collection[str]) -> list[str]:
    """Kinds of layers that were neither written nor refused."""
    return sorted(set(kinds) - found.written - found.refused)


def weights_without_slot(
    adapter: Adapter, kinds: Iterable[tuple[str, Kind]], refused: Collection[str]
) -> list[str]:
    """Tensors that no slot of the framework holds, as "form: tensor", but for refused forms.

    Args:
        adapter: the framework.
        kinds: names of weights' forms, with the forms.
        refused: names of the forms whose layers the framework refuses.
    """
    found = []
    for form, kind in kinds:
        name = adapter.default.get(form, adapter.default.get(kind.name))
        slots = adapter.tables[name].slots if name is not None else ()
        missing = set(kind.tensors) - {slot.tensor for slot in slots}
        if name is not None or form not in refused:
            found += [f"{form}: {tensor}" for tensor in missing]
    return sorted(found)
