"""What a good refusal looks like, and what a folder looks like before and after."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xlstm.errors import XlstmError


def refused(kind: type[XlstmError], call: Callable[[], Any], *words: str) -> XlstmError:
    """The error of this very kind that `call` raises: one line that says all four things."""
    with pytest.raises(XlstmError) as caught:
        call()
    error = caught.value
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    text = str(error)
    assert text.isprintable(), "one line without control characters"
    for part in (error.where, error.expected, error.got, error.do):
        assert part.strip(), f"nothing said in: {text}"
        assert part in text, text
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    return error


PATIENCE = 600
"""Seconds after which something is taken to wait for ever, on a machine as busy as it may be."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Fails what takes more processor time, or waits for ever; Python code only, C loops go on.

    The time of the clock says nothing: others may have the processors.
    """

    def late(number: int, _frame: object) -> None:
        what = "working" if number == signal.SIGPROF else "waiting"
        pytest.fail(f"still {what}; {seconds} s was enough")  # no Exception, so nothing catches it

    timers = (signal.ITIMER_PROF, seconds), (signal.ITIMER_REAL, PATIENCE)
    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    for timer, most in timers:
        signal.setitimer(timer, most)
    try:
        yield
    finally:
        for timer, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones included; folders and links by their kind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"link to " + bytes(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else b"folder"
    return found
