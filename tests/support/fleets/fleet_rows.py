"""Rows of a fleet with every outcome, and rows of hostile texts."""

from xlstm.fleets.entry import DIFFERENT, FAILED, OUTCOMES, REFUSED, UNDECIDED, FleetJob, FleetRow
from xlstm.fleets.report import fleet_report
from xlstm.fleets.storage import open_target

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e'\"&\udc80"


def row(name, outcome="equal", **values):
    return FleetRow(name, values.pop("path", f"zoo/{name}.h5"), "1", "job", outcome, **values)


def error(expected, got, do, where="x.h5"):
    return {"where": where, "expected": expected, "got": got, "do": do}


def verdicts(**outcomes):
    return {dtype: {"outcome": word, "detail": ""} for dtype, word in outcomes.items()}


LSTM = {
    "layers": ("LSTM", "LSTM", "Dense"),
    "architecture": "1",
    "counts": {"torch": 7, "keras": 5},
}
GRU = {"layers": ("GRU",), "architecture": "2", "counts": {"torch": 3}}
ROWS = [
    row("a/1", **LSTM, weights="w1", seconds=1, cpu_seconds=0.5, peak_memory=2**20),
    row("a/2", **LSTM, weights="w2", seconds=3, cpu_seconds=1, peak_memory=3 * 2**20),
    row("a/3", "ported", **GRU, weights="w1", seconds=2),
    row(
        "b/1", REFUSED, error=error("an LSTM of 12 units", "layer lstm_7 of zoo/b/1.h5", "save it")
    ),
    row(
        "b/2", REFUSED, error=error("an LSTM of 99 units", "layer lstm_8 of zoo/b/2.h5", "save it")
    ),
    row("b/3", REFUSED, error=error("a model file", "an empty file", "copy it again")),
    row("c/1", FAILED, error=error("a live worker", "a killed one", "raise its memory")),
    row("d/1", DIFFERENT, **LSTM, verdicts=verdicts(float32="equal", float64="different")),
    row("d/2", UNDECIDED, **GRU, verdicts=verdicts(float32="undecided", float64="undecided")),
]


def hostile_rows():
    """A row of every outcome whose texts are all hostile."""
    return [
        row(
            f"{outcome}/{HOSTILE}",
            outcome,
            path=f"s3://x/{HOSTILE}.h5",
            error=error(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            layers=(HOSTILE,),
            architecture=HOSTILE,
            weights=HOSTILE,
            counts={"torch": 5},
        )
        for outcome in OUTCOMES
    ]


def report_on(folder, rows):
    """The report of a new local target with some rows."""
    target = open_target(folder)
    target.check(FleetJob("torch"))
    for one in rows:
        target.put_row(one)
    return fleet_report(target)
