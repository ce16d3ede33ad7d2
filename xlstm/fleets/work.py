"""Does a batch of models: each is read, counted, ported, verified and written.

In: a job, a target and entries. Out: a row for each, which is in the target's journal too.

    do_models(FleetJob("torch", verify=True), target, entries)

Models of one architecture are verified together (`xlstm.verification.reconcile.reconcile_each`).
The comparison runs before a port is written: only equal and undecided ports come into their places.
What is compared are the tensors whose bytes have the hash of the file that is written.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from xlstm.errors import (
    FileError,
    UnsupportedError,
    UsageError,
    WeightsError,
    XlstmError,
    printable,
)
from xlstm.files.description import Stored
from xlstm.files.hashes import of_arrays, of_file
from xlstm.files.keras.architecture import ReadOptions
from xlstm.fleets.entry import (
    DIFFERENT,
    EQUAL,
    FAILED,
    PORTED,
    REFUSED,
    UNDECIDED,
    FleetEntry,
    FleetJob,
    FleetRow,
    error_parts,
)
from xlstm.fleets.plans import Plan, Plans, as_written
from xlstm.fleets.sources.download import local_copy, local_options
from xlstm.fleets.storage.remote import is_url
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import pack_model
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES
from xlstm.ir.types import Array
from xlstm.porting.save import write_report, written
from xlstm.reading.load import opened
from xlstm.reading.record import KEY as KEPT
from xlstm.reading.record import origin_hash, origin_of
from xlstm.verification.reconcile import (
    not_verified,
    reconcile,
    reconcile_each,
    unequal_verdict,
)

LOG = logging.getLogger("xlstm")

REFUSALS = (FileError, UnsupportedError, WeightsError, UsageError)
"""Errors about the content of a file; all others may be gone in the next run."""

TOGETHER = 2**28
"""Bytes of the sources that are read before the first of them is verified."""

UNKNOWN = 2**25
"""The same for a source that does not say its size."""

SHORTENED = 300
"""Most characters of another error in a row."""


@unmoved
def do_models(
    job: FleetJob,
    target: Any,
    entries: Sequence[FleetEntry],
    worker: str = "",
    attempt: int = 1,
) -> list[FleetRow]:
    """Does a batch of models, and returns a row for each, in order.

    A fault of one model is its own row, and no other's. The framework is imported once in a
    process; the work that models of one graph share is kept for the next batch.

    Args:
        job: the same for all.
        target: a target of `xlstm.fleets.storage`, which gets ports and rows.
        entries: the models. Those of one architecture are fast if they are in one batch.
        worker: name for the rows.
        attempt: number for the rows.

    Raises:
        MissingFrameworkError: the target framework cannot be imported.
    """
    adapter = registry.adapter(job.to)
    if job.verify or adapter.extra_files:
        adapter.live()
    batch = _BatchWork(job, target, worker, attempt, adapter, _plans(adapter))
    rows = [row for part in _parts(entries) for row in batch.rows(part)]
    order = {entry.name: number for number, entry in enumerate(entries)}
    return sorted(rows, key=lambda row: order[row.name])


_PLANS: dict[str, Plans] = {}
"""The plans of this process, by the name of their target."""


def _plans(adapter: Adapter) -> Plans:
    """The plans of this process for a target."""
    known = _PLANS.get(adapter.name)
    if known is None or known.adapter is not adapter:
        known = _PLANS[adapter.name] = Plans(adapter)
    return known


def _parts(entries: Iterable[FleetEntry]) -> Iterator[list[FleetEntry]]:
    """Entries whose sources fit in memory together."""
    part: list[FleetEntry] = []
    size = 0
    for entry in entries:
        own = entry.size or UNKNOWN
        if part and size + own > TOGETHER:
            yield part
            part, size = [], 0
        part.append(entry)
        size += own
    if part:
        yield part


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Ends the process, with a traceback, if the work in the context takes longer.

    Python's own timers do not end C code that keeps the lock of the interpreter.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_traces())
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@functools.cache
def _traces() -> Any:
    """The file for tracebacks: stderr, or none in a service without it."""
    try:
        os.fstat(cast(Any, sys.__stderr__).fileno())
    except (AttributeError, OSError, ValueError):
        return open(os.devnull, "w")
    return sys.__stderr__


@dataclass
class _FleetModel:
    """One model on its way.

    Attributes:
        entry: of the fleet.
        ready: what is made of it; None before.
        found: the comparison as plain data, or the reason why there is none.
        seconds: by the clock.
        cpu_seconds: of the processor.
    """

    entry: FleetEntry
    ready: _ReadModel | None = None
    found: Mapping[str, Any] | str = "not verified"
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def made(self) -> _ReadModel:
        """The parts of an item that was read."""
        assert self.ready is not None
        return self.ready


class _ReadModel(NamedTuple):
    """A model that was read, and its port.

    Attributes:
        path: of the file.
        model: as it was read.
        plan: the work that it shares.
        packed: the target's tensors.
        port: the model that its port reads back as.
    """

    path: Path
    model: Model
    plan: Plan
    packed: Mapping[str, Array]
    port: Model


@dataclass(frozen=True)
class _BatchWork:
    """The work on several models; arguments as in `do_models`."""

    job: FleetJob
    target: Any
    worker: str
    attempt: int
    adapter: Adapter
    plans: Plans

    def rows(self, entries: Sequence[FleetEntry]) -> Iterator[FleetRow]:
        """Yields the rows of some entries, those that cannot be read first."""
        with contextlib.ExitStack() as files:
            groups: dict[str, list[_FleetModel]] = {}
            for entry in entries:
                item = _FleetModel(entry)
                row = self._guarded(item, functools.partial(self._read, files))
                if row is not None:
                    yield row
                else:
                    groups.setdefault(item.made.plan.architecture, []).append(item)
            for key in [*groups]:
                yield from self._group(groups.pop(key))

    def _group(self, group: list[_FleetModel]) -> Iterator[FleetRow]:
        """Verifies and writes models of one architecture."""
        together = len(group) > 1 and self.job.verify and self._verified(group)
        for number in range(len(group)):
            item, group[number] = (
                group[number],
                _FleetModel(group[number].entry),
            )  # freed when written
            row = None
            if self.job.verify and not together:
                row = self._guarded(item, lambda item: self._verify([item]))
            yield row or self._written(item)
            if not item.made.plan.kept:
                item.made.plan.free()

    def _guarded(
        self,
        item: _FleetModel,
        work: Callable[[_FleetModel], FleetRow | None],
        content: bool = True,
    ) -> FleetRow | None:
        """The result of a piece of work, or the row of its error.

        Args:
            item: the model.
            work: the work on it.
            content: True if errors of xlstm are about the content of the file.
        """
        try:
            with _timed([item]), limit_time(self.job.seconds):
                return work(item)
        except XlstmError as error:
            refused = content and isinstance(error, REFUSALS) and _is_readable(item.entry)
            outcome, parts = REFUSED if refused else FAILED, error_parts(error)
        except Exception as error:  # whatever fails is this model's row
            outcome, parts = FAILED, _other_parts(item.entry, error)
        row = replace(self._row(item, outcome), error=parts)
        self.target.put_row(row)
        return row

    def _read(self, files: contextlib.ExitStack, item: _FleetModel) -> None:
        """Reads a model, and makes all of its port that needs no framework."""
        self.target.began(item.entry.name, self.worker)
        path = files.enter_context(local_copy(item.entry, self.job))
        options = files.enter_context(local_options(item.entry, self.job))
        model = files.enter_context(opened(path, ReadOptions(**options)))
        plan = self.plans.of(model)
        packed = pack_model(model, self.adapter)
        port = as_written(model, self.adapter, packed)
        again = pack_model(port, self.adapter)
        wrong = [name for name, array in packed.items() if not _same_bytes(array, again[name])]
        if wrong:
            want, got = "weights that a port reads back", f"others in {', '.join(wrong)}"
            raise WeightsError(item.entry.path, want, got, "report this")
        item.ready = _ReadModel(path, model, plan, packed, port)

    def _verified(self, group: Sequence[_FleetModel]) -> bool:
        """Verifies models of one architecture together; False if that fails."""
        try:
            with _timed(group):
                self._verify(group)
        except Exception as error:  # of one or of all: each model is then verified alone
            LOG.info("verify %d models one by one: %s", len(group), error)
            return False
        return True

    def _verify(self, group: Sequence[_FleetModel]) -> None:
        """Compares the ports of models of one architecture with the reference."""
        ready = [item.made for item in group]
        if why := not_verified(ready[0].port, self.job.memory):
            for item in group:
                item.found = why
            return
        reports = reconcile_each(
            [one.port for one in ready],
            self.adapter,
            lambda number: ready[number].plan.maker(ready[number].port),
            lambda number: ready[number].plan.ledger,
            self.job.memory,
        )
        seconds = self.job.seconds * len(group)  # of the reference for all
        for item, one in zip(group, ready, strict=True):
            with limit_time(seconds):
                report = next(reports)
                if not report.ok:  # a module that is used once has no other model's weights
                    one.plan.modules.clear()
                    report = reconcile(one.port, [self.adapter.name], memory=self.job.memory)
                    if report.ok:
                        LOG.warning("%s: equal alone, and not in a batch", item.entry.name)
            item.found, seconds = report.to_json(), self.job.seconds

    def _written(self, item: _FleetModel) -> FleetRow:
        """Writes a port, and returns its row."""
        outcome = _outcome(item.found, self.adapter, self.job.verify)
        write = functools.partial(self._write, aside=outcome in (DIFFERENT, FAILED))
        row = self._guarded(item, write, content=False)
        if row is not None:
            return row
        row = self._row(item, outcome)
        if isinstance(item.found, str):
            row = replace(row, unexercised=(item.found,) if self.job.verify else ())
        else:
            part = item.found["frameworks"][self.adapter.name]
            verdicts = {dtype: part[dtype] for dtype in DTYPES}
            left = tuple(item.found["unexercised"])
            error = _failure(self.adapter, verdicts) if outcome == FAILED else None
            row = replace(row, verdicts=verdicts, unexercised=left, error=error)
        self.target.put_row(row)
        return row

    def _write(self, item: _FleetModel, aside: bool) -> None:
        """Writes a port to its place, or aside if it is not equal."""
        path, model, plan, packed, _ = item.made
        name, adapter = item.entry.name, self.adapter

        def fill(folder: Path) -> None:
            tensors = [
                Stored(name, array.shape, array.dtype.name, functools.partial(np.asarray, array))
                for name, array in packed.items()
            ]
            report = written(model, folder, adapter, plan.parts, tensors, origin)
            report["verification"] = item.found
            weights = adapter.weights_file
            if of_file(folder / weights) != report[KEPT]["hashes"][weights]:
                raise OSError(f"{weights} reads back as other bytes: check the disk")
            write_report(folder, report, plan.parts.counts(model))

        place = self.target.port_path(name, aside)
        local = not (is_url(place) or is_url(item.entry.path))
        between = origin_of(path, Path(place)) if local else ""
        origin = between, origin_hash(path)
        self.target.put_port(name, fill, aside=aside)

    def _row(self, item: _FleetModel, outcome: str) -> FleetRow:
        """A row with all that is known of a model but its verdicts."""
        entry = item.entry
        row = FleetRow(
            entry.name,
            entry.path,
            entry.stamp,
            self.job.digest(entry),
            outcome,
            seconds=item.seconds,
            cpu_seconds=item.cpu_seconds,
            peak_memory=peak_memory(),
            worker=self.worker,
            attempt=self.attempt,
        )
        if item.ready is None:
            return row
        model, plan, source = item.made.model, item.made.plan, item.made.model.source
        return replace(
            row,
            sha256=source.sha256,
            weights=of_arrays(item.made.packed.values())[:16],
            architecture=plan.architecture,
            framework=source.framework,
            version=source.version,
            container=source.container,
            layers=tuple(node.spec.kind for node in model.layers),
            counts=plan.counts,
        )


def _is_readable(entry: FleetEntry) -> bool:
    """False for a local source that vanished or has no rights: its content is not known."""
    return is_url(entry.path) or os.access(entry.path, os.R_OK)


def _outcome(found: Mapping[str, Any] | str, adapter: Adapter, verify: bool) -> str:
    """The outcome of a comparison."""
    if isinstance(found, str):
        return UNDECIDED if verify else PORTED
    return EQUAL if found["ok"] else unequal_verdict(found, adapter)


def _failure(adapter: Adapter, verdicts: Mapping[str, Any]) -> dict[str, str]:
    """The four parts of the error of a framework that did not run a port."""
    found = next((v["detail"] for v in verdicts.values() if v["outcome"] == FAILED), "")
    do = "look at the port in aside/, and run it"
    return {"where": adapter.title, "expected": "outputs to compare", "got": found, "do": do}


def _other_parts(entry: FleetEntry, error: Exception) -> dict[str, str]:
    """The four parts of an error that is not of xlstm."""
    text = printable(" ".join(f"{type(error).__name__}: {error}".split()))
    do = "run the fleet again; if it fails again, port this model alone"
    return {"where": entry.path, "expected": "a port", "got": text[:SHORTENED], "do": do}


def _same_bytes(array: Array, other: Array) -> bool:
    return array.dtype == other.dtype and array.tobytes() == other.tobytes()


@contextlib.contextmanager
def _timed(items: Sequence[_FleetModel]) -> Iterator[None]:
    """Adds the time of the context to some models, in equal shares."""
    clock, processor = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        for item in items:
            item.seconds += (time.perf_counter() - clock) / len(items)
            item.cpu_seconds += (time.process_time() - processor) / len(items)


def peak_memory() -> int:
    """Bytes, the largest memory of this process until now; 0 where the system does not say.

    On Linux, `getrusage` counts the memory of the process that started this one too.
    """
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
