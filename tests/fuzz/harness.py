"""Fuzzes the readers: python tests/fuzz/harness.py --seconds 60 --keep FOLDER.

Genuine files are damaged at random and by their structure; each case is read in a forked child with
limits. Exit status 1 if a case ended in anything but a model or a refusal. The number of a case and
the seed give the same case again; `--replay FILE` reads one file that was kept.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest  # noqa: F401  pins what frameworks read

import xlstm
from fuzz import forked
from fuzz.bases import Base, bases
from fuzz.mutations import case
from fuzz.reading import everything
from xlstm.errors import XlstmError

COLUMNS = dict(
    zip(forked.KINDS, "reads refusals foreign crashes hangs over_1_GiB".split(), strict=True)
)
REPORT = 60.0
"""Seconds between lines that say how far a run is."""

SHOWN = 20
"""Most different offences that are printed."""


@dataclass(frozen=True)
class Run:
    """What is run: cases of one seed, until so many or so many seconds; where offenders go."""

    found: list[Base]
    reader: Callable[[Path], Any]
    seed: int = 0
    cases: int | None = None
    seconds: float | None = None
    jobs: int = 1
    keep: Path | None = None
    limits: forked.Limits = field(default_factory=forked.Limits)


def say(text: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()


Result = tuple[int, str, str, str]
"""Number of a case, kind of file, kind of outcome, and what offended or the empty text."""


def work(job: Run, first: int, folder: Path) -> list[Result]:
    """Every `jobs`-th case from `first` on."""
    started = said = time.monotonic()
    done: list[Result] = []
    numbers = itertools.count(first, job.jobs)
    for number in itertools.takewhile(lambda n: job.cases is None or n < job.cases, numbers):
        now = time.monotonic()
        if job.seconds is not None and now - started > job.seconds:
            break
        if first == 0 and now - said > REPORT:
            said = now
            say(f"{now - started:.0f} s: case {number}", sys.stderr)
        done.append(one(job, number, folder))
    return done


def one(job: Run, number: int, folder: Path) -> Result:
    """Makes one case, has it read, and keeps it if that was an offence."""
    base, how, files = case(job.found, job.seed, number)
    outcome = forked.run(job.reader, base.write(folder, files), job.limits)
    text = ""
    if outcome.kind in forked.OFFENCES:
        text = f"{outcome.kind}: case {number}, {base.name}, {how}\n{outcome.text}"
        keep(job, number, base, files, text)
    shutil.rmtree(folder / base.place)
    return number, base.kind(), outcome.kind, text


def keep(job: Run, number: int, base: Base, files: dict[str, bytes], text: str) -> None:
    """Puts an offending input where it can be looked at, and what it did beside it."""
    if job.keep is None:
        return
    folder = job.keep / f"{text.split(':')[0]}-{job.seed}-{number}"
    base.write(folder, files)
    (folder / "what.txt").write_text(text, errors="backslashreplace")


def fuzz(job: Run) -> list[Result]:
    """Runs all jobs side by side, each in a process of its own, and gives what they found."""
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        workers = [_worker(job, number, Path(name)) for number in range(job.jobs)]
        try:
            failed = [pid for pid in workers if os.waitpid(pid, 0)[1]]
        except BaseException:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            raise
        if failed:
            raise SystemExit("a worker of the fuzzer ended by itself: see its error above")
        parts = [json.loads((Path(name) / f"{n}.json").read_text()) for n in range(job.jobs)]
    return sorted(tuple(item) for part in parts for item in part)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _worker(job: Run, number: int, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        below = folder / str(number)
        below.mkdir()
        (folder / f"{number}.json").write_text(json.dumps(work(job, number, below)))
        status = 0
    except BaseException:  # noqa: BLE001  the child must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def table(done: list[Result], seconds: float) -> str:
    """Rows by kind of file, and one of all."""
    counts = Counter((kind, outcome) for _, kind, outcome, _ in done)
    kinds = sorted({kind for kind, _ in counts})
    lines = ["file      cases " + "".join(f"{name:>11}" for name in [*COLUMNS.values(), "seconds"])]
    for row in [*kinds, "all"]:
        of = [row] if row != "all" else kinds
        cells = [sum(counts[kind, outcome] for kind in of) for outcome in COLUMNS]
        last = f"{seconds:11.1f}" if row == "all" else ""
        lines.append(f"{row:8}{sum(cells):7}" + "".join(f"{n:11}" for n in cells) + last)
    return "\n".join(lines)


def offences(done: list[Result]) -> list[str]:
    """The first offence of each sort, and how many there were."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, _, kind, text in done:
        if text:
            # a crash lists its frames from the innermost on, an exception ends with its message
            lines = text.strip().splitlines()
            said = "".join(lines[4:8]) if kind == "crash" else lines[-1][:60]
            found.setdefault((kind, said), []).append(text)
    return [f"{len(texts)} x {texts[0].rstrip()}" for texts in found.values()]


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, help="how long to go on (default 60)")
    parser.add_argument("--cases", type=int, help="how many cases, however long they take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for offending inputs")
    parser.add_argument("--replay", type=Path, help="read this one file, and say what happens")
    return parser.parse_args(words)


def takes(base: Base) -> bool:
    """Whether a reader takes this base as it is; what fails in other ways is a case for later."""
    with tempfile.TemporaryDirectory(dir=_memory()) as name:
        plain = replace(base, place="case")
        try:
            everything(plain.write(Path(name), base.files))
        except XlstmError:
            return False
        except Exception:  # noqa: BLE001
            return True
    return True


def main(words: list[str]) -> int:
    """The command line; 1 if there was an offence."""
    given = arguments(words)
    if given.replay:
        outcome = forked.run(everything, given.replay, forked.Limits())
        say(f"{outcome.kind}: {outcome.text}")
        return int(outcome.kind in forked.OFFENCES)
    seconds = given.seconds or (None if given.cases else 60.0)
    everything(xlstm.demo.path())  # what is imported on first use is imported here, not by a case
    found = bases(takes)
    job = Run(found, everything, given.seed, given.cases, seconds, given.jobs, given.keep)
    started = time.monotonic()
    done = fuzz(job)
    shown = offences(done)
    for text in shown[:SHOWN]:
        say(f"{text}\n")
    say(table(done, time.monotonic() - started))
    say(f"{len(found)} base files, seed {given.seed}, {len(shown)} sorts of offence")
    return int(bool(shown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
