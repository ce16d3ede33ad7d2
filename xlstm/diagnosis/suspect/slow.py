"""A suspect that does not return: a line that says so, for it runs in the caller's own process.

No limit ends it. A slow suspect may be a right one, its speed says nothing about it, and only a
process of its own could be ended, which most live models cannot be sent to.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

PATIENCE = 30.0
"""Seconds of one call of a suspect until a line is written."""


def tell(line: str) -> None:
    """Writes a line where the user sees it, whatever the suspect does."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def waited(what: str) -> Iterator[None]:
    """Says on stderr that `what` has not returned yet, and notes it on the user's interrupt.

    >>> with waited("b"):
    ...     pass
    """
    said = f"{what} has not returned"
    line = f"xlstm: {said} for {PATIENCE:g} s. No cause is looked for before it does. "
    timer = threading.Timer(PATIENCE, lambda: tell(f"{line}Interrupt it (Ctrl-C) if it hangs."))
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"{said}: it was interrupted. Look in it for a loop that does not end.")
        raise
    finally:
        timer.cancel()
