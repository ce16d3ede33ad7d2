"""Screens of commands on terminals: no line too long, no word cut; colours and progress."""

import os
import re
import shutil
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")

import screens as own  # noqa: E402

from xlstm.cli.screen import Activity  # noqa: E402
from xlstm.verification.progress import NumberedSteps  # noqa: E402

MODEL = own.DATA / "k224" / "gru.h5"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(MODEL, tmp_path)
    return own.prepared(tmp_path)


def test_screens_without_a_framework(folder):
    jobs = own.on_model((*own.LIGHT, *own.ONCE, *own.ERRORS), MODEL)
    assert list(own.faults(jobs, folder, (60, 200))) == []


def test_a_comparison_on_a_terminal_and_piped(folder):
    jobs = [
        ("verify", MODEL.name, "--frameworks", "torch", "--gradients"),
        ("verify", MODEL.name, "--frameworks", "torch", "--quiet"),
    ]
    shown, quiet = own.screens(jobs, 60, folder)
    assert shown.status == quiet.status == 0
    steps = re.findall(r"\[\d/\d\] .*?, \d+ s", own.COLOUR.sub("", shown.err))
    wanted = ["PyTorch float32", "PyTorch float64"]
    wanted = [*wanted, *(f"{name}, gradients" for name in wanted)]
    assert list(dict.fromkeys(re.sub(r", \d+ s$", "", step) for step in steps)) == [
        f"[{place}/4] {name}" for place, name in enumerate(wanted, 1)
    ]
    assert own._last(shown.err).strip() == quiet.err == "", "progress is taken away again"
    assert not list(own.wrong_colours(shown, plain=False))
    assert not list(own.too_long(shown, 60))
    piped, _quiet = own.screens(jobs, own.PIPED, folder)
    assert piped.err == ""
    assert not list(own.cut(shown, piped, 60))


def test_faults_are_found():
    wide = own.Screen(("verify",), "a bidirectional layer", "", 0)
    narrow = own.Screen(("verify",), "a bidirec\ntional layer", "", 0)
    assert list(own.cut(narrow, wide, 60)) == ["bidirectional"]
    narrow = own.Screen(("verify",), "a bidirec\ntional layer\n Too narrow for: gates.", "", 0)
    assert list(own.cut(narrow, wide, 60)) == ["bidirectional"]
    without = own.Screen(("verify",), "a layer\n Too narrow for: gates.", "", 0)
    assert not list(own.cut(without, wide, 60))
    assert list(own.too_long(own.Screen(("count",), "x" * 61, "", 0), 60)) == ["x" * 61]
    red = own.Screen(("verify",), "\x1b[31mDifferent\x1b[0m", "", 1)
    assert list(own.wrong_colours(red, plain=True))
    assert not list(own.wrong_colours(red, plain=False))
    assert list(own.wrong_colours(wide, plain=False))


def test_steps_are_numbered():
    lines = []
    steps = NumberedSteps(lines.append, 1)
    steps("a")
    steps("b")
    assert lines == ["[1/1] a", "[2/2] b"]


def test_seconds_are_those_of_the_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    step = Activity("reading")
    now[0] = 3.2
    assert step.line(80) == "reading, 3 s"
    step.start("looking for the cause: 250 tried")
    now[0] = 5.5
    step.start("looking for the cause: 500 tried")
    assert step.line(80) == "looking for the cause: 500 tried, 2 s"
    assert step.line(20) == "looking for the…, 2 s"[:14] + "…, 2 s"


def test_the_first_line_of_progress_comes_before_numpy():
    code = "import sys; from xlstm.cli.screen import progress\n"
    code += "with progress('reading', quiet=False): sys.exit('numpy' in sys.modules)"
    reader, writer = pty.openpty()
    done = subprocess.run([sys.executable, "-c", code], stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert b"reading" in os.read(reader, 1000)
    os.close(reader)
