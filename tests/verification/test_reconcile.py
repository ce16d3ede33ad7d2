"""What a comparison says when something goes wrong, and what it looks at on request."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from cases import RECURRENT, built, model, variants
from refusing import refused

import xlstm
from xlstm.cli.main import main
from xlstm.errors import MissingFrameworkError, NotEqualError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Function,
    GlobalPool,
    Input,
    Masking,
)
from xlstm.verification import inputs, reconcile
from xlstm.verification.hidden_states import expose_hidden_states
from xlstm.verification.input_shapes import SHAPES, shapes_of

DEMO = str(xlstm.demo.path())
PLAIN = model([LSTM(3, 4), Dense(4, 2)], (None, 3))


def two_outputs():
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    h = graph.add("lstm", LSTM(3, 4), [x])
    return built(graph, [graph.add("a", Dense(4, 2), [h]), graph.add("b", Dense(4, 3), [h])])


@pytest.fixture
def torch_gives(monkeypatch):
    """Makes PyTorch's side give something else than its outputs."""
    live = registry.adapter("torch").live()
    run = live.run

    def patch(change):
        monkeypatch.setattr(live, "run", lambda *args: change(run(*args)))

    return patch


def words(report, framework="torch"):
    return {dtype: v.verdict for dtype, v in report.frameworks[framework].verdicts.items()}


def details(report, framework="torch"):
    return " ".join(v.detail for v in report.frameworks[framework].verdicts.values())


def test_a_missing_framework_hides_no_other(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    report = xlstm.reconcile(PLAIN, ["torch", "nnx"])
    assert set(words(report).values()) == {"failed"}
    assert "pip install" in details(report)
    assert report.frameworks["nnx"].ok
    assert not report.ok
    assert len(report.missing) == 1
    with pytest.raises(NotEqualError, match="PyTorch"):
        report.check()
    status = main(["verify", DEMO, "--frameworks", "torch,nnx", "--json"])
    printed = capsys.readouterr()
    found = json.loads(printed.out)["frameworks"]
    assert status == 2
    assert "pip install" in printed.err
    assert found["torch"]["float32"]["verdict"] == "failed"
    assert found["torch"]["what"] == "not installed"
    assert found["nnx"]["float64"]["verdict"] == "rounding"
    refused(MissingFrameworkError, lambda: xlstm.reconcile(PLAIN, "torch"), "torch")


def broken_import(name, monkeypatch):
    """An installed framework whose import fails."""

    class Finder:
        def find_spec(self, module, *_args):
            if module == name:
                raise ImportError("libfoo.so: not found")

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def test_a_framework_that_cannot_be_imported_is_a_line(monkeypatch):
    broken_import("xlstm.converters.torch.live.model", monkeypatch)
    report = xlstm.reconcile(PLAIN, ["torch", "nnx"])
    assert "libfoo.so" in details(report)
    assert report.frameworks["nnx"].ok


def test_a_finder_that_fails_is_no_reason_to_fail_while_looking(monkeypatch):
    broken_import("nowhere", monkeypatch)
    adapter = dataclasses.replace(
        registry.adapter("torch"), package="nowhere", live_module="nowhere"
    )
    assert adapter.installed
    refused(MissingFrameworkError, adapter.live, "PyTorch", "libfoo")


def test_weights_that_were_not_compared_are_not_called_equal(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    report = xlstm.reconcile(str(DEMO), ["keras", "torch", "nnx"])
    held = {name: part["weights"] for name, part in report.to_json()["frameworks"].items()}
    assert held == {"keras": "not compared", "torch": "not compared", "nnx": "bit-equal"}
    assert report.frameworks["keras"].what.startswith("the original")


def test_what_could_not_be_made_did_not_run(monkeypatch):
    broken_import("xlstm.converters.torch.live.model", monkeypatch)
    report = xlstm.reconcile(PLAIN, ["torch", "nnx"])
    assert "PyTorch ran" not in str(report)
    assert "Flax NNX ran our port." in str(report)
    assert report.to_json()["frameworks"]["torch"]["what"] == "nothing ran"


def test_a_precision_that_is_not_run_has_no_verdict_in_the_table(monkeypatch):
    live = registry.adapter("torch").live()
    inexact = {"float32": "", "float64": "it leaves float64"}
    monkeypatch.setattr(live, "inexact", lambda dtype, _model: inexact[dtype], raising=False)
    text = str(xlstm.reconcile(PLAIN, "torch"))
    rows = [line.split() for line in text.splitlines() if "float64" in line]
    assert "not run - - -" in " ".join(rows[0])
    assert "PyTorch float64: not run: it leaves float64" in text


def exhausted(_outputs):
    import torch

    return torch.empty(2**50)


@pytest.mark.parametrize("run_out", [exhausted, lambda _: np.empty(2**50)], ids=["torch", "numpy"])
def test_out_of_memory_is_a_line(run_out, torch_gives):
    torch_gives(run_out)
    report = xlstm.reconcile(PLAIN, ["torch", "nnx"])
    assert "out of memory" in details(report)
    assert set(words(report).values()) == {"failed"}
    assert report.frameworks["nnx"].ok


def test_a_reference_without_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(reconcile, "trial", lambda *_args, **_named: np.empty(2**50))
    refused(UsageError, lambda: xlstm.reconcile(PLAIN, "torch"), "out of memory", "inputs")


OTHER = {
    "fewer-outputs": (lambda y: y[:1], "1 outputs, the model has 2"),
    "more-outputs": (lambda y: [*y, y[0]], "3 outputs, the model has 2"),
    "shape": (lambda y: [y[0][:, :1], y[1]], "shape (6, 1)"),
    "swapped": (lambda y: y[::-1], "shape"),
    "nan": (lambda y: [y[0], y[1] * np.nan], "NaN or infinity where the reference has none"),
    "infinity": (lambda y: [y[0] + np.inf, y[1]], "NaN or infinity where the reference has none"),
    "one-nan": (lambda y: [np.where(np.arange(2) == 1, np.nan, y[0]), y[1]], "NaN"),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_outputs_fail(case, torch_gives):
    change, said = OTHER[case]
    torch_gives(change)
    report = xlstm.reconcile(two_outputs(), "torch")
    assert set(words(report).values()) == {"failed"}
    assert said in details(report)


def test_the_worst_output_is_named(torch_gives):
    torch_gives(lambda y: [y[0], y[1] * (1 + 1e-4)])
    report = xlstm.reconcile(two_outputs(), "torch")
    verdict = report.frameworks["torch"].verdicts["float64"]
    assert (verdict.verdict, verdict.output) == ("different", "b")
    assert "the worst is b" in str(report)
    assert report.to_json()["frameworks"]["torch"]["float64"]["output"] == "b"


def with_weights(source, name, change):
    weights = {n: dict(w) for n, w in source.weights.items()}
    weights[name] = {t: change(a) for t, a in weights[name].items()}
    return dataclasses.replace(source, weights=weights)


def test_nan_on_both_sides_is_no_pass():
    broken = with_weights(two_outputs(), "b", lambda a: a * np.float32(np.nan))
    report = xlstm.reconcile(broken, ["torch", "nnx"])
    for framework in ("torch", "nnx"):
        assert set(words(report, framework).values()) == {"undecided"}
        assert "NaN or infinity in the reference itself" in details(report, framework)


def test_numbers_where_the_reference_has_nan_fail(torch_gives):
    broken = with_weights(PLAIN, "dense_1", lambda a: a * np.float32(np.nan))
    torch_gives(lambda y: [np.zeros_like(y[0])])
    report = xlstm.reconcile(broken, "torch")
    assert set(words(report).values()) == {"failed"}
    assert "numbers where the reference has NaN" in details(report)


def test_a_refusal_is_said_once():
    shrunk = model([LSTM(3, 4, projection=2), Dense(2, 2)], (None, 3))
    report = xlstm.reconcile(shrunk, ["keras", "torch"])
    text = " ".join(report.text(False).split())
    assert text.count("port to another framework") == 1
    assert "Keras: port to Keras, layer lstm_0: expected a layer with an exact form" in text
    with pytest.raises(NotEqualError, match=r"Keras failed \(port to Keras"):
        report.check()


def test_ids_without_a_row_fail_everywhere():
    lookup = model([Embedding(4, 3), LSTM(3, 4, return_sequences=True)], (None,))
    for wrong in (7, 4, -1):
        names = ["torch", "nnx", "keras"] if wrong == 7 else ["torch"]
        report = xlstm.reconcile(lookup, names, [[[1, 2], [0, wrong]]])
        for framework in report.frameworks:
            assert set(words(report, framework).values()) == {"failed"}
            assert f"holds {wrong}, the embedding has rows 0 to 3" in details(report, framework)


def test_generated_inputs_avoid_nan():
    seen = model([Masking(), LSTM(3, 4, return_sequences=True), GlobalPool("average")], (None, 3))
    nodes = [
        dataclasses.replace(n, mask=seen.nodes[2].mask) if n.name == "globalpool_2" else n
        for n in seen.nodes
    ]
    seen = dataclasses.replace(seen, nodes=tuple(nodes))
    report = xlstm.reconcile(seen, "torch")
    report.check()
    assert any(line.startswith("every step masked: not reached") for line in report.unexercised)
    logarithm = model([Function("log"), Dense(3, 2)], (3,))
    report = xlstm.reconcile(logarithm, "torch")
    report.check()
    assert any(line.startswith("inputs below zero") for line in report.unexercised)


HIDDEN = {
    f"{kind}-{case}": m for kind in RECURRENT for case, m in variants(RECURRENT[kind]).items()
}


@pytest.mark.parametrize("case", HIDDEN)
def test_hidden_states_of_every_recurrent_layer(case):
    report = xlstm.reconcile(HIDDEN[case], "torch", states=True)
    report.check()
    assert all(len(v) >= 2 for v in report.frameworks["torch"].layers.values())


def test_hidden_states_in_other_frameworks():
    both = Bidirectional(GRU(3, 4), LSTM(3, 4, go_backwards=True), merge="sum")
    source = model([Masking(), both, Dense(4, 2)], (None, 3))
    report = xlstm.reconcile(source, ["nnx", "linen", "keras"], states=True)
    report.check()
    names = report.to_json()["frameworks"]["keras"]["layers"]["float64"]
    assert "bidirectional_1 backward, last c" in names
    assert "bidirectional_1 forward, every step" in str(report)


def test_an_error_that_outputs_do_not_show_shows_in_the_states(monkeypatch):
    live = registry.adapter("torch").live()
    build = live.build

    def wrong(code, weights, dtype):
        bias = weights["lstm_0.bias_ih_l0"]
        return build(code, {**weights, "lstm_0.bias_ih_l0": bias + bias.dtype.type(1e-3)}, dtype)

    hidden = with_weights(PLAIN, "dense_1", lambda a: a * 0)
    monkeypatch.setattr(live, "build", wrong)
    report = xlstm.reconcile(hidden, "torch", states=True)
    assert set(words(report).values()) == {"rounding"}
    layers = report.frameworks["torch"].layers["float64"]
    assert {v.verdict for v in layers.values()} == {"different"}
    assert not report.ok
    with pytest.raises(NotEqualError, match="lstm_0, every step is different"):
        report.check()


def test_a_model_without_recurrent_layers_hides_nothing():
    assert expose_hidden_states(model([Dense(3, 2)], (3,))) is None
    report = xlstm.reconcile(model([Dense(3, 2)], (3,)), "torch", states=True)
    report.check()
    assert report.frameworks["torch"].layers == {}


def test_thorough_runs_every_shape():
    source = model([Masking(), LSTM(3, 4), Dense(4, 2, "hard_sigmoid")], (None, 3))
    report = xlstm.reconcile(source, "torch", thorough=True)
    report.check()
    shapes = report.frameworks["torch"].shapes
    assert len(shapes) == len(SHAPES) + 1
    assert {v.verdict for each in shapes.values() for v in each.values()} == {"rounding"}
    assert "(1,1,3) scale 1 seed 21" in str(report)
    assert len(report.to_json()["frameworks"]["torch"]["shapes"]) == len(shapes)


def test_thorough_finds_what_one_shape_does_not_show(torch_gives):
    torch_gives(lambda y: [np.where(len(y[0]) == 1, y[0] * 1.01, y[0])])
    assert xlstm.reconcile(PLAIN, "torch").ok
    report = xlstm.reconcile(PLAIN, "torch", thorough=True)
    assert set(words(report).values()) == {"different"}
    found = report.frameworks["torch"].shapes
    assert {n[:2] for n, each in found.items() if each["float64"].verdict == "different"} == {"(1"}


def test_every_kind_of_mask_in_shapes():
    source = model([Masking(), LSTM(3, 4)], (None, 3))
    found, refused_shapes = shapes_of(source)
    assert refused_shapes == []
    counts = [(one.arrays[0] != 0).any(-1) for one in found if one.arrays[0].shape[1] > 3]
    for kept in counts:
        if len(kept) >= 5:
            assert not kept.any(1).all(), "all masked"
            assert kept.all(1).any(), "none masked"
            assert (~kept[:, 0] & kept[:, -1]).any(), "left"
            assert (kept[:, 0] & ~kept[:, -1]).any(), "right"
            assert (kept[:, 0] & kept[:, -1] & ~kept.all(1)).any(), "middle"


def test_inputs_reach_straight_and_flat_parts():
    for activation in ("tanh", "sigmoid", "hard_sigmoid", "relu6", "softsign"):
        source = model([Dense(3, 2, activation)], (3,))
        report = xlstm.reconcile(source, "torch", thorough=True)
        assert report.unexercised == (), activation
    arrays, left = inputs.chosen(model([Embedding(40, 3)], (None,)))
    assert left == []
    assert set(np.unique(arrays[0])) <= set(range(40))
