"""Ends the command `xlstm` at a Ctrl-C that comes while Python still imports it.

In: SIGINT. Out: "xlstm: interrupted" and status 130. `xlstm.frameworks.command_exit` takes over as
soon as the command runs. Only modules that Python has loaded at its start are imported.

>>> is_command(["/usr/bin/python", "/usr/bin/xlstm", "count"])
True
>>> is_command(["python", "train.py"])
False
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys
from collections.abc import Sequence

STATUS = 130


def is_command(words: Sequence[str]) -> bool:
    """True for the words of a process that runs the command line, not a program of a user."""
    script = os.path.basename(words[1]) if len(words) > 1 else ""
    return script in ("xlstm", "xlstm.exe", "xlstm-script.py") or [*words[1:3]] == ["-m", "xlstm"]


def end(_number: int, _frame: object) -> None:
    """Ends the process at once."""
    os.write(2, b"xlstm: interrupted\n")
    os._exit(STATUS)


def end_early() -> None:
    """Sets the handler, if this process is the command and Ctrl-C is not ignored."""
    if (
        is_command(sys.orig_argv)
        and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    ):
        _signal.signal(_signal.SIGINT, end)
