"""Runs Python in a process of its own, in which frameworks read what they do in the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """This process's environment, with our folders on the path, and output buffered as usual."""
    paths = [
        str(TESTS),
        str(TESTS / "support"),
        str(TESTS.parent),
        os.environ.get("PYTHONPATH", ""),
    ]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found.pop("PYTHONUNBUFFERED", None)
    found.pop("XLA_FLAGS", None)  # which are for the tests of this process
    return found


def command(code: str, *args: Any) -> list[str]:
    """The command line that runs `code` with `args` in sys.argv[1:]."""
    return [sys.executable, "-c", f"import conftest\n{code}", *map(str, args)]


WAIT = 1800
"""Seconds after which a process is taken to have no end, on a machine as busy as it may be."""


def run(code: str, *args: Any) -> subprocess.CompletedProcess[str]:
    """Runs `code` to its end and gives exit status and texts."""
    return subprocess.run(
        command(code, *args),
        capture_output=True,
        text=True,
        timeout=WAIT,
        env=environment(),
        check=False,
    )


CLI = "import sys; from xlstm.cli.main import main; sys.exit(main(sys.argv[1:]))"
"""Code that is the command `xlstm`."""
