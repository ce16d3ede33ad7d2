"""Kills `xlstm port --overwrite` at random moments, and looks at what is left.

    python benchmarks/kills.py [--kills 200] [--commands 5] [--seed 0] [--folder FOLDER]

Two models are ported in turn to one folder. Most kills (SIGKILL) hit children that are forked from
this process and call the command's `main`; `--commands` of them hit the command itself, which
verifies its port. After each kill the folder must be the earlier or the new port, whole; after one
more run that nobody kills nothing may lie beside it. Exit 1 where that fails.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import xlstm
from xlstm.cli.main import main as command
from xlstm.errors import XlstmError
from xlstm.files import hashes
from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM, Dense
from xlstm.ir.source import Source
from xlstm.reading.record import read_record

SIZES = {"first": 96, "second": 128}
"""Name of a model -> units of its LSTM."""

LATE = 1.05
"""The last moment of a kill, in times of a run that is not killed."""


def sources(folder: Path) -> dict[str, Path]:
    """Name of each model -> a folder that it is ported from."""
    found = {}
    for name, units in SIZES.items():
        rng = np.random.default_rng(units)
        shapes = {
            "lstm": {
                "kernel": (4, 8, units),
                "recurrent": (4, units, units),
                "bias": (1, 4, units),
            },
            "dense": {"kernel": (units, 2), "bias": (2,)},
        }
        weights = {
            layer: {n: rng.normal(0, 0.1, shape).astype("float32") for n, shape in tensors.items()}
            for layer, tensors in shapes.items()
        }
        layers = [("lstm", LSTM(8, units), True), ("dense", Dense(units, 2), True)]
        model = chain(name, layers, (None, 8), weights, Source("keras"))
        found[name] = xlstm.save(model, folder / name, "nnx")
    return found


def arguments(source: Path, target: Path) -> list[str]:
    """Of a run of the command that replaces the target."""
    return ["port", str(source), "--to", "torch", "-o", str(target), "--overwrite"]


def forked(source: Path, target: Path) -> int:
    """The process number of a child that runs the command, but for its verification."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        status = command([*arguments(source, target), "--no-verify"])
    finally:
        os._exit(status)


def started(source: Path, target: Path) -> int:
    """The process number of the command itself."""
    line = [sys.executable, "-m", "xlstm", *arguments(source, target)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid


def ended(child: int) -> int:
    """Exit status of a child, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def port_in(target: Path) -> str:
    """Name of the model whose port a folder is, letter for letter, else what is wrong with it."""
    try:
        record, model = read_record(target), xlstm.load(target)
        wrong = [n for n, digest in record.hashes.items() if hashes.of_file(target / n) != digest]
    except (OSError, XlstmError) as error:
        return f"not whole: {error}"
    return f"not whole: {', '.join(wrong)}" if wrong else model.name


def beside(target: Path) -> list[str]:
    """What lies beside a target."""
    return sorted(path.name for path in target.parent.iterdir() if path != target)


@dataclasses.dataclass
class Tally:
    """What was seen.

    Attributes:
        whole: kills after which the target was whole.
        when: what a kill came upon -> how often.
        faults: lines for what must not be.
    """

    whole: int = 0
    when: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)


def moment(before: str, after: str, status: int, left: list[str], target: Path) -> str:
    """How far a run came that was killed."""
    if status >= 0:
        return "after its end"
    if not left:
        return "before it wrote" if after == before else "when all was done"
    (name, *_) = left
    whole = port_in(target.with_name(name)) in SIZES
    if after == before:
        return "when all was written" if whole else "while it wrote"
    return "when the new port was in place" if whole else "while the old port was removed"


Start = Callable[[Path, Path], int]
"""(source, target) -> the process number of a run."""


@dataclasses.dataclass
class Trial:
    """A target, the two models that are ported to it in turn, and what was seen.

    Attributes:
        target: the folder.
        models: name -> source.
        tally: what was seen.
        times: seconds of runs that nobody killed.
    """

    target: Path
    models: dict[str, Path]
    tally: Tally
    times: dict[Start, list[float]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )

    def run(self, start: Start) -> int:
        """Exit status of a run that nobody kills, of the model that is not there."""
        began = time.monotonic()
        status = ended(start(self.other(), self.target))
        self.times[start].append(time.monotonic() - began)
        return status

    def other(self) -> Path:
        """A source of the model that the target does not hold."""
        there = port_in(self.target)
        return next(path for name, path in self.models.items() if name != there)

    def kill(self, start: Start, delay: float) -> None:
        """One kill, and the next run."""
        before, tally = port_in(self.target), self.tally
        child = start(self.other(), self.target)
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status, after = ended(child), port_in(self.target)
        tally.when[moment(before, after, status, beside(self.target), self.target)] += 1
        tally.whole += after in SIZES
        if after not in SIZES:
            tally.faults.append(f"target after a kill: {after}")
        if self.run(forked) or port_in(self.target) not in SIZES:
            tally.faults.append(f"next run: the target is {port_in(self.target)}")
        if left := beside(self.target):
            tally.faults.append(f"left over after the next run: {', '.join(left)}")

    def kills(self, start: Start, number: int) -> None:
        """So many kills, at moments spread over a run."""
        for _ in range(3):
            assert self.run(start) == 0, "a run that is not killed"
        for _ in range(number):
            usual = statistics.median(self.times[start][-5:])
            self.kill(start, random.uniform(0, LATE * usual))


def main() -> int:
    """Prints what was seen; 1 where a target was not whole or something was left over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--commands", type=int, default=5, help="kills of the command itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to work: its file system is what is tested")
    given = parser.parse_args()
    random.seed(given.seed)
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=given.folder) as here:
        (Path(here) / "models").mkdir()
        (Path(here) / "ports").mkdir()
        models, target = sources(Path(here) / "models"), Path(here) / "ports" / "target"
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            command([*arguments(models["first"], target), "--no-verify"])  # imports what it needs
        trial = Trial(target, models, tally)
        trial.kills(forked, given.kills - given.commands)
        trial.kills(started, given.commands)
    print(f"{given.kills} kills, {given.commands} of them of the command itself")
    for what, number in tally.when.most_common():
        print(f"  {number:4} {what}")
    print(f"target whole: {tally.whole} of {given.kills}")
    print(f"left over after the next run: {sum('left over' in line for line in tally.faults)}")
    print("\n".join(tally.faults))
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
