"""Kills of the client and of the scheduler, and Ctrl-C: nothing is lost, and a second run ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from paths import ROOT
from processes import CLI, WAIT, command, environment, run
from small_zoo import write_model

pytest.importorskip("distributed", reason="fleets need distributed")


def test_a_killed_client_and_a_killed_scheduler():
    words = ["--kinds", "remote client,scheduler", "--kills", "2", "--models", "24", "--quiet"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fleet_kills.py"), *words],
        capture_output=True,
        text=True,
        timeout=WAIT,
        env=environment(),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert sum(found["moments"].values()) == 2


@pytest.mark.skipif(os.name != "posix", reason="process groups are of Unix")
def test_ctrl_c_is_one_line_and_a_second_run_goes_on(tmp_path):
    for number in range(60):
        write_model(tmp_path / "zoo" / f"m{number:02}.keras")
    words = ("fleet", tmp_path / "zoo", "--to", "torch", "-o", tmp_path / "out", "--workers", "1")
    process = subprocess.Popen(
        command(CLI.replace("main(sys.argv[1:])", "main()"), *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    while not rows(tmp_path / "out") and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out, err) == (130, "", "xlstm: interrupted\n")
    before = rows(tmp_path / "out")
    assert 0 < before < 60
    done = run(CLI, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["counts"] == {"ported": 60}
    assert found["plan"]["done"] == before


def rows(target):
    """Number of the rows in a target's journals."""
    texts = [file.read_text() for file in (target / "journal").glob("*.jsonl")]
    return sum('"outcome"' in line for text in texts for line in text.split("\n")[:-1])
