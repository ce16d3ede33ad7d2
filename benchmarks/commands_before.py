"""Every command as a whole process, with the code of a commit and with that of today.

    python benchmarks/commands_before.py --before a549cce [--rounds 5] [--json FILE]
    python benchmarks/commands_before.py --read docs/speed/commands_before.json

The commands work on the example model. Both sides take turns, so that they see the same machine.
Printed are medians: wall seconds, processor seconds of all threads, and peak memory in MB. The
first round is not counted: it writes Python's compiled modules.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commands import Usage, medians, usage
from verify_corpus import ROOT, checked_out, importable

import xlstm

MODEL = "memorise.keras"
PORTED = "ported"

COMMANDS: dict[str, tuple[str, ...]] = {
    "xlstm --help": ("--help",),
    "xlstm verify nothere.h5": ("verify", "nothere.h5"),
    "xlstm inspect FILE": ("inspect", MODEL),
    "xlstm count FILE": ("count", MODEL),
    "xlstm explain LSTM": ("explain", "LSTM", "--features", "3", "--units", "4"),
    "xlstm port FILE --no-verify": ("port", MODEL, "--no-verify", "--to", "torch", "-o", PORTED),
    "xlstm port FILE": ("port", MODEL, "--to", "torch", "-o", PORTED),
    "xlstm verify FILE, PyTorch": ("verify", MODEL, "--frameworks", "torch"),
    "xlstm verify FILE, all": ("verify", MODEL),
    "xlstm diagnose FILE FILE": ("diagnose", MODEL, MODEL),
    "xlstm demo": ("demo",),
}
"""Name in the table -> arguments."""

ERRORS = {"xlstm verify nothere.h5": 2}
"""Exit status of commands that end with an error."""


def run(name: str, path: Path, folder: Path) -> Usage:
    """Runs one command in a folder, with the `xlstm` that lies in the folder `path`."""
    shutil.rmtree(folder / PORTED, ignore_errors=True)
    places = [f"PYTHONPATH={path}", f"PYTHONPYCACHEPREFIX={path / 'bytecode'}"]
    command = ["env", "-C", str(folder), *places, sys.executable, "-m", "xlstm", *COMMANDS[name]]
    return usage(command, ERRORS.get(name, 0))


def measure(sides: dict[str, Path], rounds: int) -> dict[str, dict[str, Any]]:
    """Returns the medians of each command and side."""
    runs: dict[str, dict[str, list[Usage]]] = {c: {s: [] for s in sides} for c in COMMANDS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        shutil.copy(xlstm.demo.path(), folder / MODEL)
        for number in range(rounds + 1):
            for name, found in runs.items():
                for side, path in sides.items():
                    used = run(name, path, folder)
                    found[side] += [used] if number else []
    return {
        name: {side: asdict(medians(every)) for side, every in found.items()}
        for name, found in runs.items()
    }


def cells(found: dict[str, dict[str, float]]) -> list[str]:
    """Returns wall, processor and memory of both sides, then the wall ratio."""
    sides = list(found.values())
    texts = [f"{side[what]:.2f}" for what in ("wall", "processor") for side in sides]
    texts += [f"{side['peak'] / 1e6:,.0f}" for side in sides]
    return [*texts, f"{sides[1]['wall'] / sides[0]['wall']:.2f}"]


def markdown(store: dict[str, Any]) -> str:
    """Returns the table as Markdown.

    >>> usage = {"wall": 2.0, "processor": 1.0, "peak": 3e6}
    >>> rows = {"xlstm count": {"before": usage, "now": {**usage, "wall": 1.0}}}
    >>> print(markdown({"before": "abc", "commands": rows}))
    | command | wall s, abc | now | CPU s, abc | now | peak MB, abc | now | wall ratio |
    |---|---|---|---|---|---|---|---|
    | xlstm count | 2.00 | 1.00 | 1.00 | 1.00 | 3 | 3 | 0.50 |
    """
    before = store["before"]
    heads = ["command"]
    for what in ("wall s", "CPU s", "peak MB"):
        heads += [f"{what}, {before}", "now"]
    heads.append("wall ratio")
    rows = [[name, *cells(found)] for name, found in store["commands"].items()]
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, and writes the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", help="a commit of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path, help="print the table of a JSON file; measure nothing")
    options = parser.parse_args(arguments)
    if options.read:
        store = json.loads(options.read.read_text("utf-8"))
    else:
        revision = ["git", "-C", str(ROOT), "rev-parse", "--short", options.before]
        short = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
        with checked_out(options.before) as old, importable(old) as then, importable(ROOT) as now:
            found = measure({"before": then, "now": now}, options.rounds)
        store = {"before": short, "rounds": options.rounds, "commands": found}
    sys.stdout.write(markdown(store) + "\n")
    if options.json:
        options.json.write_text(json.dumps(store, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
