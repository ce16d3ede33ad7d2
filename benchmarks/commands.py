"""Whole processes side by side: commands of xlstm against Keras, and a large port against a copy.

    python benchmarks/commands.py [--rounds 15] [--json FILE] [--large 512 | --large 0]

Small rows: `import xlstm`, and `xlstm inspect`, `count` and `port --no-verify` of a small `.h5`,
against a process in which Keras loads the same file (TensorFlow backend unless KERAS_BACKEND names
another). Large rows: `port --no-verify` of an `.h5` of 512 MB against `cp`; against `cp` and
`sync`, since a port is on the disk when it ends; and against a Python that also hashes both files,
since report.json has both SHA-256. Their column of memory is our peak over the file's size.

Each round runs every process once, one after the other, so that all see the same machine. The
first round is not counted: it writes Python's compiled modules and fills the caches of the disk.
Printed are the medians, their quartiles' distance as a part of the median, and the ratios. A small
launcher starts each process: else its peak of memory would be at least that of this program.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

LAUNCH = """
import json, os, sys, time
null = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - start
print(json.dumps([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, status]))
"""
"""Starts a command; prints its wall and processor seconds, its peak memory and its status."""

SMALL = """
import sys, keras
layers = keras.layers.LSTM(8, return_sequences=True), keras.layers.LSTM(8), keras.layers.Dense(4)
keras.Sequential([keras.Input((10, 3)), *layers]).save(sys.argv[1])
"""
"""Writes the small file, as Keras does."""

LOAD = "import sys, keras; keras.models.load_model(sys.argv[1], compile=False)"
HASHED_COPY = """
import hashlib, os, shutil, sys
shutil.copyfile(sys.argv[1], sys.argv[2])
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
"""
"""Copies a file to the disk, and hashes both."""

LAYERS = 4
"""Layers of the large file."""


@dataclass(frozen=True)
class Usage:
    """One process, or the medians of several.

    Attributes:
        wall: seconds of the clock.
        processor: seconds of the processor, of all threads.
        peak: bytes of memory.
    """

    wall: float
    processor: float
    peak: float


@dataclass(frozen=True)
class Row:
    """A command of ours beside what it is compared with.

    Attributes:
        name: of the command.
        against: the other process.
        ours: medians.
        theirs: medians.
        spread: distance of the quartiles of our wall time, as a part of its median.
        rounds: processes of each kind.
        size: bytes of the file, for large ones; 0 for others.
    """

    name: str
    against: str
    ours: Usage
    theirs: Usage
    spread: float
    rounds: int
    size: int = 0

    @property
    def ratios(self) -> Usage:
        """Ours as multiples of theirs."""
        pairs = zip(asdict(self.ours).values(), asdict(self.theirs).values(), strict=True)
        return Usage(*(mine / other for mine, other in pairs))

    def to_json(self) -> dict[str, Any]:
        """Plain data, ratios included."""
        part = {"peak_of_file": self.ours.peak / self.size} if self.size else {}
        return asdict(self) | {"ratios": asdict(self.ratios)} | part

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The row of `to_json`."""
        own = {name: data[name] for name in ("name", "against", "spread", "rounds", "size")}
        return cls(ours=Usage(**data["ours"]), theirs=Usage(**data["theirs"]), **own)


def environment() -> dict[str, str]:
    """The environment of every process: without a GPU, with compiled modules of Python."""
    found = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found.setdefault("KERAS_BACKEND", "tensorflow")
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def usage(command: Sequence[str], expected: int = 0) -> Usage:
    """Runs a command to its end.

    Raises:
        RuntimeError: it exits with another number than the expected one.
    """
    launch = [sys.executable, "-S", "-E", "-c", LAUNCH, *command]
    done = subprocess.run(launch, capture_output=True, text=True, check=True, env=environment())
    *figures, status = json.loads(done.stdout)
    if os.waitstatus_to_exitcode(status) != expected:
        raise RuntimeError(f"status {status}: {' '.join(command)}")
    return Usage(*figures)


def alternated(
    commands: Mapping[str, Sequence[str]], rounds: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[Usage]]:
    """The usages of each command, run in turn; `before` runs before each process."""
    found: dict[str, list[Usage]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            before()
            used = usage(command)
            found[name] += [used] if number else []
    return found


def medians(found: Sequence[Usage]) -> Usage:
    """The median of each figure."""
    columns = zip(*(asdict(used).values() for used in found), strict=True)
    return Usage(*(statistics.median(column) for column in columns))


def spread(found: Sequence[Usage]) -> float:
    """Distance of the quartiles of the wall times, as a part of their median; 0 for one."""
    walls = [used.wall for used in found]
    if len(walls) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(walls, n=4)
    return (high - low) / middle


def rows(found: Mapping[str, list[Usage]], ours: Sequence[str], theirs: Sequence[str]) -> list[Row]:
    """A row for each of our commands and each other process."""
    return [
        Row(
            name,
            other,
            medians(found[name]),
            medians(found[other]),
            spread(found[name]),
            len(found[name]),
        )
        for other in theirs
        for name in ours
    ]


def small_rows(folder: Path, rounds: int = 15) -> list[Row]:
    """Our commands on a small file against Keras that loads it."""
    python, path, target = sys.executable, str(folder / "small.h5"), folder / "small_port"
    usage([python, "-c", SMALL, path])
    xlstm = [python, "-m", "xlstm"]
    commands = {
        "import xlstm": [python, "-c", "import xlstm"],
        "xlstm inspect": [*xlstm, "inspect", path],
        "xlstm count": [*xlstm, "count", path],
        "xlstm port --no-verify": [*xlstm, "port", path, *_port(target)],
        "Keras loads the file": [python, "-c", LOAD, path],
    }
    *ours, keras = commands
    found = alternated(commands, rounds, lambda: shutil.rmtree(target, ignore_errors=True))
    return rows(found, ours, [keras])


def large_rows(folder: Path, megabytes: int = 512, rounds: int = 15) -> list[Row]:
    """A port of a large file against copies of it."""
    from growth import units_of
    from large import write_stack

    path, target, copied = folder / "large.h5", folder / "large_port", folder / "copied.h5"
    write_stack(path, LAYERS, units_of(megabytes), units_of(megabytes))

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)
        copied.unlink(missing_ok=True)

    size = path.stat().st_size
    port = f"port --no-verify, {size / 1e6:,.0f} MB"
    commands = {
        port: [sys.executable, "-m", "xlstm", "port", str(path), *_port(target)],
        "cp": ["cp", str(path), str(copied)],
        "cp and sync": ["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(path), str(copied)],
        "copy, sync, hash both": [sys.executable, "-c", HASHED_COPY, str(path), str(copied)],
    }
    found = alternated(commands, rounds, clear)
    clear()
    path.unlink()
    _, *peers = commands
    return [replace(row, size=size) for row in rows(found, [port], peers)]


def _port(folder: Path) -> list[str]:
    return ["--no-verify", "--to", "torch", "-o", str(folder)]


def ratio_text(ratio: float) -> str:
    """A multiple of the other process.

    >>> ratio_text(0.05), ratio_text(2.5)
    ('20.0 x less', '2.5 x')
    """
    return f"{1 / ratio:.1f} x less" if ratio < 1 else f"{ratio:.1f} x"


def table(found: Sequence[Row]) -> Table:
    """The rows as a table: times in ms, memory in MB, and ours as multiples of the other."""
    heads = ("ours", "against", "wall ms", "cpu ms", "peak MB", "wall", "cpu", "peak", "spread")
    result = Table(*heads)
    for row in found:
        times = (
            f"{mine * 1e3:,.0f} / {other * 1e3:,.0f}"
            for mine, other in (
                (row.ours.wall, row.theirs.wall),
                (row.ours.processor, row.theirs.processor),
            )
        )
        peaks = f"{row.ours.peak / 1e6:,.0f} / {row.theirs.peak / 1e6:,.0f}"
        ratios = [*map(ratio_text, asdict(row.ratios).values())]
        if row.size:
            ratios[-1] = f"{row.ours.peak / row.size:.2f} x file"
        result.add_row(row.name, row.against, *times, peaks, *ratios, f"{row.spread:.0%}")
    return result


def main() -> None:
    """Prints the table, and writes JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large", type=int, default=512, help="MB of the large file; 0 for none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path, help="print the rows of a JSON file; measure nothing")
    arguments = parser.parse_args()
    if arguments.read:
        rows = json.loads(arguments.read.read_text("utf-8"))["rows"]
        Console(width=150).print(table([Row.from_json(row) for row in rows]))
        return
    with tempfile.TemporaryDirectory() as name:
        found = small_rows(Path(name), arguments.rounds)
        if arguments.large:
            found += large_rows(Path(name), arguments.large, arguments.rounds)
    Console(width=150).print(table(found))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {
            "cpus": os.cpu_count(),
            "platform": sys.platform,
            "python": sys.version.split()[0],
        }
        data = {"machine": machine, "rows": [row.to_json() for row in found]}
        arguments.json.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
