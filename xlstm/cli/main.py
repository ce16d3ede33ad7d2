"""The command line. Exit status 0: done or equal; 1: compared and not equal; 2: cannot be done.

numpy is imported only inside `ended`, which reports errors: see `xlstm.frameworks.command_exit`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

from xlstm.cli.commands import COMMANDS, run_file
from xlstm.cli.flags import in_words_of_the_command
from xlstm.cli.guard import run_guarded
from xlstm.cli.parser import parsed
from xlstm.errors import FolderCodeWarning, XlstmError
from xlstm.frameworks.command_exit import as_process, ended, limited, quiet_libraries
from xlstm.frameworks.crashes import importing

COLLECT = 100_000
"""New objects before Python's garbage collector runs: at its default of 700, it would walk through
thousands of permanent layers again and again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the result is the exit status."""
    if argv is not None:
        return ended(lambda: _run(parsed(argv, COMMANDS)))
    return as_process(_whole)


def _whole() -> int:
    """The command of this process."""
    gc.set_threshold(COLLECT)
    args = parsed(None, COMMANDS)
    if args.command in ("inspect", "count", "explain", "new-adapter", "fleet") or getattr(
        args, "no_verify", False
    ):
        # these multiply no matrices: the threads that numpy would start cost more than the command
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    scarce, again = limited(), args.command in ("verify", "report")
    if scarce or again:
        # without memory OpenBLAS ends its process, and C++ aborts it: run it in a child
        return run_guarded(lambda: ended(lambda: _quiet(args) if scarce else _run(args)), again)
    return _run(args)


def _quiet(args: argparse.Namespace) -> int:
    quiet_libraries()
    with importing():
        importlib.import_module("numpy")
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    with contextlib.suppress(AttributeError):  # a stdout that is no text file
        cast(Any, sys.stdout).reconfigure(errors="replace")
    if args.verbose:
        from xlstm.cli.screen import log_to_stderr

        log_to_stderr()
    for path in getattr(args, "custom", None) or ():
        run_file(path)
    try:
        with warnings.catch_warnings():
            # every command shows it in its own result
            warnings.simplefilter("ignore", FolderCodeWarning)
            return int(args.run(args))
    except XlstmError as error:
        in_words_of_the_command(error)
        raise


if __name__ == "__main__":
    sys.exit(main())
