"""Names of the suspect's tensors, gate orders and row numbers, from the slot tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from xlstm.errors import UnsupportedError
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.ir.graph import Node
from xlstm.slots import Slot, Table


class Said(NamedTuple):
    """A finding in words: what is wrong, what to do, which tensors.

    `other` is True for numbers that have nothing in common with a's.
    """

    text: str
    fix: str = ""
    tensor: str = ""
    other: bool = False


@dataclass(frozen=True)
class Naming:
    """The suspect's names.

    Attributes:
        adapter: the suspect's framework, None if it is not known.
        names: (owner of a layer, part's prefix, slot) -> the suspect's own name of the tensor.
        tables: owner and part's prefix -> table of a cell of the suspect's own, by its own names.
        equal: owners of layers whose arrays are a's.
    """

    adapter: Adapter | None = None
    names: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    tables: Mapping[tuple[str, str], Table] = field(default_factory=dict)
    equal: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """The framework as it writes itself."""
        return self.adapter.title if self.adapter else "b"

    def place(self, node: Node, before: str) -> WeightPlacement | None:
        """The suspect's placement of a part of a layer, None if it is not known."""
        try:
            places = list(self.adapter.weight_placements(node)) if self.adapter else []
        except UnsupportedError:
            places = []
        return next((place for place in places if place.before == before), None)

    def slots(self, node: Node, before: str, tensor: str) -> Iterator[tuple[Slot, str]]:
        """The slots that hold a hub tensor, each with the suspect's name of it.

        Nothing where the suspect's tensors of the layer are not known.
        """
        own = self.tables.get((node.owner, before))
        place = self.place(node, before)
        if own is not None:
            yield from ((slot, slot.name) for slot in own.slots if slot.tensor == tensor)
        elif place is not None:
            for slot in place.table.present_slots(place.part.missing_tensors()):
                known = self.known(node, before, slot) if slot.tensor == tensor else ""
                if known:
                    yield slot, known

    def known(self, node: Node, before: str, slot: Slot) -> str:
        """The suspect's name of a slot of its framework's, "" where it has none."""
        # a cell has the layer's tensors, by names without its number, or one bias
        own = (
            slot.name,
            slot.name.removesuffix("_l0"),
            *(["bias"] if slot.tensor == "bias" else []),
        )
        return next(filter(None, (self.names.get((node.owner, before, n)) for n in own)), "")

    def called(self, node: Node, before: str, *tensors: str) -> str:
        """Names of tensors for a sentence, in backquotes; plain words where none are known."""
        # frameworks call a table "weight", as they do any other
        kinds = {tensor: ("embedding's " if tensor == "table" else "") for tensor in tensors}
        found = [f"{kinds[t]}`{n}`" for t in tensors for _, n in self.slots(node, before, t)]
        return listed([*dict.fromkeys(found or [plain(before, tensor) for tensor in tensors])])

    def order(self, node: Node, before: str, tensor: str, gates: str) -> str:
        """The order in which the suspect's framework reads the gates of a tensor."""
        orders = [slot.gates for slot, _ in self.slots(node, before, tensor) if slot.gates]
        return orders[0] if orders else gates


def plain(before: str, tensor: str) -> str:
    """A hub tensor in words.

    >>> plain("forward_", "recurrent")
    'forward recurrent kernel'
    """
    words = {"recurrent": "recurrent kernel", "table": "embedding table"}
    return f"{before.replace('_', ' ')}{words.get(tensor, tensor)}"


def listed(words: list[str]) -> str:
    """Words with commas and an "and"; of more than four the first three and how many are left."""
    if len(words) > 4:
        words = [*words[:3], f"{len(words) - 3} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def blocks(slot: Slot, sizes: Mapping[str, int], written: str, read: str) -> str:
    """Rows (or columns) of a merged gate axis that two orders put in different places.

    >>> slot = Slot("weight_ih_l0", "kernel", "(gh)i", gates="ifgo")
    >>> blocks(slot, {"g": 4, "h": 20, "i": 1}, "ifog", "ifgo")
    'rows 41-60 and 61-80'
    """
    for axis, group in enumerate(slot.groups()):
        if "g" in group:
            inner = math.prod(sizes[letter] for letter in group[group.index("g") + 1 :])
            wrong = [
                k for k, pair in enumerate(zip(written, read, strict=True)) if len({*pair}) > 1
            ]
            word = "rows" if axis == 0 and len(slot.groups()) > 1 else "columns"
            word = "numbers" if len(slot.groups()) == 1 else word
            return f"{word} {listed([f'{k * inner + 1}-{(k + 1) * inner}' for k in wrong])}"
    return ""
