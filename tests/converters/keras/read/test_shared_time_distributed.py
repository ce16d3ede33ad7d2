"""Layers that are called at every time step and elsewhere: one set of weights."""

import keras
import numpy as np
import pytest

import xlstm

L = keras.layers


def ends(first, second, a_first):
    """A model of a layer, or of a nested model, at every time step and as it is."""
    keras.utils.set_random_seed(3)
    a, b = keras.Input((7, 5, 6), name="a"), keras.Input((5, 6), name="b")
    pairs = [(first, a), (second, b)]
    found = [layer(x) for layer, x in (pairs if a_first else pairs[::-1])]
    return keras.Model([a, b], found if a_first else found[::-1])


def nested():
    x = keras.Input((5, 6))
    return keras.Model(x, L.Dense(4, name="e")(L.LSTM(3, name="l")(x)), name="inner")


MAKERS = {
    "dense": lambda: L.Dense(4, name="d"),
    "lstm": lambda: L.LSTM(4, name="d"),
    "conv": lambda: L.Conv1D(4, 3, name="d"),
    "nested": nested,
}


def shared(name, a_first):
    layer = MAKERS[name]()
    return ends(L.TimeDistributed(layer, name="td"), layer, a_first)


@pytest.mark.parametrize("a_first", [True, False])
@pytest.mark.parametrize("name", MAKERS)
def test_one_set_of_weights_of_a_live_model_and_a_file(name, a_first, tmp_path):
    model = shared(name, a_first)
    path = tmp_path / "model.keras"
    model.save(path)
    x = [np.random.default_rng(5).normal(size=(2, *y.shape[1:])) for y in model.inputs]
    truth = [y.numpy() for y in model([y.astype("float32") for y in x])]
    for source in (model, path):
        loaded = xlstm.load(source)
        ledger = xlstm.count(loaded)
        assert ledger.total("keras") == model.count_params()
        assert ledger.total("nnx") == sum(
            p.size for w in loaded.weights.values() for p in w.values()
        )
        for y, want in zip(xlstm.port(loaded, "numpy")(*x), truth, strict=True):
            assert np.allclose(y, want, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "nested"])
def test_ports_and_gradients_are_of_one_layer(name):
    model = shared(name, False)
    report = xlstm.reconcile(model, ["keras", "torch", "linen"], gradients=True)
    report.check()
    ported = xlstm.port(model, "torch")
    assert len(list(ported.parameters())) == len({id(p) for p in ported.parameters()})
    assert xlstm.port(model, "keras").count_params() == model.count_params()


@pytest.mark.parametrize("name", ["dense", "lstm"])
def test_ports_are_kept(name, tmp_path):
    model = shared(name, False)
    count = xlstm.count(model).total("torch")
    for framework in ("torch", "keras"):
        xlstm.save(model, tmp_path / framework, framework)
        assert xlstm.count(xlstm.load(tmp_path / framework)).total("torch") == count


def test_two_time_distributed_of_one_layer():
    a = keras.Input((7, 6))
    layer = L.Dense(6, name="d")
    x = L.TimeDistributed(layer, name="one")(a)
    model = keras.Model(a, L.TimeDistributed(layer, name="two")(x))
    xlstm.reconcile(model, ["keras", "torch"]).check()
    assert xlstm.count(model).total("torch") == 42


def test_a_dense_at_any_number_of_steps_and_its_mask():
    a = keras.Input((None, 6))
    layer = L.Dense(6, name="d")
    x = L.TimeDistributed(layer, name="td")(L.Masking()(a))
    model = keras.Model(a, [layer(a), L.LSTM(3)(x)])
    xlstm.reconcile(model, ["keras", "nnx"]).check()
    assert xlstm.port(model, "keras").count_params() == model.count_params()


def test_layers_of_one_name_in_two_places_stay_two():
    one, two = L.Dense(4, name="d"), L.Dense(4, name="d")
    model = ends(L.TimeDistributed(one, name="td"), two, True)
    assert xlstm.count(model).total("keras") == model.count_params() == 56
