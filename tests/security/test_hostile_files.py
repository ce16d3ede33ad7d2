"""The small hostile files of `benchmarks/hostile.py`: little work, little memory, a good ending."""

import json
import subprocess
import sys

import pytest
from paths import ROOT
from processes import WAIT, environment

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from hostile_cases import CASES  # noqa: E402

ENDS = """
import json, resource, sys
import conftest
from xlstm.cli.main import main

calls = 0
def count(_frame, event, _what):
    global calls
    calls += event in ("call", "c_call")

words = sys.argv[1:]
statuses = []
for command in ("inspect", "count"):
    sys.setprofile(count)
    try:
        statuses.append(main([command, *words]))
    except SystemExit as end:
        statuses.append(end.code)
    finally:
        sys.setprofile(None)
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
sys.stderr.write("\\n" + json.dumps([statuses, calls, int(peak) / 1024]))
"""
"""Runs both commands; writes their statuses, how many calls Python made, and peak megabytes."""

WRITE = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[4])
from hostile_cases import CASES
path = pathlib.Path(sys.argv[1])
case = CASES[sys.argv[2]]
words = case.write(path, int(sys.argv[3])) or [path]
print(json.dumps([str(word) for word in words]))
"""
LARGEST = 300
"""Most megabytes."""


def child(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def ended(name, size, folder):
    """Statuses, calls and megabytes of both commands on a file, and its bytes."""
    folder.mkdir()
    path = folder / f"hostile{CASES[name].ending}"
    written = child(WRITE, path, name, size, BENCHMARKS).stdout
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    found = json.loads(child(ENDS, *json.loads(written)).stderr.splitlines()[-1])
    return *found, total


@pytest.mark.parametrize("name", CASES)
def test_small_hostile_files(name, tmp_path):
    """The number of calls stands for the time: it is the same on every machine."""
    small, large = CASES[name].sizes[:2]
    before = ended(name, small, tmp_path / "small")
    after = ended(name, large, tmp_path / "large")
    for statuses, _, peak, _ in (before, after):
        assert set(statuses) <= {0, 1, 2}
        assert peak < LARGEST
    grown = max(after[3] / before[3], large / small)
    assert after[1] < 1.2 * grown * before[1]
