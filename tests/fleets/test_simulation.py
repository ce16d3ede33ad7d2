"""benchmarks/fleet_simulation.py: schedules whose times are known, and its tables."""

import doctest
import importlib
import math

import pytest
from paths import ROOT


@pytest.fixture
def simulation(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fleet_simulation")


def test_examples_of_docstrings(simulation):
    found = doctest.testmod(simulation)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(("models", "workers", "batch"), [(7, 1, 3), (1_000, 8, 16), (64, 100, 1)])
def test_even_models_take_the_rounds_of_the_busiest_worker(simulation, models, workers, batch):
    costs = simulation.Costs((2.0, 2.0), start=5.0, dispatch=0.0)
    found = simulation.simulate(models, workers, batch, costs)
    batches = math.ceil(models / batch)
    short = models - (batches - 1) * batch
    rounds = math.ceil(batches / workers)
    last_is_full = (batches - 1) % workers > 0  # another worker has a full batch in the last round
    assert found.seconds == 5 + 2 * batch * (rounds - 1) + 2 * (batch if last_is_full else short)
    assert found.busy == pytest.approx(2 * models / (found.seconds * workers))
    assert found.lost == 0


def test_a_slow_client_sets_the_pace(simulation):
    costs = simulation.Costs((1e-6, 1e-6), start=0.0, dispatch=0.5)
    found = simulation.simulate(1_000, 50, 10, costs)
    assert found.seconds == pytest.approx(50, rel=1e-3)
    assert found.client == pytest.approx(1, rel=1e-3)


def test_a_model_that_hangs_ends_two_workers(simulation):
    costs = simulation.Costs((1.0, 1.0), start=3.0, dispatch=0.0, hangs=1.0, limit=20.0)
    found = simulation.simulate(4, 2, 1, costs)
    assert found.lost == 8
    # two of the eight at a time, each worker is replaced but for the last ones
    assert found.seconds == 3 + 4 * 20 + 3 * 3


def test_every_model_is_done_when_some_hang(simulation):
    costs = simulation.Costs((1.0, 1.0), start=1.0, dispatch=0.0, hangs=0.01, limit=30.0)
    found = simulation.simulate(5_000, 10, 20, costs)
    assert found.lost > 20
    assert found.seconds * 10 * found.busy < 5_000


def test_requests_to_a_store_take_their_time(simulation):
    costs = simulation.Costs((1.0, 1.0), start=0.0, dispatch=0.0, request=0.25, requests=4)
    assert simulation.simulate(10, 1, 5, costs).seconds == 20


def test_the_middle_of_many_models_is_that_of_the_quantiles(simulation):
    costs = simulation.Costs((0.0, 1.0, 4.0), start=0.0, dispatch=0.0)
    found = simulation.simulate(20_000, 1, 100, costs)
    assert found.seconds == pytest.approx(20_000 * (0.5 + 2.5) / 2, rel=0.02)


@pytest.mark.parametrize("part", ["constants", "sizes"])
def test_tables_have_a_row_for_each_fact(simulation, part, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fleet_simulation.py", part])
    simulation.main()
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == {"constants": 11, "sizes": 2 + len(simulation.SIZES)}[part]
