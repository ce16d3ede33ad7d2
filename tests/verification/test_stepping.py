"""One step of plain SGD of ports against slopes of the reference, and what is said of biases."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.cli.main import main
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU, LSTM, BatchNorm, Bidirectional, Dense, SimpleRNN
from xlstm.ir.source import Source
from xlstm.verification.gradients import RATE, sgd_notes, sgd_steps, slopes_of

SEQUENCE = {"return_sequences": True}
BACK = {"return_sequences": True, "go_backwards": True}
MODELS = {
    "lstm": model([LSTM(3, 4), Dense(4, 2)], (None, 3)),
    "gru": model([GRU(3, 4)], (None, 3)),
    "gru-before": model([GRU(3, 4, reset_after=False)], (None, 3)),
    "gru-no_hidden_bias": model([GRU(3, 4, hidden_bias=False)], (None, 3)),
    "no_bias": model([LSTM(3, 4, use_bias=False), Dense(4, 2, use_bias=False)], (None, 3)),
    "simple_rnn": model([SimpleRNN(3, 4), BatchNorm(4), Dense(4, 2)], (None, 3)),
    "both": model([Bidirectional(LSTM(3, 4, **SEQUENCE), LSTM(3, 4, **BACK))], (None, 3)),
    "both-gru": model(
        [Bidirectional(GRU(2, 2), GRU(2, 2, go_backwards=True)), Dense(4, 2)], (None, 2)
    ),
}
MODELS["keras"] = dataclasses.replace(MODELS["lstm"], source=Source("keras"))
TWO = {"bias": np.concatenate([MODELS["lstm"].weights["lstm_0"]["bias"], np.zeros((1, 4, 4))])}
MODELS["keras-two_biases"] = dataclasses.replace(
    MODELS["keras"],
    weights={
        **MODELS["lstm"].weights,
        "lstm_0": {
            **MODELS["lstm"].weights["lstm_0"],
            **{n: a.astype("f") for n, a in TWO.items()},
        },
    },
)
MODELS["frozen"] = FROZEN = dataclasses.replace(
    MODELS["lstm"],
    nodes=tuple(
        dataclasses.replace(node, trainable=node.name != "lstm_0") for node in MODELS["lstm"].nodes
    ),
)
TORCH = registry.adapter("torch")


@functools.cache
def slopes(name):
    return slopes_of(MODELS[name], None)


def verdicts(name, framework="torch"):
    """Of one step, by precision and tensor."""
    found = sgd_steps(MODELS[name], registry.adapter(framework), slopes(name))
    return {dtype: {n: v.verdict for n, v in every.items()} for dtype, every in found.items()}


@pytest.mark.parametrize(
    "name", [name for name in MODELS if not name.startswith(("keras", "frozen"))]
)
def test_every_weight_moves_as_it_should(name):
    found = verdicts(name)
    assert set(found) == {"float32", "float64"}
    held = {f"{layer}.{t}" for layer, weights in MODELS[name].weights.items() for t in weights}
    held -= {"batchnorm_1.mean", "batchnorm_1.variance"}
    for every in found.values():
        assert set(every.values()) == {"rounding"}
        moved = {tensor.partition(" (")[0] for tensor in every if "not trained" not in tensor}
        assert moved == held


OTHERS = [("nnx", "both-gru"), ("linen", "lstm"), ("linen", "gru-before"), ("keras", "both-gru")]


@pytest.mark.parametrize(("framework", "name"), OTHERS)
def test_in_other_frameworks(framework, name):
    found = verdicts(name, framework)
    assert set(found) == {"float32", "float64"}
    assert {word for every in found.values() for word in every.values()} == {"rounding"}


def test_statistics_stay():
    found = verdicts("simple_rnn")["float64"]
    assert found["batchnorm_1.running_mean (not trained)"] == "rounding"
    assert found["batchnorm_1.running_var (not trained)"] == "rounding"


TWICE = (
    "lstm_0: bias_ih_l0 and bias_hh_l0 both get the gradient; their sum moves 2 x as far as "
    "Keras's one bias under plain SGD; train one of them, or halve its learning rate"
)
SAID = {
    ("keras", "torch"): [TWICE],
    ("keras", "nnx"): [],
    ("keras", "keras"): [],
    ("keras-two_biases", "torch"): [TWICE],
    ("gru", "torch"): [],
    ("gru", "linen"): [
        "cell.ir.bias and cell.iz.bias: one bias for the two in the source's layer "
    ],
    ("gru-no_hidden_bias", "linen"): ["gru_0: gate n of cell.hn.bias moves"],
    ("no_bias", "nnx"): ["lstm_0: cell.dense_h.bias, a bias that the layer does not have, moves"],
    ("no_bias", "torch"): [],
}


@pytest.mark.parametrize(("name", "framework"), SAID)
def test_biases_that_move_elsewhere_are_named(name, framework):
    found = list(sgd_notes(MODELS[name], registry.adapter(framework)))
    wanted = SAID[name, framework]
    assert len(found) == len(wanted)
    assert all(part in line for part, line in zip(wanted, found, strict=True))


def test_the_sum_of_two_biases_does_move_twice_as_far():
    """With plain numbers, no table involved."""
    source, live = MODELS["lstm"], TORCH.live()
    made = xlstm.port(source, "torch", dtype="float64")
    x = np.random.default_rng(3).standard_normal((2, 5, 3))
    factors = [np.ones((2, 2))]
    before, after = live.weights(made), live.step(made, [x], factors, RATE, "float64")
    by_name, _ = live.gradients(made, [x], factors, [False], "float64")
    both = sum(after[f"lstm_0.bias_{n}_l0"] - before[f"lstm_0.bias_{n}_l0"] for n in ("ih", "hh"))
    np.testing.assert_allclose(both, -2 * RATE * by_name["lstm_0.bias_ih_l0"], rtol=1e-12)


def changed_step(monkeypatch, change):
    live = TORCH.live()
    own = live.step

    def wrong(made, *args):
        return change(live.weights(made), own(made, *args))

    monkeypatch.setattr(live, "step", wrong)


def replaced(name, change):
    """Changes what one tensor becomes."""
    return lambda old, new: {**new, name: change(old[name], new[name])}


MUTANTS = {
    "one bias moves": ({"lstm_0.bias"}, replaced("lstm_0.bias_hh_l0", lambda old, new: old)),
    "a bias moves twice": (
        {"lstm_0.bias"},
        replaced("lstm_0.bias_ih_l0", lambda old, new: new + (new - old)),
    ),
    "gates swapped": (
        {"lstm_0.kernel"},
        replaced(
            "lstm_0.weight_ih_l0",
            lambda old, new: old + (new - old)[[*range(4, 8), *range(4), *range(8, 16)]],
        ),
    ),
    "upwards": ({"dense_1.kernel"}, replaced("dense_1.weight", lambda old, new: 2 * old - new)),
    "one in a million": (
        {"dense_1.bias"},
        replaced("dense_1.bias", lambda old, new: new + 1e-6 * (new - old)),
    ),
    "not at all": ({"dense_1.bias"}, replaced("dense_1.bias", lambda old, new: old)),
}


@pytest.mark.parametrize("case", MUTANTS)
def test_wrong_steps_are_caught(case, monkeypatch):
    wrong, change = MUTANTS[case]
    changed_step(monkeypatch, change)
    found = verdicts("lstm")["float64"]
    assert {name for name, word in found.items() if word == "different"} == wrong
    assert {word for name, word in found.items() if name not in wrong} == {"rounding"}


def test_frozen_layers_stay_where_a_framework_can_freeze(monkeypatch):
    found = verdicts("frozen")["float64"]
    assert found["lstm_0.bias_hh_l0 (not trained)"] == "rounding"
    assert "lstm_0.bias" not in found
    assert list(sgd_notes(FROZEN, TORCH)) == ["lstm_0: not trainable, and does not move"]
    lines = list(sgd_notes(FROZEN, registry.adapter("nnx")))
    assert len(lines) == 1
    assert "Flax NNX has no mark for that and moves it" in lines[0]
    moved = replaced("lstm_0.weight_hh_l0", lambda old, new: new + 1e-9)
    changed_step(monkeypatch, moved)
    found = verdicts("frozen")["float64"]
    wrong = {name for name, word in found.items() if word == "different"}
    assert wrong == {"lstm_0.weight_hh_l0 (not trained)"}


def test_it_is_off_by_default_and_on_in_reports(monkeypatch):
    source = MODELS["keras"]
    plain = xlstm.reconcile(source, "torch").to_json()["frameworks"]["torch"]
    assert not {"steps", "step_notes", "gradients"} & set(plain)
    report = xlstm.reconcile(source, "torch", step=True)
    report.check()
    assert TWICE in " ".join(str(report).split())
    held = report.to_json()["frameworks"]["torch"]
    assert held["step_notes"] == [TWICE]
    assert held["steps"]["float32"]["lstm_0.bias"]["verdict"] == "rounding"
    assert "gradients" not in held
    monkeypatch.delattr(TORCH.live(), "step")
    report = xlstm.reconcile(source, "torch", step=True)
    assert "adapter has no step" in str(report)
    assert not report.ok


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_a_refused_port_is_a_line_of_the_report():
    source = model([LSTM(3, 4, projection=2)], (None, 3))
    report = xlstm.reconcile(source, ["torch", "keras"], step=True)
    found = report.frameworks["keras"]
    assert found.steps["float32"]["all"].verdict == "failed"
    assert not found.step_notes
    assert report.frameworks["torch"].ok


def test_verify_takes_a_step(tmp_path, capsys):
    xlstm.save(MODELS["keras"], tmp_path / "port", "torch")
    assert (
        main(["verify", str(tmp_path / "port"), "--step", "--frameworks", "torch", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["frameworks"]["torch"]
    names = {"lstm_0.kernel", "lstm_0.recurrent", "lstm_0.bias", "dense_1.kernel", "dense_1.bias"}
    assert set(found["steps"]["float64"]) == names
    assert found["step_notes"] == [TWICE]
