"""Turns the crash of a framework into a line of the report; the others still run.

A guard (`xlstm.cli.guard`) runs the command in a child process. The child writes the name of each
framework before it uses it. If a crash ends the child, the guard starts another child, in which
that framework is marked in `CRASHED`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator

from xlstm.frameworks.command_exit import go_on, limited

CRASHED: dict[str, str] = {}
"""Framework -> the signal or the exit status that ended an earlier child of this command."""

IMPORTING = 60
"""Seconds of processor time that an import may take in a child whose memory is limited."""

WAITING = 600
"""Seconds of the clock that it may take."""

_parent: list[int] = []
"""The file descriptor by which a child reports to its guard; empty in any other process."""


def can_fork() -> bool:
    """True on Linux; macOS ends forks that use its frameworks, and Windows has none."""
    return sys.platform == "linux" and hasattr(os, "fork")


def report_to(descriptor: int) -> None:
    """Makes this process a child that reports to a guard."""
    _parent.append(descriptor)


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
    report(framework)


def report(word: str) -> None:
    """Writes a word to the guard of this process, if it has one."""
    for pipe in _parent:
        os.write(pipe, f"{word}\n".encode())
