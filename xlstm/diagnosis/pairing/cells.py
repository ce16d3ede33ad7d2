"""Cells that people write of `nn.Linear`: which of their tensors stand for which of a layer's.

What a module's names and shapes prove is taken, and nothing else. Four forms are known: one Linear
for the input and one for h, with all gates in their rows; one for both, for [x, h] or [h, x]; and
either of the two once for every gate. The order of the gates in the rows, and that of x and h, is
what the numbers show where they are the truth's; how the cell's code reads them only a run tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.hypothesis import Part
from xlstm.ir.types import Array
from xlstm.slots import Slot, Table

Hub = Mapping[str, Array]


class Linear(NamedTuple):
    """One Linear module: its name, its own name without digits, and its arrays."""

    name: str
    leaf: str
    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Cell:
    """A cell's table, whose slots have the suspect's own names.

    Attributes:
        table: of its tensors.
        arrays: by the slots' names; some are columns of a tensor.
        taken: the suspect's tensors that they are.
    """

    table: Table
    arrays: Mapping[str, Array]
    taken: frozenset[str]


class Block(NamedTuple):
    """Columns of a Linear: what they multiply ("kernel" x, "recurrent" h), for which gate."""

    linear: Linear
    tensor: str
    gate: str = ""
    columns: slice | None = None

    @property
    def name(self) -> str:
        """The suspect's name of them."""
        if self.columns is None:
            return f"{self.linear.name}.weight"
        start, stop = (str(n or "") for n in (self.columns.start, self.columns.stop))
        return f"{self.linear.name}.weight[:, {start}:{stop}]"

    @property
    def array(self) -> Array:
        """The numbers."""
        return self.linear.weight[:, self.columns or slice(None)]


GATES = {"LSTM": "ifgo", "GRU": "rzn", "GRU, reset_after=False": "rzn", "SimpleRNN": ""}
"""Kinds that cells are written of, with PyTorch's order of their gates."""

SPELLED = {
    "ifgo": {"i": "i", "f": "f", "g": "g", "c": "g", "o": "o", "input": "i", "in": "i",
             "forget": "f", "cell": "g", "candidate": "g", "output": "o", "out": "o"},
    "rzn": {"r": "r", "z": "z", "u": "z", "n": "n", "h": "n", "c": "n", "g": "n", "reset": "r",
            "update": "z", "new": "n", "candidate": "n"},
}  # fmt: skip
"""Gates as people name them -> their letters."""

INPUT = {"x", "wx", "xw", "ih", "wih", "i2h", "x2h", "in", "input", "inp", "w", "win", "kernel",
         "xh", "wxh", "wi", "i"}  # fmt: skip
HIDDEN = {"h", "wh", "hw", "hh", "whh", "h2h", "hidden", "hid", "u", "uh", "rec", "recurrent",
          "r", "state"}  # fmt: skip
"""Names that people give the product of the input, and that of h."""

IDLE = {"linear", "fc", "lin", "gate", "gates", "layer", "proj", "dense", "weight", "map"}
"""Words of names that say nothing."""


def cells(part: Part, names: Iterable[str], arrays: Mapping[str, Array], own: Hub) -> list[Cell]:
    """Cells that a part of the truth may be, in the order of the suspect's tensors.

    Args:
        part: of the truth.
        names: the suspect's tensors that stand for nothing yet.
        arrays: all of the suspect's tensors.
        own: the truth's hub tensors of the part, without the part's prefix.
    """
    if part.kind.name not in GATES:
        return []
    found = []
    for linears in _together([*names], arrays).values():
        blocks = next(filter(None, (form(part, linears, own) for form in FORMS)), None)
        if blocks:
            found.append(_cell(part, blocks, own))
    return found


def _together(names: list[str], arrays: Mapping[str, Array]) -> dict[str, list[Linear]]:
    """Linear modules by what they lie in, and by the digits in their names."""
    found: dict[str, list[Linear]] = {}
    for name in names:
        stem, _, tensor = name.rpartition(".")
        if tensor == "weight" and stem and arrays[name].ndim == 2:
            parent, _, leaf = stem.rpartition(".")
            bias = arrays[f"{stem}.bias"] if f"{stem}.bias" in names else None
            own = "".join(re.findall(r"\d+", re.sub(r"(?<=[a-z])2(?=[a-z])", "", leaf)))
            plain = re.sub(r"(?<![a-z])\d+|\d+$", "", leaf.lower())
            found.setdefault(f"{parent}:{own}", []).append(Linear(stem, plain, arrays[name], bias))
    return found


def _words(leaf: str) -> list[str]:
    return [word for word in re.split(r"[_\W]+", leaf) if word and word not in IDLE]


def _role(linear: Linear) -> str:
    """The product that the name of a Linear says, "" where it says nothing."""
    joined = "".join(_words(linear.leaf))
    return "kernel" if joined in INPUT else "recurrent" if joined in HIDDEN else ""


def _gate(word: str, gates: str) -> str:
    return SPELLED[gates].get(word, "")


def _gate_role(linear: Linear, gates: str) -> tuple[str, str]:
    """The product and the gate that the name of a Linear says: W_xi, U_i, hi, i_h."""
    joined = "".join(_words(linear.leaf))
    for pattern, first in (("w?([xih])([a-z])", True), ("([wu])([a-z])", True),
                           ("([a-z]+?)([xh])", False)):  # fmt: skip
        found = re.fullmatch(pattern, joined)
        if found:
            role, word = found.groups() if first else found.groups()[::-1]
            gate = _gate(word, gates)
            if gate:
                return ("recurrent" if role in "hu" else "kernel"), gate
    return "", ""


def _fused(part: Part, linears: list[Linear], _own: Hub) -> list[Block]:
    """One Linear for x and one for h; their names say which is which, or their shapes."""
    sizes, count = part.spec.sizes(), max(1, len(part.kind.gates))
    rows, m, n = count * sizes["h"], sizes["i"], sizes["j"]
    fit = [linear for linear in linears if linear.weight.shape in ((rows, m), (rows, n))]
    named = [linear for linear in fit if _role(linear)]
    if part.kind.gates and m != n and len(fit) == 2:
        roles = ["kernel" if linear.weight.shape[1] == m else "recurrent" for linear in fit]
    else:
        fit, roles = named, [_role(linear) for linear in named]
    if sorted(roles) != ["kernel", "recurrent"]:
        return []
    want = {"kernel": (rows, m), "recurrent": (rows, n)}
    blocks = [Block(*pair) for pair in zip(fit, roles, strict=True)]
    return blocks if all(b.array.shape == want[b.tensor] for b in blocks) else []


def _apart(part: Part, linears: list[Linear], _own: Hub) -> list[Block]:
    """One Linear for x and one for h, for every gate; their names say which."""
    sizes, gates = part.spec.sizes(), GATES[part.kind.name]
    want = {"kernel": (sizes["h"], sizes["i"]), "recurrent": (sizes["h"], sizes["j"])}
    blocks = []
    for linear in linears if gates else ():
        role, gate = _gate_role(linear, gates)
        if role and linear.weight.shape == want[role]:
            blocks.append(Block(linear, role, gate))
    every = sorted((tensor, gate) for tensor in want for gate in gates)
    return blocks if sorted((b.tensor, b.gate) for b in blocks) == every else []


def _joined(part: Part, linears: list[Linear], own: Hub) -> list[Block]:
    """One Linear for x and h side by side, for all gates or for every one."""
    sizes, gates = part.spec.sizes(), GATES[part.kind.name]
    m, n, h = sizes["i"], sizes["j"], sizes["h"]
    whole = [x for x in linears if x.weight.shape == (max(1, len(gates)) * h, m + n)]
    if len(whole) == 1 and gates:
        return _halved([(whole[0], "")], m, n, own)
    one = [(x, _gate("".join(_words(x.leaf)).removeprefix("w") or "w", gates))
           for x in linears if gates and x.weight.shape == (h, m + n)]  # fmt: skip
    one = [pair for pair in one if pair[1]]
    return _halved(one, m, n, own) if sorted(g for _, g in one) == sorted(gates) and one else []


def _halved(pairs: list[tuple[Linear, str]], m: int, n: int, own: Hub) -> list[Block]:
    """The columns of x and those of h, in the order in which they hold the truth's numbers."""
    for x, h in ((slice(0, m), slice(m, None)), (slice(n, None), slice(0, n))):
        blocks = [
            Block(linear, tensor, gate, columns)
            for linear, gate in pairs
            for tensor, columns in (("kernel", x), ("recurrent", h))
        ]
        if any(any(_gates_of(block, own)) for block in blocks):
            return blocks
    return []


FORMS = (_fused, _apart, _joined)
"""The forms that are known."""


def _gates_of(block: Block, own: Hub) -> list[set[int]]:
    """For each block of rows the truth's gates whose numbers it holds."""
    array = own.get(block.tensor)
    if array is None:
        return []
    array = array if array.ndim == 3 else array[None]
    rows = array.shape[2]
    parts = [block.array[at : at + rows] for at in range(0, len(block.array), rows)]
    return [{k for k, gate in enumerate(array) if _equal(gate.T, part)} for part in parts]


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(a.astype(np.float32), b.astype(np.float32))


def _order(part: Part, blocks: list[Block], own: Hub) -> str:
    """The order of the gates in the rows, as the truth's numbers show it; else PyTorch's."""
    for block in blocks:
        found = _gates_of(block, own)
        for order in permutations(range(len(part.kind.gates))):
            if len(found) == len(order) and all(k in g for k, g in zip(order, found, strict=True)):
                return "".join(part.kind.gates[k] for k in order)
    return GATES[part.kind.name]


def _cell(part: Part, blocks: list[Block], own: Hub) -> Cell:
    whole = bool(part.kind.gates) and not blocks[0].gate
    order = _order(part, blocks, own) if whole else ""
    slots, arrays = list(_slots(blocks, order)), {b.name: b.array for b in blocks}
    taken = {f"{b.linear.name}.weight" for b in blocks}
    for linear in {b.linear.name: b.linear for b in blocks}.values():
        if linear.bias is not None:
            arrays[f"{linear.name}.bias"] = linear.bias
            taken.add(f"{linear.name}.bias")
    return Cell(Table(part.kind, tuple(slots)), arrays, frozenset(taken))


def _slots(blocks: list[Block], order: str) -> Iterator[Slot]:
    rows = "(gh)" if order else "h"
    given: set[str] = set()
    for block in blocks:
        at: dict[str, int | str] = {"g": block.gate} if block.gate else {}
        yield Slot(block.name, block.tensor, rows + "ij"[block.tensor == "recurrent"], order, at)
    for block in blocks:
        name = f"{block.linear.name}.bias"
        if block.linear.bias is not None and name not in given:
            given.add(name)
            at = {"g": block.gate} if block.gate else {}
            side = int(block.tensor == "recurrent")
            yield Slot(name, "bias", rows, order, {**at, "s": side})
