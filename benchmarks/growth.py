"""Growth of time with size, layers and steps: the exponent of the power that fits it.

    OPENBLAS_NUM_THREADS=1 python benchmarks/growth.py [--rounds 3] [--json FILE] [--largest 512]

Makes Keras HDF5 files of LSTMs: of 1 to 512 MB in four layers, and of 1 to 1,000 small layers. In
one process, each operation runs on each file in turn, round after round, so that all see the same
machine. One thread computes; the hash of a large file has a thread of its own. The time is that of
the processor, of all threads, so that other processes matter less. Two exponents are printed: that
of the least squares line through the logarithms of the medians, and that between the last two
sizes, where a constant start weighs least. The goal is that both are at most 1.1.

The last exponent is printed once more for the time outside the kernel. On a virtual machine the
first touch of memory that the host has taken back costs far more than that of memory just freed:
then the kernel's time alone grows faster than the size.

`verify` is `xlstm.reconcile` of a small LSTM with inputs of 10 to 10,000 steps, in PyTorch.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from large import write_stack
from rich.console import Console
from rich.table import Table

import xlstm

MEGABYTES = (1, 8, 64, 512)
STACK = 4
"""Layers of a file of a given size."""

LAYERS = (1, 10, 100, 1_000)
UNITS = 8
"""Units and features of a small layer."""

STEPS = (10, 100, 1_000, 10_000)
GOAL = 1.1


@dataclass(frozen=True)
class Growth:
    """The times of one operation.

    Attributes:
        operation: its name.
        of: the quantity that grows.
        amounts: of that quantity.
        seconds: median of the processor's time for each amount.
        spread: largest time of an amount, divided by its smallest one; the worst amount.
        fitted: exponent of the line through all logarithms.
        last: exponent between the last two amounts.
        outside: the same of the time outside the kernel.
    """

    operation: str
    of: str
    amounts: tuple[int, ...]
    seconds: tuple[float, ...]
    spread: float
    fitted: float
    last: float
    outside: float

    @property
    def worst(self) -> float:
        """The larger exponent."""
        return max(self.fitted, self.last)


def exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of the least squares line through the logarithms.

    >>> round(exponent([1, 10, 100], [3, 30, 300]), 3)
    1.0
    """
    x, y = np.log(amounts), np.log(seconds)
    return float(np.polyfit(x, y, 1)[0])


def units_of(megabytes: int) -> int:
    """Units of an LSTM with as many features, `STACK` of which are that large in float32."""
    return round(math.sqrt(megabytes * 1e6 / 4 / 8 / STACK))


def load(path: Path, _folder: Path) -> None:
    """Reads a file with all of its weights."""
    xlstm.load(path)


def count(path: Path, _folder: Path) -> None:
    """Counts a file in every framework."""
    xlstm.count(path)


def port(path: Path, folder: Path) -> None:
    """Writes a port to PyTorch, as `xlstm port --no-verify` does."""
    xlstm.save(path, folder / "port", "torch")


OPERATIONS: Mapping[str, Callable[[Path, Path], None]] = {
    "load": load,
    "count": count,
    "port --no-verify": port,
}


Spent = tuple[float, float]
"""Processor seconds of all threads: in all, and outside the kernel."""


def now() -> Spent:
    """The processor's time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_utime


def spent(call: Callable[[], object]) -> Spent:
    """The processor's time of a call."""
    start = now()
    call()
    whole, outside = now()
    return whole - start[0], outside - start[1]


def growth(
    operation: str, of: str, amounts: Sequence[int], rounds: Sequence[Sequence[Spent]]
) -> Growth:
    """The medians and exponents of rounds of times, one time an amount."""
    columns = [[whole for whole, _ in column] for column in zip(*rounds, strict=True)]
    seconds = tuple(map(statistics.median, columns))
    spread = max(max(column) / min(column) for column in columns)
    outside = [
        statistics.median(user for _, user in column) for column in zip(*rounds, strict=True)
    ]
    ends = (exponent(amounts[-2:], times[-2:]) for times in (seconds, outside))
    whole = exponent(amounts, seconds)
    return Growth(operation, of, tuple(amounts), seconds, spread, whole, *ends)


def of_files(of: str, files: Mapping[int, Path], folder: Path, rounds: int) -> list[Growth]:
    """The growth of every operation over files by their amount."""
    times: dict[str, list[list[Spent]]] = {name: [] for name in OPERATIONS}
    for _ in range(rounds + 1):
        for name, work in OPERATIONS.items():
            row = []
            for path in files.values():
                shutil.rmtree(folder / "port", ignore_errors=True)
                row.append(spent(partial(work, path, folder)))
            times[name].append(row)
    shutil.rmtree(folder / "port", ignore_errors=True)
    # the first round imports
    return [growth(name, of, [*files], rows[1:]) for name, rows in times.items()]


def of_sizes(folder: Path, rounds: int, largest: int) -> list[Growth]:
    """The growth with the size of a file, in MB."""
    files = {}
    for size in (size for size in MEGABYTES if size <= largest):
        files[size] = folder / f"size_{size}.h5"
        write_stack(files[size], STACK, units_of(size), units_of(size))
    found = of_files("MB", files, folder, rounds)
    for path in files.values():
        path.unlink()
    return found


def of_layers(folder: Path, rounds: int) -> list[Growth]:
    """The growth with the number of layers."""
    files = {number: folder / f"layers_{number}.h5" for number in LAYERS}
    for number, path in files.items():
        write_stack(path, number, UNITS, UNITS)
    return of_files("layers", files, folder, rounds)


def of_steps(folder: Path, rounds: int) -> list[Growth]:
    """The growth of a comparison with the length of its inputs."""
    import torch

    torch.set_num_threads(1)
    path, rng = folder / "steps.h5", np.random.default_rng(0)
    write_stack(path, 1, UNITS, UNITS)
    inputs = {steps: rng.standard_normal((1, steps, UNITS), dtype="float32") for steps in STEPS}
    times = []
    for _ in range(rounds + 1):
        calls = (partial(xlstm.reconcile, path, "torch", [x]) for x in inputs.values())
        times.append([spent(call) for call in calls])
    return [growth("verify in PyTorch", "steps", STEPS, times[1:])]


def table(found: Sequence[Growth]) -> Table:
    """The results as a table."""
    result = Table(
        "operation", "of", "amounts", "processor ms", "spread", "fitted", "last", "outside", ""
    )
    for row in found:
        times = " ".join(f"{second * 1e3:,.0f}" for second in row.seconds)
        amounts = " ".join(f"{amount:,}" for amount in row.amounts)
        exponents = [f"{slope:.2f}" for slope in (row.fitted, row.last, row.outside)]
        exponents += ["ok" if row.worst <= GOAL else f"above {GOAL}"]
        result.add_row(row.operation, row.of, amounts, times, f"{row.spread:.1f}", *exponents)
    return result


def main() -> int:
    """Prints the table; 1 where an exponent misses the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--largest", type=int, default=MEGABYTES[-1], help="of the files, in MB")
    parser.add_argument("--skip-steps", action="store_true", help="compare nothing")
    parser.add_argument("--read", type=Path, help="print the rows of a JSON file; measure nothing")
    arguments = parser.parse_args()
    if arguments.read:
        read = [Growth(**row) for row in json.loads(arguments.read.read_text())]
        Console(width=150).print(table(read))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = of_layers(folder, arguments.rounds)
        found += of_sizes(folder, arguments.rounds, arguments.largest)
        found += [] if arguments.skip_steps else of_steps(folder, arguments.rounds)
    Console(width=150).print(table(found))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    return int(any(row.worst > GOAL for row in found))


if __name__ == "__main__":
    sys.exit(main())
