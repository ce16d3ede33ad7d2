"""One budget for everything that a reader of untrusted files may cost.

In: amounts that a file declares or that a loop is about to do. Out: nothing, or one FileError.
A budget counts; it never looks at the clock, so the same file ends the same way on every machine.

    budget = Budget()
    budget.spend("bytes", 4 * 2**20, "a.keras: config.json")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from xlstm.errors import FileError

LIMITS = MappingProxyType(
    {
        "bytes": 2**30,
        "nodes": 200_000,
        "expanded nodes": 25_000,
        "characters": 2**24,
        "values": 500_000,
        "steps": 50_000_000,
    }
)
"""Kind of cost -> the most of it that one file may take.

bytes: memory for what is decompressed, parsed or copied, without the weights that are wanted.
nodes: objects that the file lists: groups, datasets, members, tensors, layers.
expanded nodes: calls of layers after nested models are written out, and what else they become.
characters: of names and texts that are kept.
values: of configs, as JSON and YAML list them; real ones have thousands.
steps: turns of loops whose number the file decides.
"""


@dataclass
class Budget:
    """Counts what one file costs, and refuses it before a limit is passed.

    Attributes:
        limits: kind of cost -> the most of it.
        spent: kind of cost -> how much of it was spent so far.

    Example:
        >>> budget = Budget({"nodes": 2})
        >>> budget.spend("nodes", 2, "a.h5")
        >>> budget.spend("nodes", 1, "a.h5")
        Traceback (most recent call last):
            ...
        xlstm.errors.FileError: a.h5: expected at most 2 nodes, got 3; check the file
    """

    limits: dict[str, int] = field(default_factory=lambda: dict(LIMITS))
    spent: dict[str, int] = field(default_factory=dict)

    def spend(self, kind: str, amount: int, where: object) -> None:
        """Adds `amount` of one kind of cost.

        Args:
            kind: a key of `limits`.
            amount: how much is about to be taken, 0 or more.
            where: file or part of it, for the message.

        Raises:
            FileError: the file would then cost more than its budget.
        """
        total = self.spent.get(kind, 0) + amount
        if total > self.limits[kind]:
            raise FileError(
                where, f"at most {self.limits[kind]:,} {kind}", f"{total:,}", "check the file"
            )
        self.spent[kind] = total
