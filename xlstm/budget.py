"""One budget for all costs of reading an untrusted file.

In: amounts that a file declares, or of work that a loop is about to do. Out: nothing, or one
FileError. A budget counts and uses no clock, so a file has the same result on every machine.

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
"""Kind of cost -> its limit for one file.

bytes: memory for decompressed, parsed or copied data, without the weights.
nodes: objects that the file lists: groups, datasets, members, tensors, layers.
expanded nodes: calls of layers after nested models are expanded, and the nodes that they become.
characters: of names and texts that are stored.
values: of configs in JSON and YAML; real ones have thousands.
steps: iterations of loops whose number the file decides.
"""


@dataclass
class Budget:
    """Counts the costs of one file, and refuses it before a limit is passed.

    Attributes:
        limits: kind of cost -> its limit.
        spent: kind of cost -> the amount so far.

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
            amount: the cost of the next operation, 0 or more.
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
