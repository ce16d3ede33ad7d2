"""Ends a command: a status, and one line on stderr for every error that is no bug of xlstm.

    ended(lambda: 1)                       1
    ended(a command that finds no file)    2, "xlstm: a.keras: expected a readable model file, ..."
    ended(a command that meets Ctrl-C)     130, "xlstm: interrupted"

Imports the standard library alone: Ctrl-C and a lack of memory often occur during numpy's import.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

from xlstm._interrupt import end
from xlstm.errors import XlstmError, printable

CANNOT = 2
"""Status of a command that cannot be done."""

INTERRUPTED = 130
"""Status after Ctrl-C: 128 + SIGINT, as shells have it."""

_asked: list[int] = []
"""Every SIGINT that this command got."""

_told: list[str] = []
"""Messages that were printed: one line is enough, from whichever process."""


def say(line: str) -> None:
    """Writes a line to stderr, if it takes one; a terminal gets it cut between words."""
    try:
        print(on_terminal(line, sys.stderr), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)


def on_terminal(line: str, stream: TextIO | None) -> str:
    """Returns a line cut between words, if a stream is a terminal that is too narrow for it."""
    if stream is None or not stream.isatty():
        return line
    width = shutil.get_terminal_size().columns
    if len(line) <= width:
        return line
    import textwrap

    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def ended(command: Callable[[], int]) -> int:
    """Runs a command, flushes its output, and returns its exit status.

    A reader of stdout that stops early does not change the status. An unexpected error is a bug of
    xlstm: its traceback is shown, and the status is 2, as 1 means "not equal".
    """
    try:
        status = _run(command)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if _asked or status == INTERRUPTED:  # C code may drop it, or raise another error instead
        if not _told:
            say("xlstm: interrupted")
        told()
        return INTERRUPTED
    return status


def go_on() -> None:
    """Raises KeyboardInterrupt again if C code has dropped that of this command."""
    if _asked:
        raise KeyboardInterrupt


def told() -> None:
    """Records that the line about Ctrl-C is written."""
    _told.append("interrupted")


def _run(command: Callable[[], int]) -> int:
    try:
        status = command()
    except Exception as error:
        if _asked:
            return INTERRUPTED
        line = _line(error)
        if line is None:
            traceback.print_exc()
            line = "this is a mistake in xlstm; please report it with the lines above"
        say(f"xlstm: {line}")
        status = CANNOT
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        return status
    return status if _written() else CANNOT


def _line(error: Exception) -> str | None:
    """The line for an error of the user or the machine; None for any other."""
    if isinstance(error, XlstmError):
        return str(error)
    message = printable(error)
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({message})' * bool(message)}; allow this process more memory"
    if isinstance(error, OSError):
        where = f"{printable(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror or message}"
    if isinstance(error, ImportError):
        do = "allow this process more memory" if limited() else "install it again"
        last = printable((str(error).strip().splitlines() or ["no reason known"])[-1])
        return f"cannot import {error.name or 'a package'}: {last}; {do}"  # numpy: the last line
    if isinstance(error, RuntimeError) and "can't start new thread" in message:
        return f"{message}; allow this process more threads or memory"
    # C code that does not check an allocation: numpy's import may find no datetime_CAPI
    if limited() and (isinstance(error, SystemError) or _foreign(error)):
        return f"{message}; allow this process more memory"
    return None


def _foreign(error: Exception) -> bool:
    """True if an error was raised in a module of somebody else, such as one that is imported."""
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    return any(not str(f.f_globals.get("__name__")).startswith("xlstm") for f in last)


def _written() -> bool:
    """Flushes stdout; False if that fails, with a line on stderr."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `xlstm count ... | head -1`
        _drop(sys.stdout)
    except OSError as error:
        say(f"xlstm: stdout: {error.strerror or error}")
        _drop(sys.stdout)
        return False
    return True


def _drop(stream: TextIO) -> None:
    """Discards the rest of a stream: the interpreter flushes it again at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show(text: object) -> None:
    """Prints to stdout; a closed pipe is no error."""
    with contextlib.suppress(BrokenPipeError):
        print(text)


def as_process(command: Callable[[], int]) -> int:
    """Runs the command of this process; returns its status as `ended` does.

    The first Ctrl-C is an exception, so that the command removes its files; a second one ends it
    at once.
    """
    _open_streams()
    _told.clear()
    with contextlib.suppress(ValueError):  # not the main thread
        # if it was ignored (`nohup`, `&` in a script), it stays ignored
        if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, end):
            signal.signal(signal.SIGINT, _first)
    sys.unraisablehook = _unraisable
    try:
        status = ended(command)
    except SystemExit as left:  # argparse: --help, or unknown arguments
        status = left.code if isinstance(left.code, int) else CANNOT if left.code else 0
        status = status if _written() else CANNOT
    if status == INTERRUPTED:
        # a framework whose import was interrupted may crash while the interpreter ends
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(INTERRUPTED)
    return status


def _first(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    if len(_asked) > 1:
        os._exit(INTERRUPTED)
    raise KeyboardInterrupt


def only_first(number: int, _frame: FrameType | None) -> None:
    """Handles SIGINT in a child: a terminal sends it one, and its parent another one."""
    _asked.append(number)
    if len(_asked) == 1:
        raise KeyboardInterrupt


def _unraisable(found: Any) -> None:
    """Reports an exception that Python cannot raise; `ended` reports Ctrl-C."""
    if not issubclass(found.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(found)


def _open_streams() -> None:
    """Opens stdin, stdout and stderr if they are closed: else a file would get their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def quiet_libraries() -> None:
    """Silences libraries, which write many lines to stderr for a lack of memory."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace")


def limited() -> bool:
    """True if this process's memory is limited (`ulimit -v`); forks are safe on Linux alone."""
    if sys.platform != "linux":
        return False
    import resource

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)
