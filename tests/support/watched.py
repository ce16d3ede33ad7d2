"""Reads hostile files, each in a child of its own: what came out, and what it took and opened.

Files beside a model are made into FIFOs first: whoever opens one, be it libhdf5 itself, waits for
ever and is noticed. What Python opens is told by an audit hook.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz import forked

import xlstm

LIMITS = forked.Limits(seconds=6.0, used=200 * 2**20)
SECONDS = 2.0
"""Most processor time of one file."""

EVENTS = {"open", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"}
EVENTS |= {"pickle.find_class", "socket.getaddrinfo", "os.mkdir", "os.remove"}


def trap(model: Path) -> None:
    """Turns every other file of the model's folder into a FIFO of its name."""
    for path in model.parent.iterdir():
        if path != model and not path.is_dir():
            path.unlink()
            os.mkfifo(path)


def outside(event: str, what: object, path: Path) -> bool:
    """Whether an event is anything but opening the model itself or importing code of ours."""
    if event != "open":
        return event in EVENTS
    if isinstance(what, int):
        return False
    name = os.fsdecode(what) if isinstance(what, str | bytes | os.PathLike) else str(what)
    return name != str(path) and not name.endswith((".py", ".pyc"))


def watched(reader: Callable[[Path], Any], path: Path) -> None:
    """Calls a reader, and fails if it opened other files or took too long."""
    seen: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in EVENTS and outside(event, args[0] if args else "", path):
            seen.append(f"{event} {args[:1]}")

    sys.addaudithook(hook)
    started = time.process_time()
    try:
        reader(path)
    finally:
        taken = time.process_time() - started
        if seen or taken > SECONDS:
            raise AssertionError(f"{taken:.1f} s, opened: {seen}")


def outcomes(
    reader: Callable[[Path], Any], paths: list[str], limits: forked.Limits = LIMITS
) -> None:
    """Writes the kind and text of each file's outcome, as one JSON list."""
    xlstm.load(xlstm.demo.path())  # what is imported on first use is there before the children are
    found = [forked.run(lambda path: watched(reader, path), Path(path), limits) for path in paths]
    sys.stdout.write(json.dumps([(outcome.kind, outcome.text) for outcome in found]))
