"""The verdict rule: no false alarm on ill-conditioned models, nothing small let through."""

import dataclasses

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.errors import NotEqualError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU, LSTM, Dense, SimpleRNN
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import bounds, bounds_from, judge

LONG = 2000


def last_first(seed, gain, activation="tanh"):
    return model([LSTM(2, 8, activation, return_sequences=True)], (None, 2), gain=gain, seed=seed)


def chaotic(gain):
    """A plain recurrent layer beyond the edge of chaos: its recurrent kernel has this gain."""
    found = model([SimpleRNN(2, 64, return_sequences=True)], (None, 2), seed=8)
    layer = dict(found.weights["simplernn_0"])
    rng = np.random.default_rng(9)
    layer["recurrent"] = (rng.standard_normal((64, 64)) * gain / 8).astype("float32")
    return dataclasses.replace(found, weights={"simplernn_0": layer})


CHAOTIC = {
    "large_weights-T2000": (last_first(1, 6.0), LONG),
    "larger_weights-T2000": (last_first(2, 20.0), LONG),
    "relu_that_grows-T100": (last_first(3, 1.5, "relu"), 100),
    "relu_that_overflows-T2000": (last_first(4, 2.5, "relu"), LONG),
    "linear_that_grows-T100": (last_first(5, 2.0, "linear"), 100),
    "quiet-T2000": (last_first(6, 0.5), LONG),
    **{
        f"simple_rnn-gain{gain}-T{steps}": (chaotic(gain), steps)
        for gain in (1.5, 3.0)
        for steps in (100, LONG)
    },
    "gru-large_weights-T2000": (
        model([GRU(2, 8, return_sequences=True)], (None, 2), gain=8.0, seed=7),
        LONG,
    ),
}


@pytest.mark.parametrize("case", CHAOTIC)
def test_no_false_alarm(case):
    ill, steps = CHAOTIC[case]
    x = np.random.default_rng(0).standard_normal((2, steps, 2)).astype("float32")
    report = xlstm.reconcile(ill, ("torch", "nnx"), inputs=x)
    words = {v.verdict for f in report.frameworks.values() for v in f.verdicts.values()}
    assert words == {"rounding"}, str(report)


@pytest.mark.parametrize("case", ["large_weights-T2000", "relu_that_grows-T100"])
def test_keras_raises_no_false_alarm_either(case):
    ill, steps = CHAOTIC[case]
    x = np.random.default_rng(0).standard_normal((2, steps, 2)).astype("float32")
    xlstm.reconcile(ill, ("keras",), inputs=x).check()


def test_the_growing_model_really_grows_and_chaos_is_named():
    grown, _ = CHAOTIC["relu_that_overflows-T2000"]
    x = np.random.default_rng(0).standard_normal((2, LONG, 2)).astype("float32")
    allowed = bounds(grown, [x], "float32")[0]
    assert not allowed.finite.all(), "float32 overflows on the way"


def test_the_tail_of_chaos_is_named_and_not_measured(monkeypatch):
    ill, steps = CHAOTIC["simple_rnn-gain3.0-T100"]
    x = np.random.default_rng(0).standard_normal((2, steps, 2)).astype("float32")
    live = registry.adapter("torch").live()
    run = live.run

    def lost(ported, inputs, dtype):
        (y,) = run(ported, inputs, dtype)
        y[:, 90:] = 0
        return [y]

    monkeypatch.setattr(live, "run", lost)
    report = xlstm.reconcile(ill, ("torch",), inputs=x)
    verdict = report.frameworks["torch"].verdicts["float64"]
    assert report.ok
    assert verdict.undecidable == f"simplernn_0 time steps {verdict.undecidable_from} to 99"
    assert verdict.max_abs < 1e-6
    assert verdict.max_ulp < 1e10
    said = f"{verdict.undecidable} cannot be decided"
    assert said in " ".join(str(report).split())
    with pytest.warns(UserWarning, match=said):
        report.check()
    assert report.to_json()["frameworks"]["torch"]["float64"]["undecidable"] == verdict.undecidable


def test_complex_numbers_are_a_difference():
    found = outcome(lambda y: y + 1e-3j)
    assert (found.verdict, found.detail) == (
        "different",
        "dtype complex128, the reference has real numbers",
    )


def changed(source, tensor, change):
    """The model with one of its tensors changed."""
    weights = {
        name: {t: change(a.astype("float64")) if t == tensor else a for t, a in layer.items()}
        for name, layer in source.weights.items()
    }
    return dataclasses.replace(source, weights=weights)


def test_a_bias_off_by_a_millionth_is_seen():
    plain = model([LSTM(3, 5), Dense(5, 2)], (None, 3))
    off = changed(plain, "bias", lambda a: a + 1e-6)
    arrays, _ = generated.chosen(plain)
    exact = bounds(plain, arrays, "float64")[0]
    output = xlstm.port(off, "numpy", dtype="float64")(*arrays)
    assert judge(output, exact, exact, "float64").verdict == "different"


def outcome(output, y=None):
    plain = model([Dense(3, 2)], (3,))
    x = np.ones((2, 3))
    exact = bounds(plain, [x], "float64")[0]
    return judge(exact.y if output is None else output(exact.y), exact, exact, "float64")


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (None, "rounding"),
        (lambda y: y * (1 + 1e-12), "different"),
        (lambda y: y * np.nan, "failed"),
        (lambda y: y[:1], "failed"),
        (lambda y: y + np.inf, "failed"),
    ],
    ids=["same", "off", "nan", "shape", "inf"],
)
def test_words(output, word):
    assert outcome(output).verdict == word


def test_an_all_zero_step_must_be_zero():
    zero = changed(
        changed(model([Dense(3, 2)], (3,)), "kernel", lambda a: a * 0), "bias", lambda a: a * 0
    )
    exact = bounds(zero, [np.ones((2, 3))], "float64")[0]
    assert judge(exact.y, exact, exact, "float64").verdict == "rounding"
    assert judge(exact.y + 1e-300, exact, exact, "float64").verdict == "different"


def test_chaos_that_cannot_be_decided_is_said():
    wild = last_first(1, 60.0)
    x = np.random.default_rng(0).standard_normal((1, LONG, 2)).astype("float32")
    report = xlstm.reconcile(wild, ("torch",), inputs=x)
    verdict = report.frameworks["torch"].verdicts["float64"]
    assert verdict.verdict in ("rounding", "undecided")
    assert (verdict.undecidable_from is None) == bounds(wild, [x], "float64")[0].sharp.all()


def test_a_nan_model_is_never_equal():
    broken = changed(model([Dense(3, 2)], (3,)), "kernel", lambda a: a * np.nan)
    report = xlstm.reconcile(broken, ("torch",))
    assert not report.ok
    with pytest.raises(NotEqualError, match="undecided"):
        report.check()


def test_unexercised_pieces_are_named():
    dead = changed(model([Dense(3, 2, "relu")], (3,)), "bias", lambda a: a * 0 - 1e9)
    report = xlstm.reconcile(dead, ("torch",))
    assert any("relu above +0 of dense_0" in line for line in report.unexercised)


def test_a_failing_framework_hides_no_other(monkeypatch):
    live = registry.adapter("torch").live()

    def fail(*_args):
        raise RuntimeError("out of order")

    monkeypatch.setattr(live, "run", fail)
    report = xlstm.reconcile(model([Dense(3, 2)], (3,)), ("torch", "nnx"))
    assert report.frameworks["torch"].verdicts["float32"].verdict == "failed"
    assert "out of order" in report.frameworks["torch"].verdicts["float32"].detail
    assert report.frameworks["nnx"].ok
    assert not report.ok


@pytest.mark.parametrize("x", [np.ones((2, 4)), np.ones((2, 3, 3)), [], np.ones((0, 3))])
def test_inputs_that_do_not_fit(x):
    with pytest.raises(UsageError):
        xlstm.reconcile(model([Dense(3, 2)], (3,)), ("torch",), inputs=x)


@pytest.mark.parametrize("shares", [(0.6, 0.3), (0.3, 0.6), (1.5, 0.3), (0.3, 1.5)])
def test_figures_of_a_verdict_are_of_the_step_that_decides(shares):
    """A small step may come nearer to its bound than a large one whose difference is larger."""
    y = np.array([[[1e-3], [1.0]]])
    allowed = bounds_from(y, [y * (1 + 1e-7)], "float32")
    exact = bounds_from(y, [y * (1 + 1e-16)], "float64")
    off = np.array(shares).reshape(1, 2, 1) * allowed.step.reshape(1, 2, 1)
    verdict = judge(y + off, allowed, exact, "float32")
    worst = int(np.argmax(shares))
    assert verdict.step == worst
    assert verdict.bound == allowed.step[worst]
    assert verdict.max_abs == pytest.approx(off[0, worst, 0], rel=1e-6)
    assert verdict.ratio == pytest.approx(verdict.max_abs / verdict.bound)
    assert (verdict.verdict == "different") == (verdict.max_abs > verdict.bound)
