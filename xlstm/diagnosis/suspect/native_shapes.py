"""Weights of PyTorch's own recurrent modules in a shape that is not the module's.

Set by `.data` they are taken unseen, and the module then reads memory that is none of theirs: two
runs may differ, and no output tells anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from xlstm.diagnosis.result import Finding
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.suspect.module_facts import NATIVE
from xlstm.frameworks.recording import LayerRecord, RunRecord
from xlstm.ir.graph import Model
from xlstm.ir.layers import Bidirectional, Recurrent
from xlstm.ir.types import Shape

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
