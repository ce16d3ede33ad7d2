"""Masks that change numbers, or that Keras hands through operations: each held against Keras."""

import keras
import numpy as np
import pytest
from refusing import refused
from trained_keras import check_ported, trained

import xlstm
from xlstm.errors import UnsupportedError

L = keras.layers
M = keras.Model

pytestmark = pytest.mark.filterwarnings("ignore:Layer 'flatten:UserWarning")


def words():
    x = keras.Input((5,), dtype="int32")
    return x, L.Embedding(9, 4, mask_zero=True)(x)


def one_mask(kind):
    x, e = words()
    y = getattr(L, kind)()([L.LSTM(4, return_sequences=True)(e), L.Dense(4)(e)])
    return M(x, [y, L.LSTM(3)(y)])


def first_masked(kind):
    x, e = words()
    y = getattr(L, kind)()([L.LSTM(4, return_sequences=True)(e), L.Embedding(9, 4)(x)])
    return M(x, [y, L.LSTM(3)(y)])


def last_masked(kind):
    x, e = words()
    y = getattr(L, kind)()([L.Embedding(9, 4)(x), e, L.Embedding(9, 4)(x)])
    return M(x, [y, L.LSTM(3)(y)])


def two_masks(kind):
    (a, e), (b, f) = words(), words()
    y = getattr(L, kind)()([e, f, L.Dense(4)(f), L.Dense(4)(e)])
    return M([a, b], [y, L.LSTM(3)(y)])


def weighed(_kind):
    """The attention of many tutorials: steps weighed by a softmax over them."""
    x, e = words()
    h = L.LSTM(4, return_sequences=True)(e)
    a = L.Softmax()(L.Flatten()(L.Dense(1)(h)))
    weights = L.Permute((2, 1))(L.RepeatVector(4)(a))
    return M(x, L.GlobalAveragePooling1D()(L.Multiply()([h, weights])))


def attention(kind):
    x, e = words()
    y = getattr(L, kind)()([L.Dense(4)(e), e])
    return M(x, [L.GlobalAveragePooling1D()(y), L.LSTM(3)(y)])


CASES = [
    *(
        (f, k)
        for f in (one_mask, first_masked, last_masked, two_masks)
        for k in ("Multiply", "Maximum")
    ),
    (two_masks, "Minimum"),
    (weighed, "Multiply"),
    (attention, "Attention"),
    (attention, "AdditiveAttention"),
]


def drawn(model):
    """Row numbers with 0 at the end, at the start, in the middle, everywhere and nowhere."""
    rng = np.random.default_rng(2)
    rows = rng.integers(1, 9, (len(model.inputs), 5, 5)).astype("int32")
    rows[:, 0, 3:], rows[:, 1, :2], rows[:, 2, 2], rows[:, 3] = 0, 0, 0, 0
    rows[1:] = rows[1:, ::-1]
    return list(rows)


@pytest.mark.parametrize(("make", "kind"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_masks_that_count(make, kind, tmp_path):
    model = trained(make(kind))
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        check_ported(model, source, drawn(model))


@pytest.mark.parametrize("make", [two_masks, weighed])
def test_ports_of_masks_that_count(make):
    model = trained(make("Multiply"))
    check_ported(model, model, drawn(model), "keras")
    xlstm.reconcile(model, ["keras", "torch", "linen"], inputs=drawn(model)).check()


def test_masks_of_inputs_of_unlike_ranks_are_refused():
    x, e = words()
    model = M(x, L.Multiply(name="m")([e, L.LSTM(4)(e)]))
    refused(UnsupportedError, lambda: xlstm.load(model), "layer m", "ranks [2, 3]")
