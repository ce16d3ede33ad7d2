"""Times ports beside what people would use instead: table, JSON and picture.

    python benchmarks/bench.py [--group "own cells"] [--match TEXT] [--rounds 15]
    python benchmarks/bench.py --json docs/speed/calls.json --svg docs/speed/calls.svg
    python benchmarks/bench.py --read docs/speed/calls.json --markdown "own cells"

All calls of a contest run in one process and take turns; ratios are those of medians of at least 15
rounds. Batch 1 runs on one processor, whatever the framework. float32, 100 steps, 16 features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from speed import calls, picture, tables
from speed.contests import GROUPS, Contest
from speed.timing import ROUNDS

PICTURE = "keras"
"""The group of contests that is drawn."""

PACKAGES = ("torch", "keras", "tensorflow", "jax", "flax", "numpy", "onnxruntime")


def contests(group: str | None, match: str) -> list[Contest]:
    """Returns the contests of a group, or of all, whose names have a text in them."""
    chosen = [group] if group else list(GROUPS)
    return [c for name in chosen for c in GROUPS[name]() if match in c.name]


def machine() -> dict[str, Any]:
    """Returns processor, versions and the number of processors."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    versions = {name: metadata.version(name) for name in PACKAGES}
    processors = len(os.sched_getaffinity(0))
    return {
        "processor": model or platform.machine(),
        "processors": processors,
        "python": platform.python_version(),
        "versions": versions,
    }


def run_here(names: list[str], threads: int, rounds: int) -> None:
    """Runs contests in this process and prints a line of JSON for each."""
    calls.limit_threads(threads)
    wanted = set(names)
    for contest in contests(None, ""):
        if contest.name in wanted:
            print(json.dumps(contest.run(rounds)), flush=True)


def run_all(chosen: list[Contest], rounds: int, console: Console) -> list[dict[str, Any]]:
    """Runs contests in processes of their own, one for each group and number of threads."""
    groups: dict[tuple[str, int], list[str]] = {}
    for contest in chosen:
        groups.setdefault((contest.group, contest.threads), []).append(contest.name)
    found = []
    for (group, threads), names in groups.items():
        console.print(f"{group}, {threads} threads: {len(names)} contests")
        arguments = [
            "--threads",
            str(threads),
            "--rounds",
            str(rounds),
            "--names",
            json.dumps(names),
        ]
        command = [sys.executable, __file__, *arguments]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        output = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout
        found += [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    return found


def one_line_each(found: dict[str, Any]) -> str:
    """Returns measurements as JSON, a line for each contest."""
    lines = ",\n".join(json.dumps(contest) for contest in found["contests"])
    return f'{{"machine": {json.dumps(found["machine"])},\n"contests": [\n{lines}\n]}}\n'


def show(found: dict[str, Any], console: Console) -> int:
    """Prints all tables; returns the number of claims that are missed."""
    missed = 0
    for group in dict.fromkeys(contest["group"] for contest in found["contests"]):
        own = [contest for contest in found["contests"] if contest["group"] == group]
        header, rows = tables.time_rows(own)
        console.print(tables.terminal(header, rows, f"{group}: medians, ms"))
        rows = list(tables.claim_rows(own))
        console.print(tables.terminal(tables.HEADER, rows, f"{group}: ratios"))
        missed += sum(tables.MISSED in row[-1] for row in rows)
    console.print(f"{missed} targets missed")
    return missed


def markdown(found: dict[str, Any], group: str, table: str) -> str:
    """Returns one table of one group, for a page of the documentation."""
    own = [contest for contest in found["contests"] if contest["group"] == group]
    if table == "times":
        return tables.markdown(*tables.time_rows(own))
    if table == "first":
        return tables.markdown(*tables.first_rows(own))
    if table == "profile":
        return tables.markdown(*tables.profile_rows(own))
    if table == "missed":
        own = [contest | {"claims": tables.missed(contest)} for contest in own]
    return tables.markdown(tables.HEADER, list(tables.claim_rows(own)))


def arguments() -> argparse.Namespace:
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=GROUPS)
    parser.add_argument("--match", default="", help="only contests with this text in their name")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="file for all measured times")
    parser.add_argument("--svg", type=Path, help="file for the picture")
    parser.add_argument("--read", type=Path, help="print measured times from a file")
    parser.add_argument("--markdown", choices=GROUPS, help="print a table of a group")
    parser.add_argument(
        "--table", choices=("ratios", "times", "missed", "first", "profile"), default="ratios"
    )
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--names", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Runs or reads the measurements; ends with 0 whatever they are."""
    asked, console = arguments(), Console(width=150)
    if asked.threads:
        run_here(asked.names, asked.threads, asked.rounds)
        return 0
    if asked.read:
        found = json.loads(asked.read.read_text())
    else:
        chosen = contests(asked.group, asked.match)
        found = {"machine": machine(), "contests": run_all(chosen, asked.rounds, console)}
    if asked.markdown:
        print(markdown(found, asked.markdown, asked.table))
        return 0
    show(found, console)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(one_line_each(found))
    if asked.svg:
        own = [c for c in found["contests"] if c["group"] == PICTURE and c["batch"] == 1]
        if not own:
            sys.exit(f"--svg: no contest of the group {PICTURE} ran; leave --svg out")
        asked.svg.write_text(picture.draw(own, "One sequence of 100 steps, one processor"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
