"""The formula of each framework for a layer, and the reason where it is not the textbook's.

In: an `ExplainedLayer`, the frameworks and their tensors. Out: lines such as
"PyTorch: 1,840 = 4 n (m + n + 2): bias_ih_l0 and bias_hh_l0, two vectors where one would do".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xlstm.counting import formulas
from xlstm.counting.formulas import ExplainedLayer
from xlstm.counting.ledger import Ledger, NativeCount
from xlstm.counting.tensor_rows import Column, TensorRow


@dataclass(frozen=True)
class FrameworkFormula:
    """The number of parameters in frameworks that count alike.

    Attributes:
        frameworks: their names.
        titles: their names in their own spelling.
        total: the number.
        formula: with symbols.
        why: the reason for another formula than the textbook's, and the native layer beside an own
            cell; "" for none.
    """

    frameworks: tuple[str, ...]
    titles: tuple[str, ...]
    total: int
    formula: str
    why: str

    def __str__(self) -> str:
        why = f": {self.why}" if self.why else ""
        return f"{', '.join(self.titles)}: {self.total:,} = {self.formula}{why}"


def framework_formulas(
    case: ExplainedLayer, columns: Sequence[Column], tensors: Sequence[TensorRow], ledger: Ledger
) -> tuple[FrameworkFormula, ...]:
    """The formulas of all frameworks that have the layer; those that are alike are joined."""
    alike: dict[tuple[int, str, str], list[Column]] = {}
    for column in columns:
        if column.total is None:
            continue
        rows = [t for t in tensors if t.framework == column.framework and t.role == "bias"]
        reasons = [_reason(case, rows), _beside(native_count(ledger, column.framework))]
        why = "; ".join(filter(None, reasons))
        alike.setdefault((column.total, _formula(case, rows), why), []).append(column)
    return tuple(
        FrameworkFormula(
            tuple(c.framework for c in found), tuple(c.title for c in found), total, formula, why
        )
        for (total, formula, why), found in alike.items()
    )


def native_count(ledger: Ledger, framework: str) -> NativeCount | None:
    """The native layers beside the own cells of a framework, all layers together."""
    found = [layer.native.get(framework) for layer in ledger.layers]
    first = next(filter(None, found), None)
    if first is None:
        return None
    own = (layer.params[framework] or 0 for layer in ledger.layers)
    pairs = zip(own, found, strict=True)
    return replace(first, count=sum(one.count if one else size for size, one in pairs))


def _beside(native: NativeCount | None) -> str:
    return f"that of the port's {native}" if native else ""


def _numbers(case: ExplainedLayer, rows: Sequence[TensorRow]) -> int:
    """The biases of one layer in one direction, as a multiple of n."""
    return sum(row.count for row in rows) // (case.both * case.n)


def _formula(case: ExplainedLayer, rows: Sequence[TensorRow]) -> str:
    numbers = _numbers(case, rows)
    vectors, rest = divmod(numbers, case.gates)
    if not rest:
        return formulas.formula(replace(case, biases=vectors))
    more = numbers * case.both * len(case.stack)
    return f"{formulas.formula(replace(case, biases=0))} + {more} n"


def _reason(case: ExplainedLayer, rows: Sequence[TensorRow]) -> str:
    """The reason for the number of biases, "" for one for each gate."""
    numbers = _numbers(case, rows)
    vectors, rest = divmod(numbers, case.gates)
    if numbers and not case.biases:
        return "it has biases always"
    if rest:
        return "one bias for each gate, and a second one for the candidate"
    if vectors < 2:
        return ""
    names = list(dict.fromkeys(row.name for row in rows if row.part == rows[0].part))
    where = " and ".join(names) if len(names) > 1 else f"two vectors in {names[0]}"
    if case.spec.kind == "GRU" and getattr(case.spec, "reset_after", False):
        return f"{where}; the reset gate multiplies the candidate's second bias"
    return f"{where}, two vectors where one would do"
