"""Gradients of ports against slopes of the reference: right ones pass, wrong ones are caught."""

import dataclasses
import json

import numpy as np
import pytest
from cases import built, explicit_mask, model, with_states
from cases_layers import CASES_LAYERS
from processes import run
from refusing import refused

import xlstm
from xlstm.cli.main import main
from xlstm.errors import NotEqualError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder
from xlstm.ir.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Conv,
    Dense,
    Embedding,
    Flatten,
    Input,
    Masking,
    SimpleRNN,
)
from xlstm.porting.port import build
from xlstm.verification import finite_differences, gradients
from xlstm.verification.finite_differences import DiffTarget, point, slope
from xlstm.verification.gradients import read_back, slopes_of

DEMO = str(xlstm.demo.path())
SEQUENCE = {"return_sequences": True}
BACKWARDS = {"go_backwards": True}
BACK = {"return_sequences": True, "go_backwards": True}


def shared():
    """One Dense layer called twice."""
    graph = Builder()
    x = graph.add("x", Input((3,)))
    y = graph.add("first", Dense(3, 3, "tanh"), [x])
    return built(graph, [graph.add("second", Dense(3, 3, "tanh"), [y], layer="first")])


CONV = Conv(3, 4, (3,), padding="same", strides=(1,), dilation=(1,))
MODELS = {
    "lstm": model([LSTM(3, 4, **SEQUENCE), LSTM(4, 3), Dense(3, 2, "softmax")], (None, 3)),
    "lstm-no_bias": model([LSTM(3, 4, use_bias=False)], (None, 3)),
    "lstm-own_cell": model([LSTM(3, 4, "relu", "hard_sigmoid")], (None, 3)),
    "gru": model([GRU(3, 4, **SEQUENCE)], (None, 3)),
    "gru-before": model([GRU(3, 4, reset_after=False)], (None, 3)),
    "gru-no_hidden_bias": model([GRU(3, 4, hidden_bias=False)], (None, 3)),
    "simple_rnn": model([SimpleRNN(3, 4), Dense(4, 2)], (None, 3)),
    "both": model([Bidirectional(GRU(3, 4, **SEQUENCE), GRU(3, 4, **BACK))], (None, 3)),
    "both-unlike": model([Bidirectional(LSTM(3, 4), SimpleRNN(3, 4, **BACKWARDS))], (None, 3)),
    "masked": model([Masking(), Bidirectional(LSTM(3, 4), LSTM(3, 4, **BACKWARDS))], (None, 3)),
    "mask-given": explicit_mask(GRU(3, 4, **SEQUENCE)),
    "states": with_states(LSTM(3, 4, return_state=True)),
    "stateful": model([LSTM(3, 4, stateful=True)], (None, 3)),
    "embedding": model([Embedding(9, 4, mask_zero=False), LSTM(4, 3), Dense(3, 2)], (None,)),
    "conv": model([CONV, BatchNorm(4), Flatten(), Dense(24, 2)], (6, 3)),
    "transposed": CASES_LAYERS["transposed2d-dilation"],
    "shared": shared(),
    "attention": CASES_LAYERS["heads-masks"],
    "group_norm": CASES_LAYERS["group_norm"],
    "group_norm-center": CASES_LAYERS["group_norm-vector"],
}


def words(report, framework="torch"):
    found = report.frameworks[framework].gradients
    return {dtype: {n: v.verdict for n, v in every.items()} for dtype, every in found.items()}


def tensors_of(source):
    """What has a gradient, by name without sides."""
    statistics = ("mean", "variance")
    held = {f"{n}.{t}" for n, w in source.weights.items() for t in w if t not in statistics}
    floats = [n for n in source.inputs if "float" in source.node(n).spec.dtype]
    return held | {f"input {name}" for name in floats}


@pytest.mark.parametrize("case", MODELS)
def test_gradients_of_every_tensor(case):
    report = xlstm.reconcile(MODELS[case], "torch", gradients=True)
    report.check()
    wanted = tensors_of(MODELS[case]) - ({"input input"} if case == "embedding" else set())
    for every in words(report).values():
        assert {name.partition(" (")[0] for name in every} == wanted


OTHERS = [
    *(("keras", case) for case in ("masked", "embedding", "conv")),
    *(("nnx", case) for case in ("gru", "embedding", "conv")),
    *(("linen", case) for case in ("gru-before", "masked", "conv")),
]


@pytest.mark.parametrize(("framework", "case"), OTHERS)
def test_gradients_of_other_frameworks(framework, case):
    found = gradients.gradients(
        MODELS[case], registry.adapter(framework), slopes_of(MODELS[case], None)
    )
    assert {v.verdict for every in found.values() for v in every.values()} == {"rounding"}
    assert set(found) == {"float32", "float64"}


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_gradients_of_keras_on_other_backends(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    code = (
        "import xlstm; from cases import model; from xlstm.model import *; "
        "m = model([Embedding(9, 4), GRU(4, 3), Dense(3, 2)], (None,)); "
        "r = xlstm.reconcile(m, 'keras', gradients=True); "
        "f = r.frameworks['keras'].gradients['float32']; "
        "print(sorted({v.verdict for v in f.values()}), len(f))"
    )
    done = run(code)
    assert done.stdout.strip() == "['rounding'] 7", done.stdout + done.stderr


def test_what_has_no_gradient_is_named():
    lines = xlstm.reconcile(MODELS["conv"], "torch", gradients=True).unexercised
    assert any("batchnorm_1.mean: none" in line for line in lines)
    lines = xlstm.reconcile(MODELS["embedding"], "torch", gradients=True).unexercised
    assert any("gradient of input input: none" in line for line in lines)


def test_queries_without_a_value_are_left_out():
    """Scores that are all lowered by 1e9 have lost their digits: there is no slope to compare."""
    found = slopes_of(CASES_LAYERS["heads-lowered"], None)
    every = gradients.gradients(CASES_LAYERS["heads-lowered"], registry.adapter("torch"), found)
    assert {v.verdict for held in every.values() for v in held.values()} == {"rounding"}
    assert gradients.BLIND in found.notes()


def changed_gradients(monkeypatch, change):
    live = registry.adapter("torch").live()
    own = live.gradients

    def wrong(*args):
        by_name, by_input = own(*args)
        return change(by_name, by_input)

    monkeypatch.setattr(live, "gradients", wrong)


def rows(name, change):
    """Changes one tensor's gradient."""

    def apply(by_name, by_input):
        return {**by_name, name: change(by_name[name].copy())}, by_input

    return apply


def without_gate(array):
    array[4:8] = 0
    return array


def swapped_gates(array):
    return array[[*range(4, 8), *range(4), *range(8, 16)]]


MUTANTS = {
    "gate-lost": rows("lstm_0.weight_hh_l0", without_gate),
    "gates-swapped": rows("lstm_0.weight_ih_l0", swapped_gates),
    "bias-lost": rows("lstm_0.bias_hh_l0", lambda a: a * 0),
    "bias-doubled": rows("lstm_0.bias_ih_l0", lambda a: a * 2),
    "tiny": rows("lstm_1.weight_ih_l0", lambda a: a * (1 + 1e-9)),
    "one-number": rows("dense_2.weight", lambda a: a + 1e-8 * np.eye(*a.shape) * (a == a[0])),
    "nan": rows("dense_2.bias", lambda a: a * np.nan),
    "input": lambda by_name, by_input: (by_name, [by_input[0][:, ::-1]]),
}


@pytest.mark.parametrize("case", MUTANTS)
def test_wrong_gradients_are_caught(case, monkeypatch):
    changed_gradients(monkeypatch, MUTANTS[case])
    report = xlstm.reconcile(MODELS["lstm"], "torch", gradients=True)
    wrong = {n for n, word in words(report)["float64"].items() if word != "rounding"}
    assert len(wrong) == 1
    word = "failed" if case == "nan" else "different"
    assert {words(report)["float64"][n] for n in wrong} == {word}
    assert not report.ok
    with pytest.raises(NotEqualError, match="gradient of"):
        report.check()


DETACHED = {
    "hidden": ("dh, dc = d_t @ weight.t(), ", "dh, dc = torch.zeros_like(dh), "),
    "cell": ("weight.t(), dc * f_t", "weight.t(), torch.zeros_like(dc)"),
    "candidate": ("i * g_slope]", "torch.zeros_like(g_slope)]"),
    "input": ("self.project(x)", "self.project(x.detach())"),
}


@pytest.mark.parametrize("case", DETACHED)
def test_a_detached_state_is_caught(case, monkeypatch):
    """The outputs are the same to the last bit: only the gradients show it."""

    def detached(source, adapter, dtype):
        text = adapter.emit(source)
        old, new = DETACHED[case]
        assert text.count(old) == 1
        return build(source, adapter, dtype, text.replace(old, new))

    monkeypatch.setattr(gradients, "build", detached)
    report = xlstm.reconcile(MODELS["lstm-own_cell"], "torch", gradients=True)
    assert "lstm_0.bias (recurrent)" in str(report)
    assert {v.verdict for v in report.frameworks["torch"].verdicts.values()} == {"rounding"}
    for every in words(report).values():
        assert "different" in every.values()


def test_both_biases_of_pytorch_get_one_gradient():
    source = MODELS["lstm-own_cell"]
    adapter, found = registry.adapter("torch"), slopes_of(source, None)
    made = build(source, adapter, "float64")
    by_name, _ = adapter.live().gradients(made, found.arrays, found.at.factors, [True], "float64")
    np.testing.assert_array_equal(by_name["lstm_0.bias_ih_l0"], by_name["lstm_0.bias_hh_l0"])
    hub, there = read_back(source, adapter, by_name)
    assert hub["lstm_0"]["bias"].shape == (2, 4, 4)
    assert there["lstm_0"]["bias"].all()


def bent(bias):
    """A relu whose corner is `bias` away where its input is zero."""
    found = model([Dense(3, 2, "relu")], (3,))
    held = {**found.weights["dense_0"], "bias": np.full(2, bias, np.float32)}
    return dataclasses.replace(found, weights={"dense_0": held})


def test_slopes_are_exact_for_a_line_and_know_corners():
    line = model([Dense(3, 2)], (3,))
    x = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    at = point(line, [x], 1)
    place = DiffTarget("dense_0.kernel", "dense_0", "kernel")
    v = np.random.default_rng(2).standard_normal((3, 2)).astype(finite_differences.WIDE)
    found = slope(at, place, v)
    exact = float(((x.astype(finite_differences.WIDE) @ v) * at.factors[0]).sum())
    assert abs(found.value - exact) <= 1e-14 * abs(exact)
    assert not found.corner
    bias, ones = DiffTarget("dense_0.bias", "dense_0", "bias"), np.ones(2, finite_differences.WIDE)
    zeros = np.zeros((4, 3), np.float32)
    assert slope(point(bent(0.0), [zeros], 1), bias, ones).corner
    at = point(bent(1e-4), [zeros], 1)
    found = slope(at, bias, ones)
    assert not found.corner
    assert abs(found.value - float(at.factors[0].sum(dtype=np.float64))) < 1e-12


def test_a_corner_in_the_users_inputs_is_undecided():
    zeros = np.zeros((2, 3), np.float32)
    report = xlstm.reconcile(bent(0.0), "torch", zeros, gradients=True)
    verdict = report.frameworks["torch"].gradients["float64"]["dense_0.bias"]
    assert verdict.verdict == "undecided"
    assert "corner" in verdict.detail


def test_models_too_large_for_slopes_are_refused():
    large = model([LSTM(256, 512, **SEQUENCE)], (None, 256))
    x = np.zeros((32, 64, 256), np.float32)
    refused(UsageError, lambda: slopes_of(large, [x]), "gradients", "20.0e9", "samples")


def test_fewer_samples_are_taken_before_a_model_is_too_large(monkeypatch, capsys):
    small = model([LSTM(3, 4), Dense(4, 2)], (5, 3))
    every = slopes_of(small, None)
    wanted = gradients.products(small, every.arrays) * len(every.places)
    wanted *= gradients.DIRECTIONS * gradients.RUNS
    rows = len(every.arrays[0])
    monkeypatch.setattr(gradients, "MOST", wanted * 2.5 / rows)
    fewer = slopes_of(small, None)
    assert len(fewer.arrays[0]) == 2
    assert f"of the first 2 of {rows} samples" in fewer.notes()[-1]
    xlstm.reconcile(small, "torch", gradients=True).check()
    monkeypatch.setattr(gradients, "MOST", 1)
    refused(UsageError, lambda: slopes_of(small, None), "for one sample", "compare without")
    report = xlstm.reconcile(small, ["torch", "nnx"], gradients=True, step=True)
    assert not report.ok
    for part in report.frameworks.values():
        assert {v.verdict for v in part.verdicts.values()} == {"rounding"}
        words = {v.verdict for _, v in part.every()}
        assert words == {"rounding", "undecided"}
    assert "for one sample; compare without gradients" in " ".join(str(report).split())
    assert main(["verify", DEMO, "--frameworks", "torch", "--step", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["frameworks"]["torch"]
    assert found["float64"]["verdict"] == "rounding"
    assert found["steps"]["float64"]["all"]["verdict"] == "undecided"


def test_where_long_double_is_no_wider(monkeypatch):
    monkeypatch.setattr(finite_differences, "WIDE", np.float64)
    monkeypatch.setattr(gradients, "WIDER", False)
    report = xlstm.reconcile(MODELS["gru"], "torch", gradients=True)
    report.check()
    assert any("long double is no wider" in line for line in report.unexercised)


def test_an_adapter_without_gradients_is_a_line(monkeypatch):
    monkeypatch.delattr(registry.adapter("torch").live(), "gradients")
    report = xlstm.reconcile(MODELS["simple_rnn"], "torch", gradients=True)
    assert "has no gradients" in str(report)
    assert not report.ok


def test_verify_prints_gradients(capsys):
    assert main(["verify", DEMO, "--frameworks", "torch", "--gradients", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["frameworks"]["torch"]["gradients"]
    assert set(found["float64"]) == {
        "lstm.kernel",
        "lstm.recurrent",
        "lstm.bias (input)",
        "lstm.bias (recurrent)",
        "dense.kernel",
        "dense.bias",
        "input input",
    }
