"""The small hostile files of `benchmarks/hostile.py`: little work, little memory, a good ending."""

import json
import subprocess
import sys

import pytest
from paths import ROOT
from processes import WAIT, environment

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from hostile_cases import CASES, DEMO  # noqa: E402

ENDS = """
import cProfile, json, os, sys
import conftest
from xlstm.cli.main import main

def ended(words):
    statuses, counter = [], cProfile.Profile()
    for command in ("inspect", "count"):
        counter.enable()
        try:
            statuses.append(main([command, *words]))
        except SystemExit as end:
            statuses.append(end.code)
        finally:
            counter.disable()
    calls = sum(entry.callcount for entry in counter.getstats())
    peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
    sys.stderr.write("\\nended" + json.dumps([statuses, calls, int(peak) / 1024]) + "\\n")

main(["count", sys.argv[2]])
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        ended(words)
        sys.exit()
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"ended with {status}")
"""
"""Runs both commands on several files, each in a child forked after the imports.

Writes their statuses, how many calls Python made, and peak megabytes.
"""

LARGEST = 300
"""Most megabytes."""


def ended(name, folder, sizes):
    """Statuses, calls and megabytes of both commands on a file of each size, and its bytes."""
    every, totals = [], []
    for size in sizes:
        path = folder / str(size) / f"hostile{CASES[name].ending}"
        path.parent.mkdir()
        every.append([str(word) for word in CASES[name].write(path, size) or [path]])
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        totals.append(sum(file.stat().st_size for file in files))
    line = [sys.executable, "-c", ENDS, json.dumps(every), str(DEMO)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=WAIT)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [text[5:] for text in done.stderr.splitlines() if text.startswith("ended[")]
    return [(*json.loads(one), total) for one, total in zip(found, totals, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_small_hostile_files(name, tmp_path):
    """The number of calls stands for the time: it is the same on every machine."""
    small, large = CASES[name].sizes[:2]
    before, after = ended(name, tmp_path, (small, large))
    for statuses, _, peak, _ in (before, after):
        assert set(statuses) <= {0, 1, 2}
        assert peak < LARGEST
    grown = max(after[3] / before[3], large / small)
    assert after[1] < 1.2 * grown * before[1]
