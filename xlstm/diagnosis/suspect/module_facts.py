"""Facts about PyTorch's own recurrent modules in a suspect.

Hypotheses that they contradict are not tried. A weight in a shape that is not the module's is a
finding: set by `.data` it is taken unseen, and the module then reads memory that is none of its
own. Two runs may then differ, and no output shows anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlstm.diagnosis.hypothesis import Hypothesis, first_spec
from xlstm.diagnosis.pairing.names import Said
from xlstm.diagnosis.result import Finding
from xlstm.diagnosis.state import DiagnosisState
from xlstm.frameworks.recording import LayerRecord, RunRecord
from xlstm.ir.graph import Model
from xlstm.ir.layers import Bidirectional, Recurrent
from xlstm.ir.types import Shape

Facts = Mapping[str, LayerRecord]
"""Owner of a layer of the truth -> the framework's own module that stands for it and was run."""

NATIVE = ("LSTM", "GRU", "RNN")
"""PyTorch's recurrent modules, whose functions are known."""

_INSIDE = ("activation", "gate-activation", "hard-sigmoid")

WITHOUT_OPTION = {"LSTM": _INSIDE, "GRU": (*_INSIDE, "reset-after")}
"""Module -> causes that no option of it can remove; nn.RNN has `nonlinearity`."""

PORTED_CLASS = "`xlstm port A --to torch -o FOLDER` writes a class that has it."
"""Advice where PyTorch's own module cannot compute what the truth does."""


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
    for owner in hypothesis.layers.keys() & facts.keys():
        layer, was, gave = hypothesis.layers[owner], before[owner], facts[owner]
        new, old = first_spec(layer.spec), first_spec(was.spec)
        own = {"activation": "tanh", "gate_activation": "sigmoid", "reset_after": True}
        if gave.kind == "RNN":
            own = {"activation": gave.options.get("nonlinearity", "tanh")}
        changed = (name for name in own if getattr(new, name, None) != getattr(old, name, None))
        if layer.formulas != was.formulas or any(getattr(new, n) != own[n] for n in changed):
            return True
    return False


def consistent(hypothesis: Hypothesis, said: Said, facts: Facts) -> Said:
    """The sentence of a hypothesis, so that it says nothing but what its module is."""
    gave = facts.get(hypothesis.layer)
    if gave is not None and hypothesis.cause in WITHOUT_OPTION.get(gave.kind, ()):
        return said._replace(fix=f"nn.{gave.kind} has no option for it. {PORTED_CLASS}")
    if hypothesis.cause != "batch-first" or gave is None or not gave.options["batch_first"]:
        return said
    text = "Your layer gets time on axis 0, the batch's place, though its batch_first is True."
    return said._replace(text=text, fix="Remove the transposes of its input and of its output.")


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

OWN = {"mode", "input_size", "hidden_size", "proj_size", "num_layers", "bidirectional"}
"""Attributes that tell PyTorch's own modules from somebody's class of the same name."""


def misfits(case: DiagnosisState, gave: RunRecord) -> list[Finding]:
    """A finding for each weight of such a module in another shape than the module reads."""
    found = []
    for one in gave.gave:
        if one.kind in NATIVE and one.options.keys() >= OWN:
            layer = _layer(case.a, one)
            for name, want in _shapes(one):
                array = (case.b.arrays or {}).get(name)
                if array is not None and array.shape != want:
                    text = f"Your `{name}` has shape {array.shape}{_gates(array.shape, one)}; "
                    text += f"nn.{one.kind} reads {want}{_gates(want, one)}: it takes other numbers"
                    text += " in memory for what is missing."
                    fix = "Copy an array of that shape, with copy_, which checks it."
                    gap = float("inf")
                    found.append(Finding(layer, None, name, "weight-shape", text, fix, gap))
    return found


def _shapes(one: LayerRecord) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the kernels of the first layer, both directions of it."""
    units = int(one.options["hidden_size"])
    size = int(one.options["proj_size"]) or units
    for end in ("", "_reverse"):
        before = f"{one.name}.weight_"
        rows = GATES[one.kind] * units
        yield f"{before}ih_l0{end}", (rows, int(one.options["input_size"]))
        yield f"{before}hh_l0{end}", (rows, size)


def _gates(shape: Shape, one: LayerRecord) -> str:
    """The number of gates whose rows a kernel has, in words."""
    count, rest = divmod(int(shape[0] or 0), int(one.options["hidden_size"]))
    return "" if rest or one.kind == "RNN" else f" (rows of {count} gates)"


def _layer(model: Model, one: LayerRecord) -> str:
    """The only layer of the truth that a module may stand for by its sizes, else ""."""
    names = []
    for node in model.layers:
        spec = node.spec
        half = spec.forward if isinstance(spec, Bidirectional) else spec
        if isinstance(half, Recurrent) and half.kind.endswith(one.kind):
            sizes = (half.features, half.width)
            if sizes == (one.options["input_size"], one.options["hidden_size"]):
                names.append(node.owner)
    return names[0] if len(names) == 1 else ""
