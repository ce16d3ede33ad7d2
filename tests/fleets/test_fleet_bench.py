"""The program that measures fleets: its arithmetic, and its files. No time is asserted."""

import doctest
import importlib
import json

import numpy as np
import pytest
from paths import ROOT

import xlstm


@pytest.fixture
def program(monkeypatch):
    """Imports a module of benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_examples_of_docstrings(program):
    found = doctest.testmod(program("fleet"))
    assert found.attempted
    assert not found.failed


def test_figures_are_kept_beside_others(program, tmp_path):
    fleet, file = program("fleet"), tmp_path / "fleets.json"
    fleet.keep("growth", {"rounds": 3}, file)
    fleet.keep("throughput", {"rounds": 1}, file)
    found = json.loads(file.read_text())
    assert [*found] == ["growth", "throughput"]
    assert found["growth"]["rounds"] == 3
    assert found["growth"]["machine"]["cores"] > 0


def test_copies_have_weights_of_their_own(program, tmp_path):
    templates = dict(program("fleet_zoo").keras_2_templates())
    assert len(templates) == 8
    rng, path = np.random.default_rng(0), tmp_path / "copy.h5"
    for name, template in templates.items():
        template.copy(path, rng)
        first = xlstm.load(path)
        template.copy(path, rng)
        second = xlstm.load(path)
        assert first.nodes == second.nodes, name
        assert second.source.version.startswith("2.")
        for layer, own in first.weights.items():
            for tensor, array in own.items():
                other = second.weights[layer][tensor]
                assert np.isfinite(array).all()
                assert array.any(), f"{name} {layer} {tensor}"
                assert not np.array_equal(array, other)
