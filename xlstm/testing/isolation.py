"""Comparisons in a process of their own: a suspect that hangs or crashes fails its test alone.

    run(Comparison("a.keras", "ports:build"), 30)      a ParityResult, whatever the suspect does

On Linux the process is a fork where nothing has to be imported: it has all live objects. Names of
importable objects run in a new interpreter, and so do files on other systems. The process writes
lines of JSON to a file: a line for each step, then the result or the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlstm import errors
from xlstm.diagnosis import Diagnosis, Finding, Unexplained
from xlstm.errors import UsageError, XlstmError, printable
from xlstm.frameworks import registry
from xlstm.frameworks.crashes import can_fork
from xlstm.ir.graph import Model
from xlstm.testing.comparison import Comparison, in_words, is_importable, named_framework
from xlstm.testing.results import FAILED, ParityResult

GRACE = 5
"""Seconds after the limit at which the system ends a process that outlived its parent."""

LONGEST = 2**31 - 1
"""Most seconds that the clock of a process takes."""

START = 300
"""Most seconds until a new interpreter has imported xlstm."""

SEARCH = "[3/3]"
"""First letters of the lines of a comparison that has found a difference."""

SLOWEST = 0.05
"""Longest time, in seconds, between two looks at a forked process."""

Wait = Callable[[float], int | None]
"""(seconds) -> exit status, negative for a signal; None where the process still runs."""


def run(asked: Comparison, seconds: float) -> ParityResult:
    """Compares in a process of its own, which is ended after some seconds.

    Raises:
        UsageError: live objects that cannot be sent to another process.
        XlstmError: as `assert_parity` raises.
    """
    start = time.perf_counter()
    found = _once(asked, seconds)
    if found is None:
        found = _once(replace(asked, effort=0.0), seconds)
        assert found is not None  # without effort no cause is looked for
        late = f"The search for the cause did not end within {seconds:g} s: allow more (timeout=)."
        found = replace(found, text=f"{found.text}\n{late}")
    return replace(found, seconds=time.perf_counter() - start)


def _once(asked: Comparison, seconds: float) -> ParityResult | None:
    """One process; None where the two differ and the search for causes did not end."""
    with tempfile.TemporaryDirectory(prefix="xlstm-") as folder:
        log = Path(folder, "log")
        log.touch()
        started = _forked(asked, log, seconds) if _can_be_forked(asked) else _new(asked, log)
        with started as wait:
            status = wait(seconds)
        return _said(asked, log, status, seconds)


def _can_be_forked(asked: Comparison) -> bool:
    """True if a fork has all that a comparison needs; False for a new interpreter.

    Raises:
        UsageError: neither is possible.
    """
    both = asked.truth, asked.suspect
    if not can_fork() or any(map(is_importable, both)) or named_framework(asked.suspect):
        for thing in both:
            if not isinstance(thing, (str, os.PathLike)):
                want = "files and importable names ('package.module:name') alone"
                raise UsageError("timeout", want, in_words(thing), DO)
        return False
    for thing in both:
        live = _live(thing)
        if live is not None and not hasattr(live, "prepare_fork"):
            want = "objects that work in a forked process: files, functions, modules of PyTorch"
            raise UsageError("timeout", want, in_words(thing), DO)
    return True


DO = "pass a file or an importable name, or timeout=0 to compare in this process"


def _live(thing: Any) -> Any:
    """The module that runs a live object of a framework, None for anything else."""
    if isinstance(thing, (str, os.PathLike, Mapping, Model)):
        return None
    owner = registry.owner(thing)
    return None if owner is None else owner.live()


@contextlib.contextmanager
def _forked(asked: Comparison, log: Path, seconds: float) -> Iterator[Wait]:
    """A fork of this process that compares; it is ended at the end."""
    asked = asked.read_files()  # here, so that later tests have them too
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        # CPython and JAX warn of threads that the child lacks; it uses none
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        _as_fork(asked, log, seconds)
    ended: list[int] = []

    def wait(limit: float) -> int | None:
        end, pause = time.monotonic() + limit, 0.001
        while not ended:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended.append(os.waitstatus_to_exitcode(status))
            elif time.monotonic() > end:
                return None
            else:
                time.sleep(pause)
                pause = min(2 * pause, SLOWEST)
        return ended[0]

    try:
        yield wait
    finally:
        if not ended:
            _end_group(child)
            os.waitpid(child, 0)


def _as_fork(asked: Comparison, log: Path, seconds: float) -> None:
    """Compares in a forked process, and ends it without the exit functions of its parent."""
    try:
        os.setsid()  # so that all it starts can be ended with it
        # the system ends it, even in a loop of C code, if its parent is gone
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(min(int(seconds) + GRACE, LONGEST))
        for live in filter(None, map(_live, (asked.truth, asked.suspect))):
            if hasattr(live, "prepare_fork"):
                live.prepare_fork()
        work(asked, log)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(0)


def _end_group(child: int) -> None:
    """Kills a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@contextlib.contextmanager
def _new(asked: Comparison, log: Path) -> Iterator[Wait]:
    """A new interpreter that compares files and importable objects; it is ended at the end."""
    request = log.with_name("request.json")
    told = {
        "truth": os.fspath(asked.truth),
        "suspect": os.fspath(asked.suspect),
        "inputs": _stored(asked.inputs, log.parent),
        "memory": asked.memory,
        "effort": asked.effort,
    }
    request.write_text(json.dumps(told), encoding="utf-8", newline="\n")
    # -P: the folder of the caller is searched only if this process searches it
    command = [sys.executable, "-P", "-m", "xlstm.testing.child", str(request), str(log)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    posix = os.name == "posix"
    with subprocess.Popen(command, env=environment, start_new_session=posix) as child:  # noqa: S603

        def wait(limit: float) -> int | None:
            # the limit is for the comparison: a new interpreter needs seconds to import xlstm
            ready = time.monotonic() + START
            while child.poll() is None and not log.stat().st_size and time.monotonic() < ready:
                time.sleep(SLOWEST)
            try:
                return child.wait(limit)
            except subprocess.TimeoutExpired:
                return None

        try:
            yield wait
        finally:
            if child.poll() is None:
                if posix:
                    _end_group(child.pid)
                child.kill()


def _stored(inputs: Any, folder: Path) -> Any:
    """Inputs as JSON: paths stay, arrays become files of numpy."""
    if inputs is None or isinstance(inputs, (str, os.PathLike)):
        return None if inputs is None else os.fspath(inputs)
    if isinstance(inputs, Mapping):
        return {str(name): _stored(x, folder) for name, x in inputs.items()}
    several = isinstance(inputs, (list, tuple)) and any(
        hasattr(x, "shape") or isinstance(x, (str, os.PathLike)) for x in inputs
    )
    if several:
        return [_stored(x, folder) for x in inputs]
    path = folder / f"input_{len([*folder.glob('input_*')])}.npy"
    np.save(path, np.asarray(inputs), allow_pickle=False)
    return str(path)


def work(asked: Comparison, log: Path) -> None:
    """Compares, and writes each step and the result to a file: the work of the other process."""
    with log.open("a", encoding="utf-8") as file:
        file.write("{}\n")  # ready
        file.flush()

        def write(**line: Any) -> None:
            file.write(f"{json.dumps(line, default=_plain)}\n")
            file.flush()

        try:
            found = asked.run(lambda text: write(step=text))
            known = isinstance(found.report, Diagnosis)
            write(result=found.to_json(), diagnosis=asdict(found.report) if known else None)
        except XlstmError as error:
            parts = [error.where, error.expected, error.got, error.do]
            write(error=type(error).__name__, parts=parts)
        except BaseException:
            write(raised=traceback.format_exc())
            raise


def _plain(number: Any) -> Any:
    """A number of numpy as one of Python."""
    return number.item()


def _said(asked: Comparison, log: Path, status: int | None, seconds: float) -> ParityResult | None:
    """The result that the other process wrote, or the way in which it ended without one.

    None where it was stopped while it looked for causes.

    Raises:
        XlstmError: the other process raised it.
    """
    lines = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # cut off in the middle
            lines.append(json.loads(line))
    last: dict[str, Any] = next((one for one in reversed(lines) if one and "step" not in one), {})
    if "result" in last:
        return _rebuilt(last)
    if "error" in last:
        # one of our own classes, by its name
        kind = getattr(errors, last["error"], XlstmError)
        raise kind(*last["parts"])
    step = next((one["step"] for one in reversed(lines) if "step" in one), "")
    if status is None and asked.effort and step.startswith(SEARCH):
        return None
    return _failure(asked, status, seconds, step, last.get("raised", ""))


def _rebuilt(line: Mapping[str, Any]) -> ParityResult:
    """The result of a line that `work` wrote."""
    report = None
    if line["diagnosis"]:
        kept: Any = {
            k: tuple(v) if isinstance(v, list) else v for k, v in line["diagnosis"].items()
        }
        for name, kind in (("findings", Finding), ("notes", Finding), ("unexplained", Unexplained)):
            kept[name] = tuple(kind(**one) for one in kept[name])
        report = Diagnosis(**kept)
    told = dict(line["result"])
    return ParityResult(**{**told, "causes": tuple(told["causes"]), "report": report})


def _failure(
    asked: Comparison, status: int | None, seconds: float, step: str, raised: str
) -> ParityResult:
    """The result of a process that did not end in time, or ended without a result."""
    truth, suspect = in_words(asked.truth), in_words(asked.suspect)
    if status is None:
        how = f"the comparison did not end within {seconds:g} s, and its process was stopped"
        do = "Look in b for a loop that does not end, or allow more time (timeout=)."
    elif raised:
        how = f"the comparison raised an error: {raised.strip().splitlines()[-1]}"
        do = "Correct this first."
    else:
        how = f"the process of the comparison ended early ({_ending(status)})"
        do = "Look in b for a call that ends the process, or for memory that runs out."
    lines = [f"Failed: {how}.", f"a: {truth}", f"b: {suspect}"]
    lines += [f"last step: {step}"] if step else []
    text = "\n".join(printable(line) for line in [*lines, do])
    return ParityResult(FAILED, truth, suspect, text, causes=("failed",))


def _ending(status: int) -> str:
    """The way in which a process ended, in words.

    >>> _ending(-11), _ending(3)
    ('SIGSEGV', 'exit status 3')
    """
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
