"""What a layer's parameters are, without a file: formula, gates, and which tensor holds what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from xlstm import registry
from xlstm.errors import UsageError
from xlstm.layout import KINDS, shape
from xlstm.ledger import Ledger, count
from xlstm.model import LSTM, Dense, Shape, SimpleRNN, Source, Spec, chain
from xlstm.tables import add, amount, grid, render_differences, shape_text, to_text

LAYERS: dict[str, type[LSTM] | type[SimpleRNN] | type[Dense]] = {
    "LSTM": LSTM,
    "SimpleRNN": SimpleRNN,
    "Dense": Dense,
}
"""Layers that can be explained."""

EQUATIONS = {
    "LSTM": (
        "i, f, o = sigmoid(x W + h U + b)   input, forget and output gate: a W, U and b for each",
        "g       = tanh(x W_g + h U_g + b_g)   the candidate, which Keras's documents call c",
        "c       = f * c + i * g",
        "h       = o * tanh(c)",
    ),
    "SimpleRNN": ("h = tanh(x W + h U + b)",),
    "Dense": ("y = x W + b",),
}
"""What each layer computes."""

STEPS = "One W, U and b serve every time step: the number of steps and the batch size do not enter."

Rows = tuple[tuple[str, str, int], ...]
"""Part, formula with numbers, number of parameters."""


@dataclass(frozen=True)
class Explanation:
    """A layer's parameters explained: formula, breakdown, and the ledger of every framework."""

    kind: str
    features: int
    units: int
    formula: str
    numbers: str
    breakdown: Rows
    ledger: Ledger

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return {
            "kind": self.kind,
            "features": self.features,
            "units": self.units,
            "formula": self.formula,
            "numbers": self.numbers,
            "breakdown": [
                {"what": what, "formula": formula, "count": count_}
                for what, formula, count_ in self.breakdown
            ],
            **self.ledger.to_json(),
        }

    def __str__(self) -> str:
        parts = grid(["part", "formula", "parameters"], left=2)
        for row in self.breakdown:
            add(parts, row[0], row[1], f"{row[2]:,}")
        tensors = grid(["framework", "tensor", "shape", "gates", "parameters"], left=4)
        for name in self.ledger.frameworks:
            _tensor_rows(tensors, name, self)
        return to_text(
            f"{self.kind} of n = {self.units} units on m = {self.features} features",
            f"  {self.formula} = {self.numbers}",
            *(f"  {line}" for line in EQUATIONS[self.kind]),
            *(() if self.kind == "Dense" else (f"  {STEPS}",)),
            parts,
            tensors,
            *render_differences(self.ledger),
        )


def _tensor_rows(rows: Table, framework: str, explanation: Explanation) -> None:
    adapter = registry.adapter(framework)
    spec = _spec(explanation.kind, explanation.features, explanation.units)
    table = adapter.table(spec)
    if table is None:
        return
    title = adapter.title
    for slot in table.active(spec.absent()):
        size = shape(slot, table.kind, spec.sizes())
        gates = " ".join(slot.gates) or str(slot.at.get("g", ""))
        add(rows, title, slot.name, shape_text(size), gates, f"{math.prod(size):,}")
        title = ""
    add(rows, "", "total", "", "", amount(explanation.ledger.total(framework)))


def explain(layer: str, *, features: int, units: int) -> Explanation:
    """Explains a layer's parameters in every framework.

    Args:
        layer: "LSTM", "SimpleRNN" or "Dense".
        features: size of the input, m.
        units: size of the output and of the hidden state, n.

    Raises:
        UsageError: an unknown layer, or sizes that are not whole numbers from 1 on.

    >>> explain("LSTM", features=1, units=20).ledger.total("torch")
    1840
    """
    if layer not in LAYERS:
        raise UsageError("explain", "one of " + ", ".join(LAYERS), repr(layer), "use one of these")
    spec = _spec(layer, features, units)
    sample: Shape = (features,) if layer == "Dense" else (None, features)
    model = chain(layer, [(layer.lower(), spec, True)], sample, {}, Source("keras"), lone=True)
    formula, numbers, breakdown = _formula(layer, features, units)
    return Explanation(layer, features, units, formula, numbers, breakdown, count(model))


def _spec(layer: str, features: int, units: int) -> Spec:
    return LAYERS[layer](features, units)


def _formula(layer: str, m: int, n: int) -> tuple[str, str, Rows]:
    """The formula with symbols, with numbers, and its parts."""
    if layer == "Dense":
        dense = (("kernel W", f"m n = {m} x {n}", m * n), ("bias b", f"n = {n}", n))
        return "n (m + 1)", f"{n} x ({m} + 1) = {n * (m + 1):,}", dense
    gates = len(KINDS[layer].gates) or 1
    sign, times = (f"{gates} ", f"{gates} x ") if gates > 1 else ("", "")
    rows = (
        ("kernel W, of the input", f"{sign}m n = {times}{m} x {n}", gates * m * n),
        ("recurrent U, of the state", f"{sign}n n = {times}{n} x {n}", gates * n * n),
        ("bias b", f"{sign}n = {times}{n}", gates * n),
    )
    total = f"{times}{n} x ({m} + {n} + 1) = {gates * n * (m + n + 1):,}"
    return f"{sign}n (m + n + 1)", total, rows
