"""Runs tests of ported folders where there is no xlstm, as the receiver of a port does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path

BLOCK = '''
"""Takes xlstm away from this process, though the environment has it."""

import sys


class NoXlstm:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("xlstm", "converters"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoXlstm())
try:
    import xlstm
except ModuleNotFoundError:
    print("there is no xlstm")
else:
    raise SystemExit("xlstm is there")
'''
"""Plugin of pytest."""


class Outcome:
    """The results of one run of pytest.

    Attributes:
        passed: folder -> number of passed tests.
        failed: folder -> texts of the failures.
        text: what pytest printed.
        blocked: True if `import xlstm` failed in that process.
    """

    def __init__(self, done: subprocess.CompletedProcess[str], report: Path) -> None:
        self.text = done.stdout + done.stderr
        self.blocked = "there is no xlstm" in done.stdout
        self.passed: dict[str, int] = {}
        self.failed: dict[str, list[str]] = {}
        for case in ET.parse(report).iter("testcase"):
            folder = (case.get("classname") or case.get("name") or "").split(".")[0]
            texts = [part.get("message", "") for part in case if part.tag in ("failure", "error")]
            if texts:
                self.failed.setdefault(folder, []).extend(texts)
            else:
                self.passed[folder] = self.passed.get(folder, 0) + 1


def run_tests(here: Path, folders: Iterable[Path], **variables: str) -> Outcome:
    """Runs the tests of several folders below `here` in one process that has no xlstm."""
    plugins, report = here / "plugins", here / "junit.xml"
    plugins.mkdir(exist_ok=True)
    (plugins / "block_xlstm.py").write_text(BLOCK)
    names = [folder.name for folder in folders]
    assert all(re.fullmatch(r"\w+", name) for name in names), names
    options = ["-q", "-p", "block_xlstm", "-p", "no:cacheprovider", "--import-mode=importlib"]
    options += [f"--junitxml={report}", "--rootdir", str(here), "-s"]
    # warnings are errors for the receiver, too; the second is Keras's own, as in pyproject.toml
    options += ["-W", "error", "-W", "ignore:__array__ implementation:DeprecationWarning"]
    # an installed xlstm has a plugin for pytest: there is none where xlstm is not
    env = {**os.environ, "PYTHONPATH": str(plugins), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env |= variables
    command = [sys.executable, "-P", "-m", "pytest", *options, *names]
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, check=False)
    assert report.is_file(), done.stdout + done.stderr
    return Outcome(done, report)
