"""An explanation of a layer's parameters as plain fields, which texts and pictures show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xlstm.counting.formulas import FormulaRow
from xlstm.counting.ledger import Ledger
from xlstm.counting.tensor_rows import Column, TensorRow
from xlstm.counting.wording import Mistake


@dataclass(frozen=True)
class ExplanationData:
    """A layer's parameters explained, as fields.

    Attributes:
        kind: the layer as it was asked for.
        features: m.
        units: n.
        title: the layer in words.
        formula: with symbols.
        numbers: with numbers, and what they come to.
        sizes: what m and n are.
        equations: what the layer computes.
        breakdown: the parts of the number, by tensor.
        by_gate: the parts of the number, by gate; empty where there are none.
        lines: why the numbers are what they are, a sentence or two each.
        mistakes: usual wrong counts, what they give and what is wrong with them.
        total: the number, as Keras counts.
        columns: the frameworks.
        tensors: which tensor holds what in each framework, of the first layer.
        rest: what the layers after the first are called, "" where there are none.
        ledger: the count of every framework, and every difference with its reason.
    """

    kind: str
    features: int
    units: int
    title: str
    formula: str
    numbers: str
    sizes: str
    equations: tuple[str, ...]
    breakdown: tuple[FormulaRow, ...]
    by_gate: tuple[FormulaRow, ...]
    lines: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    total: int
    columns: tuple[Column, ...]
    tensors: tuple[TensorRow, ...]
    rest: str
    ledger: Ledger

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return {
            "kind": self.kind,
            "features": self.features,
            "units": self.units,
            "title": self.title,
            "formula": self.formula,
            "numbers": self.numbers,
            "total": self.total,
            "equations": list(self.equations),
            "breakdown": [vars(row) for row in self.breakdown],
            "by_gate": [vars(row) for row in self.by_gate],
            "lines": [self.sizes, *self.lines],
            "mistakes": [vars(found) for found in self.mistakes],
            "tensors": [{**vars(row), "shape": list(row.shape)} for row in self.tensors],
            **self.ledger.to_json(),
        }
