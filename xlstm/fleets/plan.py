"""Compares the models of a fleet with the rows of its target: to do, and why, or done.

    made = plan(entries, rows, job, missing_ports)
    made.todo           the entries to do
    made.text("PyTorch")     "To do: 12 of 2,000 models (10 new, 2 changed). Done: 1,988."

In: entries and rows. Out: a `FleetPlan`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xlstm.fleets.entry import EQUAL, GOOD, REFUSED, FleetEntry, FleetJob, FleetRow

Entries = tuple[FleetEntry, ...]


@dataclass(frozen=True)
class FleetPlan:
    """The models of a fleet, by what a run does with them.

    Attributes:
        new: models without a row; done.
        changed: the source, its options, the target or the version of xlstm changed; done again.
        failed: the last result was not equal, or none, or its port is gone; done again.
        retried: refused before, and done again because the caller wants it.
        refused: refused before; kept.
        done: equal or ported before; kept.
        seconds: estimated time of the run, None if it was not estimated.
        sample: number of models that the estimate comes from.
    """

    new: Entries = ()
    changed: Entries = ()
    failed: Entries = ()
    retried: Entries = ()
    refused: Entries = ()
    done: Entries = ()
    seconds: float | None = None
    sample: int = 0

    @property
    def todo(self) -> Entries:
        """All models that a run does."""
        return self.new + self.changed + self.failed + self.retried

    def counts(self) -> dict[str, int]:
        """Returns group -> number of models, in the order of this class."""
        groups = ("new", "changed", "failed", "retried", "refused", "done")
        return {name: len(getattr(self, name)) for name in groups}

    def text(self, title: str) -> str:
        """Returns the plan in lines.

        Args:
            title: name of the target framework.
        """
        counts = {name: n for name, n in self.counts().items() if n}
        todo = [f"{n:,} {name}" for name, n in counts.items() if name not in ("refused", "done")]
        why = f" ({', '.join(todo)})" if todo else ""
        whole = sum(counts.values())
        lines = [f"To do: {len(self.todo):,} of {whole:,} models to {title}{why}."]
        kept = [f"{counts[name]:,} {name}" for name in ("done", "refused") if name in counts]
        if kept:
            again = " (--retry-refused does them again)" if "refused" in counts else ""
            lines.append(f"Kept: {', '.join(kept)}{again}.")
        if self.seconds is not None:
            models = f"{self.sample} model{'s' * (self.sample > 1)}"
            lines.append(f"About {duration(self.seconds)}, from a sample of {models}.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The names of each group, and the estimate, as plain data."""
        groups = {name: [entry.name for entry in getattr(self, name)] for name in self.counts()}
        return {**groups, "seconds": self.seconds, "sample": self.sample}


def duration(seconds: float) -> str:
    """Returns a time in words.

    >>> duration(0.4), duration(75), duration(5400)
    ('1 s', '1 min 15 s', '1 h 30 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def plan(
    entries: Iterable[FleetEntry],
    rows: Mapping[str, FleetRow],
    job: FleetJob,
    missing: Collection[str],
    *,
    retry_refused: bool = False,
) -> FleetPlan:
    """Sorts models by what a run has to do with them.

    Args:
        entries: all models of the fleet.
        rows: the rows of the target.
        job: the work.
        missing: names without a port in the target.
        retry_refused: True to do refused models again.
    """
    groups: dict[str, list[FleetEntry]] = {}
    for entry in entries:
        group = _group(entry, rows.get(entry.name), job, missing)
        if group == "refused" and retry_refused:
            group = "retried"
        groups.setdefault(group, []).append(entry)
    made: dict[str, Any] = {name: tuple(found) for name, found in groups.items()}
    return FleetPlan(**made)


def _group(entry: FleetEntry, row: FleetRow | None, job: FleetJob, missing: Collection[str]) -> str:
    if row is None:
        return "new"
    if row.stamp != entry.stamp or not _same_work(entry, row, job):
        return "changed"
    if row.outcome == REFUSED:
        return "refused"
    return "done" if row.outcome in GOOD and entry.name not in missing else "failed"


def _same_work(entry: FleetEntry, row: FleetRow, job: FleetJob) -> bool:
    """True for a row of this job; a good port stays good without --verify or with a lower limit."""
    if row.outcome in GOOD:
        job = replace(job, largest=max(job.largest, entry.size))
    jobs = [job, replace(job, verify=True)] if row.outcome == EQUAL else [job]
    return row.job in [one.digest(entry) for one in jobs]
