"""Nested models as Keras 3 counts their calls: from 1 where they are outputs, from 0 elsewhere."""

import keras
import pytest
from trained_keras import check_ported, drawn, trained

import xlstm

L = keras.layers
M = keras.Model


def inner(name="inner"):
    x = keras.Input((5, 4))
    return M(x, L.LSTM(4, return_sequences=True, name="lstm")(x), name=name)


def both(n):
    """An inner model called twice, on an input and on what a Dense makes of it."""
    x = keras.Input((5, 4))
    return x, n(x), n(L.Dense(4)(x))


def one_output():
    x = keras.Input((5, 4))
    y = inner()(x)
    return M(x, [y, L.Dense(2)(y)])


def first_call():
    x, u, v = both(inner())
    return M(x, [u, L.Dense(2)(v)])


def second_call():
    x, u, v = both(inner())
    return M(x, [v, L.Dense(2)(u)])


def on_itself():
    n, (x, u, v) = inner(), both(inner("other"))
    w = n(n(v))
    return M(x, [w, L.Dense(3)(w), u, n(u)])


def calls_outside():
    """Calls that are not of the model, before and between those that are."""
    n = inner()
    x, _, v = both(n)
    w = n(L.Dense(4)(n(v)))
    return M(x, [v, L.Dense(2)(w), L.Dense(2)(v)])


def two_by_two():
    i, j = keras.Input((5, 4)), keras.Input((5, 3))
    h = L.Concatenate()([i, j])
    n = M([i, j], [L.LSTM(4, return_sequences=True)(h), L.Dense(3)(h)], name="two")
    a, b = keras.Input((5, 4)), keras.Input((5, 3))
    u, v = n([a, b])
    p, q = n([u, v])
    return M([a, b], [u, q, L.Dense(2)(p), v])


def nested_in_nested():
    n, k = inner(), keras.Input((5, 4))
    first = n(k)
    again = n(L.Dense(4)(first))
    middle = M(k, [first, L.Dense(4)(again), again], name="middle")
    x = keras.Input((5, 4))
    r = middle(x)
    s = middle(r[1])
    return M(x, [r[0], s[2], L.Dense(2)(r[2]), s[0], s[1]])


def in_a_sequential():
    n = keras.Sequential([keras.Input((5, 4)), L.Dense(4), inner()])
    x, u, v = both(n)
    return M(x, [u, L.Dense(2)(v), v])


def every_step():
    n, x = L.TimeDistributed(inner()), keras.Input((3, 5, 4))
    y = n(x)
    return M(x, [y, L.Dense(2)(n(y)), n(y), L.Dense(2)(y)])


def by_key():
    x, u, v = both(inner())
    return M(x, {"z": u, "b": L.Dense(2)(v), "a": v})


MODELS = [
    one_output,
    first_call,
    second_call,
    on_itself,
    calls_outside,
    two_by_two,
    nested_in_nested,
    in_a_sequential,
    every_step,
    by_key,
]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_outputs_of_nested_models(make, tmp_path):
    model = trained(make())
    for path in (paths := [tmp_path / "model.keras", tmp_path / "model.h5"]):
        model.save(path)
    for source in (model, *paths):
        check_ported(model, source, drawn(model))


def test_another_ports_outputs_of_nested_models():
    model = trained(nested_in_nested())
    xlstm.reconcile(model, ["keras", "torch", "nnx"]).check()
    check_ported(model, model, drawn(model), "keras")


def test_the_part_up_to_a_nested_model(tmp_path):
    model = trained(first_call())
    model.save(tmp_path / "model.keras")
    x = model.inputs[0]
    n, dense = model.get_layer("inner"), model.get_layer(index=1)
    part = M(x, [n(x), n(dense(x))])
    check_ported(part, xlstm.load(tmp_path / "model.keras", until="inner"), drawn(model))
