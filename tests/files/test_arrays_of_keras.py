"""Arrays as users keep them of Keras: lists of get_weights(), paths of variables, names with :0."""

import numpy as np
import pytest

import xlstm
from xlstm.errors import WeightsError
from xlstm.ir.layers import GRU, LSTM, BatchNorm, Bidirectional, Dense

LAYERS = {
    "both": Bidirectional(
        GRU(3, 4, return_sequences=True), GRU(3, 4, return_sequences=True, go_backwards=True)
    ),
    "norm": BatchNorm(8, epsilon=1e-3),
    "lstm": LSTM(8, 5),
    "dense": Dense(5, 2),
}
X = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [
            keras.Input((6, 3)),
            keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True), name="both"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.LSTM(5, name="lstm"),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    random = np.random.default_rng(2)
    made.set_weights([random.uniform(0.2, 0.9, w.shape) for w in made.get_weights()])
    return made


def by_path(model, write):
    return {write(v.path): np.array(v) for v in model.weights}


def twice(path):
    """As HDF5 of Keras 2 has it: the layer's group, and its name once more."""
    _, layer, *rest = path.split("/")
    return "/".join([layer, layer, *rest]) + ":0"


WAYS = {
    "list": lambda model: model.get_weights(),
    "variables": lambda model: model.weights,
    "paths": lambda model: by_path(model, str),
    "paths:0": lambda model: by_path(model, "{}:0".format),
    "dots": lambda model: by_path(model, lambda path: path.replace("/", ".")),
    "without-model": lambda model: by_path(model, lambda path: path.partition("/")[2]),
    "twice": lambda model: by_path(model, twice),
    "any-order": lambda model: dict(reversed(by_path(model, str).items())),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_spelling_gives_the_same_model(model, way):
    found = xlstm.load(WAYS[way](model), layers=LAYERS)
    assert found.source.framework == "keras"
    want = model.predict(X, verbose=0)
    np.testing.assert_allclose(xlstm.port(found, "numpy")(X), want, rtol=0, atol=1e-5)


def test_files_of_such_arrays(model, tmp_path):
    np.savez(tmp_path / "list.npz", *model.get_weights())
    np.savez(tmp_path / "paths.npz", **by_path(model, "{}:0".format))
    for file in ("list.npz", "paths.npz"):
        port = xlstm.port(xlstm.load(tmp_path / file, layers=LAYERS), "numpy")
        np.testing.assert_allclose(port(X), model.predict(X, verbose=0), rtol=0, atol=1e-5)


def test_a_list_of_parameters_of_pytorch_is_told_by_its_shapes():
    import torch

    module = torch.nn.LSTM(3, 4, batch_first=True)
    arrays = [p.detach().numpy() for p in module.parameters()]
    found = xlstm.load(arrays, layers={"lstm": LSTM(3, 4, return_sequences=True)})
    assert found.source.framework == "torch"
    want = module(torch.from_numpy(X))[0].detach().numpy()
    np.testing.assert_allclose(xlstm.port(found, "numpy")(X), want, rtol=0, atol=1e-6)


def test_lists_that_fit_two_frameworks_or_none_are_refused(model):
    square = [np.ones((3, 3)), np.ones(3)]
    with pytest.raises(WeightsError, match=r"Keras.*PyTorch.*both.*name the arrays"):
        xlstm.load(square, layers={"dense": Dense(3, 3)})
    with pytest.raises(WeightsError, match="in the order of the layers"):
        xlstm.load(model.get_weights()[1:], layers=LAYERS)


def test_paths_of_two_models_are_refused(model):
    arrays = {f"{which}/{path}": a for which in "ab" for path, a in by_path(model, str).items()}
    with pytest.raises(WeightsError, match="the names of one framework"):
        xlstm.load(arrays, layers=LAYERS)


def test_tensors_that_numpy_cannot_take_are_refused_by_name():
    import torch

    held = {f"lstm.{name}": p for name, p in torch.nn.LSTM(3, 4).named_parameters()}
    with pytest.raises(WeightsError, match=r"lstm\.weight_ih_l0.*detach"):
        xlstm.load(held, layers={"lstm": LSTM(3, 4)})
