"""Compares in a new interpreter: `python -m xlstm.testing.child REQUEST LOG`.

In: a file of JSON with a comparison. Out: lines of JSON in another file. `isolation` starts it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xlstm.testing.comparison import Comparison
from xlstm.testing.isolation import work


def main(request: str, log: str) -> None:
    """Runs the comparison of a file, and writes its result to another one."""
    asked = json.loads(Path(request).read_text(encoding="utf-8"))
    work(Comparison(**asked), Path(log))


if __name__ == "__main__":
    main(*sys.argv[1:])
