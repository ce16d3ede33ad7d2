"""The page about suites: its files, in an empty folder, are a suite that passes, and that fails."""

import importlib.metadata
import re
import shlex
import subprocess
import sys

import processes
import pytest
import torch
import yaml
from paths import ROOT

PAGE = (ROOT / "docs" / "howto" / "parity-suite.md").read_text("utf-8")
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", re.S)
FAILURE = re.compile(r"<!-- failure: (.+) -> (.+) -->\n```text\n(.*?)```\n", re.S)
NUMBER = re.compile(r"-?\d+\.\d+(e-?\d+)?|\d+e-\d+")


def ran(folder, *command):
    """Runs a command in a folder, as a user does; its exit status and its output."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=processes.environment(),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the page, and the pair that its script makes."""
    made = tmp_path_factory.mktemp("suite")
    for name, text in FILE.findall(PAGE):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text, "utf-8")
    status, said = ran(made, "make_pair.py")
    assert status == 0, said
    return made


@pytest.fixture(scope="module")
def command(folder):
    """The words of the workflow's command, and the plugin where it is not installed yet."""
    workflow = yaml.safe_load((folder / ".github/workflows/parity.yml").read_text("utf-8"))
    steps = workflow["jobs"]["parity"]["steps"]
    (line,) = (step["run"] for step in steps if step.get("run", "").startswith("pytest"))
    assert steps[-1]["with"]["path"] == "parity.html"
    found = importlib.metadata.entry_points(group="pytest11")
    there = any(entry.value == "xlstm.testing.plugin" for entry in found)
    more = [] if there else ["-p", "xlstm.testing.plugin"]
    return ["-m", *shlex.split(line), *more, "-p", "no:cacheprovider"]


def test_the_suite_of_the_page_passes_in_ci(folder, command):
    status, said = ran(folder, *command)
    assert status == 0, said
    assert "5 passed" in said
    page = (folder / "parity.html").read_text("utf-8")
    assert "all equal" in page


def test_the_failure_of_the_page_is_what_pytest_prints(folder, command):
    ((right, wrong, shown),) = FAILURE.findall(PAGE)
    source = (folder / "my_port.py").read_text("utf-8")
    assert right in source
    (folder / "my_port.py").write_text(source.replace(right, wrong), "utf-8")
    try:
        status, said = ran(folder, *command, "tests/test_parity.py")
    finally:
        (folder / "my_port.py").write_text(source, "utf-8")
    assert status == 1
    assert "2 failed, 1 passed" in said
    printed = [line.removeprefix("E").strip() for line in said.splitlines()]
    start = next(n for n, line in enumerate(printed) if line.startswith("AssertionError: Diff"))
    lines = [NUMBER.sub("#", line) for line in printed[start:]]
    wanted = [line.strip() for line in shown.strip().splitlines()]
    assert lines[: len(wanted)] == wanted


def test_the_script_of_the_page_corrects_a_gate_order(folder):
    weights = folder / "my_port.pt"
    right = weights.read_bytes()
    state = torch.load(weights, weights_only=True)
    blocks = state["gru.weight_ih_l0"].chunk(3)
    torch.save(state | {"gru.weight_ih_l0": torch.cat([blocks[1], blocks[0], blocks[2]])}, weights)
    try:
        status, said = ran(folder, "correct.py")
    finally:
        weights.write_bytes(right)
    assert status == 0, said
    assert said.splitlines()[:2] == [
        "Equal now: 1 tensor corrected.",
        "corrected: gru.weight_ih_l0",
    ]
    found = torch.load(folder / "my_port_corrected.pt", weights_only=True)
    assert {name: x.tolist() for name, x in found.items()} == {
        name: x.tolist() for name, x in state.items()
    } | {"gru.weight_ih_l0": torch.cat(blocks).tolist()}
