"""The workers of a fleet: processes of this machine, or those of a Dask scheduler.

    with connected("tcp://10.0.0.1:8786", None, job) as cluster:
        cluster.workers()                     addresses that work now
        cluster.submit(address, target, batch)    a future of the rows

Imports `distributed` inside functions only: nothing else of xlstm needs it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from xlstm._version import VERSION
from xlstm.errors import MissingFrameworkError, UsageError
from xlstm.fleets.batches import Batch
from xlstm.fleets.entry import FleetJob, FleetRow
from xlstm.frameworks import registry
from xlstm.frameworks.imports import require

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

    from xlstm.fleets.storage import FleetTarget

REACHED = 5.0
"""Seconds in which a scheduler has to answer."""

STARTED = 300.0
"""Seconds in which all workers of this machine have to start."""

CLOSED = 5.0
"""Most seconds for an orderly end of connections."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
"""Environment of a worker: each has one processor core, and many small models to do."""

OWN: dict[str, Any] = {
    # the task of a lost worker comes back at once; the schedule decides about its models
    "distributed.scheduler.allowed-failures": 0,
    # a limit of time is that of the job, for each model
    "distributed.scheduler.worker-ttl": None,
    # a worker that starts slowly, on a machine that is busy, is not given up
    "distributed.deploy.lost-worker-timeout": "1 day",
    # each task is for one worker, by its address
    "distributed.scheduler.work-stealing": False,
    # results are rows of some kilobytes: a worker that is short of memory is ended, never paused
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
}
"""Settings of Dask for a cluster of this process."""


def fleet_package(name: str) -> Any:
    """Imports a package of the extra "fleet".

    Raises:
        MissingFrameworkError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        do = "pip install 'xlstm-converter[fleet]'"
        raise MissingFrameworkError("fleet", f"{name} installed", error.msg, do) from None


class SchedulerLostError(UsageError):
    """The scheduler of a fleet ended while it worked."""


def scheduler_lost(address: str) -> SchedulerLostError:
    """Returns the error for a scheduler that does not answer any more."""
    do = "all finished models are kept: run the same command again to go on"
    return SchedulerLostError(address, "a scheduler that runs", "it ended or cannot be reached", do)


class Cluster:
    """Workers, and the tasks that they are sent.

    Args:
        client: of Dask.
        job: what to do with each model.
        own: the cluster, if it belongs to this process.
    """

    def __init__(self, client: Client, job: FleetJob, own: LocalCluster | None = None) -> None:
        self._client, self._job, self._own = client, job, own
        self.address = str(client.scheduler.address)
        self._deaths = _Deaths()
        self._tasks = self._wanted = self._asked = 0

    def workers(self) -> list[str]:
        """Returns the addresses of all workers that run now.

        Raises:
            SchedulerLostError: the scheduler has ended.
        """
        if self._client.status != "running":
            raise scheduler_lost(self.address)
        self._replace()
        try:
            return list(self._client.nthreads())
        except (OSError, ValueError, AttributeError) as error:  # its connection is gone
            raise scheduler_lost(self.address) from error

    @property
    def running(self) -> bool:
        """True while the scheduler is connected."""
        return bool(self._client.status == "running")

    def submit(self, address: str, target: FleetTarget, batch: Batch) -> Future:
        """Sends a batch to one worker.

        No other worker ever gets it: whatever a scheduler allows, a batch that ends its worker ends
        one worker only.

        Raises:
            SchedulerLostError: the scheduler has ended.
        """
        self._tasks += 1
        if not self.running:
            raise scheduler_lost(self.address)
        return self._client.submit(
            do_batch,
            self._job,
            target,
            batch,
            self._own is not None,
            key=f"fleet-{os.getpid()}-{id(self)}-{self._tasks}",
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )

    def killed(self, future: Future) -> bool | None:
        """Returns True for a batch whose worker was lost, False for another error of its task.

        None for a batch that has rows.
        """
        if future.status == "finished":
            return None
        if future.status == "error":
            killed = fleet_package("distributed").scheduler.KilledWorker
            return isinstance(future.exception(timeout=REACHED), killed)
        return True

    def rows(self, future: Future, seconds: float) -> list[FleetRow] | None:
        """Returns the rows of a batch; None if the worker that has them was lost meanwhile."""
        try:
            return list(future.result(timeout=seconds))
        except Exception:  # the target has the rows too: they are read there
            return None

    def process(self, address: str) -> int | None:
        """Returns the process id of a worker, None if it is not of this process."""
        nannies = self._own.workers.values() if self._own is not None else ()
        return next((n.pid for n in nannies if n.worker_address == address), None)

    def death(self, process: int | None) -> str:
        """Returns how a worker's process ended, in words; the system may tell it a moment later."""
        until = time.monotonic() + 1
        while process and process not in self._deaths.found and time.monotonic() < until:
            time.sleep(0.02)
        return self._deaths.found.get(process or 0, "its worker ended")

    def prepare(self) -> None:
        """Imports the target framework on all workers, and compares the versions of xlstm.

        Raises:
            MissingFrameworkError: a worker cannot import the framework.
            UsageError: xlstm is missing on the scheduler or a worker, or is of another version.
        """
        client = self._client
        want, do = f"xlstm {VERSION}", f"install it there: pip install xlstm-converter=={VERSION}"
        if self._own is None:
            try:
                found = client.run_on_scheduler(_version)
            except Exception as error:  # without xlstm the scheduler cannot read the question
                got = f"{type(error).__name__}: {error}"
                raise UsageError(f"scheduler {self.address}", want, got, do) from None
            if found != VERSION:
                raise UsageError(f"scheduler {self.address}", want, f"xlstm {found}", do)
        answers = client.run(prepare, self._job, self._own is not None, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, MissingFrameworkError):
                raise answer
            if answer != VERSION:
                got = f"xlstm {answer}" if isinstance(answer, str) else f"{answer!r}"
                raise UsageError(f"worker {worker}", want, got, do)

    def start(self, count: int) -> None:
        """Starts workers of our own.

        Raises:
            UsageError: they cannot start.
        """
        self._wanted = count
        until = time.monotonic() + STARTED
        while len(self.workers()) < count:
            ends = list(self._deaths.found.values())
            if len(ends) > count or time.monotonic() > until:
                got = ends[0] if ends else f"none in {STARTED:.0f} s"
                do = 'in a script, call it below `if __name__ == "__main__":`'
                raise UsageError("fleet", "workers that start", got, do)
            time.sleep(0.05)

    def _replace(self) -> None:
        """Asks for as many workers as are wanted, besides those that ended while they started.

        Dask starts a worker again that ends, but not one that ends before it runs.
        """
        if self._own is None:
            return
        states = [nanny.status.name for nanny in self._own.workers.values()]
        asked = self._wanted + sum(state in ("failed", "closed") for state in states)
        if asked > self._asked:
            self._asked = asked
            self._own.scale(asked)

    def end_at_once(self) -> None:
        """Ends the processes of our own workers; nothing that is written is lost."""
        for nanny in self._own.workers.values() if self._own is not None else ():
            nanny.close_gracefully()  # it starts no other process
            if nanny.pid:
                with contextlib.suppress(OSError):
                    os.kill(nanny.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Records how processes of workers end, instead of printing it."""
        logger = logging.getLogger("distributed.nanny")
        before = logger.level, logger.propagate
        logger.addHandler(self._deaths)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self._deaths)
            logger.level, logger.propagate = before


class _Deaths(logging.Handler):
    """Collects the ends of processes from the log of Dask's nannies: process id -> words."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Reads one line of the log."""
        line = record.getMessage()
        if found := re.search(r"pid=(\d+)\) exceeded \d+% memory", line):
            self.found[int(found[1])] = "its worker ran out of memory"
        elif found := re.search(r"process (\d+) was killed by signal (\d+)", line):
            name = signal.Signals(int(found[2])).name
            self.found.setdefault(int(found[1]), f"its worker was killed by {name}")
        elif found := re.search(r"process (\d+) exited with status (\d+)", line):
            self.found.setdefault(int(found[1]), f"its worker exited with status {found[2]}")


@contextlib.contextmanager
def connected(scheduler: str | None, workers: int | None, job: FleetJob) -> Iterator[Cluster]:
    """Starts workers on this machine, or connects to a scheduler.

    Args:
        scheduler: address such as "tcp://10.0.0.1:8786"; None for this machine.
        workers: number of processes on this machine; the number of its cores if None.
        job: what to do with each model.

    Yields:
        The cluster.

    Raises:
        MissingFrameworkError: Dask's `distributed` is not installed.
        UsageError: the scheduler does not answer, or `workers` is given with `scheduler`.
    """
    distributed = fleet_package("distributed")
    if scheduler is None:
        with _own_cluster(distributed, workers, job) as cluster:
            yield cluster
        return
    if workers is not None:
        do = "remove one of them: a scheduler has its own workers"
        raise UsageError("fleet", "a number of workers or a scheduler", "both", do)
    with _quiet(), _client(distributed, scheduler) as client:
        yield Cluster(client, job)


@contextlib.contextmanager
def _client(distributed: Any, address: str) -> Iterator[Client]:
    """A client of a scheduler that answers."""
    want, do = "the address of a Dask scheduler", "start one (dask scheduler), or check the address"
    try:
        comm = distributed.comm
        comm.get_address_host_port(comm.normalize_address(address))  # a client hangs on nonsense
        client = distributed.Client(address, timeout=REACHED, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        got = f"no answer in {REACHED:.0f} s" if isinstance(error, OSError) else f"{error}"
        raise UsageError(address, want, got, do) from None
    try:
        yield client
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=CLOSED)


@contextlib.contextmanager
def _own_cluster(distributed: Any, workers: int | None, job: FleetJob) -> Iterator[Cluster]:
    """A cluster of this process: it listens on this machine's own addresses only."""
    import dask

    count = workers or len(cores())
    with dask.config.set(OWN), _quiet(), _deaf_loop(distributed) as loop:
        # without workers at first: a Ctrl-C while they start ends them as any later one does
        local = distributed.LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            loop=loop,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
            memory_limit=distributed.system.MEMORY_LIMIT // count,
            env=ONE_THREAD,
        )
        try:
            client = distributed.Client(local, set_as_default=False)
            cluster = Cluster(client, job, local)
            with cluster.watched():
                try:
                    cluster.start(count)
                    yield cluster
                finally:  # all rows are written, or will be done by the next run
                    cluster.end_at_once()
                    with contextlib.suppress(OSError, TimeoutError):
                        client.close(timeout=CLOSED)
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                local.close(timeout=CLOSED)


@contextlib.contextmanager
def _deaf_loop(distributed: Any) -> Iterator[Any]:
    """An event loop whose thread, and all processes that it starts, do not get Ctrl-C.

    A terminal sends it to every process; this one ends the others.
    """
    blocks = hasattr(signal, "pthread_sigmask")
    if blocks:  # its start would let Ctrl-C through again
        resource_tracker.ensure_running()
    runner = distributed.utils.LoopRunner()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocks else set()
    try:
        runner.start()  # a new thread blocks what its maker blocks
    finally:
        if blocks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner.loop
    finally:
        runner.stop()


def cores() -> list[int]:
    """Returns the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Dask's own log: the schedule reports what its lines would say."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _version() -> str:
    return VERSION


def prepare(job: FleetJob, quiet: bool = False) -> str:
    """Imports the target framework in a worker, to verify; returns the worker's version of xlstm.

    Args:
        job: the work.
        quiet: True to drop what libraries write to stderr when they crash; the row says it.
    """
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    if quiet and not logging.getLogger("xlstm").isEnabledFor(logging.INFO):
        sys.stderr.flush()
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
    if job.verify or registry.adapter(job.to).extra_files:  # other ports are plain text
        require(job.to)
    return VERSION


def do_batch(job: FleetJob, target: FleetTarget, batch: Batch, quiet: bool) -> list[FleetRow]:
    """Does a batch in a worker; returns its rows, which are written."""
    from xlstm.fleets.work import do_models

    prepare(job, quiet)
    worker = re.sub(r"[^\w.-]", "-", f"{socket.gethostname()}-{os.getpid()}")
    return do_models(job, target, list(batch.entries), worker=worker, attempt=batch.attempt)
