"""Several sets of numbers in one loop: each gets what a run of its own gives."""

from dataclasses import replace

import numpy as np
import pytest
from cases import RECURRENT, model, variants

from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN
from xlstm.reference import Coverage, run, run_together
from xlstm.reference import variants as loops
from xlstm.reference.activations import PIECES
from xlstm.reference.summation import adds_many, ordered
from xlstm.verification.bounds import perturbed_inputs
from xlstm.verification.inputs import make

SEQUENCE = {"return_sequences": True}
CASES = {
    f"{kind}-{name}": case
    for kind, spec in RECURRENT.items()
    for name, case in variants(spec).items()
}
MORE = {
    "projection": [LSTM(3, 6, projection=2, **SEQUENCE), Dense(2, 3)],
    "gru-before": [GRU(3, 4, reset_after=False)],
    "relu": [SimpleRNN(3, 4, "relu", **SEQUENCE), GRU(4, 3)],
    "softmax": [LSTM(3, 70, "softmax", **SEQUENCE), Dense(70, 3)],
    "long": [LSTM(3, 70, **SEQUENCE), GRU(70, 5, go_backwards=True)],
    "halves": [Bidirectional(GRU(3, 4), LSTM(3, 4, go_backwards=True), "sum")],
}
CASES |= {name: model(specs, (None, 3)) for name, specs in MORE.items()}


def peeping():
    """An LSTM whose gates see the cell."""
    plain = model([LSTM(3, 4)], (None, 3))
    own = {**plain.weights["lstm_0"], "peephole": np.random.default_rng(1).normal(size=(3, 4))}
    layers = [("lstm_0", LSTM(3, 4, peepholes=True), True)]
    return chain("case", layers, (None, 3), {"lstm_0": own}, plain.source)


CASES["peepholes"] = peeping()


@pytest.mark.parametrize("name", CASES)
def test_sets_in_one_loop_are_as_alone(name):
    source = CASES[name]
    arrays = make(source, 5)
    sets = [(source, arrays)]
    sets += [perturbed_inputs(source, arrays, 1e-3, seed) for seed in range(3)]
    found = [*run_together([a for a, _ in sets], [x for _, x in sets])]
    for (one, own), outputs in zip(sets, found, strict=True):
        for y, want in zip(outputs, run(one, own), strict=True):
            assert y.shape == want.shape
            np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-14)
    assert not np.array_equal(found[0][0], found[1][0])


def test_large_steps_have_loops_of_their_own(monkeypatch):
    monkeypatch.setattr(loops, "TOGETHER", 1)
    monkeypatch.setattr(loops, "_run_loop", lambda *_: pytest.fail("a shared loop"))
    source = CASES["relu"]
    arrays = make(source, 5)
    assert len([*run_together([source] * 3, [arrays] * 3)]) == 3


@pytest.mark.parametrize("name", ["softmax", "long", "halves"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_an_order_of_sums_is_kept_beside_other_sets(name, backward):
    source = CASES[name]
    weights = {
        layer: {tensor: ordered(array, backward) for tensor, array in tensors.items()}
        for layer, tensors in source.weights.items()
    }
    own = replace(source, weights=weights)
    arrays = make(source, 9)
    moved = [ordered(x, backward) for x in arrays]
    usual, found = run_together([source, own], [arrays, moved], np.float32)
    (alone,) = run(own, moved, np.float32)
    np.testing.assert_array_equal(np.asarray(found[0]), np.asarray(alone))
    assert adds_many(source) == (name != "halves")
    assert np.array_equal(np.asarray(found[0]), usual[0]) == (name == "halves")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not adds_many(case)])
def test_where_few_are_added_no_order_shows(name):
    source = CASES[name]
    weights = {
        layer: {tensor: ordered(array, True) for tensor, array in tensors.items()}
        for layer, tensors in source.weights.items()
    }
    own = replace(source, weights=weights)
    arrays = make(source, 80)
    found = run(own, [ordered(x, True) if x.dtype != bool else x for x in arrays], np.float32)
    for y, want in zip(found, run(source, arrays, np.float32), strict=True):
        np.testing.assert_array_equal(np.asarray(y), want)


@pytest.mark.parametrize("waiting", [0, 30, 10**6])
def test_pieces_are_counted_alike_at_once_and_step_by_step(monkeypatch, waiting):
    monkeypatch.setattr("xlstm.reference.coverage.WAITING", waiting)
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 4, (6, 5)) * np.array([0, 1, 1, 1, 1]) for _ in range(4)]
    parts[1][0, 1:4] = np.nan, np.inf, -np.inf
    for name, edges in PIECES.items():
        coverage = Coverage()
        for x in parts:
            coverage.see("layer", "gates", name, x)
        coverage.unexercised()
        (seen,) = coverage._seen.values()
        every = np.stack(parts)
        pieces = np.searchsorted(edges, every)
        want = np.bincount(pieces[np.isfinite(every)], minlength=len(edges) + 1)
        assert seen.tolist() == want.tolist(), name
        for use, alive in coverage._alive.items():
            flat = np.isin(pieces, use.flat).reshape(-1, 5)
            assert alive.tolist() == (~flat).any(axis=0).tolist(), name
