"""The bounds of pyproject.toml are those of the environment that `make check-lowest` tried."""

import doctest
import importlib
import json
import re
import tomllib

import pytest
from paths import ROOT

PROGRAM = ROOT / "benchmarks" / "versions.py"
STORED = json.loads((ROOT / "docs" / "versions.json").read_text("utf-8"))
BOUND = re.compile(r"([\w-]+)>=([\d.]+)")
UNTESTED = {"torch"}
"""Packages of which `make check-lowest` installs another version: docs/versions.md says why."""


def bounds():
    """Package -> the oldest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["keras"], *extras["torch"], *extras["flax"]]
    return {name.lower(): version for name, version in (BOUND.match(t).groups() for t in texts)}


def numbers(version):
    """The numbers of a version, without zeros at its end: 2.0 and 2.0.0 are the same."""
    found = [int(part) for part in version.split("+")[0].split(".")]
    while found and not found[-1]:
        found.pop()
    return found


def test_lowest_versions_were_tried():
    tried = STORED["lowest"]["versions"]
    asked = {name: bound for name, bound in bounds().items() if name not in UNTESTED}
    assert len(asked) == 10
    assert {name: numbers(tried[name]) for name in asked} == {
        name: numbers(bound) for name, bound in asked.items()
    }, "run `make check-lowest`"


@pytest.mark.parametrize("name", ["lowest", "newest"])
def test_no_recorded_test_failed(name):
    assert STORED[name].get("failures", []) == []


@pytest.fixture
def versions(monkeypatch):
    """The module benchmarks/versions.py."""
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    return importlib.import_module("versions")


def test_examples_of_docstrings(versions):
    found = doctest.testmod(versions)
    assert found.attempted
    assert not found.failed


def test_an_environment_is_recorded_beside_others(versions, tmp_path):
    junit, store = tmp_path / "junit.xml", tmp_path / "versions.json"
    cases = '<testcase classname="a" name="b"/><testcase classname="a" name="c"><error/></testcase>'
    junit.write_text(f'<testsuites><testsuite time="2.4">{cases}</testsuite></testsuites>')
    store.write_text(json.dumps({"lowest": {"passed": 3}}))
    arguments = ["--record", "here", "--junit", str(junit), "--json", str(store)]
    assert versions.main(arguments) == 1
    found = json.loads(store.read_text())
    assert found["lowest"] == {"passed": 3}
    here = found["here"]
    assert here["versions"]["numpy"]
    assert (here["passed"], here["failed"], here["failures"]) == (1, 1, ["a.c"])


def test_an_environment_without_a_run(versions, tmp_path, capsys):
    store = tmp_path / "versions.json"
    assert versions.main(["--record", "here", "--json", str(store), "--markdown"]) == 0
    assert "| tests passed | not run yet |" in capsys.readouterr().out
