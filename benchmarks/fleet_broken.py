"""Ports a zoo of which 5 % are broken, hostile, huge or unsupported files, and the same without.

    python benchmarks/fleet_broken.py [--count 800] [--share 0.05] [--rounds 3] [--json FILE]

Bad files are those of tests/support/hostile_files that have to be refused, files that are cut or
no model, a sparse file of 6 GB, and models with layers that have no port. Clean and dirty runs
alternate, each in a process of its own, and all verify their ports. Exit 1 if a bad file is not one
row with its reason, if a good one is not equal, or if all rows of a dirty run took over 10 % more
seconds of the processor than those of a clean one (medians): others may use the machine too. Wall
seconds are in the result as well.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import conftest  # noqa: E402, F401  finds the builders of hostile files

sys.path.insert(0, str(TESTS / "support" / "hostile_files"))  # before our own hostile.py

from fleet_zoo import make_zoo  # noqa: E402
from hostile import EITHER, ROWS, no_files  # noqa: E402

import xlstm  # noqa: E402

HUGE = 6 * 10**9
"""Bytes of a file above the usual limit; it is sparse, and takes no space."""

LONGER = 1.1
"""Most time of a dirty run, as a multiple of a clean one."""

UNSUPPORTED = ("Lambda", "Conv3DTranspose", "MyOwnLayer")
"""Classes in place of the demo's LSTM."""

Bad = tuple[str, Path]


def hostile(folder: Path) -> Iterator[Bad]:
    """One file of each hostile class that has to be refused."""
    for build in ROWS.values():
        if build is no_files:  # pipes and devices lie in no bucket
            continue
        for path, words in build(folder):
            if words is not None and words != EITHER:
                yield f"hostile, {build.__name__}", path
                break


def broken(folder: Path) -> Iterator[Bad]:
    """Files that are no model, are cut, are huge, or have layers without a port."""
    (folder / "text.h5").write_text("no model")
    yield "broken, text", folder / "text.h5"
    (folder / "empty.keras").write_bytes(b"")
    yield "broken, empty", folder / "empty.keras"
    whole = xlstm.demo.path().read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    yield "broken, cut", folder / "cut.keras"
    with open(folder / "huge.h5", "wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(HUGE)
    yield "huge", folder / "huge.h5"
    for kind in UNSUPPORTED:
        path = folder / f"{kind}.keras"
        with zipfile.ZipFile(xlstm.demo.path()) as source, zipfile.ZipFile(path, "w") as copy:
            for name in source.namelist():
                text = source.read(name)
                if name == "config.json":
                    text = text.replace(b'"class_name": "LSTM"', f'"class_name": "{kind}"'.encode())
                copy.writestr(name, text)
        yield f"unsupported, {kind}", path


def run(sources: list[dict[str, str]], work: Path, workers: int) -> tuple[float, dict[str, Any]]:
    """Seconds of one fleet, and its rows by name."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        listed, target = Path(folder, "sources.jsonl"), Path(folder, "target")
        listed.write_text("".join(f"{json.dumps(one)}\n" for one in sources))
        line = [sys.executable, "-m", "xlstm", "fleet", str(listed), "--to", "torch", "--verify"]
        line += ["-o", str(target), "--workers", str(workers), "--quiet"]
        start = time.monotonic()
        done = subprocess.run(line, capture_output=True, text=True, env=os.environ, check=False)
        seconds = time.monotonic() - start
        if done.returncode not in (0, 1):
            raise SystemExit(done.stderr)
        lines = (target / "fleet.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
    found = {row["name"]: row for row in rows}
    if len(found) != len(rows):
        raise SystemExit("a model has two rows")
    return seconds, found


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Does all runs; returns what was seen."""
    bad_count = max(1, round(args.count * args.share))
    good = make_zoo(work / "zoo", args.count - bad_count)
    (work / "bad").mkdir()
    kinds = [*hostile(work / "bad"), *broken(work / "bad")]
    bad = {}
    for number in range(bad_count):
        kind, file = kinds[number % len(kinds)]
        path = work / "bad" / f"bad{number:04}{file.suffix}"
        os.link(file, path)
        bad[f"bad/{number:04}"] = kind, path
    clean = [{"path": str(file), "name": f"good/{file.stem}"} for file in good]
    dirty = clean + [{"path": str(path), "name": name} for name, (_, path) in bad.items()]
    seconds: dict[str, list[float]] = {"clean": [], "dirty": []}
    cpu: dict[str, list[float]] = {"clean": [], "dirty": []}
    faults: list[str] = []
    rows: dict[str, Any] = {}
    for _ in range(args.rounds):
        for name, sources in (("clean", clean), ("dirty", dirty)):
            took, rows = run(sources, work, args.workers)
            seconds[name].append(round(took, 2))
            cpu[name].append(round(sum(row["cpu_seconds"] for row in rows.values()), 3))
            faults += list(wrong(rows, sources, bad))
            print(name, round(took, 2), cpu[name][-1], flush=True)
    ratio = statistics.median(cpu["dirty"]) / statistics.median(cpu["clean"])
    if ratio > LONGER:
        faults.append(f"a dirty run takes {ratio:.3f} times the processor's seconds")
    cost: dict[str, float] = collections.defaultdict(float)
    for name, (kind, _) in bad.items():
        cost[kind] = max(cost[kind], round(rows[name]["cpu_seconds"], 3))
    return {
        "good": len(good),
        "bad": bad_count,
        "kinds_of_bad": len({kind for kind, _ in bad.values()}),
        "workers": args.workers,
        "rounds": args.rounds,
        "seconds": seconds,
        "cpu_seconds_of_models": cpu,
        "cpu_dirty_to_clean": round(ratio, 3),
        "outcomes": dict(collections.Counter(row["outcome"] for row in rows.values())),
        "cpu_seconds_of_bad": dict(sorted(cost.items())),
        "reasons": {kind: _reason(rows[name]) for name, (kind, _) in bad.items()},
        "faults": sorted(set(faults)),
    }


def _reason(row: dict[str, Any]) -> str:
    error = row["error"] or {}
    return f"{row['outcome']}: expected {error.get('expected')}, got {error.get('got')}"[:300]


def wrong(
    rows: dict[str, Any], sources: list[dict[str, str]], bad: dict[str, Bad]
) -> Iterator[str]:
    """Yields models whose row is missing, or is not the one that it has to be."""
    for source in sources:
        name = source["name"]
        row = rows.get(name)
        if row is None:
            yield f"{name} has no row"
        elif name in bad:
            if row["outcome"] not in ("refused", "failed") or not (row["error"] or {}).get("got"):
                yield f"{bad[name][0]}: {row['outcome']} without a reason"
        elif row["outcome"] != "equal":
            yield f"{name}: {_reason(row)}"


def main() -> int:
    """Runs the command line; returns 1 if a row or the time is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xlstm-broken-") as folder:
        found = measure(args, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if args.json:
        args.json.write_text(f"{text}\n")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
