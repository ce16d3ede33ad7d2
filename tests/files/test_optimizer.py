"""Variables of optimizers: counted apart, from headers alone, and never a reason to refuse."""

import json

import h5py
import make_files
import numpy as np
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.cli.main import main
from xlstm.ir.source import Optimizer, optimizer_of

SIZES = [3 * 16, 4 * 16, 16, 4 * 2, 2]
"""Trainable tensors of the small files."""


def compiled(optimizer):
    import keras

    layers = [keras.Input((5, 3)), keras.layers.LSTM(4), keras.layers.BatchNormalization()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def optimizers():
    import keras

    return {
        "adam": (keras.optimizers.Adam(), "2 x 141 trainable + 2"),
        "amsgrad": (keras.optimizers.Adam(amsgrad=True), "3 x 141 trainable + 2"),
        "sgd": (keras.optimizers.SGD(), ""),
        "momentum": (keras.optimizers.SGD(momentum=0.9), "1 x 141 trainable + 2"),
        "scaled": (
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
            "2 x 141 trainable + 6",
        ),
        "adafactor": (keras.optimizers.Adafactor(), ""),
    }


def summary(model):
    """What Keras itself reports as optimizer params."""
    lines = []
    model.summary(print_fn=lines.append)
    line = next(x for x in "\n".join(lines).splitlines() if "Optimizer params" in x)
    return int(line.split(":")[1].split("(")[0].replace(",", ""))


@pytest.mark.parametrize("name", ["adam", "amsgrad", "sgd", "momentum", "scaled", "adafactor"])
def test_live_models_and_their_files_as_keras_counts_them(name, tmp_path):
    optimizer, formula = optimizers()[name]
    model = compiled(optimizer)
    assert xlstm.count(model).optimizer is None  # no variables before the first step
    model.optimizer.build(model.trainable_variables)
    live = xlstm.count(model)
    assert live.optimizer.count == summary(model)
    assert live.optimizer.kind == type(optimizer).__name__
    assert live.optimizer_formula() == formula
    assert live.total("keras") == model.count_params()
    model.save(tmp_path / "m.keras")
    assert xlstm.count(tmp_path / "m.keras").optimizer == live.optimizer


def test_every_container_of_keras_3(tmp_path):
    model = compiled("adam")
    model.optimizer.build(model.trainable_variables)
    live = xlstm.count(model).optimizer
    model.save(tmp_path / "folder", zipped=False)
    model.save(tmp_path / "m.h5")  # Keras forgets the optimizer's class for any later save
    model.save_weights(tmp_path / "m.weights.h5")
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=1e-6)
    (tmp_path / "m.json").write_text(model.to_json())
    for name in ("m.h5", "folder"):
        assert xlstm.count(tmp_path / name).optimizer == live
    for name in ("m.weights.h5", "m.weights.json"):
        told = {"architecture": tmp_path / "m.json", "keras_version": "3.15"}
        found = xlstm.load(tmp_path / name, **told)
        assert found.source.optimizer.sizes == live.sizes
        assert found.source.optimizer.kind == ""  # weights alone do not say it


def test_savedmodels_say_the_same_as_their_twins():
    twin = xlstm.count(DATA / "savedmodel" / "seq.h5").optimizer
    found = xlstm.count(DATA / "savedmodel" / "seq_sm").optimizer
    assert (found.kind, found.count) == (twin.kind, twin.count) == ("Adam", 589)
    assert xlstm.count(DATA / "savedmodel" / "misc_sm").optimizer is None


PUBLISHED = {
    "k1.2-countnet/RNN_keras1.2.2.h5": ("Adam", 629_143, "2 x 314,571 trainable + 1"),
    "k2.0-predictive-maintenance/regression_model.h5": (
        "RMSprop",
        80_651,
        "1 x 80,651 trainable",
    ),
    "eras-ethnicolr-census/census2010_keras2.1.6.h5": (
        "Adam",
        228_687,
        "2 x 114,340 trainable + 7",
    ),
    "v3-emg-cdt406/gru_model.keras": ("Adam", 11_624, "2 x 5,811 trainable + 2"),
}


@needs_corpus
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_of_every_era(name):
    ledger = xlstm.count(CORPUS / name)
    found = ledger.optimizer
    assert (found.kind, found.count, ledger.optimizer_formula()) == PUBLISHED[name]


def trained(kind="Adam", shapes=None):
    """A hook that adds the optimizer that Keras 2 would to a file."""
    sizes = [(), *((n,) for n in SIZES for _ in "mv")] if shapes is None else shapes

    def hook(file):
        group = file.create_group("optimizer_weights")
        names = [f"{kind}/v_{n}:0" for n in range(len(sizes))]
        group.attrs["weight_names"] = names
        for name, shape in zip(names, sizes, strict=True):
            group.create_dataset(name, data=np.zeros(shape, np.float32))
        said = {"optimizer_config": {"class_name": kind, "config": {}}}
        file.attrs["training_config"] = json.dumps(said)

    return hook


def test_what_count_says(tmp_path, capsys):
    file = make_files.make("h5", tmp_path, weights=trained())
    assert main(["count", str(file)]) == 0
    line = "optimizer (Adam): 277 values = 2 x 138 trainable + 1, not part of the model, not ported"
    assert line in capsys.readouterr().out
    assert main(["count", str(file), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["optimizer"] == {
        "kind": "Adam",
        "count": 277,
        "variables": 11,
        "formula": "2 x 138 trainable + 1",
    }
    assert data["totals"]["keras"]["total"] == 138
    assert main(["inspect", str(file)]) == 0
    line = "note: optimizer (Adam): 277 values, not part of the model, not ported"
    assert line in capsys.readouterr().out
    assert xlstm.count(make_files.make("keras", tmp_path)).to_json()["optimizer"] is None


def test_ports_leave_it_behind(tmp_path):
    file = make_files.make("h5", tmp_path, weights=trained())
    xlstm.save(file, tmp_path / "port", "torch")
    assert xlstm.count(tmp_path / "port").optimizer is None
    report = json.loads((tmp_path / "port" / "report.json").read_text())
    assert report["counts"]["optimizer"]["count"] == 277


def link(file):
    trained()(file)
    file["optimizer_weights/x:0"] = h5py.ExternalLink("/etc/passwd", "/")
    file["optimizer_weights"].attrs["weight_names"] = ["x:0"]


def chunked(file):
    group = file.create_group("optimizer_weights")
    group.create_dataset("x:0", shape=(2**40,), chunks=(2**20,), dtype="f4")
    group.attrs["weight_names"] = ["x:0"]


def numbers(file):
    file.create_group("optimizer_weights").attrs["weight_names"] = [1, 2]


def many(file):
    group = file.create_group("optimizer_weights")
    group["x"] = np.zeros(2)
    for number in range(21):
        group.attrs[f"weight_names{number}"] = np.full(1000, b"x")


def no_group(file):
    file["optimizer_weights"] = np.zeros(3)
    file.attrs["training_config"] = "{"


@pytest.mark.parametrize(
    "hook", [link, chunked, numbers, many, no_group], ids=lambda hook: hook.__name__
)
def test_a_damaged_one_is_left_out_and_the_model_is_read(hook, tmp_path):
    file = make_files.make("h5", tmp_path, weights=hook)
    ledger = xlstm.count(file)
    assert ledger.optimizer is None
    assert ledger.total("keras") == sum(SIZES)


@pytest.mark.parametrize("kind", ["x\nimport os", "[bold]", "A" * 61, "", 7, None])
def test_names_that_no_class_has_are_not_shown(kind):
    assert optimizer_of(kind, [(2, 3)]) == Optimizer("", (6,))


def test_formulas_are_claimed_only_where_they_hold():
    assert Optimizer("", (1, 6, 2, 5)).formula([6, 2]) == ""
    assert Optimizer("", (6, 6, 2)).formula([6, 2]) == ""
    assert Optimizer("", (1, 1)).formula([1]) == ""  # which of them is the parameter's?
    assert Optimizer("", (1, 6, 2)).formula([]) == ""


def test_an_optimizer_may_have_any_number_of_variables():
    assert Optimizer("adam", (3,) * 1000).count == 3000
