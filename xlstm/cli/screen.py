"""Shows progress and results: colours and progress on terminals only, nothing more when piped.

with progress("comparing", quiet=False) as tell:
    tell("[2/4] PyTorch float64")     stderr: a spinner and "[2/4] PyTorch float64, 12 s"
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
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
def progress(text: str, *, quiet: bool, clock: bool = True) -> Iterator[Callable[[str], None]]:
    """Shows the current activity and its seconds on a terminal.

    Args:
        text: the first activity.
        quiet: True to show nothing.
        clock: False for a text that says the time itself.

    Yields:
        The function that changes the text.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner, step = Spinner("dots"), Activity(text, clock)
    with _own_stderr() as stream:
        width = os.get_terminal_size(stream.fileno()).columns or 80
        console = Console(file=stream, force_terminal=True, width=width)

        def line() -> Spinner:
            spinner.update(text=Text(step.line(width - 2), no_wrap=True))
            return spinner

        live = Live(get_renderable=line, console=console, transient=True, refresh_per_second=5)

        def tell(text: str) -> None:
            step.start(text)
            if clock:  # thousands of models a minute would draw the line as often
                live.refresh()

        with live:
            live.refresh()
            yield tell


@contextlib.contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """A second descriptor of stderr: an import of TensorFlow turns the first one aside."""
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") as stream:
        yield stream


class Activity:
    """The current activity, and the time when it started."""

    def __init__(self, text: str, clock: bool = True) -> None:
        self.text, self.began, self.clock = printable(text), time.monotonic(), clock

    def start(self, text: str) -> None:
        """Starts an activity; one that only counts further ("looking: 250 tried") goes on."""
        if text.partition(":")[0] != self.text.partition(":")[0]:
            self.began = time.monotonic()
        self.text = printable(text)

    def line(self, size: int) -> str:
        """Returns the activity and its seconds, in `size` columns at most."""
        end = f", {int(time.monotonic() - self.began)} s" if self.clock else ""
        room = size - len(end)
        return (self.text if len(self.text) <= room else f"{self.text[: room - 1]}…") + end


def log_to_stderr() -> None:
    """Writes what the package logs to stderr: files that are read, frameworks that run."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms  %(message)s"))
    logger = logging.getLogger("xlstm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
