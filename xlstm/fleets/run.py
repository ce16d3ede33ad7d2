"""`xlstm.fleet`: ports many models, from the sources to the table.

    xlstm.fleet("zoo", "torch", "ported", verify=True).counts     {"equal": 1988, "refused": 12}

In: sources, a target framework and a target. Out: the ports, their table, and a `FleetResult`.
Everything is checked before any work: sources, target, scheduler, and that no other fleet runs.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xlstm.errors import UsageError, printable
from xlstm.fleets.cluster import connected
from xlstm.fleets.entry import (
    FAILED,
    GOOD,
    OUTCOMES,
    REFUSED,
    FleetEntry,
    FleetJob,
    FleetRow,
)
from xlstm.fleets.estimate import estimate
from xlstm.fleets.plan import FleetPlan, duration, plan
from xlstm.fleets.schedule import Schedule
from xlstm.fleets.sources import entries as entries_of
from xlstm.fleets.storage import open_target
from xlstm.frameworks import registry

if TYPE_CHECKING:
    from xlstm.fleets.storage import FleetTarget

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

Reason = tuple[str, str, str]

REASONS = 5
"""Most reasons that the text of a result lists."""


@dataclass(frozen=True)
class FleetResult:
    """The result of a fleet.

    Attributes:
        target: folder or URL of the ports.
        to: name of the target framework.
        outcomes: name of each model -> its outcome, also of those that earlier runs did.
        plan: what was to do.
        dry_run: True if nothing was done.
        seconds: of the whole run.
        reasons: outcome, expected and advice of an error -> name of each model, and what it got.
        store: the target, which has all rows.
    """

    target: str
    to: str
    outcomes: Mapping[str, str]
    plan: FleetPlan
    dry_run: bool
    seconds: float
    reasons: Mapping[Reason, Sequence[tuple[str, str]]] = field(default_factory=dict)
    store: FleetTarget | None = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> dict[str, FleetRow]:
        """Name -> row of each model of this fleet that has one; read from the target."""
        if self.store is None:
            return {}
        rows = self.store.rows()
        return {name: rows[name] for name in self.outcomes if name in rows}

    @property
    def counts(self) -> dict[str, int]:
        """Outcome -> number of models; outcomes without a model are left out."""
        found = collections.Counter(self.outcomes.values())
        return {name: found[name] for name in OUTCOMES if found[name]}

    @property
    def ok(self) -> bool:
        """True if every model is equal, or ported if no verification was asked for."""
        return self.dry_run or all(outcome in GOOD for outcome in self.outcomes.values())

    def summary(self) -> str:
        """Returns one line: the number of models of each outcome."""
        title = registry.adapter(self.to).title
        if self.dry_run:
            return self.plan.text(title).partition("\n")[0]
        counted = [f"{n:,} {outcome}" for outcome, n in self.counts.items()]
        whole = len(self.outcomes)
        return f"{whole:,} model{'s' * (whole != 1)} to {title}: {', '.join(counted)}."

    def text(self) -> str:
        """Returns the result in lines: counts, reasons, and where the ports are."""
        if self.dry_run:
            return self.plan.text(registry.adapter(self.to).title)
        lines = [self.summary()]
        done = len(self.plan.todo)
        if kept := len(self.outcomes) - done:
            lines.append(f"{kept:,} of them are from earlier runs.")
        if done:
            lines.append(f"{done:,} in {duration(self.seconds)}.")
        lines += _reason_lines(self.reasons)
        lines.append(f"Ports and table: {self.target}. More: xlstm fleet report {self.target}")
        return "\n".join(map(printable, lines))

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, Any]:
        """The counts, the plan and all reasons as plain data; the rows are in the target."""
        keys = ("outcome", "expected", "do")
        reasons = [
            {**dict(zip(keys, reason, strict=True)), "got": dict(found)}
            for reason, found in self.reasons.items()
        ]
        return {
            "ok": self.ok,
            "target": self.target,
            "to": self.to,
            "models": len(self.outcomes) if not self.dry_run else sum(self.plan.counts().values()),
            "counts": self.counts,
            "dry_run": self.dry_run,
            "plan": self.plan.counts() if not self.dry_run else self.plan.to_json(),
            "seconds": round(self.seconds, 3),
            "reasons": reasons,
        }


def _reason_lines(reasons: Mapping[Reason, Sequence[tuple[str, str]]]) -> list[str]:
    lines = []
    for (outcome, expected, do), found in list(reasons.items())[:REASONS]:
        name, got = found[0]
        more = f" and {len(found) - 1:,} more" if found[1:] else ""
        why = f": expected {expected}, got {got}; {do}" if expected else ""
        lines.append(f"{outcome}: {name}{more}{why}")
    left = len(reasons) - len(lines)
    return [*lines, f"{left:,} more reason{'s' * (left > 1)} (--json)"] if left > 0 else lines


def fleet(
    sources: Sources,
    to: str,
    target: str | os.PathLike[str],
    *,
    verify: bool = False,
    scheduler: str | None = None,
    workers: int | None = None,
    dry_run: bool = False,
    retry_refused: bool = False,
    seconds: float = FleetJob.seconds,
    memory: float = FleetJob.memory,
    largest: float = FleetJob.largest,
    progress: Callable[[str], None] | None = None,
) -> FleetResult:
    """Ports many models, on all cores of this machine or on a Dask cluster.

    A model that cannot be ported is a row with its reason, and so is one that ends its worker.
    Nothing that is written is lost if this process, a worker or the scheduler ends: a second call
    does what is missing, changed or failed. A script that calls this function needs
    `if __name__ == "__main__":`, as its workers are processes that import it.

    Args:
        sources: a model file, a folder, a glob, a manifest (.csv, .jsonl), or an fsspec URL; or
            several of them.
        to: the target framework, such as "torch".
        target: folder or fsspec URL; new, empty, or that of an earlier fleet.
        verify: True to compare each port with the float64 reference.
        scheduler: address of a Dask scheduler; None for processes on this machine.
        workers: number of processes on this machine; that of its cores if None.
        dry_run: True to say what would be done, and how long it may take.
        retry_refused: True to do models again whose content was refused before.
        seconds: limit of time for one model.
        memory: limit in bytes for the runs of one comparison.
        largest: largest source in bytes.
        progress: gets a line whenever rows come in.

    Returns:
        The result; its `ok` is False if a model is refused, different, undecided or failed.

    Raises:
        UsageError: the sources, the target or the scheduler cannot be used, or another fleet runs
            in this target; before any work.
        MissingFrameworkError: Dask or, to verify, the target framework is not installed.

    Example:
        >>> import xlstm
        >>> result = xlstm.fleet(["zoo/*.h5"], "torch", "ported")  # doctest: +SKIP
        >>> result.counts  # doctest: +SKIP
        {'ported': 2000}
    """
    began = time.monotonic()
    tell = progress or (lambda _text: None)
    job = _job(to, verify=verify, seconds=seconds, memory=memory, largest=largest)
    tell("listing the sources")
    found = entries_of(_as_texts(sources))
    tell("reading the table")
    store = open_target(target)
    _check_outside(found, store.url)
    store.check(job, write=False)
    made = _Run(store, job, found, tell, retry_refused)
    with contextlib.ExitStack() as stack:
        if scheduler is not None:  # whether it answers is known before the target is changed
            tell(f"connecting to {scheduler}")
            made.cluster = stack.enter_context(connected(scheduler, workers, job))
        if dry_run:
            made.estimate(workers)
            return made.result(time.monotonic() - began, dry_run=True)
        store.check(job)
        check_lock = stack.enter_context(store.locked())
        made.do(stack, workers, check_lock)
        return made.result(time.monotonic() - began)


def _as_texts(sources: Sources) -> list[str]:
    several = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    return [os.fspath(source) for source in several]


def _check_outside(found: Sequence[FleetEntry], target: str) -> None:
    """Raises UsageError for a source in the target, which its own port would replace."""
    inside = (target.rstrip("/") + "/", target + os.sep)
    for entry in found:
        if entry.path.startswith(inside):
            want, do = "sources outside the target", "name another target"
            raise UsageError(entry.path, want, f"one in {target}", do)


def _job(to: str, **options: Any) -> FleetJob:
    """The work of a fleet.

    Raises:
        UsageError: the target is unknown or no port can be written for it, or a limit is no limit.
        MissingFrameworkError: it is needed to verify, and is not installed.
    """
    adapter = registry.adapter(registry.canonical(to))
    if adapter.emit is None:
        names = ", ".join(n for n in registry.frameworks() if registry.adapter(n).emit)
        raise UsageError("fleet", "a framework that ports are written for", to, f"name {names}")
    for name in ("seconds", "memory", "largest"):
        if not options[name] > 0:
            raise UsageError(f"fleet, {name}", "a number above 0", options[name], "pass a limit")
    if options["verify"]:
        adapter.check_installed()
    return FleetJob(adapter.name, **{**options, "largest": int(options["largest"])})


class _Run:
    """One call of `fleet`, after its arguments are checked."""

    def __init__(
        self,
        store: FleetTarget,
        job: FleetJob,
        found: Sequence[FleetEntry],
        tell: Callable[[str], None],
        retry_refused: bool,
    ) -> None:
        self.store, self.job, self.found, self.tell = store, job, found, tell
        self.retry_refused = retry_refused
        self.cluster: Any = None
        self.outcomes: dict[str, str] = {}
        self.rows: dict[str, FleetRow] = {}
        self.reasons: dict[Reason, list[tuple[str, str]]] = {}
        self.plan = FleetPlan()

    def _plan(self) -> FleetPlan:
        wanted = {entry.name for entry in self.found}
        # without counts, layers and verdicts: a row would take some kilobytes
        self.rows = {
            row.name: dataclasses.replace(row, counts={}, layers=(), verdicts={}, unexercised=())
            for row in self.store.each_row()
            if row.name in wanted
        }
        good = [name for name, row in self.rows.items() if row.outcome in GOOD]
        missing = self.store.missing_ports(good) if good else ()
        made = plan(self.found, self.rows, self.job, missing, retry_refused=self.retry_refused)
        self.outcomes = {}
        for entry in (*made.refused, *made.done):
            self._note(self.rows[entry.name])
        return made

    def _note(self, row: FleetRow) -> None:
        """Keeps the outcome of a row, and its reason; the row itself stays in the target."""
        self.outcomes[row.name] = row.outcome
        if row.outcome in GOOD:
            return
        error = row.error or {}
        reason = (row.outcome, error.get("expected", ""), error.get("do", ""))
        self.reasons.setdefault(reason, []).append((row.name, error.get("got", "")))

    def estimate(self, workers: int | None) -> None:
        """Plans the work, and adds the time that it may take, from a sample."""
        self.plan = self._plan()
        if not self.plan.todo:
            return
        self.tell("doing a sample")
        count = len(self.cluster.workers()) if self.cluster is not None else workers
        sample, seconds = estimate(self.plan.todo, self.job, count)
        self.plan = dataclasses.replace(self.plan, sample=sample, seconds=seconds)

    def do(
        self, stack: contextlib.ExitStack, workers: int | None, check_lock: Callable[[], None]
    ) -> None:
        """Does all models that are to do, and writes the table."""
        self.plan = self._plan()
        if self.plan.todo:
            if self.cluster is None:
                self.tell("starting workers")
                self.cluster = stack.enter_context(connected(None, workers, self.job))
            title = registry.adapter(self.job.to).title
            self.tell(f"importing {title} on the workers" if self.job.verify else "asking workers")
            self.cluster.prepare()
            again = self.plan.changed + self.plan.failed + self.plan.retried
            self.store.forget([entry.name for entry in again])
            counter = Counter(len(self.plan.todo), self.tell)

            def count(row: FleetRow) -> None:
                self._note(row)
                counter.add(row.outcome)

            earlier = {entry.name: self.rows[entry.name] for entry in again}
            self.rows = {}
            todo = self.plan.todo
            Schedule(self.cluster, self.store, self.job, todo, count, check_lock, earlier).run()
        self.tell("writing the table")
        # a port of an older file must not look like one of the file that is refused now
        bad = (name for name, outcome in self.outcomes.items() if outcome in (REFUSED, FAILED))
        self.store.drop_ports(bad)
        self.store.sweep()
        self.store.compact()

    def result(self, seconds: float, dry_run: bool = False) -> FleetResult:
        """Returns the result of the run."""
        order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
        reasons = sorted(self.reasons.items(), key=lambda r: (-order[r[0][0]], -len(r[1]), r[0]))
        return FleetResult(
            self.store.url,
            self.job.to,
            self.outcomes,
            self.plan,
            dry_run,
            seconds,
            {reason: sorted(found) for reason, found in reasons},
            self.store,
        )


class Counter:
    """Rows as they come in, in words.

    Args:
        whole: number of models to do.
        tell: gets a line after each row.
        clock: the current time in seconds.

    >>> lines = []
    >>> times = iter([0.0, 0.5, 1.0])
    >>> counter = Counter(4, lines.append, clock=lambda: next(times))
    >>> counter.add("equal"); counter.add("refused")
    >>> lines
    ['[1/4] 1 equal, 2 s left', '[2/4] 1 equal, 1 refused, 1 s left']
    """

    def __init__(
        self, whole: int, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._whole, self._tell, self._clock = whole, tell, clock
        self._began = clock()
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, outcome: str) -> None:
        """Counts a row."""
        self._counts[outcome] += 1
        done = self._counts.total()
        counted = [f"{self._counts[name]:,} {name}" for name in OUTCOMES if self._counts[name]]
        line = f"[{done:,}/{self._whole:,}] {', '.join(counted)}"
        if left := self._whole - done:
            line += f", {duration((self._clock() - self._began) / done * left)} left"
        self._tell(line)
