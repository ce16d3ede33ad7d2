"""The order of a long sum is no difference: every reduction of the reference knows two orders."""

import numpy as np
import pytest

from xlstm import reference
from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM, Dense, Flatten
from xlstm.ir.source import Source
from xlstm.reference.summation import LONG, ordered
from xlstm.verification.bounds import bounds, judge

RNG = np.random.default_rng(3)
A = RNG.normal(size=(4, 5000)).astype("float32")
B = RNG.normal(size=(5000, 3)).astype("float32")
C = RNG.normal(size=(2, 3000, 3)).astype("float32")
REDUCTIONS = {
    "matmul": (lambda x, y, z: x @ y),
    "dot": (lambda x, y, z: np.dot(x, y)),
    "tensordot": (lambda x, y, z: np.tensordot(x, y, 1)),
    "tensordot-axes": (lambda x, y, z: np.tensordot(x, y, (1, 0))),
    "tensordot-vectors": (lambda x, y, z: np.tensordot(x[0], y[:, 0], (0, 0))),
    "tensordot-all": (lambda x, y, z: np.tensordot(x, x, ((0, 1), (0, 1)))),
    "einsum": (lambda x, y, z: np.einsum("ab,bc->ac", x, y)),
    "sum": (lambda x, y, z: z.sum(axis=1)),
    "sum-all": (lambda x, y, z: np.sum(z)),
    "mean": (lambda x, y, z: z.mean(axis=(0, 1), keepdims=True)),
}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_long_sum_of_an_ordered_array_is_one_running_sum(name, backward):
    own = REDUCTIONS[name](*(ordered(x, backward) for x in (A, B, C)))
    exact = REDUCTIONS[name](*(x.astype("float64") for x in (A, B, C)))
    usual = REDUCTIONS[name](A, B, C)
    assert np.shape(own) == exact.shape
    assert np.asarray(own).dtype == "float32"
    np.testing.assert_allclose(own, exact, rtol=1e-3, atol=1e-2)
    assert not np.array_equal(own, usual), "another order rounds in another way"


def test_products_of_vectors_stay_numbers():
    a, b = ordered(A[0, :3]), ordered(B[:3, 0])
    assert np.tensordot(a, b, (0, 0)) == pytest.approx(A[0, :3] @ B[:3, 0])
    assert np.dot(a, b) == a @ b == A[0, :3] @ B[:3, 0]


def test_short_sums_stay_as_they_are():
    a, b = A[:, :LONG], B[:LONG]
    np.testing.assert_array_equal(ordered(a) @ b, a @ b)
    np.testing.assert_array_equal(ordered(a).sum(axis=1), a.sum(axis=1))


def running(model, x):
    """A right float32 port of LSTM, Flatten, Dense whose Dense keeps one running sum."""
    (hidden,) = reference.run(sequences(model), [x], np.float32)
    kernel = model.weights["dense"]["kernel"].astype("float32")
    rows, total = hidden.reshape(len(x), -1), np.zeros((len(x), kernel.shape[1]), "float32")
    for number in range(rows.shape[1]):
        total += rows[:, number : number + 1] * kernel[number]
    return total + model.weights["dense"]["bias"].astype("float32")


def sequences(model):
    return chain(
        "m",
        [("lstm", LSTM(2, 8, return_sequences=True), True)],
        (500, 2),
        {"lstm": model.weights["lstm"]},
        SOURCE,
    )


SOURCE = Source("keras")


def flattened(seed):
    rng = np.random.default_rng(seed)

    def draw(*shape, size):
        return (rng.normal(size=shape) * size).astype("float32")

    weights = {
        "lstm": {
            "kernel": draw(4, 2, 8, size=0.5),
            "recurrent": draw(4, 8, 8, size=0.4),
            "bias": draw(1, 4, 8, size=0.3),
        },
        "dense": {"kernel": draw(4000, 3, size=0.1), "bias": draw(3, size=0.1)},
    }
    layers = [
        ("lstm", LSTM(2, 8, return_sequences=True), True),
        ("flatten", Flatten(), False),
        ("dense", Dense(4000, 3), False),
    ]
    return chain("m", layers, (500, 2), weights, SOURCE)


@pytest.mark.parametrize("seed", range(6))
def test_a_running_sum_of_4000_products_is_rounding_and_a_small_error_is_not(seed):
    truth = flattened(seed)
    x = np.random.default_rng(seed).normal(size=(4, 500, 2)).astype("float32")
    (allowed,), (exact,) = (bounds(truth, [x], dtype) for dtype in ("float32", "float64"))
    found = judge(running(truth, x), allowed, exact, "float32")
    assert (found.verdict, found.ratio < 0.7) == ("rounding", True), found
    off = exact.y.copy()
    off[0, 0] *= 1 + 1e-9
    assert judge(off, exact, exact, "float64").verdict == "different"
