"""The program of `make bench`: its contests, its tables and its picture. No time is asserted."""

import doctest
import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
PROGRAM = BENCHMARKS / "bench.py"


@pytest.fixture
def speed(monkeypatch):
    """Imports a module of benchmarks/speed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"speed.{name}")


@pytest.mark.parametrize("name", ["timing", "floor", "tables"])
def test_examples_of_docstrings(speed, name):
    found = doctest.testmod(speed(name))
    assert found.attempted
    assert not found.failed


def test_claims_name_calls_of_their_contest(speed):
    contests = speed("contests")
    every = [contest for group in contests.GROUPS.values() for contest in group()]
    names = [contest.name for contest in every]
    assert len(set(names)) == len(names)
    for contest in every:
        for claim in contest.claims:
            assert {claim.over, claim.under} <= set(contest.entrants), contest.name
        assert set(contest.other) <= set(contest.entrants)


def test_both_sides_of_a_contest_compute_the_same_layer(speed):
    import numpy as np

    calls, models = speed("calls"), speed("models")
    case = models.Case(models.lstm(5))
    port, numpy = calls.torch_port(case, 2)(), calls.numpy_port(case, 2)()
    np.testing.assert_allclose(port.numpy(), numpy, atol=1e-5)
    assert calls.onnx_session(case, 2)()[0].shape == (100, 1, 2, 5)


def measured(name, limit, ratio):
    times = {"a": [ratio * 1e-3] * 3, "b": [1e-3] * 3}
    claim = {"over": "a", "under": "b", "limit": limit, "ratio": ratio, "low": ratio, "high": ratio}
    return {
        "group": "keras",
        "title": name,
        "units": 60,
        "kind": "LSTM",
        "batch": 1,
        "seconds": times,
        "floor": 1e-5,
        "claims": [claim],
    }


def test_a_missed_claim_says_so(speed):
    tables = speed("tables")
    rows = list(tables.claim_rows([measured("slow", 1.5, 2.0), measured("fast", 0.5, 0.25)]))
    assert rows[0][-3:] == ("2.00 x", "2.00 to 2.00", "at most 1.5 x, **missed**")
    assert rows[1][-3:] == ("4.0 x faster", "4.0 to 4.0", "at least 2")


def test_the_picture_has_a_dot_for_each_call(speed):
    page = speed("picture").draw([measured("x < y", 1.5, 2.0)], "a & b")
    root = ET.fromstring(page)
    dots = [e for e in root.iter() if e.tag.endswith("circle") and len(e)]
    assert [dot[0].text for dot in dots] == ["a: 2 ms", "b: 1 ms"]
    assert "x < y, 60 units" in [e.text for e in root.iter() if e.tag.endswith("text")]


def test_one_contest_runs_and_is_read_again(tmp_path):
    path = tmp_path / "speed.json"
    command = [sys.executable, str(PROGRAM), "--group", "numpy", "--match", "16 units"]
    subprocess.run(
        [*command, "--rounds", "2", "--json", str(path)], check=True, capture_output=True
    )
    (contest,) = json.loads(path.read_text())["contests"]
    assert set(contest["seconds"]) == {"nn.LSTM", "numpy"}
    assert all(len(times) == 2 for times in contest["seconds"].values())
    again = [sys.executable, str(PROGRAM), "--read", str(path), "--markdown", "numpy"]
    output = subprocess.run(again, check=True, capture_output=True, text=True).stdout
    assert output.count("\n") == 3
    assert output.startswith("| layer | units |")
