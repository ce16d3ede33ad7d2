"""Errors by time step and in ULP: equal to figures that numpy computes in another way."""

from dataclasses import replace

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.ir.layers import GRU, LSTM, Dense
from xlstm.verification.bounds import EPS, Verdict, bounds, judge
from xlstm.verification.error_profile import BINS, LOWEST, bin_names, element_of

SEQUENCE = model([LSTM(3, 5, return_sequences=True)], (None, 3))
FLAT = model([GRU(3, 5), Dense(5, 2)], (None, 3))
X = np.random.default_rng(3).standard_normal((4, 7, 3)).astype(np.float32)


def judged(of, output=None, dtype="float32"):
    (allowed,), (exact,) = bounds(of, [X], dtype), bounds(of, [X], "float64")
    y = allowed.y if output is None else output(allowed)
    return judge(y, allowed, exact, dtype), allowed, y


def test_errors_of_a_sequence():
    rng = np.random.default_rng(4)
    verdict, allowed, y = judged(
        SEQUENCE, lambda known: known.y * (1 + 1e-7 * rng.uniform(-1, 1, known.y.shape))
    )
    profile = verdict.profile
    gaps = np.abs(y - allowed.y)
    assert np.array_equal(profile.errors, gaps.max(axis=(0, 2)))
    assert np.array_equal(profile.limits, allowed.step)
    assert profile.decided.all()
    assert sum(profile.ulps) == y.size
    top = np.abs(allowed.y).max(axis=(0, 2), keepdims=True)
    ulps = gaps / (EPS["float32"] * top)
    assert profile.ulps[0] == (gaps == 0).sum()
    assert profile.ulps[1] == ((ulps > 0) & (ulps < 2.0**LOWEST)).sum()
    assert profile.ulps[2] == ((ulps >= 2.0**LOWEST) & (ulps < 2.0 ** (LOWEST + 1))).sum()
    assert profile.place[1] == verdict.step
    assert gaps[profile.place] == verdict.max_abs == abs(profile.got - profile.wanted)
    assert profile.wanted == allowed.y[profile.place]


def test_the_worst_element_of_an_output_without_steps():
    def off(known):
        y = known.y.copy()
        y[2, 1] += 0.25
        return y

    verdict, allowed, _ = judged(FLAT, off)
    assert verdict.profile.place == (2, 1)
    assert verdict.profile.got - allowed.y[2, 1] == pytest.approx(0.25)
    assert verdict.profile.ulps[-1] == 1, "far above 4096 ULP"
    assert verdict.profile.ulps[0] == allowed.y.size - 1
    assert len(verdict.profile.errors) == 1


def test_bins_have_names():
    assert len(bin_names()) == BINS == len(set(bin_names()))


@pytest.mark.parametrize("shape", [(2, 3), (4,), (2, 3, 4), (2, 3, 4, 5)])
def test_an_element_is_found_again(shape):
    y = np.arange(np.prod(shape)).reshape(shape)
    steps = y.reshape(1, -1) if y.ndim < 3 else np.moveaxis(y, 1, 0).reshape(shape[1], -1)
    for place in np.ndindex(steps.shape):
        assert y[element_of(place, shape)] == steps[place]


def test_plain_data_and_equality_are_as_before():
    verdict = judged(SEQUENCE)[0]
    assert "profile" not in verdict.to_json()
    assert list(verdict.to_json())[:4] == ["verdict", "outcome", "max_abs", "max_rel"]
    assert verdict == replace(verdict, profile=None)
    assert "profile" not in repr(verdict)
    assert Verdict("failed").profile is None


def test_steps_after_the_last_finite_one_are_left_out():
    verdict, allowed, _ = judged(SEQUENCE)
    finite = np.array([True, True, False, False, False, False, False])
    cut = replace(allowed, finite=finite)
    found = judge(np.where(finite[None, :, None], allowed.y, np.nan), cut, cut, "float64")
    assert len(found.profile.errors) == 2
    assert len(verdict.profile.errors) == 7
    nothing = replace(allowed, finite=np.zeros(7, bool))
    assert judge(np.full_like(allowed.y, np.nan), nothing, nothing, "float64").profile is None


def test_a_profile_is_small():
    report = xlstm.reconcile(SEQUENCE, ["torch"], states=True)
    for verdicts in report.frameworks["torch"].layers.values():
        for found in verdicts.values():
            size = sum(getattr(found.profile, name).nbytes for name in ("errors", "limits"))
            assert size <= 16 * max(len(found.profile.errors), 1)
            assert found.profile.errors.base is None, "no view that keeps the whole output"
