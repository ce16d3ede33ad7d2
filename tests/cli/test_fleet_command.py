"""`xlstm fleet` as people type it: words that are missing or too many, limits, statuses."""

import json
import shutil

import pytest
from test_cli import cli  # noqa: F401  a fixture

import xlstm
from xlstm.cli import fleet as command
from xlstm.cli.parser import parsed
from xlstm.errors import UsageError
from xlstm.fleets import run as fleets
from xlstm.fleets.entry import FleetEntry, FleetJob, FleetRow
from xlstm.fleets.storage import open_target

DEMO = str(xlstm.demo.path())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("zoo",), "xlstm: fleet: expected --to FRAMEWORK, got none; add --to FRAMEWORK\n"),
        (("zoo", "--to", "torch"), "xlstm: fleet: expected -o TARGET, got none; add -o TARGET\n"),
        (("report",), "xlstm: fleet report: expected one target, got 0 of them"),
        (("report", "a", "b"), "xlstm: fleet report: expected one target, got 2 of them"),
        (("report", "a", "--verify"), "expected options of a report: -o, --json, got --verify"),
        (("report", "a", "-o", "page.txt"), "xlstm: -o: expected a name that ends in .html"),
        (("report", "missing"), "expected the target of a fleet, got an empty or missing folder"),
        (("missing", "--to", "torch", "-o", "out"), "got no such file"),
        (("zoo", "--workers", "0"), "argument --workers: expected a whole number from 1 on, got 0"),
        (("zoo", "--seconds", "-1"), "argument --seconds: expected a time above 0, in seconds"),
        (("zoo", "--largest", "0"), "argument --largest: expected a size above 0, in GB"),
        (("zoo", "--shceduler", "x"), "unrecognized arguments"),
        ((), "the following arguments are required: SOURCE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_for_a_mistake(words, text, cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    status, out, err = cli("fleet", *words)
    assert (status, out) == (2, "")
    assert text in err
    assert not list(tmp_path.iterdir())


def test_options_reach_the_function(monkeypatch):
    seen = {}
    monkeypatch.setattr(fleets, "fleet", lambda *words, **options: seen.update(options, all=words))
    line = "fleet a b --to torch -o out --verify --workers 3 --retry-refused --seconds 7"
    args = parsed([*line.split(), "--memory", "2", "--largest", "0.5"], {"fleet": print, **OTHERS})
    assert not command.check(args)
    command.port_fleet(args, print)
    assert seen == {
        "all": (["a", "b"], "torch", "out"),
        "verify": True,
        "scheduler": None,
        "workers": 3,
        "dry_run": False,
        "retry_refused": True,
        "progress": print,
        "seconds": 7.0,
        "memory": 2e9,
        "largest": 5e8,
    }


OTHERS = dict.fromkeys("inspect count explain port verify report diagnose same".split(), print)
OTHERS |= {"new-adapter": print, "demo": print}


def finished(folder, outcome):
    """A zoo of one model, and a target in which it was done."""
    shutil.copy(DEMO, folder / "model.keras")
    (entry,) = fleets.entries_of([str(folder / "model.keras")])
    assert isinstance(entry, FleetEntry)
    job, target = FleetJob("torch"), open_target(folder / "ports")
    target.check(job)
    with target.locked():
        target.put_port(entry.name, lambda work: save(work))
        row = FleetRow(entry.name, entry.path, entry.stamp, job.digest(entry), outcome)
        target.put_row(row)
    return folder


def save(work):
    """Fills a port's folder."""
    made = xlstm.save(DEMO, work.with_name("made"), "torch")
    for file in made.iterdir():
        shutil.move(file, work)
    made.rmdir()


@pytest.mark.parametrize(("outcome", "wanted"), [("ported", 0), ("refused", 1)])
def test_statuses_of_a_fleet_with_nothing_to_do(outcome, wanted, cli, tmp_path):  # noqa: F811
    finished(tmp_path, outcome)
    words = (tmp_path / "model.keras", "--to", "torch", "-o", tmp_path / "ports")
    status, out, err = cli("fleet", *words, "--quiet")
    assert (status, err) == (wanted, "")
    assert out == f"1 model to PyTorch: 1 {outcome}.\n"
    status, out, _err = cli("fleet", *words, "--json")
    assert status == wanted
    assert json.loads(out)["counts"] == {outcome: 1}
    status, out, _err = cli("fleet", *words, "--dry-run")
    assert status == 0
    assert out.startswith("To do: 0 of 1 models to PyTorch.")
    status, out, _err = cli("fleet", "report", tmp_path / "ports", "-o", tmp_path / "page.html")
    assert status == wanted
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_source_called_report(tmp_path):
    line = ["fleet", "./report", "--to", "torch", "-o", str(tmp_path)]
    assert not command.check(parsed(line, {"fleet": print, **OTHERS}))
    with pytest.raises(UsageError, match="one target"):
        command.check(parsed(["fleet", "report", "--to", "torch"], {"fleet": print, **OTHERS}))
