"""Files that are no models, and models that cannot be had exactly: one clear line each."""

import contextlib
import json
import os
from pathlib import Path

import make_files
import numpy as np
import pytest
from make_files import KINDS, entry, layer, make, model_config, options, replace, without
from paths import CORPUS, needs_corpus
from refusing import deadline, refused

import xlstm
from xlstm.errors import FileError, UnsupportedError, UsageError, WeightsError, XlstmError


@pytest.mark.parametrize("kind", KINDS)
def test_the_undamaged_file_loads(kind, tmp_path):
    model = xlstm.load(make(kind, tmp_path))
    assert [node.spec.kind for node in model.layers] == ["LSTM", "Dense"]
    expected = make_files.arrays()["lstm"]["bias"]
    np.testing.assert_array_equal(model.weights["lstm"]["bias"].ravel(), expected)


def text_file(path: Path) -> Path:
    path.write_text("import os\n")
    return path


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


PATHS = {
    "missing": (lambda path: path, "no such file"),
    "missing-folder": (lambda path: path / "deeper.keras", "no such file"),
    "folder": (empty_folder, "a folder without a model"),
    "below-a-file": (lambda path: text_file(path) / "x.keras", "readable model file"),
    "empty": (empty_file, "an empty file"),
    "text": (text_file, "starts with b'import o'"),
    "fifo": (fifo, "a regular file"),
    "device": (lambda _path: Path("/dev/zero"), "a regular file"),
    "link-to-itself": (loop, "readable model file"),
    "name-with-newline": (lambda path: path.with_name("a\nb.keras"), "no such file"),
    "name-too-long": (lambda path: path.with_name("x" * 5000), "readable model file"),
    "name-with-nul": (lambda path: path.with_name("a\0b.keras"), "a"),
}


@pytest.mark.parametrize("case", PATHS)
@pytest.mark.parametrize("call", [xlstm.load, xlstm.count], ids=["load", "count"])
def test_paths_without_a_model(case, call, tmp_path):
    prepare, words = PATHS[case]
    path = prepare(tmp_path / "model.keras")
    with deadline(10):
        refused(FileError, lambda: call(path), words)
        refused(FileError, lambda: call(str(path)), words)


WHOLE = json.dumps(model_config("keras"))
JSON = {
    "architecture": (WHOLE, "an architecture without weights"),
    "architecture-as-text": (json.dumps(WHOLE), "an architecture without weights"),
    "architecture-marked": (f"\ufeff \n{WHOLE}", "an architecture without weights"),
    "object": ('{"weights": [1, 2]}', "no architecture (one without class_name: weights)"),
    "empty-object": ("{}", "no architecture (one without class_name: )"),
    "list": ("[1, 2]", "no architecture (a list)"),
    "spaces": ("  \n[]", "no architecture (a list)"),
    "text": ('"just text"', "no architecture (text)"),
    "cut": ('{"class_name": "Sequential", "config"', "no architecture (JSONDecodeError"),
    "deep": ("[" * 10**5, "no architecture ("),
    "two": ("{} {}", "no architecture (JSONDecodeError"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_is_called_an_architecture_only_where_it_is_one(case, tmp_path):
    text, words = JSON[case]
    path = tmp_path / "model.json"
    path.write_text(text, "utf-8")
    refused(FileError, lambda: xlstm.load(path), "a Keras model", words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_truncated_files(kind, share, tmp_path):
    whole = make(kind, tmp_path).read_bytes()
    cut = tmp_path / "cut.keras"
    cut.write_bytes(whole[: max(16, int(len(whole) * share))])
    refused(FileError, lambda: xlstm.load(cut), "cut.keras")


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_never_escape_the_family(kind, tmp_path):
    whole, rng = make(kind, tmp_path).read_bytes(), np.random.default_rng(5)
    path = tmp_path / "flipped.keras"
    for position in rng.integers(0, len(whole), 150):
        data = bytearray(whole)
        data[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with contextlib.suppress(XlstmError):
            assert len(xlstm.load(path).layers) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_lie_about_their_type_are_told_by_their_bytes(kind, tmp_path):
    other = {"keras": "x.h5", "h5": "x.keras"}[kind]
    path = make(kind, tmp_path).rename(tmp_path / other)
    assert xlstm.count(path).total("keras") == 138


def no_layers(config):
    config["config"]["layers"] = []


def two_of_one_name(config):
    config["config"]["layers"][2]["config"]["name"] = "lstm"


def subclassed(config):
    config["class_name"] = "MyNet"


RNN = layer("RNN", name="rnn", cell={"class_name": "MyCell", "config": {"units": 4}})
LAMBDA = layer("Lambda", name="f", function={"class_name": "__lambda__", "config": {"code": "4wE"}})
UNSUPPORTED = {
    "unknown-layer": (entry(1, class_name="Highway"), "Highway"),
    "lambda": (entry(1, **LAMBDA), "Lambda"),
    "own-cell": (entry(1, **RNN), "RNN(MyCell)"),
    "hostile-class": (entry(1, class_name="x\nimport os"), "x\\nimport os"),
    "class-not-text": (entry(1, class_name=["LSTM"]), "LSTM"),
    "custom-module": (entry(1, module="my_layers", registered_name="LSTM"), "LSTM"),
    "custom-registered": (entry(1, registered_name="pkg>LSTM"), "pkg>LSTM"),
    "subclassed": (subclassed, "MyNet"),
    "unknown-option": (options(1, attention=True), "attention", "layer lstm"),
    "unknown-hostile-option": (options(1, **{"x\nimport os": 1}), "x\\nimport os"),
    "constants": (options(1, num_constants=1), "num_constants=1", "layer lstm"),
    "time_major": (options(1, time_major=True), "time_major=True"),
    "activation": (options(1, activation="my_act"), "my_act"),
    "activation-object": (
        options(1, activation={"class_name": "Evil", "config": {}}),
        "Evil",
        "layer lstm",
    ),
    "activation-list": (options(2, activation=["tanh"]), "layer dense"),
    "quantised": (options(2, dtype="int8"), "int8"),
    "dtype-policy": (options(1, dtype={"class_name": "Odd", "config": []}), "Odd"),
    "no-features": (options(0, batch_shape=[None, 5, None]), "layer lstm"),
    "no-axes": (options(0, batch_shape=[]), "layer lstm"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_has_no_exact_form_is_refused_by_name(case, tmp_path):
    hook, *words = UNSUPPORTED[case]
    path = make("keras", tmp_path, config=hook)
    refused(UnsupportedError, lambda: xlstm.load(path), "small.keras", *words)


@needs_corpus
@pytest.mark.parametrize("folder", ["corpus", "eras"])
def test_genuine_files_load_or_are_refused_in_one_line(folder):
    files = [path for path in (CORPUS.parent / folder).rglob("*") if path.is_file()]
    said = {}
    for path in files:
        try:
            xlstm.load(path)
        except XlstmError as error:
            said[str(path)] = str(error)
    assert len(said) < len(files)
    assert all(text.isprintable() and len(text) < 5000 for text in said.values())


def test_long_texts_of_a_file_are_cut(tmp_path):
    path = make("keras", tmp_path, config=entry(1, class_name="x" * 4000))
    error = refused(UnsupportedError, lambda: xlstm.load(path), "xxx")
    assert len(str(error)) < 3000
    path = make("keras", tmp_path, config=entry(1, class_name="x" * 10**6))
    error = refused(FileError, lambda: xlstm.load(path), "4,096 characters")
    assert len(str(error)) < 300


BROKEN = {
    "no-input-shape": (without(0, "batch_shape"), "an input shape"),
    "input-shape-text": (options(0, batch_shape="(None, 5, 3)"), "an input shape"),
    "input-shape-zero": (options(0, batch_shape=[None, 0, 3]), "shape"),
    "input-shape-negative": (options(0, batch_shape=[None, -5, 3]), "shape"),
    "input-shape-rank": (options(0, batch_shape=[None, 3]), "rank"),
    "layers-not-a-list": (lambda c: c["config"].update(layers={}), "layers"),
    "layers-missing": (lambda c: c["config"].clear(), "layers"),
    "no-layers": (no_layers, "small.keras"),
    "layer-not-a-mapping": (lambda c: c["config"].update(layers=["LSTM"]), "layer"),
    "options-not-a-mapping": (entry(1, config=["units"]), "layer"),
    "options-null": (entry(1, config=None), "layer"),
    "no-units": (without(1, "units"), "units", "layer lstm"),
    "no-activation": (without(1, "activation"), "activation", "layer lstm"),
    "no-use_bias": (without(2, "use_bias"), "use_bias", "layer dense"),
    "no-name": (without(1, "name"), "name"),
    "units-zero": (options(1, units=0), "layer lstm", "units"),
    "units-negative": (options(1, units=-4), "layer lstm", "units"),
    "units-text": (options(1, units="4"), "layer lstm", "units"),
    "units-float": (options(1, units=4.0), "layer lstm", "units"),
    "units-bool": (options(1, units=True), "layer lstm", "units"),
    "units-null": (options(1, units=None), "layer lstm", "units"),
    "units-huge": (options(1, units=10**30), "layer lstm", "units"),
    "use_bias-text": (options(1, use_bias="false"), "layer lstm", "use_bias"),
    "return_sequences-text": (options(1, return_sequences="no"), "layer lstm"),
    "dropout-negative": (options(1, dropout=-0.5), "layer lstm"),
    "dropout-infinite": (options(1, dropout=1e999), "small.keras"),
    "two-layers-of-one-name": (two_of_one_name, "names"),
    "units-list": (options(1, units=[4]), "layer lstm", "units"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_configs_that_make_no_sense(case, tmp_path):
    hook, *words = BROKEN[case]
    path = make("keras", tmp_path, config=hook)
    refused(FileError, lambda: xlstm.load(path), *words)


def test_a_model_without_layers(tmp_path):
    def only_an_input(config):
        del config["config"]["layers"][1:]

    path = make("keras", tmp_path, config=only_an_input, weights=lambda f: f.clear())
    refused(FileError, lambda: xlstm.load(path), "small.keras", "layer")


@pytest.mark.parametrize("version", ["0.3", "4.0", "x\nimport os", "10.1"])
@pytest.mark.parametrize("kind", KINDS)
def test_versions_of_keras_that_are_not_known(kind, version, tmp_path):
    path = make(kind, tmp_path, version=version)
    refused(UnsupportedError, lambda: xlstm.load(path), "Keras 1, 2 or 3")


@pytest.mark.parametrize(("kind", "version"), [("h5", "2"), ("keras", "3")])
def test_files_without_a_version_are_of_the_one_that_their_words_prove(kind, version, tmp_path):
    path = make(kind, tmp_path, version="" if kind == "keras" else None)
    assert xlstm.load(path).source.version == version
    assert xlstm.load(path, keras_version=f"{version}.1").source.version == f"{version}.1"


def test_words_of_several_versions_ask_for_one(tmp_path):
    def older(config):
        del config["config"]["layers"][0]["config"]["batch_shape"]
        config["config"]["layers"][0]["config"]["shape"] = [5, 3]

    path = make("keras", tmp_path, version="", config=older)
    refused(UsageError, lambda: xlstm.load(path), "keras_version", "Keras 2 or 3")


def test_text_in_place_of_a_config_in_hdf5(tmp_path):
    path = make("h5", tmp_path, weights=lambda f: f.attrs.update(model_config="import os"))
    refused(FileError, lambda: xlstm.load(path), "model_config", "JSON")


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_weights_is_no_error(kind, tmp_path):
    bias = np.full(16, np.nan, np.float32)
    path = make(kind, tmp_path, weights=lambda f: replace(f, make_files.BIAS[kind], bias))
    assert xlstm.count(path).total("keras") == 138
    folder = xlstm.save(path, tmp_path / "port", "torch")
    warnings = json.loads((folder / "report.json").read_text())["warnings"]
    assert warnings == ["layer lstm: bias holds NaN or infinity"]


def kernel_of(shape):
    def hook(kind):
        return lambda f: replace(f, make_files.KERNEL[kind], np.ones(shape, np.float32))

    return hook


def no_bias(kind):
    def hook(file):
        del file[make_files.BIAS[kind]]
        if kind == "h5":
            group = file["model_weights/lstm"]
            group.attrs["weight_names"] = list(group.attrs["weight_names"])[:2]

    return hook


def one_more_array(kind):
    """A second bias: its last word is one that the layer already has."""

    def hook(file):
        extra = np.ones(16, np.float32)
        if kind == "keras":
            file["layers/lstm/cell/vars/3"] = extra
            return
        group = file["model_weights/lstm"]
        group["other/bias:0"] = extra
        group.attrs["weight_names"] = [*group.attrs["weight_names"], "other/bias:0"]

    return hook


def one_more_layer(kind):
    def hook(file):
        extra = np.ones((2, 2), np.float32)
        if kind == "keras":
            file["layers/dense_1/vars/0"] = extra
            return
        root = file["model_weights"]
        root["other/kernel:0"] = extra
        root["other"].attrs["weight_names"] = ["kernel:0"]
        root.attrs["layer_names"] = [*root.attrs["layer_names"], "other"]

    return hook


def no_dense(kind):
    def hook(file):
        del file[make_files.DENSE[kind]]
        if kind == "h5":
            file["model_weights"].attrs["layer_names"] = ["lstm"]

    return hook


WEIGHTS = {
    "wrong-shape": (kernel_of((3, 17)), "kernel", "(3, 17)", "(3, 16)"),
    "transposed": (kernel_of((16, 3)), "kernel", "(16, 3)"),
    "another-rank": (kernel_of((3, 4, 4)), "kernel", "(3, 4, 4)"),
    "missing-array": (no_bias, "bias"),
    "missing-layer": (no_dense, "layer dense", "kernel"),
    "array-left-over": (one_more_array, "left over"),
    "layer-left-over": (one_more_layer, "left over"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit(case, kind, tmp_path):
    hook, *words = WEIGHTS[case]
    path = make(kind, tmp_path, weights=hook(kind))
    refused(WeightsError, lambda: xlstm.load(path), "small.", *words)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bias_the_config_denies_is_left_over(kind, tmp_path):
    path = make(kind, tmp_path, config=options(1, use_bias=False))
    refused(WeightsError, lambda: xlstm.load(path), "layer lstm", "left over")
