"""Weights of every era by Keras's tables alone, against what Keras itself made of them."""

import numpy as np
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.files import describe


def layer_arrays(file, layer):
    described = describe(DATA / file)
    arrays = {s.name.split("/")[-1].removesuffix(":0"): s.load() for s in described.weights[layer]}
    described.close()
    return arrays


def test_keras_1_weights_by_their_names():
    """Twelve arrays in the order i c f o, and three fused ones, as the same LSTM."""
    described = describe(DATA / "k122" / "seq_cpu.h5")
    arrays = {s.name.removeprefix("lstm_1_"): s.load() for s in described.weights["lstm_1"]}
    described.close()
    got = xlstm.convert_weights(arrays, "keras.LSTM of Keras 1", "keras.LSTM")
    for letter, name in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias")):
        blocks = [arrays[f"{letter}_{gate}"] for gate in "ifco"]
        np.testing.assert_array_equal(got[name], np.concatenate(blocks, axis=-1))
    fused = {"W": got["kernel"], "U": got["recurrent_kernel"], "b": got["bias"]}
    again = xlstm.convert_weights(fused, "keras.LSTM of Keras 1, fused", "keras.LSTM")
    np.testing.assert_equal(again, got)


def test_gru_weights_of_keras_1_by_their_names():
    """Nine arrays in the order z r h, and three fused ones, as the same GRU."""
    own = layer_arrays("k122/seq_cpu.h5", "gru_1")
    arrays = {name.removeprefix("gru_1_"): array for name, array in own.items()}
    got = xlstm.convert_weights(arrays, "keras.GRU of Keras 1", "keras.GRU, reset_after=False")
    for letter, name in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias")):
        blocks = [arrays[f"{letter}_{gate}"] for gate in "zrh"]
        np.testing.assert_array_equal(got[name], np.concatenate(blocks, axis=-1))


def test_cudnn_weights_equal_keras_own_conversion():
    """cudnn_twin.h5 is what Keras 2.12 itself made of cudnn.h5."""
    cudnn = layer_arrays("k212/cudnn.h5", "cu_dnnlstm")
    twin = layer_arrays("k212/cudnn_twin.h5", "lstm")
    got = xlstm.convert_weights(cudnn, "keras.CuDNNLSTM", "keras.LSTM")
    np.testing.assert_equal(got, twin)
    back = xlstm.convert_weights(got, "keras.LSTM", "keras.CuDNNLSTM")
    np.testing.assert_array_equal(back["kernel"], cudnn["kernel"])
    np.testing.assert_array_equal(back["recurrent_kernel"], cudnn["recurrent_kernel"])


def test_cudnn_gru_weights_equal_keras_own_conversion():
    cudnn = layer_arrays("k212/cudnn.h5", "cu_dnngru")
    twin = layer_arrays("k212/cudnn_twin.h5", "gru")
    np.testing.assert_equal(xlstm.convert_weights(cudnn, "keras.CuDNNGRU", "keras.GRU"), twin)


def test_gru_weights_of_keras_run_in_torch():
    """reset_after=True, through the table, against torch.nn.GRU and Keras itself."""
    import keras
    import torch

    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(4, return_sequences=True, bias_initializer="random_normal")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    want = np.array(layer(x))
    arrays = [np.array(w) for w in layer.get_weights()]
    module = torch.nn.GRU(3, 4, batch_first=True)
    converted = xlstm.convert_weights(arrays, "keras.GRU", "torch.GRU")
    module.load_state_dict({name: torch.from_numpy(a) for name, a in converted.items()})
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x))[0].numpy(), want, atol=1e-6)


@needs_corpus
def test_the_same_trained_weights_saved_by_keras_1_and_2():
    """CountNet: one LSTM in the twelve arrays of Keras 1.2.2 and the three of Keras 2.0.9."""
    found = {}
    for version in ("1.2.2", "2.0.9"):
        described = describe(CORPUS / "k1.2-countnet" / f"F-CRNN_keras{version}.h5")
        key = next(k for k in described.weights if "lstm" in k)
        found[version] = {s.name: s.load() for s in described.weights[key]}
        described.close()
    old = {name.split("_", 2)[2]: array for name, array in found["1.2.2"].items()}
    new = {name.split("/")[-1][:-2]: array for name, array in found["2.0.9"].items()}
    got = xlstm.convert_weights(old, "keras.LSTM of Keras 1", "keras.LSTM")
    np.testing.assert_equal(got, new)
