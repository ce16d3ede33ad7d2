"""Counts the wrong weights that `xlstm.diagnosing.repair` corrects.

    python benchmarks/repair.py [--seconds 600] [--limit 60] [--seed 0] [--json FILE]
    python benchmarks/repair.py --read docs/repair.json

The wrong ports are those of benchmarks/power.py whose weights alone are wrong, named by `diagnose`
or not. Corrected means: with the arrays of the repair the port is equal to its model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore")

import power

OK, BAD = "corrected", "not corrected"


def outcomes(units: Iterable[power.Unit], seconds: float) -> tuple[Counter[tuple[str, str]], int]:
    """Returns the number of wrong ports by kind and outcome, and how many units were tried."""
    from xlstm.diagnosing import repair
    from xlstm.errors import XlstmError

    found: Counter[tuple[str, str]] = Counter()
    until, tried = time.monotonic() + seconds, 0
    for unit in units:
        if time.monotonic() > until:
            break
        tried += 1
        for mutant in power.mutants(unit):
            if not mutant.weights_only:
                continue
            try:
                ok = repair(mutant.model, mutant.port("float32"), effort=0).ok
            except XlstmError as error:
                ok = False
                sys.stderr.write(f"{unit.name}, {mutant.kind}: {error}\n")
            if not ok:
                sys.stderr.write(f"{unit.framework} {unit.name}: {mutant.kind}, {mutant.name}\n")
            found[mutant.kind, OK if ok else BAD] += 1
    return found, tried


def table(result: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the table as Markdown, and the sum below it.

    >>> print(table({"bias lost": {"corrected": 3, "not corrected": 1}}))
    | wrong weights | ports | corrected |
    |---|---:|---:|
    | bias lost | 4 | 3 |
    | all | 4 | 3 (75 %) |
    """
    lines = ["| wrong weights | ports | corrected |", "|---|---:|---:|"]
    for kind, counts in sorted(result.items()):
        lines.append(f"| {kind} | {counts[OK] + counts[BAD]:,} | {counts[OK]:,} |")
    good = sum(counts[OK] for counts in result.values())
    every = good + sum(counts[BAD] for counts in result.values())
    share = f" ({100 * good // every} %)" if every else ""
    return "\n".join([*lines, f"| all | {every:,} | {good:,}{share} |"])


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1e9, help="start no unit after this")
    parser.add_argument("--limit", type=int, default=0, help="this many units, spread over all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--read", type=Path, help="print the table of such a file")
    args = parser.parse_args()
    if args.read:
        sys.stdout.write(table(json.loads(args.read.read_text("utf-8"))) + "\n")
        return 0
    warnings.simplefilter("ignore")
    chosen = [u for u in power.units(args.seed) if u.make in ("arrays", "cells")]
    if args.limit:
        from mutators.mutant import spread

        chosen = spread(chosen, args.seed, args.limit)
    found, tried = outcomes(chosen, args.seconds)
    kinds = {kind for kind, _ in found}
    result = {kind: {word: found[kind, word] for word in (OK, BAD)} for kind in sorted(kinds)}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{table(result)}\n\n{tried} of {len(chosen)} models\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
