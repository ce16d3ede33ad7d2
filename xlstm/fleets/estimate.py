"""Estimates the time of a fleet from a sample of its models, done in a temporary target.

In: the models to do. Out: the number of models of the sample, and seconds for all of them.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from xlstm.fleets.batches import in_order
from xlstm.fleets.cluster import connected, cores
from xlstm.fleets.entry import FleetEntry, FleetJob, FleetRow
from xlstm.fleets.schedule import Schedule
from xlstm.fleets.storage import open_target

SAMPLE = 8
"""Most models of a sample."""


def sample_of(entries: Sequence[FleetEntry]) -> list[FleetEntry]:
    """Returns models of all sizes: the middle one of each part of the fleet.

    >>> zoo = [FleetEntry(f"{n}", f"{n}.h5", "", n) for n in range(80)]
    >>> [entry.size for entry in sample_of(zoo)]
    [5, 15, 25, 35, 45, 55, 65, 75]
    """
    ordered = in_order(entries)
    parts = min(SAMPLE, len(ordered))
    return [ordered[(2 * part + 1) * len(ordered) // (2 * parts)] for part in range(parts)]


def estimate(
    entries: Sequence[FleetEntry], job: FleetJob, workers: int | None
) -> tuple[int, float]:
    """Returns the number of models of the sample, and the seconds that all models may take.

    The sample is done twice: the second time is that of a worker that knows the architecture. A
    model that ends its worker counts as its limit of time does.

    Args:
        entries: the models to do.
        job: the work.
        workers: number of workers of the fleet; the number of cores if None.
    """
    chosen = sample_of(entries)
    count = workers or len(cores())
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xlstm-") as folder, contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connected(None, 1, job))
        cluster.prepare()
        start = time.monotonic() - began
        spent = []
        for time_of in ("first", "second"):
            target = open_target(Path(folder) / time_of)
            target.check(job)
            rows: list[FleetRow] = []
            with target.locked():
                Schedule(cluster, target, job, chosen, rows.append).run()
            spent.append(sum(row.seconds for row in rows))
    first, again = spent
    once = max(0.0, first - again)  # of work that models of one architecture share
    return len(chosen), start + once + again / len(chosen) * len(entries) / count
