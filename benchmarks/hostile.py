"""Time and memory of small hostile files: python benchmarks/hostile.py [--json] [--only WORDS].

Writes every family of `hostile_cases.CASES` and of `hostile_graph_cases.GRAPHS` in growing sizes,
and gives each file to `inspect` and `count` in processes of their own. For each: the file's size,
exit status, processor seconds and peak memory, of the whole process with its interpreter; and for
each family, the exponent by which the seconds beyond those of start-up grow with the size. Exit
status 1 if a small file takes over 5 s or 300 MB, if one ends with a signal, or if a family grows
with an exponent over 1.1. Seconds are the processor's: others may use it too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hostile_cases import CASES, DEMO, Case
from hostile_graph_cases import GRAPHS

ALL = {**CASES, **GRAPHS}
"""Name of a family -> how its files are written."""

SECONDS, MEGABYTES, EXPONENT = 5.0, 300.0, 1.1
"""Most of each that a small hostile file may take."""

SMALL = 2**21
"""Largest file, in bytes, that counts as small: larger ones only show how cost grows."""

PATIENCE, WAIT = 60, 1800.0
"""Processor seconds and wall seconds after which a command is killed."""

ROUNDS = 3
"""Most times that a family is measured where it looks steep: the least seconds of a file count."""

NOISE = 1.0
"""Seconds beyond start-up below which growth is not told from noise.

Start-up itself differs by 0.05 seconds from run to run: that moves the exponent of 0.3 seconds of
work by 0.2.
"""

COMMANDS = ("inspect", "count")


@dataclass(frozen=True)
class Run:
    """One command on one file.

    Attributes:
        case: name of the family.
        command: "inspect" or "count".
        bytes: size of the file or folder.
        exit: status; negative for a signal, as subprocess has it.
        seconds: processor time.
        wall: time until its end.
        megabytes: peak memory.
        said: end of what it printed.
    """

    case: str
    command: str
    bytes: int
    exit: int
    seconds: float
    wall: float
    megabytes: float
    said: str

    def over(self) -> bool:
        """True if a small file took more than it may, or ended in another way than it may."""
        if self.exit not in (0, 1, 2):
            return True
        return self.bytes <= SMALL and (self.seconds > SECONDS or self.megabytes > MEGABYTES)


def run(name: str, command: str, words: list[str], size: int) -> Run:
    """Runs a command to its end, or kills it."""
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "xlstm", command, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE)),
    )
    previous = signal.signal(signal.SIGALRM, lambda *_: child.kill())
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
    child.returncode = os.waitstatus_to_exitcode(status)
    lines = said.decode(errors="replace").strip().splitlines()
    return Run(
        name,
        command,
        size,
        child.returncode,
        usage.ru_utime + usage.ru_stime,
        time.perf_counter() - started,
        usage.ru_maxrss / 1024,
        (lines or [""])[-1][:200],
    )


def written(case: Case, size: int, folder: Path) -> tuple[list[str], int]:
    """The words of the command line, and the bytes of all files; written by a child.

    The memory of this process would count as that of the commands that it starts.
    """
    path = folder / f"hostile{case.ending}"
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            words = case.write(path, size) or [path]
            os.write(send, json.dumps([str(word) for word in words]).encode())
            status = 0
        except BaseException:  # noqa: BLE001  the child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a file could not be written: see the error above")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return json.loads(said), size


def measured(case: Case, name: str) -> dict[str, list[Run]]:
    """The runs of a family by command, sizes growing."""
    runs: dict[str, list[Run]] = {command: [] for command in COMMANDS}
    for size in case.sizes:
        with tempfile.TemporaryDirectory() as folder:
            words, total = written(case, size, Path(folder))
            for command in COMMANDS:
                runs[command].append(run(name, command, words, total))
    return runs


def families(only: str, start: dict[str, Run]) -> Iterator[tuple[list[Run], float | None]]:
    """The runs of each family and command, and how they grow; again where others took the time."""

    def grown(found: dict[str, list[Run]]) -> dict[str, float | None]:
        return {c: exponent(runs, start[c].seconds) for c, runs in found.items()}

    for name, case in ALL.items():
        if only not in name:
            continue
        found = measured(case, name)
        for _ in range(ROUNDS - 1):
            if all((power or 0) <= EXPONENT for power in grown(found).values()):
                break
            again = measured(case, name)
            found = {
                c: [
                    min(pair, key=lambda one: one.seconds)
                    for pair in zip(runs, again[c], strict=True)
                ]
                for c, runs in found.items()
            }
        powers = grown(found)
        yield from ((runs, powers[c]) for c, runs in found.items())


def exponent(runs: list[Run], start: float) -> float | None:
    """How work beyond start-up grows with the file's size; None where it is too little to tell."""
    *smaller, last = runs
    # what is refused ends before it needs all that start-up counts
    start = min(start, *(one.seconds for one in runs))
    if last.seconds - start < NOISE or last.bytes < 1.5 * smaller[-1].bytes:
        return None
    told = [one for one in smaller if one.seconds - start > NOISE / 3]
    # where only the largest is told from noise, the one before is taken for as much as noise may be
    before, at = (told[0].seconds - start, told[0]) if told else (NOISE / 3, smaller[-1])
    return math.log((last.seconds - start) / before) / math.log(last.bytes / at.bytes)


def start_up() -> dict[str, Run]:
    """Each command on the demo model: of five runs the one of the least processor seconds."""
    return {
        command: min(
            (run("demo", command, [str(DEMO)], 0) for _ in range(5)), key=lambda one: one.seconds
        )
        for command in COMMANDS
    }


def table(found: list[tuple[list[Run], float | None]]) -> str:
    """A line for each file and command; the exponent with the last of a family."""
    head = f"{'file':50}{'command':9}{'bytes':>12}{'exit':>6}{'seconds':>9}{'MB':>7}{'growth':>8}"
    lines = [head]
    for runs, grown in found:
        for one in runs:
            power = "" if one is not runs[-1] else "-" if grown is None else f"{grown:.2f}"
            cells = f"{one.bytes:12,}{one.exit:6}{one.seconds:9.2f}{one.megabytes:7.0f}{power:>8}"
            mark = "  OVER" if one.over() else ""
            lines.append(f"{one.case:50}{one.command:9}{cells}{mark}")
    return "\n".join(lines)


def summary(
    found: list[tuple[list[Run], float | None]],
    start: dict[str, Run],
    over: list[Run],
    steep: list[Run],
) -> str:
    """Two lines: start-up's own share of the figures, and the families that are over."""
    own = ", ".join(f"{c} {one.seconds:.2f} s {one.megabytes:.0f} MB" for c, one in start.items())
    families = len({runs[0].case for runs, _ in found})
    named = ", ".join(sorted({one.case for one in [*over, *steep]})) or "none"
    limits = f"{len(over)} over {SECONDS:g} s or {MEGABYTES:g} MB"
    return (
        f"start-up alone: {own}\n"
        f"{families} families, {limits}, {len(steep)} steeper than {EXPONENT}: {named}"
    )


def main() -> int:
    """Prints the table or JSON; 1 if a file is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print data in place of a table")
    parser.add_argument("--only", default="", help="families whose names have these words in them")
    arguments = parser.parse_args()
    start = start_up()
    found = []
    for family in families(arguments.only, start):
        found.append(family)
        if not arguments.json:
            print(table(found[-1:]).partition("\n")[2] if len(found) > 1 else table(found))
            sys.stdout.flush()
    over = [one for runs, _ in found for one in runs if one.over()]
    steep = [runs[0] for runs, grown in found if grown is not None and grown > EXPONENT]
    if arguments.json:
        started = {command: asdict(one) for command, one in start.items()}
        data = [{"growth": grown, "runs": [asdict(one) for one in runs]} for runs, grown in found]
        print(json.dumps({"start": started, "families": data}, indent=2))
    else:
        print(summary(found, start, over, steep))
    return int(bool(over or steep))


if __name__ == "__main__":
    sys.exit(main())
