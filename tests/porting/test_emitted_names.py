"""What emitted modules call things, and what they need not do twice."""

import keras
import numpy as np
from trained_keras import check_ported, drawn, trained

import xlstm
from xlstm.ir.identifiers import identifiers

L = keras.layers


def shared():
    """Layers called twice beside one that is named as a second call might be; states of its own."""
    x = keras.Input((5, 3))
    dense = L.Dense(4, name="dense")
    both = L.Bidirectional(L.LSTM(4, activation="relu", return_sequences=True), "sum", name="both")
    y = L.Dense(4, name="dense_1")(dense(L.Dense(3, name="back")(dense(x))))
    y, h, c = L.LSTM(4, return_sequences=True, return_state=True)(both(L.GroupNormalization(2)(y)))
    return keras.Model(x, L.LSTM(4)(both(y), initial_state=[h, c]))


def test_a_shared_module_is_named_and_held_once(tmp_path):
    model = trained(shared())
    xlstm.save(model, tmp_path / "torch", "torch")
    text = (tmp_path / "torch" / "model.py").read_text()
    assert "self.dense_1 = nn.Linear(4, 4)" in text
    assert "dense_1_2" not in text
    assert text.count("self.both = Bidirectional(") == text.count("class Bidirectional(") == 1
    assert text.count("= self.both(") == 2
    assert "checked" not in text  # its states are its own
    assert "3 Dense, GroupNorm, bidirectional LSTM, 2 LSTM" in text
    names = identifiers(xlstm.load(model))
    assert names["dense_1"] == "dense_1"
    assert names["dense/1"] == "dense_1_2"


def test_its_ports_are_exact():
    model = trained(shared())
    xlstm.reconcile(model, ["keras", "torch", "nnx", "linen"]).check()
    check_ported(model, model, drawn(model))


def test_states_that_come_from_another_input_are_checked(tmp_path):
    x, h = keras.Input((5, 3)), keras.Input((4,))
    model = keras.Model([x, h], L.GRU(4)(x, initial_state=L.Dense(4)(h)))
    xlstm.save(model, tmp_path / "torch", "torch")
    assert "checked(" in (tmp_path / "torch" / "model.py").read_text()
    check_ported(model, model, [np.ones((2, *i.shape[1:]), "float32") for i in model.inputs])
