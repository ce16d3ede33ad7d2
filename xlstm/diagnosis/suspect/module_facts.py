"""Facts about a suspect's own modules: hypotheses that they contradict are not tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xlstm.diagnosis.hypothesis.hypothesis import Hypothesis, pieces
from xlstm.diagnosis.pairing.names import Said
from xlstm.frameworks.recording import LayerRecord

Facts = Mapping[str, LayerRecord]
"""Owner of a layer of the truth -> the framework's own module that stands for it and was run."""

NATIVE = ("LSTM", "GRU", "RNN")
"""PyTorch's recurrent modules, whose functions are known."""


def native_modules(modules: Mapping[str, str], gave: Sequence[LayerRecord]) -> Facts:
    """The framework's own recurrent modules of a suspect.

    Args:
        modules: owner -> path of the module that has the layer's weights.
        gave: what modules gave.
    """
    by_name = {one.name: one for one in gave if one.kind in NATIVE and "batch_first" in one.options}
    return {owner: by_name[path] for owner, path in modules.items() if path in by_name}


def contradicts(hypothesis: Hypothesis, before: Mapping[str, Any], facts: Facts) -> bool:
    """True if a module that stands for an altered layer cannot be as a hypothesis says.

    Args:
        hypothesis: one.
        before: the layers that it alters, as they were.
        facts: of the suspect.
    """
    return any(
        owner in facts and _cannot(layer, before[owner], facts[owner])
        for owner, layer in hypothesis.layers.items()
    )


def _cannot(layer: Any, was: Any, gave: LayerRecord) -> bool:
    new, old = (pieces(one.spec)[0].specs[0] for one in (layer, was))
    own = {"activation": "tanh", "gate_activation": "sigmoid", "reset_after": True}
    if gave.kind == "RNN":
        own = {"activation": gave.options.get("nonlinearity", "tanh")}
    changed = (name for name in own if getattr(new, name, None) != getattr(old, name, None))
    return layer.formulas != was.formulas or any(getattr(new, n) != own[n] for n in changed)


def consistent(hypothesis: Hypothesis, said: Said, facts: Facts) -> Said:
    """The sentence of a hypothesis, so that it says nothing but what its module is."""
    gave = facts.get(hypothesis.layer)
    if hypothesis.cause != "batch-first" or gave is None or not gave.options["batch_first"]:
        return said
    text = "Your layer is given time on axis 0, the batch's place, though its batch_first is True."
    return said._replace(text=text, fix="Leave out what transposes its input, and its output.")
