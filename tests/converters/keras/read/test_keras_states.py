"""Initial states of Keras models that are constants: zeros are none, others are refused."""

import numpy as np
import pytest
from make_files import FEATURES, UNITS, h5_file
from refusing import refused

import xlstm
from xlstm.errors import UnsupportedError, XlstmError


def started(how, *, masked=False, value=0.0, stateful=False):
    """A Keras model whose LSTM is told to start from a constant."""
    import keras

    state = [np.full((2, 4), value, "float32"), np.full((2, 4), 0.0, "float32")]
    if how == "tensors":
        state = [keras.ops.convert_to_tensor(array) for array in state]
    x = inputs = keras.Input((5, 3), batch_size=2)
    x = keras.layers.Masking()(x) if masked else x
    layer = keras.layers.LSTM(4, stateful=stateful)
    y = layer(x, state) if how == "by place" else layer(x, initial_state=state)
    return keras.Model(inputs, y)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("how", ["by name", "by place", "tensors"])
def test_zeros_are_no_states(how, masked):
    source = started(how, masked=masked)
    model = xlstm.load(source)
    assert model.layers[-1].states == ()
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    x[:, 2] = 0
    found = xlstm.port(model, "numpy")(x)
    np.testing.assert_allclose(found, source.predict(x, verbose=0), rtol=0, atol=5e-7)


@pytest.mark.parametrize("how", ["by name", "by place", "tensors"])
def test_constants_that_are_alike_for_all_samples_are_states(how):
    source = started(how, value=0.5)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    found = xlstm.port(xlstm.load(source), "numpy")(x)
    np.testing.assert_allclose(found, source.predict(x, verbose=0), rtol=0, atol=5e-7)


def test_constants_without_a_number():
    words = "initial_state", "a constant"
    for value in (np.nan, np.inf):
        refused(UnsupportedError, lambda v=value: xlstm.load(started("tensors", value=v)), *words)


def test_zeros_at_every_call_of_a_stateful_layer_are_refused():
    source = started("by name", stateful=True)
    refused(UnsupportedError, lambda: xlstm.load(source), "stateful", "initial_state=zeros")


def in_a_file(*states):
    """A file of Keras 2, which writes constants as plain numbers."""

    def hook(config):
        config["class_name"], own = "Functional", config["config"]
        start = {"initial_state": list(states)}
        reads = {"input_1": [], "lstm": [[["input_1", 0, 0, start]]], "dense": [[["lstm", 0, 0]]]}
        for layer in own["layers"]:
            layer["name"] = layer["config"]["name"]
            layer["inbound_nodes"] = reads[layer["name"]]
        own["input_layers"], own["output_layers"] = [["input_1", 0, 0]], [["dense", 0, 0]]

    return hook


def test_zeros_in_a_file_of_keras_2(tmp_path):
    zeros = [[0.0] * UNITS] * 2
    with_zeros = xlstm.load(h5_file(tmp_path / "zeros.h5", config=in_a_file(zeros, zeros)))
    plain = xlstm.load(h5_file(tmp_path / "plain.h5"))
    x = np.random.default_rng(0).standard_normal((2, 5, FEATURES))
    np.testing.assert_array_equal(*(xlstm.port(m, "numpy")(x) for m in (with_zeros, plain)))


@pytest.mark.parametrize("state", [[[1.0] * UNITS] * 2, [], [True], ["zeros"], [[None]]])
def test_other_numbers_in_a_file_are_refused(state, tmp_path):
    path = h5_file(tmp_path / "bad.h5", config=in_a_file([[0.0] * UNITS] * 2, state))
    with pytest.raises(XlstmError) as caught:
        xlstm.load(path)
    refused(type(caught.value), lambda: xlstm.load(path), "layer lstm")
