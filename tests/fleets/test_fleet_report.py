"""Reports on fleets: sums, groups of reasons, advice, and a page in which names are text."""

import json
import tracemalloc

import pytest
from fleet_rows import ROWS, error, hostile_rows, row
from test_page import Outline

from xlstm.errors import UsageError
from xlstm.fleets.entry import OUTCOMES, REFUSED, FleetJob
from xlstm.fleets.report import FleetReport, fleet_report
from xlstm.fleets.report_tables import layers_text
from xlstm.fleets.storage import open_target
from xlstm.fleets.summary import general, summed
from xlstm.html_report.style import policy


@pytest.fixture
def target(tmp_path):
    found = open_target(tmp_path / "out")
    found.check(FleetJob("torch"))
    return found


@pytest.fixture
def report(target):
    for one in ROWS:
        target.put_row(one)
    return fleet_report(target.url)


def test_sums(report):
    assert not report.ok
    assert report.summary() == (
        "9 models to PyTorch: 2 equal, 1 ported, 1 different, 1 undecided, 3 refused, 1 failed."
    )
    assert tuple(report.outcomes) == OUTCOMES
    assert report.parameters == {"keras": 15, "torch": 27}
    assert [name for name, *_ in report.slowest[:3]] == ["a/2", "a/3", "a/1"]
    assert report.duplicates == (("a/1", "a/3"),)
    assert (report.seconds, report.cpu_seconds, report.peak_memory) == (6, 1.5, 3 * 2**20)
    groups = [(one.digest, one.names, dict(one.outcomes)) for one in report.architectures]
    assert groups == [
        ("1", ["a/1", "a/2", "d/1"], {"equal": 2, "different": 1}),
        ("2", ["a/3", "d/2"], {"ported": 1, "undecided": 1}),
    ]


def test_refusals_are_grouped_by_reason(report, target):
    found = {tuple(problem.names): problem for problem in report.problems}
    assert list(found) == [("b/1", "b/2"), ("b/3",), ("c/1",), ("d/1",), ("d/2",)]
    units = found["b/1", "b/2"]
    assert (units.outcome, units.reason, units.do) == (REFUSED, "an LSTM of … units", "save it")
    assert dict(units.found) == {"layer … of …": 2}
    assert units.command == "xlstm inspect zoo/b/1.h5"
    assert found["b/3",].reason == "a model file"
    assert found["c/1",].command == "xlstm port zoo/c/1.h5 --to torch -o 1"
    aside = target.port_path("d/1", aside=True)
    assert found["d/1",].command == f"xlstm diagnose zoo/d/1.h5 {aside}"
    assert dict(found["d/1",].found) == {"float32 equal, float64 different": 1}
    assert "--inputs FILE" in found["d/2",].command


def test_commands_are_about_a_copy_of_an_object(target):
    target.put_row(row("a b", REFUSED, path="s3://zoo/x/a b.h5", error=error("a", "b", "c")))
    (problem,) = fleet_report(target).problems
    assert problem.command == "xlstm inspect 'a b.h5'  # a copy of s3://zoo/x/a b.h5"


def test_a_fleet_in_which_all_is_well(target):
    target.put_row(ROWS[0])
    report = fleet_report(target)
    assert report.ok
    assert report.summary() == "1 model to PyTorch: 1 equal."
    assert "to do" not in report.text()
    assert "Nothing: every model was ported." in report.to_html()
    assert 'class="verdict good"' in report.to_html()


def test_a_fleet_without_rows(target):
    report = fleet_report(target)
    assert report.summary() == "0 models to PyTorch: none yet."
    assert "none yet" in report.text()
    Outline(report.to_html())


def test_no_fleet(tmp_path):
    with pytest.raises(UsageError, match="an empty or missing folder"):
        fleet_report(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"such as notes\.txt"):
        fleet_report(tmp_path)


def test_text(report):
    text = report.text()
    assert text.startswith(report.summary())
    for line in (
        "2 refused: expected an LSTM of … units",
        "  got layer … of …\n",
        "  to do: save it. The next run does the ones that changed.",
        "  models: b/1, b/2\n",
        "  more: xlstm inspect zoo/b/1.h5",
        "2 LSTM, Dense",
        "1.5 s of CPU, 0.167 s a model; the largest worker had 3 MiB.",
        "  a/1, a/3",
    ):
        assert line in text
    assert all(len(line) <= 100 for line in text.split("\n"))


def test_json(report):
    data = json.loads(json.dumps(report.to_json()))
    assert (data["ok"], data["models"]) == (False, 9)
    assert data["problems"][0]["names"] == ["b/1", "b/2"]
    assert data["architectures"][0]["counts"] == {"torch": 7, "keras": 5}


def test_page(report, tmp_path):
    report.save_html(tmp_path / "fleet.html")
    text = (tmp_path / "fleet.html").read_text("utf-8")
    page = Outline(text)
    words = " ".join(page.texts)
    assert policy() in [value for tag, key, value in page.attributes if key == "content"]
    assert 'class="verdict bad"' in text
    for part in (report.summary(), "What to do next", "an LSTM of … units", "2 LSTM, Dense"):
        assert part in words
    for part in ("xlstm inspect zoo/b/1.h5", "2 models: a/1", "The slowest models"):
        assert part in words


def test_hostile_names_are_text(target):
    for one in hostile_rows():
        target.put_row(one)
    report = fleet_report(target)
    page = Outline(report.to_html())
    assert not {"script", "iframe", "link", "object", "base", "form"} & set(page.names)
    assert any("<script>alert(1)" in text for text in page.texts)
    for text in (report.text(), report.to_html()):
        assert "\x1b" not in text
        assert "\u202e" not in text
        text.encode()
    json.dumps(report.to_json()).encode()


def test_an_unknown_framework_of_a_row_is_named(target):
    target.put_row(row("a", counts={"torch": 1}, architecture="1"))
    target.put_row(row("b", counts={"another": 2}, architecture="2"))
    assert "another" in fleet_report(target).text()
    assert "another" in fleet_report(target).to_html()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("layer lstm_3: 12 units", "layer …: … units"),
        ("a file that starts with b'PK\\x03', ab'c'", "a file that starts with …, ab…"),
        ('at most 5,000 bytes of "a b" in float32', "at most … bytes of … in float32"),
        ("C:\\zoo\\a.h5, or zoo/b", "…, or …"),
        ("model.weights.h5 of customers/0001.", "… of …."),
        ("a Keras model (.keras archive, HDF5 or SavedModel)",) * 2,
    ],
)
def test_what_differs_between_models_is_left_out(text, wanted):
    assert general(text, row("customers/0001")) == wanted


def test_many_groups_are_short_on_a_screen(target):
    rows = [
        row(f"m{n:03d}", REFUSED, error=error("a model", f"kind {chr(97 + n % 26)}", "port it"))
        for n in range(100)
    ]
    rows += [row(f"n{n:03d}", architecture=f"{n}", weights=f"{n // 2}") for n in range(100)]
    found = FleetReport(**vars(summed(rows, target, "torch")))
    text = found.text()
    assert "100 refused: expected a model" in text
    assert "  got kind a (4)" in text
    assert "  and 23 more causes (all with --json)" in text
    assert "  models: m000, m001, m002 and 97 more" in text
    assert "and 80 more architectures" in text
    assert "and 30 more groups" in text
    assert "Show 100 rows" in found.to_html()


def test_the_memory_of_a_report_is_that_of_its_names(target):
    """Rows have 2 kB here, and 10 times as many of them must not take 10 times as much."""
    big = tuple(f"LSTM{n}" for n in range(200))
    rows = (row(f"m{n}", architecture="1", layers=big, weights=f"{n}") for n in range(3000))
    tracemalloc.start()
    summed(rows, target, "torch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / 3000 < 700


def test_layers():
    assert layers_text([]) == "-"
    assert layers_text(["LSTM"] * 12 + ["Dense", "LSTM"]) == "12 LSTM, Dense, LSTM"
