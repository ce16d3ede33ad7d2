"""The command `xlstm`, also `python -m xlstm`.

Ctrl-C must print one line from the start, so imports come later: that of the command line alone
takes a tenth of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status, as `xlstm.cli.main.main` does."""
    try:
        from xlstm.cli.main import main as command

        return command(argv)
    except KeyboardInterrupt:
        sys.stderr.write("xlstm: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
