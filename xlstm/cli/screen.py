"""Shows progress and results: colours and progress on terminals only, nothing more when piped.

with progress("comparing", quiet=False) as tell:
    tell("[2/4] PyTorch float64")     stderr: a spinner, this text, and "12 s"
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from xlstm.errors import printable
from xlstm.frameworks.command_exit import show

GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def coloured(stream: TextIO) -> bool:
    """True if a stream is a terminal that shows colours, and `NO_COLOR` is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def show_result(text: str, ok: bool) -> None:
    """Prints a text whose first line is the result: green if all is equal, red if not."""
    first, line, rest = text.partition("\n")
    if coloured(sys.stdout):
        first = f"{GREEN if ok else RED}{first}{PLAIN}"
    show(f"{first}{line}{rest}")


def show_json(data: Any) -> None:
    """Prints one JSON document."""
    show(json.dumps(data, indent=1, allow_nan=False))


@contextlib.contextmanager
def progress(text: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows the current activity and its seconds on a terminal.

    Args:
        text: the first activity.
        quiet: True to show nothing.

    Yields:
        The function that changes the text.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Seconds(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{int(task.elapsed or 0)} s")

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), Seconds()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(text)
        yield lambda line: shown.update(task, description=printable(line))


def log_to_stderr() -> None:
    """Writes what the package logs to stderr: files that are read, frameworks that run."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms  %(message)s"))
    logger = logging.getLogger("xlstm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
