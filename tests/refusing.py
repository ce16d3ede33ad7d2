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


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Fails what takes longer; Python code and system calls only, C loops go on."""

    def late(*_args: object) -> None:
        pytest.fail(f"still at it after {seconds} s")  # no Exception, so nothing catches it

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
