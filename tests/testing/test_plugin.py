"""The pytest plugin in sessions of their own: fixtures, options, the page, pytest-xdist."""

import importlib.metadata
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import processes
import pytest
from paths import ROOT

import xlstm

HEAD = f"""import os, time
import numpy as np
import pytest

DEMO = {str(xlstm.demo.path())!r}


def wrong(x):
    return np.zeros((len(x), 20), bool)


def killer(x):
    os._exit(3)


"""

forks = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def plugin():
    """The option that loads the plugin, where the installed entry points do not have it yet."""
    found = importlib.metadata.entry_points(group="pytest11")
    there = any(entry.value == "xlstm.testing.plugin" for entry in found)
    return [] if there else ["-p", "xlstm.testing.plugin"]


@pytest.fixture
def session(tmp_path):
    """Runs a test file with options: (exit status, output)."""

    def run(text, *options):
        (tmp_path / "test_ports.py").write_text(HEAD + text)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin(), *options]
        done = subprocess.run(
            command, cwd=tmp_path, env=processes.environment(), capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    run.folder = tmp_path
    return run


class Cells(HTMLParser):
    """The texts of a page, and the names of all its elements."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.names, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_entry_point_is_the_plugin():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '[project.entry-points.pytest11]\nxlstm = "xlstm.testing.plugin"\n' in text


def test_a_session_that_uses_nothing_sees_nothing(session):
    text = "def test_plain():\n    import sys\n    assert 'xlstm.errors' not in sys.modules\n"
    status, said = session(text)
    assert status == 0, said
    lines = [line for line in said.splitlines() if "xlstm" in line]
    assert all(line.startswith(("plugins: ", "rootdir: ")) for line in lines)


def test_a_failure_shows_the_diagnosis_and_no_frame_of_ours(session):
    text = "def test_a(parity):\n    assert parity(DEMO, DEMO)\n\n\n"
    text += "def test_b(parity):\n    parity(DEMO, wrong)\n"
    status, said = session(text)
    assert status == 1
    assert "1 failed, 1 passed" in said
    assert "E       AssertionError: Different: 1 mistake found." in said
    assert "b gives True and False (dtype bool), a gives fractions." in said
    assert "assertion.py" not in said
    assert "FAILED test_ports.py::test_b - AssertionError: Different: 1 mistake found" in said


def test_an_unreadable_truth_is_one_line(session):
    status, said = session("def test_a(parity):\n    parity('no.keras', DEMO)\n")
    assert status == 1
    assert "no.keras: expected a readable model file, got no such file; check the path" in said
    assert "guards.py" not in said


@forks
def test_the_setting_of_the_time_limit(session):
    text = "def test_a(parity):\n    parity(DEMO, killer)\n\n\n"
    text += "def test_b(parity):\n    parity(DEMO, lambda x: time.sleep(99), timeout=1)\n"
    status, said = session(text, "-o", "xlstm_timeout=60")
    assert status == 1
    assert "2 failed" in said
    assert "the process of the comparison ended early (exit status 3)" in said
    assert "the comparison did not end within 1 s" in said
    status, said = session(text, "-o", "xlstm_timeout=soon", "-k", "test_a")
    assert "xlstm_timeout: expected a number of seconds, got 'soon'" in said


HOSTILE = """
NAMES = ["<script>alert(1)</script>", "'\\"&amp;</td>", "\\x1b[31mred\\n", "\\udce9 \\u202e"]


@pytest.mark.parametrize("name", NAMES, ids=NAMES)
def test_hostile(parity, name):
    from xlstm.model import Dense, Source, chain

    def model(bias):
        weights = {name: {"kernel": np.ones((2, 2)), "bias": np.array([0.5, bias])}}
        return chain(name, [(name, Dense(2, 2), True)], (2,), weights, Source("keras"))

    parity(model(1.0), model(2.0))


def test_fine(parity):
    parity(DEMO, DEMO)


def test_expected(parity):
    with pytest.raises(AssertionError):
        parity(DEMO, wrong)


def test_no_file(parity):
    parity("no.keras", DEMO)
"""


def test_the_page_has_every_comparison_and_hostile_names_are_text(session):
    status, said = session(HOSTILE, "--xlstm-report=page.html")
    assert status == 1
    assert f"xlstm: wrote {session.folder / 'page.html'}" in said
    text = (session.folder / "page.html").read_text("utf-8")
    page = Cells(text)
    assert page.names.count("tr") == 1 + 7
    assert not {"script", "img", "a", "link", "iframe"} & {*page.names}
    assert page.links == []
    assert "test_ports.py::test_hostile[<script>alert(1)</script>]" in page.texts
    assert "7 comparisons: 1 failed, 5 different, 1 equal." in page.texts
    assert "Result of the test: passed." in page.texts
    assert "\x1b" not in text
    assert any("no such file" in part for part in page.texts)
    assert any(
        part.startswith("first difference: output[0, 1]")
        for part in "".join(page.texts).split("\n")
    )


def test_workers_send_their_results_to_one_page(session):
    pytest.importorskip("xdist")
    options = ("--xlstm-report=page.html", "-n", "2", "--dist", "loadgroup")
    status, said = session(HOSTILE, *options)
    assert status == 1, said
    text = (session.folder / "page.html").read_text("utf-8")
    assert "7 comparisons: 1 failed, 5 different, 1 equal." in Cells(text).texts


def test_a_worker_that_dies_is_on_the_page(session):
    pytest.importorskip("xdist")
    text = "def test_a(parity):\n    parity(DEMO, killer)\n"
    status, said = session(text, "--xlstm-report=page.html", "-n", "1", "--maxfail=1")
    assert status == 1, said
    page = Cells((session.folder / "page.html").read_text("utf-8"))
    assert any("crashed while running" in part for part in page.texts)
    assert any(part == "1 comparison: 1 failed." for part in page.texts)


@pytest.mark.parametrize(
    ("path", "got"),
    [("no/page.html", "no folder"), (".", "a folder"), ("test_ports.py/x", "no folder")],
)
def test_a_page_that_cannot_be_written_is_one_error(session, path, got):
    status, said = session("def test_a():\n    pass\n", f"--xlstm-report={path}")
    assert status == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in said.splitlines() if line)
    assert line.startswith("ERROR: --xlstm-report ")
    assert f"expected a file that can be written, got {got}" in line


def test_a_page_whose_folder_goes_away_fails_the_session(session):
    text = "def test_a(parity):\n    os.rmdir('pages')\n    parity(DEMO, DEMO)\n"
    os.mkdir(session.folder / "pages")
    status, said = session(text, "--xlstm-report=pages/page.html")
    assert status == 1
    assert re.search(r"xlstm: cannot write .*page.html: No such file or directory", said)


GROUPED = """
def test_each(xlstm_framework):
    assert xlstm_framework in ("torch", "nnx")


@pytest.mark.xlstm_framework("PyTorch", "keras")
def test_both():
    pass


@pytest.mark.xlstm_framework("torch")
def test_torch():
    pass


def test_plain():
    pass
"""


def test_frameworks_are_chosen(session):
    status, said = session(GROUPED, "--xlstm-frameworks", "torch,nnx", "-v")
    assert status == 0, said
    assert "4 passed, 1 deselected" in said
    assert "test_each[torch]" in said
    assert "test_both" not in said
    status, said = session(GROUPED, "--xlstm-frameworks", "torhc")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --xlstm-frameworks: framework: expected one of" in said


def test_an_unknown_framework_of_a_marker_is_an_error(session):
    text = "@pytest.mark.xlstm_framework('torhc')\ndef test_a():\n    pass\n"
    status, said = session(text, "--strict-markers")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: test_ports.py::test_a, marker xlstm_framework: framework: expected" in said


MARKS = """
import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    with open("groups.txt", "w") as file:
        for item in items:
            mark = item.get_closest_marker("xdist_group")
            file.write(f"{item.name} {mark.args[0] if mark else '-'}\\n")
"""


def test_tests_of_one_framework_are_one_group_of_xdist(session):
    pytest.importorskip("xdist")
    (session.folder / "conftest.py").write_text(MARKS)
    own = "\n\n@pytest.mark.xdist_group('own')\n@pytest.mark.xlstm_framework('torch')\n"
    grouped = GROUPED.replace('("torch", "nnx")', '("torch", "nnx", "keras")')
    text = f"{grouped}{own}def test_own():\n    pass\n"
    status, said = session(text, "-n", "1", "--xlstm-frameworks", "torch,nnx,keras")
    assert status == 0, said
    groups = dict(line.split() for line in (session.folder / "groups.txt").read_text().splitlines())
    expected = {"test_both": "keras+torch", "test_torch": "torch", "test_plain": "-"}
    expected |= {"test_each[torch]": "torch", "test_each[nnx]": "nnx", "test_each[keras]": "keras"}
    assert groups == {**expected, "test_own": "own"}


PROBE = """
@pytest.mark.xdist_group("probe")
def test_probe():
    pass


@pytest.mark.xlstm_framework("torch")
@pytest.mark.parametrize("number", range(6))
def test_torch(number):
    pass
"""


def test_tests_of_one_framework_share_a_worker(session):
    pytest.importorskip("xdist")
    status, said = session(PROBE, "-n", "2", "--dist", "loadgroup", "-v")
    assert status == 0, said
    found = re.findall(r"\[(gw\d)\].* PASSED test_ports.py::(\S+)", said)
    if "test_probe@probe" not in {name for _, name in found}:
        pytest.skip("this pytest-xdist groups nothing with this pytest (pytest-xdist issue 1386)")
    workers = [worker for worker, name in found if name.endswith("@torch")]
    assert len(workers) == 6
    assert len({*workers}) == 1
