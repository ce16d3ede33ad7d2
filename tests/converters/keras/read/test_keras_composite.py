"""Highway and MaxoutDense of Keras 1: taken apart into layers of today, exactly."""

import numpy as np
import pytest
from make_files import h5_file, layer
from paths import DATA
from refusing import refused

import xlstm
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.frameworks import registry

FILE = DATA / "k122" / "conv.h5"
RNG = np.random.default_rng(4)
N = 2
"""Size of what the Dense layer before gives."""

HIGHWAY = {"W": (N, N), "W_carry": (N, N), "b": (N,), "b_carry": (N,)}
MAXOUT = {"W": (3, N, 4), "b": (3, 4)}


def loaded():
    return xlstm.load(FILE, kernel_layout="theano")


def test_outputs_of_the_keras_that_wrote_it():
    saved = np.load(FILE.with_suffix(".npz"))
    found = xlstm.port(loaded(), "numpy")(saved["x"])
    np.testing.assert_allclose(found, saved["y"], rtol=0, atol=5e-7)


def test_they_are_equal_and_count_the_same_everywhere():
    report = xlstm.reconcile(loaded(), registry.frameworks())
    report.check()
    # 28 of Conv1D, 144 of LSTM, 40 of Highway, 30 of MaxoutDense
    assert xlstm.count(loaded()).total("keras") == 28 + 144 + 40 + 30


def test_layers_after_and_up_to_one_have_its_name():
    model = xlstm.load(FILE, kernel_layout="theano", until="highway_1")
    assert model.outputs == (("highway_1", 0),)
    assert "dropout_1" not in model.names


def old(entry, shapes, *, wrapped=False):
    """A file of Keras 1: LSTM, Dense, and a layer with such arrays; what it holds for it."""
    arrays = {n: RNG.standard_normal(s).astype("float32") for n, s in shapes.items()}
    name = entry["config"]["name"]

    def config(found):
        start, lstm, dense = (item["config"] for item in found["config"]["layers"])
        start["input_dtype"] = start.pop("dtype")
        for options in (lstm, dense):
            options["output_dim"], options["bias"] = options.pop("units"), options.pop("use_bias")
        lstm["inner_activation"] = lstm.pop("recurrent_activation")
        lstm["return_sequences"] = wrapped
        del lstm["bias"]
        around = {"class_name": "TimeDistributed", "config": {"name": "each", "layer": entry}}
        found["config"] = [*found["config"]["layers"], around if wrapped else entry]

    def weights(file):
        root = file["model_weights"]
        names = [*root.attrs["layer_names"], "each" if wrapped else name]
        root.attrs["layer_names"] = np.array(names, "S")
        group = root.create_group(names[-1])
        group.attrs["weight_names"] = np.array([f"{name}_{n}" for n in arrays], "S")
        for n, array in arrays.items():
            group[f"{name}_{n}"] = array
        _as_keras_1(root)

    return {"config": config, "weights": weights, "version": None}, arrays


def _as_keras_1(root):
    """Puts the arrays of the LSTM and the Dense layer where Keras 1 has them."""
    kernel, recurrent, bias = (root["lstm"][n][()] for n in root["lstm"].attrs["weight_names"])
    parts = {}
    for place, gate in enumerate("ifco"):
        parts |= {
            f"{letter}_{gate}": np.split(whole, 4, axis=-1)[place]
            for letter, whole in (("W", kernel), ("U", recurrent), ("b", bias))
        }
    ordered = {f"{letter}_{gate}": parts[f"{letter}_{gate}"] for gate in "icfo" for letter in "WUb"}
    pair = (root["dense"][n][()] for n in root["dense"].attrs["weight_names"])
    dense = dict(zip("Wb", pair, strict=True))
    for name, arrays in (("lstm", ordered), ("dense", dense)):
        del root[name]
        group = root.create_group(name)
        group.attrs["weight_names"] = np.array([f"{name}_{n}" for n in arrays], "S")
        for n, array in arrays.items():
            group[f"{name}_{n}"] = array


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def highway(x, a):
    t = sigmoid(x @ a["W_carry"] + a.get("b_carry", 0))
    return np.tanh(x @ a["W"] + a.get("b", 0)) * t + (1 - t) * x


def maxout(x, a):
    return (np.einsum("...i,kio->...ko", x, a["W"]) + a.get("b", 0)).max(axis=-2)


HIGHWAY_LAYER = layer("Highway", name="way", activation="tanh", transform_bias=-2, input_dim=None)
MAXOUT_LAYER = layer("MaxoutDense", name="out", output_dim=4, nb_feature=3, bias=True)
CASES = {
    "highway": (HIGHWAY_LAYER, HIGHWAY, highway),
    "highway-no_bias": (HIGHWAY_LAYER, {"W": (N, N), "W_carry": (N, N)}, highway),
    "maxout": (MAXOUT_LAYER, MAXOUT, maxout),
    "maxout-no_bias": (MAXOUT_LAYER, {"W": (3, N, 4)}, maxout),
    "maxout-of_one": (
        layer("MaxoutDense", name="out", output_dim=4, nb_feature=1),
        {"W": (1, N, 4), "b": (1, 4)},
        maxout,
    ),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["", "every_step"])
@pytest.mark.parametrize("case", CASES)
def test_they_compute_what_their_formulas_say(case, wrapped, tmp_path):
    entry, shapes, formula = CASES[case]
    hooks, arrays = old(entry, shapes, wrapped=wrapped)
    model = xlstm.load(h5_file(tmp_path / "old.h5", **hooks))
    before = xlstm.load(tmp_path / "old.h5", until="dense")
    x = RNG.standard_normal((2, 5, 3))
    wanted = formula(xlstm.port(before, "numpy", dtype="float64")(x), arrays)
    found = xlstm.port(model, "numpy", dtype="float64")(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    xlstm.reconcile(model, ["torch"]).check()


def changed(entry, **options):
    return {**entry, "config": {**entry["config"], **options}}


BAD = {
    "other pieces": (WeightsError, changed(MAXOUT_LAYER, nb_feature=2), MAXOUT, "nb_feature=2"),
    "very many pieces": (
        WeightsError,
        changed(MAXOUT_LAYER, nb_feature=10**9),
        MAXOUT,
        "nb_feature=1000000000",
    ),
    "other units": (WeightsError, changed(MAXOUT_LAYER, output_dim=5), MAXOUT, "output_dim=5"),
    "a flat kernel": (WeightsError, MAXOUT_LAYER, {"W": (N, 4), "b": (4,)}, "nb_feature=3"),
    "no arrays": (WeightsError, HIGHWAY_LAYER, {}, "an array W"),
    "half of the arrays": (WeightsError, HIGHWAY_LAYER, {"W": (N, N), "b": (N,)}, "carry"),
    "not square": (WeightsError, HIGHWAY_LAYER, {**HIGHWAY, "W": (N, 5), "b": (5,)}, "layer way"),
    "an array too many": (WeightsError, MAXOUT_LAYER, {**MAXOUT, "U": (3, N)}, "layer out"),
    "an unknown option": (UnsupportedError, changed(HIGHWAY_LAYER, gate=1), HIGHWAY, "gate"),
    "an unknown activation": (
        UnsupportedError,
        changed(HIGHWAY_LAYER, activation="mine"),
        HIGHWAY,
        "mine",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case, tmp_path):
    kind, entry, shapes, *words = BAD[case]
    hooks, _ = old(entry, shapes)
    refused(kind, lambda: xlstm.load(h5_file(tmp_path / "bad.h5", **hooks)), *words)


def test_later_versions_of_keras_have_no_such_layers(tmp_path):
    def hook(config):
        config["config"]["layers"].append(HIGHWAY_LAYER)

    path = h5_file(tmp_path / "new.h5", config=hook)
    refused(UnsupportedError, lambda: xlstm.load(path), "Highway (way)")
