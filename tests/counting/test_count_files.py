"""Counts of halves of a model of Keras: an architecture without weights, weights without one."""

import json

import numpy as np
import pytest

import xlstm
from xlstm.cli.main import main
from xlstm.errors import FileError, UsageError


@pytest.fixture(scope="module")
def model():
    import keras

    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 3)(tokens)
    x = layers.Conv1D(4, 2, padding="same")(x)
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    inner = keras.Sequential([keras.Input((6, 8)), layers.LSTM(5, use_bias=False)], name="inner")
    x = layers.BatchNormalization()(inner(x))
    made = keras.Model(tokens, layers.Dense(2)(layers.Dropout(0.5)(x)))
    made.compile("adam")
    made.optimizer.build(made.trainable_variables)
    return made


def counts(source):
    return {layer.path: layer.params for layer in xlstm.count(source).layers}


def test_an_architecture_has_the_counts_of_the_whole_model(model, tmp_path, capsys):
    import yaml

    model.save(tmp_path / "whole.keras")
    text = model.to_json()
    texts = {"plain.json": text, "twice.json": json.dumps(text), "bom.txt": "\ufeff " + text}
    texts["plain.yaml"] = yaml.safe_dump(json.loads(text))
    for name, written in texts.items():
        (tmp_path / name).write_text(written, "utf-8")
        assert counts(tmp_path / name) == counts(tmp_path / "whole.keras")
    ledger = xlstm.count(tmp_path / "plain.json")
    assert ledger.total("keras") == model.count_params()
    assert ledger.optimizer is None
    assert main(["count", str(tmp_path / "plain.json")]) == 0
    assert f"{model.count_params():,}" in capsys.readouterr().out


def test_an_architecture_alone_is_no_model_to_load_and_other_json_none_to_count(model, tmp_path):
    (tmp_path / "a.json").write_text(model.to_json())
    with pytest.raises(FileError, match="an architecture without weights"):
        xlstm.load(tmp_path / "a.json")
    for text in ('{"a": 1}', "{", '"text"', "backend: [", '{"class_name": "Sequential"}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises((FileError, UsageError)):
            xlstm.count(tmp_path / "b.json")


def old_form(model, path):
    """As Keras 1 and 2 write weights: arrays by the names of layers and variables."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize("form", ["new", "old"])
def test_weights_alone(model, form, tmp_path, capsys):
    path = tmp_path / "some.weights.h5"
    model.save_weights(path) if form == "new" else old_form(model, path)
    ledger = xlstm.count(path)
    assert ledger.total("keras") == model.count_params()
    assert ledger.trainable("keras") == sum(np.prod(w.shape) for w in model.trainable_weights)
    kinds = [layer.kind for layer in ledger.layers]
    assert sorted(kind for kind in kinds if kind != "?") == [
        "BatchNorm",
        "Dense",
        "GRU",
        "GRU",
        "LSTM",
    ]
    assert ledger.total("torch") is None  # of an embedding and a convolution nothing is proven
    assert (ledger.optimizer is not None) == (form == "new")
    assert main(["count", str(path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "names and shapes do not prove which layer this is" in text
    assert "with --architecture each is counted in every framework" in text


def test_numbers_prove_no_layer_whose_path_says_another_class(tmp_path):
    import keras

    @keras.saving.register_keras_serializable("test")
    class Scale(keras.layers.Layer):
        """The shapes of a dense layer."""

        def build(self, shape):
            self.a, self.b = self.add_weight((3, 4)), self.add_weight((4,))

        def call(self, x):
            return x @ self.a + self.b

    model = keras.Sequential([keras.Input((3,)), Scale(), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "own.weights.h5")
    kinds = {layer.path: layer.kind for layer in xlstm.count(tmp_path / "own.weights.h5").layers}
    assert kinds == {"dense": "Dense", "scale/0": "?", "scale/1": "?"}
