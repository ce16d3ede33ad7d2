"""CPU time and peak memory of `xlstm verify` as a whole process, for every real model that ports.

    XLSTM_CORPUS=../shared/corpus python benchmarks/verify_corpus.py [--before REV] [--match REGEX]
        [--frameworks torch,nnx] [--rounds 3] [--limit 600] [--json FILE]
    python benchmarks/verify_corpus.py --read FILE

With `--before`, a checkout of that commit is measured in turn with this one, file by file, so that
both see the same machine. CPU time is user and system time of the process and of its children.
Threads are limited to one on either side, and all modules are compiled to bytecode beforehand, as
after an installation. Printed are medians, the totals, and the worst file; and the CPU time of the
imports alone, which no change of a comparison can save. Without a corpus nothing is measured, and
the reason is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from corpus import CORPUS, TOLD
from rich.console import Console
from rich.table import Table
from verify_time import IMPORTS

ROOT = Path(__file__).parents[1]

MODEL = re.compile(r"\.(h5|hdf5|keras)$|/$")
"""Names of files and folders of models; architectures alone have no weights."""

ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Source(NamedTuple):
    """A file of the corpus, and the options of the command line that it needs."""

    name: str
    path: Path
    options: tuple[str, ...]


class Measured(NamedTuple):
    """One process: seconds of CPU time, bytes of peak memory, exit status, and its report."""

    seconds: float
    peak: int
    status: int
    report: dict[str, Any]


def sources(match: str = "") -> Iterator[Source]:
    """Every model of the corpus whose name matches."""
    for project in json.loads((CORPUS / "manifest.json").read_text()):
        for file in project["files"]:
            name = f"{project['name']}/{file['file']}"
            if MODEL.search(name) and re.search(match, name):
                path = CORPUS / name
                known = dict(TOLD.get(name, {}))
                if "architecture" in known:
                    known["architecture"] = str(path.with_name(known["architecture"]))
                if until := re.search(r"up to the layer named (\w+)", file.get("golden_note", "")):
                    known["until"] = until[1]
                words = [w for key, v in known.items() for w in (f"--{key.replace('_', '-')}", v)]
                yield Source(name, path, tuple(words))


@contextlib.contextmanager
def importable(checkout: Path) -> Iterator[Path]:
    """A folder for PYTHONPATH from which `xlstm` and `xlstm.converters` of a checkout come."""
    with tempfile.TemporaryDirectory() as name:
        package = Path(name, "xlstm")
        package.mkdir()
        for part in (checkout / "xlstm").iterdir():
            (package / part.name).symlink_to(part.resolve())
        (package / "converters").symlink_to((checkout / "converters").resolve())
        yield Path(name)


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A checkout of a commit of this repository, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "before")
        git = ["git", "-C", str(ROOT), "worktree"]
        add = [*git, "add", "--quiet", "--detach", str(folder), revision]
        subprocess.run(add, check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(source: Source, path: Path, frameworks: str, limit: float) -> Measured:
    """Runs `xlstm verify` once, with the `xlstm` that lies in the folder `path`."""
    words = ["-m", "xlstm", "verify", str(source.path), *source.options]
    return python([*words, "--frameworks", frameworks, "--json"], path, limit)


def python(words: list[str], path: Path, limit: float) -> Measured:
    """Runs Python once, with the `xlstm` that lies in the folder `path`."""
    command = [sys.executable, "-W", "ignore", *words]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(path)}
    environment |= {"PYTHONPYCACHEPREFIX": str(path / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.DEVNULL, cwd=path
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    report = json.loads(text) if text.startswith("{") else {}
    seconds = usage.ru_utime + usage.ru_stime
    return Measured(seconds, usage.ru_maxrss * 1024, process.returncode, report)


def summary(runs: list[Measured]) -> dict[str, Any]:
    """Medians of the runs of one file as plain data."""
    return {
        "seconds": statistics.median(run.seconds for run in runs),
        "peak": statistics.median(run.peak for run in runs),
        "every": [run.seconds for run in runs],
        "status": runs[-1].status,
        "ok": runs[-1].report.get("ok"),
        "inputs": runs[-1].report.get("recipe", {}).get("inputs", []),
    }


def rows(
    found: list[Source], sides: dict[str, Path], frameworks: str, rounds: int, limit: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each file -> side -> its medians, while they are measured."""
    for source in found:
        runs: dict[str, list[Measured]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, path in sides.items():
                runs[side].append(measure(source, path, frameworks, limit))
        yield source.name, {side: summary(every) for side, every in runs.items()}


def cells(found: dict[str, Any]) -> list[str]:
    """Seconds, memory and result of a file, each side after the other."""
    parts = []
    for side in found.values():
        result = {True: "equal", False: "not equal"}.get(side["ok"], f"exit {side['status']}")
        parts += [f"{side['seconds']:.1f}", f"{side['peak'] / 1e9:.2f}", result]
    ends = [side["seconds"] for side in found.values()]
    return [*parts, f"{ends[-1] / ends[0]:.2f}" if len(ends) > 1 else ""]


def render(done: dict[str, Any], sides: dict[str, Path]) -> None:
    """Prints the table, the worst files first, and the totals of those that were compared."""
    heads = [f"{what}, {side}" for side in sides for what in ("CPU s", "peak GB", "result")]
    table = Table("file", *heads, "ratio", box=None)
    for name, found in sorted(done.items(), key=lambda row: -row[1]["now"]["seconds"]):
        table.add_row(name, *cells(found))
    Console(width=180).print(table)
    ported = [row for row in done.values() if all(s["ok"] is not None for s in row.values())]
    for side in sides if ported else ():
        total = sum(row[side]["seconds"] for row in ported)
        longest = max(row[side]["seconds"] for row in ported)
        most = max(row[side]["peak"] for row in ported) / 1e9
        sys.stdout.write(
            f"{side}: {len(ported)} files, {total:.0f} s of CPU time; "
            f"worst {longest:.1f} s, worst peak {most:.2f} GB\n"
        )


def totals(done: dict[str, Any]) -> str:
    """Returns the Markdown of the sums of both sides, over the files that both compared.

    >>> side = {"seconds": 4.0, "peak": 5e8, "ok": True}
    >>> print(totals({"a": {"before": {**side, "seconds": 8.0}, "now": side}}))
    | commit | models | CPU s | longest, CPU s | largest peak, GB | CPU ratio |
    |---|---|---|---|---|---|
    | before | 1 | 8 | 8.0 | 0.50 |  |
    | now | 1 | 4 | 4.0 | 0.50 | 0.50 |
    """
    ported = [row for row in done.values() if all(s["ok"] is not None for s in row.values())]
    lines = ["| commit | models | CPU s | longest, CPU s | largest peak, GB | CPU ratio |"]
    lines.append("|---" * 6 + "|")
    first = None
    for side in ported[0]:
        seconds = [row[side]["seconds"] for row in ported]
        peak = max(row[side]["peak"] for row in ported) / 1e9
        ratio = f"{sum(seconds) / first:.2f}" if first else ""
        first = first or sum(seconds)
        cells = f"{sum(seconds):.0f} | {max(seconds):.1f} | {peak:.2f} | {ratio}"
        lines.append(f"| {side} | {len(ported)} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table and writes the JSON file; 1 if a file is not equal now."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="", help="a commit to measure in turn with this one")
    parser.add_argument("--match", default="", help="only files whose name matches")
    parser.add_argument("--frameworks", default="torch,nnx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds of one process")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--read", type=Path, help="print the sums of a JSON file; measure nothing")
    options = parser.parse_args()
    if options.read:
        sys.stdout.write(totals(json.loads(options.read.read_text())) + "\n")
        return 0
    if not (CORPUS / "manifest.json").exists():
        sys.stdout.write(f"not measured: no corpus at {CORPUS}; set XLSTM_CORPUS\n")
        return 0
    done: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        trees = {"now": ROOT}
        if options.before:
            trees = {"before": stack.enter_context(checked_out(options.before)), **trees}
        sides = {side: stack.enter_context(importable(tree)) for side, tree in trees.items()}
        every = [*sources(options.match)]
        for path in sides.values():  # they write the bytecode of all modules
            for source in every[:1]:
                measure(source, path, options.frameworks, options.limit)
        imports = [IMPORTS[name] for name in options.frameworks.split(",")]
        alone = [python(["-c", "; ".join(imports)], sides["now"], options.limit) for _ in range(5)]
        measured = rows(every, sides, options.frameworks, options.rounds, options.limit)
        for name, found in measured:
            done[name] = found
            sys.stderr.write(f"{name}  {'  '.join(cells(found))}\n")
            if options.json:
                options.json.write_text(json.dumps(done, indent=1))
    render(done, sides)
    seconds = statistics.median(run.seconds for run in alone)
    sys.stdout.write(f"imports of {options.frameworks} alone: {seconds:.2f} s of CPU time\n")
    return int(any(row["now"]["ok"] is False for row in done.values()))


if __name__ == "__main__":
    sys.exit(main())
