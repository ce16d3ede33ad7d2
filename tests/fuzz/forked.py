"""One case: a reader called in a forked child with limits, and what became of it."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from xlstm.errors import XlstmError

KINDS = ("read", "refused", "foreign", "crash", "hang", "memory")
OFFENCES = KINDS[2:]
TAIL = 2_000
"""Characters kept of a traceback: its end says most."""


@dataclass(frozen=True)
class Limits:
    """What one case may take.

    Attributes:
        seconds: of a processor, which others cannot take away.
        patience: seconds of the clock, for what waits and does not work.
        reserved: bytes that may be reserved.
        used: bytes that may be used.
    """

    seconds: float = 8.0
    patience: float = 240.0
    reserved: int = 3 * 2**30
    used: int = 2**30


@dataclass(frozen=True)
class Outcome:
    """What became of a case; `text` is the error, the traceback's end or the signal."""

    kind: str
    text: str


def run(reader: Callable[[Path], Any], path: Path, limits: Limits) -> Outcome:
    """Calls a reader in a child; this process must hold no threads that matter."""
    before = _resident()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _child(reader, path, limits, send)
    os.close(send)
    said = _listen(receive, time.monotonic() + limits.patience)
    os.close(receive)
    if said is None:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    grown = usage.ru_maxrss * 1024 - before
    return _judged(said, status, grown, limits)


def _judged(said: bytes | None, status: int, grown: int, limits: Limits) -> Outcome:
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if said is None or ended == signal.SIGXCPU:
        took = f"{limits.patience:g} s" if said is None else f"{limits.seconds:g} s of a processor"
        return Outcome("hang", f"no end after {took}")
    if ended:
        tail = said.decode(errors="replace")[-TAIL:]
        return Outcome("crash", f"{signal.Signals(ended).name}\n{tail}")
    if grown > limits.used:
        return Outcome("memory", f"grew by {grown / 2**20:.0f} MiB\n{said.decode()[:TAIL]}")
    try:
        return Outcome(*json.loads(said))
    except ValueError:
        return Outcome("crash", f"exit status {os.waitstatus_to_exitcode(status)}, nothing said")


def _resident() -> int:
    """Bytes of memory this process holds: a forked child's peak starts there."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _listen(pipe: int, deadline: float) -> bytes | None:
    """All that the child says until it ends, None if it does not."""
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            break
        piece = os.read(pipe, 2**16)
        if not piece:
            return said
        said += piece
    return None


def _child(reader: Callable[[Path], Any], path: Path, limits: Limits, send: int) -> NoReturn:
    with contextlib.suppress(BaseException):
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        faulthandler.enable(send, all_threads=False)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limits.reserved, limits.reserved))
        seconds = math.ceil(limits.seconds)
        # the second limit kills: with both alike, no SIGXCPU would say why
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        said = json.dumps(_attempt(reader, path)).encode()
        while said:
            said = said[os.write(send, said) :]
        os._exit(0)
    os._exit(1)


def _attempt(reader: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    try:
        reader(path)
    except XlstmError as error:
        text = str(error)
        good = text.isprintable() and len(text) < 5000
        return ("refused", text) if good else ("foreign", f"a bad line: {text[:TAIL]!r}")
    except BaseException as error:  # noqa: BLE001  any other is what is looked for
        return "foreign", _tail(error)
    return "read", ""


def _tail(error: BaseException) -> str:
    lines = traceback.format_exception(type(error), error, sys.exc_info()[2], limit=-6)
    return "".join(lines)[-TAIL:]
