"""Kills the client, a worker or the scheduler of a fleet at random moments, and looks at the rest.

    python benchmarks/fleet_kills.py [--kills 100] [--models 96] [--seed 0] [--json FILE]

Each kill (SIGKILL) hits one run of `xlstm fleet` over a zoo of small genuine files. The command is
then run again until it ends. The table has to be that of an undisturbed run but for times, workers
and attempts; every port has to be whole, once, and nothing else may be left. Half of the kills come
at any moment, half while models are done. Exit 1 where that fails.

The kinds: "client" and "worker" of a command with workers of its own; "remote client", "remote
worker" and "scheduler" with `dask scheduler` and `dask worker` as processes of their own.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fleet_zoo import DATA, KERAS_2, _template

import xlstm
from xlstm.errors import XlstmError
from xlstm.files import hashes
from xlstm.reading.record import read_record

KINDS = ("client", "worker", "remote client", "remote worker", "scheduler")

OTHER_EACH_TIME = ("seconds", "cpu_seconds", "peak_memory", "worker", "attempt")
"""Fields of a row that two runs do not share."""

LEFT = {"fleet.json", "fleet.jsonl", "fleet.parquet", "fleet.lock", "journal", "models", "work"}
"""Names in a target at its end; `work` is empty."""

LOST = ("run the same command again to go on", "expected the address of a Dask scheduler")
"""Errors for a scheduler that ends during the work, and before the client has reached it."""

TRIES = 4
"""Runs of the command until it has to have ended."""

Table = dict[str, dict[str, Any]]


def make_models(folder: Path, count: int, seed: int) -> None:
    """Writes small files of Keras 2 with numbers of their own, and two that are broken."""
    rng = np.random.default_rng(seed)
    templates = [_template((DATA / file).read_bytes(), ".h5", {}) for file in KERAS_2]
    folder.mkdir()
    for number in range(count - 2):
        templates[number % len(templates)].copy(folder / f"m{number:04}.h5", rng)
    (folder / "text.h5").write_text("no model")
    whole = (folder / "m0000.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])


@dataclasses.dataclass
class Dask:
    """A scheduler and two workers, in processes of their own."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    def start(self) -> str:
        """Starts all that do not run; returns the scheduler's address."""
        self.stop()
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
        self._start("distributed.cli.dask_scheduler", *words, "--scheduler-file", str(file))
        while not file.exists() or not file.read_text().endswith("}"):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        words = ("--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
        words = (*words, "--local-directory", str(self.folder))
        self._start("distributed.cli.dask_worker", address, *words)
        return str(address)

    def _start(self, module: str, *words: str) -> None:
        line = [sys.executable, "-m", module, *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen(line, **quiet))

    def stop(self) -> None:
        """Ends all of them."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()
        self.processes.clear()


def workers_of(pid: int) -> list[int]:
    """The processes of workers below a client or a nanny."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                line = " ".join(child.cmdline())
                if "multiprocessing" in line and "resource_tracker" not in line:
                    found.append(child.pid)
    return sorted(found)


@dataclasses.dataclass
class Fleet:
    """Runs of `xlstm fleet` from one zoo to one target."""

    zoo: Path
    target: Path
    scheduler: str | None

    def start(self) -> subprocess.Popen[str]:
        """Starts the command."""
        line = [sys.executable, "-m", "xlstm", "fleet", str(self.zoo), "--to", "torch"]
        line += ["-o", str(self.target), "--quiet"]
        line += ["--scheduler", self.scheduler] if self.scheduler else ["--workers", "2"]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(line, text=True, start_new_session=True, **pipes)

    def began(self) -> bool:
        """True once a model has begun."""
        return any((self.target / "journal").glob("*.jsonl"))


def run_whole(fleet: Fleet) -> tuple[float, float]:
    """Runs a fleet undisturbed; returns its seconds until work begins, and until it ends."""
    start, begun = time.monotonic(), 0.0
    process = fleet.start()
    while process.poll() is None:
        if not begun and fleet.began():
            begun = time.monotonic() - start
        time.sleep(0.01)
    if process.returncode != 1:  # two files are broken
        raise SystemExit(f"undisturbed run: {process.returncode}: {process.stderr.read()}")
    return begun, time.monotonic() - start


def kill_once(fleet: Fleet, dask: Dask, kind: str, rng: random.Random, times: Any) -> str:
    """Starts a fleet and kills one of its processes; returns the moment in words."""
    begun, whole = times
    process = fleet.start()
    start = time.monotonic()
    if rng.random() < 0.5:
        until, moment = start + rng.uniform(0, whole), "any"
    else:
        while not fleet.began() and process.poll() is None:
            time.sleep(0.005)
        until, moment = time.monotonic() + rng.uniform(0, whole - begun), "at work"
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    if process.poll() is not None:
        moment = "after its end"
    victims = {
        "client": lambda: [process.pid],
        "remote client": lambda: [process.pid],
        "worker": lambda: workers_of(process.pid),
        "remote worker": lambda: workers_of(dask.processes[1].pid),
        "scheduler": lambda: [dask.processes[0].pid],
    }[kind]()
    if victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(victims), signal.SIGKILL)
    if kind == "scheduler":
        dask.processes[0].wait()
    try:
        _, text = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"{moment}: it hangs"
    if kind == "scheduler" and process.returncode == 2 and not any(w in text for w in LOST):
        return f"{moment}: {text}"
    if "Traceback" in text:
        return f"{moment}: {text[-600:]}"
    return moment if process.returncode in (0, 1, 2, -signal.SIGKILL) else f"{moment}: {text}"


def resume(fleet: Fleet, dask: Dask) -> int:
    """Runs the command until it ends with a table; returns the number of runs."""
    for count in range(1, TRIES + 1):
        if fleet.scheduler and any(process.poll() is not None for process in dask.processes):
            fleet.scheduler = dask.start()
        process = fleet.start()
        process.communicate(timeout=300)
        rows = table(fleet.target) if process.returncode == 1 else {}
        if rows and all(row["outcome"] != "failed" for row in rows.values()):
            return count
    return TRIES + 1


def table(target: Path) -> Table:
    """Name -> the fields of a row that every run has to give."""
    rows: Table = {}
    for line in (target / "fleet.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["name"] in rows:
            raise SystemExit(f"{row['name']} is twice in the table")
        rows[row["name"]] = {key: row[key] for key in row if key not in OTHER_EACH_TIME}
    return rows


def faults(target: Path, wanted: Table) -> Iterator[str]:
    """Yields all that is wrong with a target after the last run."""
    found = table(target)
    for name in sorted(set(found) | set(wanted)):
        if found.get(name) != wanted.get(name):
            yield f"row of {name}: {found.get(name)} is not {wanted.get(name)}"
    if more := {path.name for path in target.iterdir()} - LEFT:
        yield f"left over: {', '.join(sorted(more))}"
    if more := sorted(path.name for path in (target / "work").glob("*")):
        yield f"left over in work: {', '.join(more)}"
    good = {name for name, row in wanted.items() if row["outcome"] == "ported"}
    ports = {path.name for path in (target / "models").iterdir()}
    if ports != good:
        yield f"ports: {sorted(ports ^ good)}"
    for name in sorted(ports):
        yield from port_faults(target / "models" / name)


def port_faults(folder: Path) -> Iterator[str]:
    """Yields what is wrong with one port: it loads, and its files have their digests."""
    try:
        record = read_record(folder)
        xlstm.load(folder)
        wrong = [n for n, digest in record.hashes.items() if hashes.of_file(folder / n) != digest]
    except (OSError, XlstmError) as error:
        yield f"{folder.name} is not whole: {error}"
        return
    if wrong:
        yield f"{folder.name} is not whole: {', '.join(wrong)}"


def measure(
    args: argparse.Namespace, work: Path, keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Does all kills; returns what was seen, which `keep` gets after each kill."""
    rng, seen, bad = random.Random(args.seed), collections.Counter(), []
    runs: list[int] = []
    zoo, dask = work / "zoo", Dask(work)
    make_models(zoo, args.models, args.seed)
    kinds = [args.kinds[number % len(args.kinds)] for number in range(args.kills)]
    try:
        address = dask.start() if any(" " in k or k == "scheduler" for k in kinds) else None
        times, wanted = {}, {}
        for scheduler in {None if k in ("client", "worker") else address for k in kinds}:
            whole = Fleet(zoo, work / f"whole-{bool(scheduler)}", scheduler)
            times[bool(scheduler)] = run_whole(whole)
            wanted = table(whole.target)
            bad += [f"undisturbed: {fault}" for fault in faults(whole.target, wanted)]
        for number, kind in enumerate(kinds):
            fleet = Fleet(zoo, work / f"killed-{number}", None)
            if kind not in ("client", "worker"):
                if any(process.poll() is not None for process in dask.processes):
                    address = dask.start()
                fleet.scheduler = address
            moment = kill_once(fleet, dask, kind, rng, times[bool(fleet.scheduler)])
            if ":" in moment:
                bad.append(f"{kind}, {moment}")
            runs.append(resume(fleet, dask))
            address = fleet.scheduler or address
            found = [f"{kind}, {moment}: {fault}" for fault in faults(fleet.target, wanted)]
            bad += found if runs[-1] <= TRIES else [f"{kind}, {moment}: no end", *found]
            seen[f"{kind}, {moment.partition(':')[0]}"] += 1
            if not args.quiet:
                line = f"{number + 1}/{args.kills} {kind}, {moment}, {runs[-1]} more runs"
                print(line, *found, flush=True)
            keep(_found(args, runs, seen, bad, times))
    finally:
        dask.stop()
    return _found(args, runs, seen, bad, times)


def _found(
    args: argparse.Namespace,
    runs: Sequence[int],
    seen: Mapping[str, int],
    bad: Sequence[str],
    times: Mapping[bool, tuple[float, float]],
) -> dict[str, Any]:
    """The figures of the kills that are done."""
    return {
        "kills": len(runs),
        "models": args.models,
        "seed": args.seed,
        "moments": dict(sorted(seen.items())),
        "seconds_undisturbed": {
            "own workers" if not remote else "dask scheduler": round(whole, 2)
            for remote, (_, whole) in times.items()
        },
        "runs_to_end": {"median": statistics.median(runs), "most": max(runs)},
        "faults": list(bad),
    }


def keeper(file: Path | None) -> Callable[[dict[str, Any]], None]:
    """A function that writes the figures beside those of earlier runs in a file."""
    earlier = json.loads(file.read_text())["runs"] if file and file.exists() else []

    def keep(found: dict[str, Any]) -> None:
        if file:
            file.write_text(json.dumps({"runs": [*earlier, found]}, indent=1) + "\n")

    return keep


def main() -> int:
    """Runs the command line; returns 1 if a kill left a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--models", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xlstm-kills-") as folder:
        found = measure(args, Path(folder), keeper(args.json))
    print(json.dumps(found, indent=1))
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
