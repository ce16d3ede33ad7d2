"""`xlstm new-adapter`: the skeleton passes for Dense, and every other case says what to write."""

import json
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from test_cli import cli  # noqa: F401  a fixture

import xlstm
from xlstm.errors import UsageError
from xlstm.testing import conformance
from xlstm.testing.case_models import GROUPS
from xlstm.testing.models import chained
from xlstm.testing.new_adapter import new_adapter

DENSE = {
    *("layer/Dense", "option/Dense-no_bias", "option/Dense-softmax", "option/Dense-chain"),
    *("name/Dense", "dtype/Dense-float64"),
}


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory):
    return new_adapter("toyarrays", tmp_path_factory.mktemp("new") / "toy").folder


def run_tests(folder, *words):
    """Case -> its failure, "" for a pass, by pytest in another process."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "--junitxml", "found.xml", *words]
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = {}
    for item in ElementTree.parse(folder / "found.xml").iter("testcase"):
        failure = item.find("failure")
        name = item.attrib["name"].partition("[")[2].removesuffix("]")
        found[name] = "" if failure is None else failure.attrib["message"]
    return found


def test_dense_passes_and_all_others_say_what_to_write(skeleton):
    found = run_tests(skeleton, "-p", "no:cacheprovider")
    assert {name for name, failure in found.items() if not failure} == DENSE
    assert set(found) == {f"{group}/{name}" for group, made in GROUPS.items() for name in made}
    for name, failure in found.items():
        if failure:
            assert failure.startswith("xlstm.errors.UnsupportedError: toyarrays, case " + name)
            assert "write " in failure
            assert f"or list '{name}' in unsupported_cases" in failure
    assert "write a Table for LSTM, and write the lines of emit() for LSTM" in found["layer/LSTM"]
    assert "write gradients() in xlstm_toyarrays.live" in found["gradient/Dense"]
    assert "write build() for it in xlstm_toyarrays/live.py" in found["half/Dense"]


@pytest.fixture
def installed(skeleton, tmp_path, monkeypatch):
    """The skeleton with the entry point of its pyproject.toml."""
    project = tomllib.loads((skeleton / "pyproject.toml").read_text())["project"]
    info = tmp_path / "xlstm_toyarrays-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xlstm-toyarrays\nVersion: 0.1.0\n")
    ((name, value),) = project["entry-points"]["xlstm.adapters"].items()
    (info / "entry_points.txt").write_text(f"[xlstm.adapters]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(skeleton))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_it_is_found_by_its_entry_point(tmp_path):
    (case,) = conformance("toyarrays", "layer/Dense")
    case.run()
    model = chained([xlstm.model.Dense(4, 3, "sigmoid")], (4,))
    folder = xlstm.save(model, tmp_path / "port", "toyarrays")
    text = (folder / "model.py").read_text()
    assert "xlstm." not in text
    space = {"__name__": "model", "__file__": str(folder / "model.py")}
    exec(compile(text, "model.py", "exec"), space)  # the module that was just emitted
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(space["load"]()(x), xlstm.port(model, "toyarrays")(x))
    assert xlstm.count(model).total("toyarrays") == 15


def test_a_mistake_in_its_table_is_found(tmp_path):
    folder = new_adapter("toyarrays", tmp_path / "toy").folder
    adapter = folder / "xlstm_toyarrays" / "adapter.py"
    text = adapter.read_text().replace("x - x.max(-1, keepdims=True)", "x / 2")
    adapter.write_text(text)
    found = run_tests(folder, "-p", "no:cacheprovider", "-k", "Dense and option")
    assert "NotEqualError: toyarrays, case option/Dense-softmax" in found["option/Dense-softmax"]
    assert not found["option/Dense-chain"]


def test_its_texts_are_clean(skeleton):
    command = [sys.executable, "-m", "ruff"]
    for words in (["check", "--isolated"], ["format", "--isolated", "--check"]):
        done = subprocess.run([*command, *words, "."], cwd=skeleton, capture_output=True)
        assert done.returncode == 0, done.stdout.decode()
    test = (skeleton / "tests" / "test_conformance.py").read_text()
    assert len([line for line in test.splitlines() if line.strip()]) <= 10
    assert "@name@" not in "".join(p.read_text() for p in skeleton.rglob("*.*") if p.is_file())


def test_the_command_prints_json_or_one_line(cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    status, out, err = cli("new-adapter", "toyarrays", "-o", "empty", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["folder"], len(found["files"])) == ("toyarrays", "empty", 6)
    assert all((tmp_path / "empty" / file).is_file() for file in found["files"])
    status, out, _err = cli("new-adapter", "toyarrays", "--quiet")
    assert (status, out) == (0, "Adapter for toyarrays written: xlstm-toyarrays\n")
    status, out, err = cli("new-adapter", "toyarrays")
    assert (status, out) == (2, "")
    assert "a new folder, or an empty one, got 4 files, such as README.md" in err


@pytest.mark.parametrize(
    "name", ["", "../evil", "a/b", "Toy", "1st", "import", "x\nimport os", "ü", "a" * 41, "torch"]
)
def test_bad_names_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="name of an adapter"):
        new_adapter(name, tmp_path / "new")
    assert not any(tmp_path.iterdir())


def test_a_link_is_no_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(UsageError, match="got a link"):
        new_adapter("toyarrays", tmp_path / "link")
    assert not any((tmp_path / "there").iterdir())


@pytest.mark.parametrize("number", range(1, 7))
def test_a_full_disk_leaves_nothing(number, tmp_path, monkeypatch):
    written, real = [], Path.write_text

    def write_text(path, *args, **options):
        written.append(path)
        if len(written) == number:
            raise OSError(28, "No space left on device")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space left"):
        new_adapter("toyarrays", tmp_path / "new")
    assert not any(tmp_path.iterdir())
