"""Turns the crash of a framework into a line of the report; the others still run.

The command line forks before it imports any framework. The child does the work, and writes the name
of each framework before it uses it. If a signal kills the child, the parent starts another child,
in which that framework is marked as crashing. Forks are safe on Linux alone; on other systems the
command runs without a child.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from xlstm.frameworks.command_exit import CANNOT, INTERRUPTED, go_on, limited, only_first, say, told

CRASHED: dict[str, str] = {}
"""Framework -> the signal that ended an earlier child of this command."""

DONE = "done"
"""The last message of a child process: a crash after it comes from the interpreter's exit."""

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals from outside: they end the command."""

IMPORTING = 60
"""Seconds of processor time that an import may take in a child whose memory is limited."""

WAITING = 600
"""Seconds of the clock that it may take."""

_parent: list[int] = []


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Limits the time of an import in a child, which may loop or wait for lack of memory.

    CPython 3.11 loops forever if it handles an error and has no memory even for the line number
    (`exception_unwind` in ceval.c). It waits forever for the lock of an import that an error of
    memory left locked. Only children of this module get a limit.
    """
    if not (_parent and limited()):
        yield
        return
    import resource

    kind, before = resource.RLIMIT_CPU, resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + IMPORTING
    soft = min([most, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(kind, (soft, before[1]))
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(kind, before)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the objects of an import from the garbage collector, in a child alone.

    A command ends soon, and looks through the objects of a framework again and again: that was a
    quarter of the time of an import, and as much of the first trace of a JAX function.
    """
    if not _parent:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def note_framework(framework: str) -> None:
    """Records that a framework is imported or run from now on.

    Raises:
        RuntimeError: it ended an earlier child.
    """
    go_on()
    if framework in CRASHED:
        raise RuntimeError(
            f"it crashed the process ({CRASHED[framework]}) when it was imported or run"
        )
    _say(framework)


def _say(word: str) -> None:
    for pipe in _parent:
        os.write(pipe, f"{word}\n".encode())


def run_guarded(command: Callable[[], int], again: bool = True) -> int:
    """The exit status of a command, run in children until one is not killed.

    This function returns in the child as it does in the parent. Without `again` there is one child.
    """
    if sys.platform != "linux":
        return command()
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
    say(f"xlstm: {last} ended the process ({how}), perhaps for want of memory")
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
    _parent.append(ours)
    status = command()
    sys.stdout.flush()
    _say(f"{DONE}{status}")
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
