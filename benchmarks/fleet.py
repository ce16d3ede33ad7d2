"""Measures fleets: throughput against `xlstm port` one by one, and growth with the number of files.

    python benchmarks/fleet.py zoo FOLDER --count 2000
    python benchmarks/fleet.py throughput [--count 2000] [--single 50] [--rounds 3]
    python benchmarks/fleet.py growth [--counts 200,500,1000,2000,5000] [--rounds 3]
    python benchmarks/fleet.py table

Files are made by `benchmarks/fleet_zoo.py`: 20 architectures, each file with weights of its own.
Every run is a process of its own, so imports, the start of the workers and the peak memory of the
client are in its figures. All runs port to PyTorch and verify. Medians go into
docs/fleets/runs.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet_zoo import make_zoo

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "fleets" / "runs.json"

RUN = """
import json, resource, sys, time
import xlstm
from xlstm.fleets.work import peak_memory

if __name__ == "__main__":
    source, target, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start = time.perf_counter()
    result = xlstm.fleet(source, "torch", target, verify=True, workers=workers)
    seconds = time.perf_counter() - start
    client, memory = resource.getrusage(resource.RUSAGE_SELF), peak_memory()
    rows = result.rows.values()  # they are not part of a run, and need memory
    print(json.dumps({
        "counts": result.counts,
        "architectures": len({row.architecture for row in rows}),
        "seconds": seconds,
        "cpu_of_models": sum(row.cpu_seconds for row in rows),
        "client_cpu": client.ru_utime + client.ru_stime,
        "client_memory": memory,
        "worker_memory": max(row.peak_memory for row in rows),
    }))
"""
"""One run of a fleet: a script, as the workers import it."""

QUIET = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


def run_fleet(files: Sequence[Path], work: Path, workers: int) -> dict[str, Any]:
    """The figures of one run over these files, into a new target."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        sources, script = Path(folder, "sources.jsonl"), Path(folder, "run_fleet.py")
        lines = (json.dumps({"path": str(file), "name": file.stem}) for file in files)
        sources.write_text("\n".join(lines) + "\n")
        script.write_text(RUN)
        target = str(Path(folder, "target"))
        command = [sys.executable, str(script), str(sources), target, str(workers)]
        start = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False
        )
        wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["counts"] != {"equal": len(files)}:
        raise RuntimeError(f"not all are equal: {found['counts']}")
    return {**found, "models": len(files), "wall": wall}


def run_single(files: Sequence[Path], work: Path) -> float:
    """Seconds of `xlstm port` for these files, one process after the other."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        start = time.perf_counter()
        for file in files:
            out = str(Path(folder, file.stem))
            command = [sys.executable, "-m", "xlstm", "port", str(file), "--to", "torch", "-o", out]
            subprocess.run(command, capture_output=True, env={**os.environ, **QUIET}, check=True)
        return time.perf_counter() - start


def throughput(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Models a second of a fleet, and of single commands, and their ratio; medians."""
    files = make_zoo(work / "zoo", options.count)
    step = max(len(files) // options.single, 1)
    # neighbours are of different architectures: 21 apart is the next one of the next kind
    few = [files[(number * (step + 1)) % len(files)] for number in range(options.single)]
    single = [run_single(few, work) / len(few) for _ in range(options.rounds)]
    runs = [run_fleet(files, work, options.workers) for _ in range(options.rounds)]
    together = [run["wall"] / run["models"] for run in runs]
    return {
        "models": len(files),
        "architectures": runs[0]["architectures"],
        "workers": options.workers,
        "rounds": options.rounds,
        "single_files": len(few),
        "seconds_a_model_alone": _rounded(statistics.median(single)),
        "seconds_a_model": _rounded(statistics.median(together)),
        "times_faster": _rounded(statistics.median(single) / statistics.median(together)),
        "cpu_seconds_a_model": _median([run["cpu_of_models"] / run["models"] for run in runs]),
        "client_cpu_seconds_a_model": _median([run["client_cpu"] / run["models"] for run in runs]),
        "client_memory_mb": _median([run["client_memory"] / 1e6 for run in runs]),
        "worker_memory_mb": _median([run["worker_memory"] / 1e6 for run in runs]),
    }


def growth(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Time and memory for several numbers of files, and the exponents of their growth."""
    counts = sorted(int(text) for text in options.counts.split(","))
    files = make_zoo(work / "zoo", counts[-1])
    sizes = []
    for count in counts:
        runs = [run_fleet(files[:count], work, options.workers) for _ in range(options.rounds)]
        sizes.append(
            {
                "models": count,
                "wall": _median([run["wall"] for run in runs]),
                "cpu_of_models": _median([run["cpu_of_models"] for run in runs]),
                "client_cpu": _median([run["client_cpu"] for run in runs]),
                "client_memory_mb": _median([run["client_memory"] / 1e6 for run in runs]),
                "worker_memory_mb": _median([run["worker_memory"] / 1e6 for run in runs]),
            }
        )
        print(json.dumps(sizes[-1]), flush=True)
    names = ("wall", "cpu_of_models", "client_memory_mb", "worker_memory_mb")
    return {
        "workers": options.workers,
        "rounds": options.rounds,
        "sizes": sizes,
        "exponents": {
            name: _rounded(exponent({size["models"]: size[name] for size in sizes}))
            for name in names
        },
    }


def exponent(values: Mapping[int, float]) -> float:
    """The exponent b of a * n**b that fits these values best, by least squares of logarithms.

    >>> round(exponent({10: 3.0, 100: 300.0, 1000: 30000.0}), 6)
    2.0
    """
    x, y = [math.log(n) for n in values], [math.log(v) for v in values.values()]
    slope, _ = statistics.linear_regression(x, y)
    return slope


def _median(values: Sequence[float]) -> float:
    return _rounded(statistics.median(values))


def _rounded(value: float) -> float:
    """Three digits.

    >>> _rounded(0.0123456), _rounded(123456.0)
    (0.0123, 123000.0)
    """
    return float(f"{value:.3g}")


def keep(name: str, found: Mapping[str, Any], file: Path = RESULTS) -> None:
    """Writes the figures of one measurement beside those of the others."""
    known = json.loads(file.read_text()) if file.exists() else {}
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    known[name] = {**found, "machine": machine}
    file.write_text(json.dumps(known, indent=1) + "\n")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    zoo = commands.add_parser("zoo", help="make the files")
    zoo.add_argument("folder", type=Path)
    zoo.add_argument("--count", type=int, default=2000)
    commands.add_parser("table", help="print what was measured")
    for name in ("throughput", "growth"):
        one = commands.add_parser(name)
        one.add_argument("--workers", type=int, default=2)
        one.add_argument("--rounds", type=int, default=3)
        one.add_argument("--folder", type=Path, help="for files of the run; a temporary one")
        one.add_argument("--results", type=Path, default=RESULTS)
        if name == "growth":
            one.add_argument("--counts", default="200,500,1000,2000,5000")
        else:
            one.add_argument("--count", type=int, default=2000)
            one.add_argument("--single", type=int, default=50)
    return parser.parse_args(arguments)


def print_table() -> None:
    """Prints what was measured, and what was wanted."""
    runs, kills, broken = (
        json.loads((RESULTS.parent / f"{name}.json").read_text())
        for name in ("runs", "kills", "broken")
    )
    one, many = runs["throughput"], runs["growth"]
    last, powers = many["sizes"][-1], many["exponents"]
    moments = [moment.partition(",")[0] for run in kills["runs"] for moment in run["moments"]]
    kinds = ", ".join(sorted(set(moments)))
    killed = sum(run["kills"] for run in kills["runs"])
    faults = sum(len(run["faults"]) for run in kills["runs"])
    bad = f"{broken['bad']} bad ones of {broken['kinds_of_bad']} kinds"
    rows = [
        ("seconds a model, by the clock", f"{one['seconds_a_model']}", ""),
        ("seconds of `xlstm port`, one by one", f"{one['seconds_a_model_alone']}", ""),
        ("times faster", f"{one['times_faster']:.0f}", "25"),
        ("CPU seconds a model in the workers", f"{one['cpu_seconds_a_model']}", "0.1"),
        ("CPU seconds a model in the client", f"{one['client_cpu_seconds_a_model']}", ""),
        ("exponent of the time, CPU of models", f"{powers['cpu_of_models']}", "1.05"),
        ("exponent of the time, by the clock", f"{powers['wall']}", "1.05"),
        (
            f"memory of the client at {last['models']:,} models",
            f"{last['client_memory_mb']:.0f} MB, exponent {powers['client_memory_mb']}",
            "flat",
        ),
        (
            f"memory of a worker at {last['models']:,} models",
            f"{last['worker_memory_mb']:.0f} MB, exponent {powers['worker_memory_mb']}",
            "flat",
        ),
        (f"random kills ({kinds})", f"{killed}, {faults} faults", "100, 0"),
        (
            f"CPU of {broken['good']} models beside {bad}",
            f"{broken['cpu_dirty_to_clean']} times the CPU without them",
            "1.1",
        ),
    ]
    whole = f"{one['models']:,} files of {one['architectures']} architectures"
    print(f"{whole}, ported to PyTorch and verified by {one['workers']} workers:")
    print()
    print("| measured | value | wanted |")
    print("|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Runs one measurement, prints it and keeps it; or prints the table of docs/fleets.md."""
    options = parsed()
    if options.command == "table":
        print_table()
        return
    if options.command == "zoo":
        print(f"{len(make_zoo(options.folder, options.count))} files in {options.folder}")
        return
    measure = throughput if options.command == "throughput" else growth
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        found = measure(options, Path(work))
    print(json.dumps(found, indent=1))
    keep(options.command, found, options.results)


if __name__ == "__main__":
    main()
