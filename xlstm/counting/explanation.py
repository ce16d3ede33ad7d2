"""An explanation of a layer's parameters as plain fields.

`explain` fills it; `render` and `picture` make texts and pictures of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xlstm.counting.formulas import FormulaRow
from xlstm.counting.framework_formulas import FrameworkFormula
from xlstm.counting.ledger import Ledger
from xlstm.counting.tensor_rows import Column, TensorRow
from xlstm.counting.wording import WrongCount

PLAIN = ("kind", "features", "units", "title", "formula", "numbers", "total")
"""Fields that are plain data as they are."""


@dataclass(frozen=True, repr=False)
class ExplanationData:
    """A layer's parameters explained, as fields.

    Attributes:
        kind: the layer's name in the call of `explain`.
        features: m.
        units: n.
        title: the layer in words.
        formula: with symbols.
        numbers: with numbers, and the result.
        sizes: the meaning of m and n.
        equations: of the layer.
        breakdown: the parts of the number, by tensor.
        by_gate: the parts of the number, by gate; empty where there are none.
        lines: the reasons for the numbers, a sentence or two each.
        mistakes: usual wrong counts, with their results and errors.
        total: the number, as Keras counts.
        columns: the frameworks.
        tensors: the tensors of the first layer in each framework.
        rest: the words for the layers after the first, "" if there are none.
        ledger: the count of every framework, and every difference with its reason.
        formulas: the formula of each framework.
        stateless: True for a layer without a state, which has no steps.
        timesteps: length of the sequences, None if the user names none.
        batch: sequences of a batch, None if the user names none.
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
    mistakes: tuple[WrongCount, ...]
    total: int
    columns: tuple[Column, ...]
    tensors: tuple[TensorRow, ...]
    rest: str
    ledger: Ledger
    formulas: tuple[FrameworkFormula, ...] = ()
    stateless: bool = False
    timesteps: int | None = None
    batch: int | None = None

    def __repr__(self) -> str:
        return f"<Explanation: {self.title}, {self.formula} = {self.total:,}>"

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return {
            **{name: getattr(self, name) for name in PLAIN},
            "equations": list(self.equations),
            "breakdown": [vars(row) for row in self.breakdown],
            "by_gate": [vars(row) for row in self.by_gate],
            "lines": [self.sizes, *self.lines],
            "mistakes": [vars(found) for found in self.mistakes],
            "formulas": [
                {name: list(x) if isinstance(x, tuple) else x for name, x in vars(found).items()}
                for found in self.formulas
            ],
            "tensors": [{**vars(row), "shape": list(row.shape)} for row in self.tensors],
            **self.ledger.to_json(),
        }
