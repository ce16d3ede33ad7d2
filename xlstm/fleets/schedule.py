"""Gives batches to workers, counts their rows, and does the batch of a lost worker again.

    Schedule(cluster, target, job, entries, tell=print).run()

In: models to do. Out: a row of the target for each; `tell` gets it. Each worker has one batch at a
time, so that a lost worker takes one batch with it. The client alone decides about a lost batch.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xlstm.errors import UsageError
from xlstm.fleets.batches import Batch, Pending, split
from xlstm.fleets.cluster import Cluster, scheduler_lost
from xlstm.fleets.entry import FAILED, FleetEntry, FleetJob, FleetRow

if TYPE_CHECKING:
    from xlstm.fleets.storage import FleetTarget

LOOK = 0.5
"""Seconds between two looks at the list of workers."""

ATTEMPTS = 2
"""Workers that one model may end before it is a failed row."""

FRESH = 30.0
"""Seconds that a second attempt waits for a worker that has done nothing yet."""

NONE_LEFT = 60.0
"""Seconds without any worker after which a fleet ends."""

ENDS_OF_LIMIT = ("its worker exited with status 1", "its worker ended")
"""The ends of a worker that has reached the limit of time, if that is known or not."""

FETCH = 10.0
"""Seconds for rows to come from the worker that has them."""


@dataclass
class _Flight:
    """A batch that a worker has now."""

    batch: Batch
    worker: str
    process: int | None
    future: Any
    since: float


def _mark(row: FleetRow) -> tuple[str, int, float, float]:
    """Values that two runs of one model do not share."""
    return row.worker, row.attempt, row.seconds, row.cpu_seconds


class Schedule:
    """One run over the models of a fleet.

    Args:
        cluster: the workers.
        target: where ports and rows go.
        job: what to do with each model.
        entries: the models to do.
        tell: gets each new row.
        check_lock: raises UsageError if the target is not locked for this run any more.
        earlier: rows of earlier runs by name, as the target has them.
    """

    def __init__(
        self,
        cluster: Cluster,
        target: FleetTarget,
        job: FleetJob,
        entries: Sequence[FleetEntry],
        tell: Callable[[FleetRow], None],
        check_lock: Callable[[], None] = lambda: None,
        earlier: Mapping[str, FleetRow] = MappingProxyType({}),
    ) -> None:
        self._check_lock = check_lock
        self._cluster, self._target, self._job, self._tell = cluster, target, job, tell
        self._live = cluster.workers()
        self._pending = Pending(entries, max(1, len(self._live)))
        # a row of an earlier run says nothing about this one
        self._earlier = {name: _mark(row) for name, row in earlier.items()}
        self._begun_before = target.unfinished()
        self._flights: dict[str, _Flight] = {}
        self._busy: set[str] = set()
        self._ends: queue.Queue[str] = queue.Queue()
        self._used: set[str] = set()
        self._seen = self._lost_at = time.monotonic()
        self._looked = 0.0

    def run(self) -> None:
        """Does all models.

        Raises:
            UsageError: the scheduler has ended, or there is no worker any more.
            XlstmError: the target cannot be written.
            OSError: likewise.
        """
        while self._pending or self._flights:
            self._look()
            for worker in self._live:
                self._send(worker)
            self._collect()

    def _look(self) -> None:
        """Updates the list of workers; a batch on a worker that is gone is lost."""
        now = time.monotonic()
        if now < self._looked + LOOK:
            return
        self._check_lock()
        self._live, self._looked = self._cluster.workers(), now
        if self._live:
            self._seen = now
        elif now > self._seen + NONE_LEFT:
            do = "start workers (dask worker ADDRESS), and run the same command again to go on"
            got = f"none for {NONE_LEFT:.0f} s"
            raise UsageError(self._cluster.address, "a worker", got, do)
        live = set(self._live)
        for key, flight in list(self._flights.items()):
            if flight.worker not in live and not flight.future.done():
                self._land(key)
                self._lose(flight)

    def _send(self, worker: str) -> None:
        """Sends the next batch to a worker that has none."""
        if worker in self._busy:
            return
        batch = self._next(worker)
        if batch is None:
            return
        self._used.add(worker)
        self._busy.add(worker)
        process = self._cluster.process(worker)
        future = self._cluster.submit(worker, self._target, batch)
        self._flights[future.key] = _Flight(batch, worker, process, future, time.monotonic())
        future.add_done_callback(lambda ended: self._ends.put(ended.key))

    def _next(self, worker: str) -> Batch | None:
        """Returns the next batch for a worker; second attempts are for fresh ones."""
        alone = self._pending.alone
        waited = time.monotonic() - self._lost_at > FRESH
        if alone and (worker not in self._used or waited):
            return alone.popleft()
        return self._pending.take(worker)

    def _collect(self) -> None:
        """Waits a moment for ends of batches, and counts their rows."""
        try:
            keys = [self._ends.get(timeout=LOOK)]
        except queue.Empty:
            return
        while not self._ends.empty():
            keys.append(self._ends.get())
        for key in keys:
            flight = self._land(key)
            if flight is not None:
                self._end(flight)

    def _land(self, key: str) -> _Flight | None:
        """Removes a batch from those that workers have; None for one that was lost before."""
        flight = self._flights.pop(key, None)
        if flight is not None:
            self._busy.discard(flight.worker)
        return flight

    def _end(self, flight: _Flight) -> None:
        """Counts the rows of a batch that ended, or does it again."""
        if not self._cluster.running:
            raise scheduler_lost(self._cluster.address)
        killed = self._cluster.killed(flight.future)
        if killed is None:
            rows = self._cluster.rows(flight.future, FETCH)
            if rows is not None:
                for row in rows:
                    self._tell(row)
                return
        elif not killed:
            raise flight.future.exception(timeout=FETCH)
        self._lose(flight)

    def _lose(self, flight: _Flight) -> None:
        """Does the models of a lost worker again that have no row yet."""
        flight.future.cancel()
        self._pending.forget(flight.worker)
        self._lost_at, self._looked = time.monotonic(), 0.0
        rows = self._target.rows_of(entry.name for entry in flight.batch.entries)
        left = []
        for entry in flight.batch.entries:
            row = rows.get(entry.name)
            if row is None or _mark(row) == self._earlier.get(entry.name):
                left.append(entry)
            else:
                self._tell(row)
        if left and flight.batch.alone and flight.batch.attempt >= ATTEMPTS:
            self._fail(left[0], flight)
            return
        began = self._target.unfinished()
        for batch in split(flight.batch, left, (began - self._begun_before) or began):
            self._pending.add(batch)

    def _fail(self, entry: FleetEntry, flight: _Flight) -> None:
        """Writes the row of a model that has ended two workers."""
        limit = f"{self._job.seconds:g} s"
        how = self._cluster.death(flight.process)
        late = time.monotonic() >= flight.since + self._job.seconds
        if late and how in ENDS_OF_LIMIT:
            how = f"no end after {limit}"
        error = {
            "where": entry.path,
            "expected": f"a model that a worker can do in {limit}",
            "got": f"{how}, {ATTEMPTS} times",
            "do": "try it alone (xlstm port), or allow more time (--seconds) or memory",
        }
        row = FleetRow(
            entry.name,
            entry.path,
            entry.stamp,
            self._job.digest(entry),
            FAILED,
            error=error,
            worker="schedule",
            attempt=flight.batch.attempt,
        )
        self._target.put_row(row)
        self._tell(row)
