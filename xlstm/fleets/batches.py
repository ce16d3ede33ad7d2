"""Cuts a fleet into batches of models that are alike, and gives each worker more of what it knows.

    pending = Pending(entries, workers=2)
    batch = pending.take("tcp://127.0.0.1:1234")     first a batch, then more of the same size

In: entries. Out: batches. Files of one architecture have one size, and a worker keeps the compiled
work of each architecture that it has met.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xlstm.fleets.entry import FleetEntry

MOST = 64
"""Most models in a batch. A lost worker takes one batch with it."""

MOST_BYTES = 2**28
"""Most bytes of sources in a batch of more than one model."""

SHARES = 4
"""Batches for each worker at least, so that all workers end at nearly the same time."""

Kind = tuple[str, int]


@dataclass(frozen=True)
class Batch:
    """Models that one worker does in one task.

    Attributes:
        entries: the models.
        attempt: 1, or 2 for a model whose worker was lost; it is alone then.
    """

    entries: tuple[FleetEntry, ...]
    attempt: int = 1

    @property
    def kind(self) -> Kind:
        """Suffix and size of the first source."""
        return _kind(self.entries[0])

    @property
    def alone(self) -> bool:
        """True for one model: a lost worker is its fault, or that of the machine."""
        return len(self.entries) == 1


def _kind(entry: FleetEntry) -> Kind:
    return entry.path.rpartition(".")[2], entry.size


def in_order(entries: Iterable[FleetEntry]) -> list[FleetEntry]:
    """Returns entries in the order of the work: those that are alike are neighbours."""
    return sorted(entries, key=lambda entry: (*_kind(entry), entry.name))


def cut(entries: Iterable[FleetEntry], workers: int) -> list[Batch]:
    """Cuts entries into batches.

    A batch is ended early where the size of the files changes, once it is half full.

    Args:
        entries: the models, in any order.
        workers: number of workers.

    >>> zoo = [FleetEntry(f"{n}", f"{n}.h5", "", 100) for n in range(16)]
    >>> [len(batch.entries) for batch in cut(zoo, workers=2)]
    [2, 2, 2, 2, 2, 2, 2, 2]
    """
    ordered = in_order(entries)
    most = min(MOST, max(1, len(ordered) // (SHARES * max(1, workers))))
    batches: list[list[FleetEntry]] = []
    for entry in ordered:
        now = batches[-1] if batches else []
        full = len(now) >= most or sum(e.size for e in now) + entry.size > MOST_BYTES
        other = bool(now) and _kind(now[-1]) != _kind(entry) and 2 * len(now) >= most
        if not now or full or other:
            batches.append([entry])
        else:
            now.append(entry)
    return [Batch(tuple(found)) for found in batches]


class Pending:
    """Batches that no worker has yet.

    Args:
        entries: all models to do.
        workers: number of workers.
    """

    def __init__(self, entries: Iterable[FleetEntry], workers: int) -> None:
        self._by_kind: dict[Kind, collections.deque[Batch]] = {}
        self._known: dict[str, Kind] = {}
        self.alone: collections.deque[Batch] = collections.deque()
        for batch in cut(entries, workers):
            self.add(batch)

    def __bool__(self) -> bool:
        return bool(self.alone or self._by_kind)

    def add(self, batch: Batch) -> None:
        """Adds a batch; one of a second attempt waits for a fresh worker, in `alone`."""
        if batch.attempt > 1:
            self.alone.append(batch)
        else:
            self._by_kind.setdefault(batch.kind, collections.deque()).append(batch)

    def take(self, worker: str) -> Batch | None:
        """Removes and returns the next batch of a worker, None if there is none."""
        if not self._by_kind:
            return None
        kind = self._known.get(worker)
        if kind not in self._by_kind:
            others = set(self._known.values())
            free = (found for found in self._by_kind if found not in others)
            kind = next(free, None) or next(iter(self._by_kind))
        self._known[worker] = kind
        batches = self._by_kind[kind]
        batch = batches.popleft()
        if not batches:
            del self._by_kind[kind]
        return batch

    def forget(self, worker: str) -> None:
        """Drops what a lost worker knew."""
        self._known.pop(worker, None)


def split(batch: Batch, left: Sequence[FleetEntry], began: Iterable[str]) -> list[Batch]:
    """Returns batches for the models that a lost worker did not end.

    The model that had begun is done again alone, the others together. Where it is not known, as on
    an object store, each is done alone; a first loss of its own is then not counted.

    Args:
        batch: the batch of the lost worker.
        left: those of its models that have no row.
        began: names of models that began and did not end.
    """
    if batch.alone:
        return [Batch(tuple(left), batch.attempt + 1)] if left else []
    names = set(began)
    guilty = [entry for entry in left if entry.name in names]
    others = tuple(entry for entry in left if entry.name not in names)
    if not guilty:
        return [Batch((entry,)) for entry in left]
    again = [Batch((entry,), 2) for entry in guilty]
    return [*again, Batch(others)] if others else again
