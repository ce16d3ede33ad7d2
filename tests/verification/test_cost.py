"""The estimate of what a comparison takes: near what it takes, and refused before it is taken."""

import importlib
import json

import numpy as np
import pytest
from cases import built
from processes import run
from refusing import refused

import xlstm
from xlstm.cli.main import main
from xlstm.errors import UsageError
from xlstm.ir.graph import Builder
from xlstm.ir.layers import LSTM, Dense, Input, RepeatVector
from xlstm.verification import reconcile
from xlstm.verification.inputs import Limits, Recipe, cost_of, fitted, made_shapes

MEASURED = """
import json
import numpy as np
from cases import built
import xlstm
from xlstm.verification.inputs import cost_of
from xlstm.model import (
    LSTM, Builder, Concatenate, Conv, Dense, Input, MultiHeadAttention, RepeatVector
)

CASES = {
    "repeat": (RepeatVector(40_000), (6, 3), 1),
    "join": (Concatenate(), (6, 30_000), 2),
    "dense": (Dense(4, 400), (6, 200, 4), 1),
    "conv": (Conv(3, 8, (5, 5), strides=(1, 1), dilation=(1, 1)), (6, 48, 48, 3), 1),
    "heads": (MultiHeadAttention(2, 4, 4, 8, 8, 8, 8), (6, 300, 8), 3),
    "lstm": (LSTM(4, 32, return_sequences=True), (256, 20, 4), 1),
}

def status(word):
    with open("/proc/self/status") as file:
        return int(file.read().split(word)[1].split()[0]) * 1024

def compared(spec, shape, reads):
    graph = Builder()
    x = graph.add("x", Input(shape[1:]))
    model = built(graph, [graph.add("y", spec, [x] * reads)])
    numbers = np.random.default_rng(0).standard_normal(shape).astype("float32")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = status("VmRSS:")
    assert xlstm.reconcile(model, "torch", inputs=[numbers]).ok
    return cost_of(model, [shape]).memory, status("VmHWM:") - before

compared(Dense(2, 2), (2, 2), 1)  # imports the framework
print(json.dumps({name: compared(*case) for name, case in CASES.items()}))
"""
"""Prints of each layer the estimate and the peak of a comparison, both in bytes."""


def test_estimates_are_near_what_is_measured(monkeypatch):
    """Seen: 0.8 to 2.4 times; a layer whose rule is forgotten is off by its windows or scores."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed goes back at once
    done = run(MEASURED)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {name: guess / peak for name, (guess, peak) in json.loads(done.stdout).items()}
    assert len(found) == 6
    assert {name: part for name, part in found.items() if not 0.4 < part < 5} == {}


def sequence():
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    x = graph.add("lstm", LSTM(3, 4, return_sequences=True), [x])
    return built(graph, [graph.add("dense", Dense(4, 2), [x])])


def repeated():
    graph = Builder()
    x = graph.add("x", Input((3,)))
    return built(graph, [graph.add("again", RepeatVector(10**7), [x])])


def test_made_inputs_shrink_until_they_fit():
    model, whole = sequence(), Recipe()
    need = cost_of(model, made_shapes(model, whole)).memory
    sizes = []
    for part in (1, 2, 8, 64):
        limits = Limits(need // part)
        (shape,) = made_shapes(model, found := fitted(model, whole, limits))
        assert cost_of(model, [shape]).over(limits) == ""
        assert (found == whole) == (part == 1)
        sizes.append(shape[0] * shape[1])
    assert sizes == sorted({*sizes}, reverse=True)
    refused(UsageError, lambda: fitted(model, whole, Limits(100)), "GB of memory", "memory=")
    fixed = fitted(model, whole, Limits(need // 2), shorten=False)
    assert fixed.steps == whole.steps


def test_comparisons_that_take_too_much_are_refused_before_they_run(monkeypatch):
    # the package has the function diagnose under the name of its module
    diagnosis = importlib.import_module("xlstm.diagnosis.diagnose")
    for module, name in ((reconcile, "_framework"), (diagnosis, "_whole")):
        monkeypatch.setattr(module, name, lambda *_args, **_options: pytest.fail("it was run"))
    model, words = repeated(), ("GB of memory", "memory=")
    refused(UsageError, lambda: xlstm.reconcile(model, "torch"), *words)
    refused(UsageError, lambda: xlstm.diagnose(model, repeated()), *words)
    x = np.ones((2, 50, 3), "float32")
    small = sequence()
    for call in (
        lambda: xlstm.reconcile(small, "torch", inputs=[x], memory=1000),
        lambda: xlstm.diagnose(small, sequence(), inputs=[x], memory=1000),
    ):
        refused(UsageError, call, *words)


def test_a_port_too_large_to_compare_is_written_and_says_so(tmp_path, capsys):
    folder = tmp_path / "port"
    words = ["port", str(xlstm.demo.path()), "--to", "torch", "-o", str(folder)]
    assert main([*words, "--memory", "1e-9"]) == 0
    assert "not verified: that would need" in capsys.readouterr().out
    said = json.loads((folder / "report.json").read_text())["verification"]
    assert said.startswith("not verified: that would need")
    assert len(xlstm.load(folder).layers) == 2
