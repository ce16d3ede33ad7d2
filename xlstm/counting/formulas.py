"""The number of a layer's parameters: the formula with symbols and with numbers, and its parts.

In: an `ExplainedLayer`, such as an LSTM with m features and n units. Out: texts such as
"4 n (m + n + 1)", and rows of a breakdown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xlstm.ir.kinds import KINDS
from xlstm.ir.layers import Bidirectional, Dense, LayerSpec


@dataclass(frozen=True)
class FormulaRow:
    """One line of a breakdown: the part, its formula, and its number."""

    what: str
    formula: str
    count: int


@dataclass(frozen=True)
class ExplainedLayer:
    """A layer to explain.

    Attributes:
        name: the user's name of the layer ("CuDNNLSTM").
        spec: one layer in one direction.
        stack: all layers, one after the other.
        biases: bias vectors for each W.
        steps: length of the sequences, None if the user names none.
        batch: sequences in a batch, None if the user names none.
    """

    name: str
    spec: Any
    stack: tuple[LayerSpec, ...]
    biases: int
    steps: int | None = None
    batch: int | None = None

    @property
    def dense(self) -> bool:
        """True if the layer has no state."""
        return isinstance(self.spec, Dense)

    @property
    def letters(self) -> str:
        """Letters of the gates, "" where there are none."""
        kind = self.spec.weight_kind
        return KINDS[kind if kind in KINDS else self.spec.kind].gates

    @property
    def gates(self) -> int:
        """The number of matrices W, one for each gate."""
        return len(self.letters) or 1

    @property
    def both(self) -> int:
        """The number of directions."""
        return 2 if isinstance(self.stack[0], Bidirectional) else 1

    @property
    def m(self) -> int:
        """Features of the first layer."""
        return int(self.spec.features)

    @property
    def n(self) -> int:
        """Units."""
        return int(self.spec.units)

    @property
    def j(self) -> int:
        """Size of h, and so of each direction in the input of the next layer."""
        return self.n if self.dense else int(self.spec.width)

    @property
    def later(self) -> int:
        """Features of the second layer and of all after it."""
        return self.both * self.j

    @property
    def projected(self) -> bool:
        """True if h is projected to another size than c's."""
        return bool(getattr(self.spec, "projection", 0))

    @property
    def peepholes(self) -> bool:
        """True if the gates read c."""
        return bool(getattr(self.spec, "peepholes", False))

    @property
    def window(self) -> int:
        """Positions of a convolution's window, k; 0 for a layer without convolutions."""
        return math.prod(getattr(self.spec, "window", ())) if self.convolved else 0

    @property
    def convolved(self) -> bool:
        """True if the products are convolutions."""
        return hasattr(self.spec, "window")

    @property
    def second(self) -> str:
        """The name of the second of two biases; an LSTM's c is its cell state."""
        return "b'" if self.spec.kind == "LSTM" else "c"

    @property
    def plain(self) -> bool:
        """True for one layer of the textbook's form, in one direction or in both."""
        special = self.projected or self.peepholes or self.convolved
        return len(self.stack) == 1 and not special


def one(case: ExplainedLayer, features: int) -> int:
    """Parameters of one layer in one direction with so many features."""
    return sum(found.count for found in _parts(case, features))


def formula(case: ExplainedLayer) -> str:
    """The number of parameters, with symbols.

    >>> from xlstm.model import LSTM
    >>> spec = LSTM(3, 5)
    >>> formula(ExplainedLayer("LSTM", spec, (spec, spec), 1))
    '4 n (m + n + 1) + 4 n (n + n + 1)'
    """
    j = "p" if case.projected else "n"
    seen = ("m", f"2 {j}" if case.both > 1 else j)
    return " + ".join(
        _times([case.both, layers], _terms(case, m, "n", j, " "))
        for m, (layers, _) in zip(seen, _groups(case), strict=False)
    )


def numbers(case: ExplainedLayer) -> str:
    """The same with numbers."""
    n, j = str(case.n), str(case.j)
    return " + ".join(
        _times([case.both, layers], _terms(case, str(m), n, j, " x "))
        for layers, m in _groups(case)
    )


def one_direction(case: ExplainedLayer) -> str:
    """The formula of the first layer in one direction, with numbers."""
    return _terms(case, str(case.m), str(case.n), str(case.j), " x ")


def breakdown(case: ExplainedLayer) -> tuple[FormulaRow, ...]:
    """The parts of the number, tensor by tensor; layers after the first are equal."""
    rows = []
    for number, (layers, m) in enumerate(_groups(case)):
        where = _where(case, number)
        for row in _parts(case, m):
            symbols, _, figures = row.formula.partition(" = ")
            counts = [case.both, layers]
            text = f"{_times(counts, symbols)} = {_times(counts, figures)}"
            what = where + row.what.split(",")[0] if where else row.what
            rows.append(FormulaRow(what, text, case.both * layers * row.count))
    return tuple(rows)


def by_gate(case: ExplainedLayer, words: dict[str, str]) -> tuple[FormulaRow, ...]:
    """The parts of the number, gate by gate; parts of no gate come last."""
    if not case.letters:
        return ()
    rows = []
    more = f" + {case.biases}" * bool(case.biases)
    k = case.window or 1
    for letter in case.letters:
        seen = case.peepholes and letter in "ifo"
        gates = ((n, f"{case.n} x ({_sees(case, m)}{more})") for n, m in _groups(case))
        texts = [_times([case.both, n], text + f" + {case.n}" * seen) for n, text in gates]
        sizes = [layers * case.n * (k * (m + case.j) + case.biases) for layers, m in _groups(case)]
        size = case.both * (sum(sizes) + seen * case.n * len(case.stack))
        rows.append(FormulaRow(words[letter], " + ".join(texts), size))
    if case.projected:
        counts = [case.both, len(case.stack)]
        text = _times(counts, f"{case.n} x {case.j}")
        size = case.both * len(case.stack) * case.n * case.j
        rows.append(FormulaRow("projection P, of no gate", text, size))
    return tuple(rows)


def _sees(case: ExplainedLayer, m: int) -> str:
    """The numbers that one unit of a gate multiplies."""
    seen = f"{m} + {case.j}"
    return f"{case.window} x ({seen})" if case.convolved else seen


def later_layers(case: ExplainedLayer) -> str:
    """The words for the layers after the first, "" where there are none."""
    last = len(case.stack)
    return f"layers 2 to {last}" if last > 2 else (f"layer {last}" if last > 1 else "")


def _where(case: ExplainedLayer, group: int) -> str:
    if len(case.stack) == 1:
        return ""
    return f"{later_layers(case)} (m = {case.later}): " if group else "layer 1: "


def _groups(case: ExplainedLayer) -> list[tuple[int, int]]:
    """Groups of equal layers: their number, and their features."""
    rest = len(case.stack) - 1
    return [(1, case.m), *([(rest, case.later)] if rest else [])]


def _times(counts: list[int], text: str) -> str:
    marks = [str(count) for count in counts if count > 1]
    if marks and " + " in text and not text.endswith(")"):
        text = f"({text})"
    return " x ".join([*marks, text])


def _terms(case: ExplainedLayer, m: str, n: str, j: str, by: str) -> str:
    """The formula of one layer in one direction, with symbols or with numbers."""
    gates = [str(case.gates)] if case.gates > 1 else []
    seen = [m, *([] if case.dense else [j])]
    if case.convolved:
        window = "k" if m == "m" else str(case.window)
        seen = [by.join([window, f"({' + '.join(seen)})"])]
    seen += [str(case.biases)] if case.biases else []
    inside = f"({' + '.join(seen)})" if len(seen) > 1 else seen[0]
    terms = [[*gates, n, inside]]
    terms += [[n, j]] if case.projected else []
    terms += [["3", n]] if case.peepholes else []
    return " + ".join(by.join(term) for term in terms)


def _parts(case: ExplainedLayer, m: int) -> list[FormulaRow]:
    """The tensors of one layer in one direction with m features."""
    g, n, j = case.gates, case.n, case.j
    sign, times = (f"{g} ", f"{g} x ") if g > 1 else ("", "")
    of = ("", "") if case.dense else (", of the input", ", of the state")
    k, window = case.window or 1, ("k ", f"{case.window} x ") if case.convolved else ("", "")
    sign, times = sign + window[0], times + window[1]
    rows = [FormulaRow(f"kernel W{of[0]}", f"{sign}m n = {times}{m} x {n}", g * k * m * n)]
    if not case.dense:
        state = "p" if case.projected else "n"
        text = f"{sign}{state} n = {times}{j} x {n}"
        rows.append(FormulaRow(f"recurrent U{of[1]}", text, g * k * j * n))
    if case.biases:
        two = "2 x " if case.biases == 2 else ""
        what = f"biases b and {case.second}" if two else "bias b"
        sign, times = sign.removesuffix(window[0]), times.removesuffix(window[1])
        rows.append(FormulaRow(what, f"{two}{sign}n = {two}{times}{n}", case.biases * g * n))
    if case.projected:
        rows.append(FormulaRow("projection P", f"n p = {n} x {j}", n * j))
    if case.peepholes:
        rows.append(FormulaRow("peepholes", f"3 n = 3 x {n}", 3 * n))
    return rows
