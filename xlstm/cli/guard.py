"""Runs a command in child processes, so that the crash of a framework does not end it.

    run_guarded(verify)     0, 1 or 2; a framework that crashes is a line of its report

On Linux the child is a fork, made before any framework is imported. Elsewhere forks are not safe or
do not exist, and the child is a new `python -m xlstm` with the same arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from xlstm.frameworks import crashes
from xlstm.frameworks.command_exit import CANNOT, INTERRUPTED, only_first, say, told
from xlstm.frameworks.crashes import CRASHED, can_fork, report

DONE = "done"
"""The last message of a child process: a crash after it comes from the interpreter's exit."""

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
ASKED = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Signals from outside: they end the command. Windows has no SIGHUP."""

LOG, EARLIER = "XLSTM_GUARD_LOG", "XLSTM_GUARD_CRASHED"
"""Variables for a child that is no fork: the file that it reports to, and `CRASHED` as JSON."""


def run_guarded(command: Callable[[], int], again: bool = True) -> int:
    """Returns the exit status of a command, run in children until one does not crash.

    Where processes fork, this function returns in the child as it does in the parent.

    Args:
        command: runs in the child, and in this process where it is a child already.
        again: True to start another child after a crash; False for one child alone.
    """
    if LOG in os.environ:
        return _as_new_child(command)
    if can_fork():
        return _fork(command, again)
    return _start(again) if again else command()


def _fork(command: Callable[[], int], again: bool) -> int:
    """Forks children until one is not killed; returns in the last of them too."""
    while True:
        reader, ours = os.pipe()
        theirs, alive = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        child = os.fork()
        if not child:
            os.close(reader)
            os.close(alive)
            return _as_child(command, ours, theirs)
        os.close(ours)
        os.close(theirs)
        words, status = _wait(child, reader)
        os.close(alive)
        if not os.WIFSIGNALED(status):
            return _left(words, os.waitstatus_to_exitcode(status))
        killed = signal.Signals(os.WTERMSIG(status))
        if words[-1:] and words[-1].startswith(DONE):
            return int(words[-1].removeprefix(DONE))
        if killed in ASKED or (again and not words):
            return _die(killed)
        if not again:
            return _ended_by(words, killed.name)
        CRASHED[words[-1]] = killed.name


def _left(words: list[str], status: int) -> int:
    """The status of a command whose child has exited; a library may have called exit."""
    if status == INTERRUPTED:
        told()
        return status
    done = words and words[-1].startswith(DONE)
    return status if done else _ended_by(words, f"exit status {status}")


def _ended_by(words: list[str], how: str) -> int:
    last = words[-1] if words else "a library"
    say(f"xlstm: {last} ended the process ({how}), perhaps because memory ran out")
    return CANNOT


def _as_child(command: Callable[[], int], ours: int, theirs: int) -> int:
    """Runs the command, and ends with the parent."""

    def end() -> None:
        os.read(theirs, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, only_first)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=end, daemon=True).start()
    crashes.report_to(ours)
    status = command()
    sys.stdout.flush()
    report(f"{DONE}{status}")
    return status


def _wait(child: int, reader: int) -> tuple[list[str], int]:
    """The messages of a child process, and its exit status."""
    text = b""
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            while part := os.read(reader, 1024):
                text += part
            _, status = os.waitpid(child, 0)
            break
        except KeyboardInterrupt:
            os.kill(child, signal.SIGINT)  # a terminal sends it to both, `kill -INT` to one
    os.close(reader)
    return text.decode().split(), status


def _die(killed: signal.Signals) -> int:
    """Ends as the child has ended."""
    signal.signal(killed, signal.SIG_DFL)
    os.kill(os.getpid(), killed)
    return 128 + killed


def _start(again: bool) -> int:
    """Starts new interpreters until one does not crash."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        while True:
            log.write_bytes(b"")
            status = _new_child(log)
            words = log.read_text(encoding="utf-8").split()
            if words[-1:] and words[-1].startswith(DONE):
                return int(words[-1].removeprefix(DONE))
            if status in (CANNOT, INTERRUPTED, -signal.SIGINT):
                return INTERRUPTED if status != CANNOT else CANNOT
            if not words or words[-1] in CRASHED:
                return _ended_by(words, _crash(status))
            CRASHED[words[-1]] = _crash(status)


def _new_child(log: Path) -> int:
    """Runs this command again in a new interpreter that reports to a file; returns its status."""
    import subprocess

    environment = {**os.environ, LOG: os.fspath(log), EARLIER: json.dumps(CRASHED)}
    words = [sys.executable, "-m", "xlstm", *sys.argv[1:]]
    with subprocess.Popen(words, env=environment) as child:  # noqa: S603
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # a terminal sends it to the child as well
                return child.wait()


def _as_new_child(command: Callable[[], int]) -> int:
    """Runs the command in an interpreter that `_start` has started."""
    CRASHED.update(json.loads(os.environ.pop(EARLIER)))
    crashes.report_to(os.open(os.environ.pop(LOG), os.O_WRONLY | os.O_APPEND))
    status = command()
    sys.stdout.flush()
    report(f"{DONE}{status}")
    return status


def _crash(status: int) -> str:
    """Returns the name of a signal, or the status as Windows writes it.

    >>> _crash(-11), _crash(0xC0000005), _crash(3)
    ('SIGSEGV', 'exit status 0xC0000005', 'exit status 3')
    """
    if status < 0:
        return signal.Signals(-status).name
    windows = status > 255  # such as 0xC0000005, an access violation
    return f"exit status 0x{status:08X}" if windows else f"exit status {status}"
