"""Bare weights and their architecture: which Keras wrote each, proven, asked for or warned of."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.cli.inspect import inspect
from xlstm.cli.main import main
from xlstm.errors import UsageError, XlstmError
from xlstm.files import describe
from xlstm.files.keras.architecture import ReadOptions
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model

eras = registry.resolve("xlstm.converters.keras.versions:Era")
joined = registry.resolve("xlstm.converters.keras.read.model:MEANINGS")
modern_options = registry.resolve("xlstm.converters.keras.versions:modern_options")
majors_of = registry.resolve("xlstm.converters.keras.versions:majors_of")


def config_of(path):
    described = describe(path)
    described.close()
    return dict(described.config)


def written(path, config, **said):
    path.write_text(json.dumps({**config, **said}))
    return path


def bare(whole, path, **attributes):
    """The weights of a whole HDF5 model as a file of their own, which says what it is told to."""
    with h5py.File(whole) as old, h5py.File(path, "w") as new:
        for name, item in old["model_weights"].items():
            old["model_weights"].copy(item, new, name)
        new.attrs["layer_names"] = old["model_weights"].attrs["layer_names"]
        for name, value in attributes.items():
            new.attrs[name] = value
    return path


def outputs(model, file):
    saved = np.load(DATA / file)
    found = xlstm.port(model, "numpy")(*[saved[key] for key in saved if key.startswith("x")])
    np.testing.assert_allclose(found, saved["y"], rtol=0, atol=5e-7)


LSTM = DATA / "k224" / "lstm.h5"
BARE = DATA / "k224" / "lstm_w.h5"


# weights of Keras 1 that say no version

SEQ, CONV = DATA / "k122" / "seq_cpu.h5", DATA / "k122" / "conv.h5"


def newer(layer):
    """A layer of Keras 1 as Keras 2 writes it."""
    kind, options = modern_options(layer, 1)
    old = ("input_dim", "input_length", "input_dtype")
    options = {key: value for key, value in options.items() if key not in old}
    return {"class_name": kind, "config": {**options, "name": layer["config"]["name"]}}


def test_names_and_options_of_keras_1_prove_it(tmp_path):
    """Neither file says a version: 12 and 9 arrays, inner_activation, hard_sigmoid."""
    path = written(tmp_path / "a.json", config_of(SEQ))
    found = xlstm.load(bare(SEQ, tmp_path / "w.h5"), architecture=path)
    outputs(found, "k122/seq_cpu.npz")
    assert found.source.version == "1"
    assert any("only Keras 1 writes options" in note for note in found.source.notes)
    assert "written by Keras 1" in inspect(tmp_path / "w.h5", ReadOptions(path))


def test_a_whole_file_of_keras_1_without_its_version(tmp_path):
    shutil.copy(SEQ, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file.attrs["keras_version"]
    outputs(xlstm.load(tmp_path / "a.h5"), "k122/seq_cpu.npz")
    assert xlstm.load(tmp_path / "a.h5").source.version == "1"


@pytest.mark.parametrize("stem", ["seq_cpu", "seq_gpu"])
def test_weights_of_keras_1_in_an_architecture_of_keras_2(stem, tmp_path):
    """As Keras 2 itself loads them: the names say whose they are."""
    source = DATA / "k122" / f"{stem}.h5"
    layers = [newer(layer) for layer in config_of(source)["config"]]
    config = {"class_name": "Sequential", "config": layers}
    path = written(tmp_path / "a.json", config, keras_version="2.2.4", backend="tensorflow")
    found = xlstm.load(bare(source, tmp_path / "w.h5"), architecture=path)
    outputs(found, f"k122/{stem}.npz")
    assert any("weights by Keras 1, architecture by Keras 2.2.4" in n for n in found.source.notes)


def test_names_alone_do_not_say_what_options_mean(tmp_path):
    """Words that Keras 2 and 3 share, without a version: hard_sigmoid has two formulas."""
    layers = [newer(layer) for layer in config_of(SEQ)["config"]]
    for layer in layers:
        layer["config"].pop("batch_input_shape", None)
    shape = {"class_name": "InputLayer", "config": {"name": "i", "shape": [5, 3]}}
    path = written(tmp_path / "a.json", {"class_name": "Sequential", "config": [shape, *layers]})
    weights = bare(SEQ, tmp_path / "w.h5")
    with pytest.raises(UsageError, match=r"options as Keras 2 or 3 writes them.*keras_version"):
        xlstm.load(weights, architecture=path)
    with pytest.raises(UsageError, match=r"1\.2, and options as Keras 2 or 3 writes"):
        xlstm.load(weights, architecture=path, keras_version="1.2")
    path = written(tmp_path / "b.json", config_of(SEQ))
    with pytest.raises(UsageError, match="as Keras 1 writes them"):
        xlstm.load(weights, architecture=path, keras_version="2.2.4")


def test_options_alone_prove_what_they_mean(tmp_path):
    """Weights in three arrays, renamed by hand: the architecture is still that of Keras 1."""
    weights = tmp_path / "w.h5"
    whole = xlstm.load(SEQ)
    config = config_of(SEQ)
    config["config"] = config["config"][:1]
    packed = pack_model(whole, registry.adapter("keras"))
    with h5py.File(weights, "w") as file:
        group = file.create_group("lstm_1")
        names = ("kernel", "recurrent_kernel", "bias")
        for name in names:
            group[f"lstm_1/{name}:0"] = packed[f"lstm_1.{name}"]
        group.attrs["weight_names"] = [f"lstm_1/{name}:0".encode() for name in names]
        file.attrs["layer_names"] = [b"lstm_1"]
    path = written(tmp_path / "a.json", config)
    found = xlstm.load(weights, architecture=path)
    assert found.source.version == "1"
    assert found.layers[0].spec.gate_activation == "hard_sigmoid_keras2"
    np.testing.assert_equal(found.weights["lstm_1"], whole.weights["lstm_1"])


def test_an_architecture_says_nothing_of_who_laid_out_kernels(tmp_path):
    """Its backend is that of the Keras that wrote it, not of the one that trained the weights."""
    path = written(tmp_path / "a.json", config_of(CONV), keras_version="1.2.2", backend="theano")
    weights = bare(CONV, tmp_path / "w.h5")
    with pytest.raises(XlstmError, match="kernel_layout"):
        xlstm.load(weights, architecture=path)
    found = xlstm.load(weights, architecture=path, kernel_layout="theano")
    outputs(found, "k122/conv.npz")


WORDS = [
    ({1}, "LSTM", {"output_dim": 3, "inner_activation": "tanh", "return_sequences": True}),
    ({2, 3}, "LSTM", {"units": 3, "recurrent_activation": "tanh"}),
    ({2}, "LSTM", {"units": 3, "batch_input_shape": [None, 2, 3]}),
    ({3}, "InputLayer", {"batch_shape": [None, 2]}),
    ({2}, "InputLayer", {"batch_input_shape": [None, 2], "dtype": "float32"}),
    ({1, 2}, "InputLayer", {"batch_input_shape": [None, 2]}),
    ({1}, "InputLayer", {"batch_input_shape": [None, 2], "input_dtype": "float32"}),
    ({1}, "MaxPooling2D", {"pool_size": [2, 2], "border_mode": "same", "dim_ordering": "tf"}),
    ({1}, "Convolution1D", {"nb_filter": 3, "filter_length": 2}),
    ({1}, "Embedding", {"output_dim": 3, "input_dim": 9, "init": "uniform"}),
    ({1, 2, 3}, "Embedding", {"output_dim": 3, "input_dim": 9}),
    ({1, 2, 3}, "Activation", {"activation": "tanh"}),
    ({1, 2, 3}, "MyAttention", {"output_dim": 3, "init": "uniform", "W_regularizer": None}),
]


@pytest.mark.parametrize(("want", "kind", "options"), WORDS)
def test_words_that_prove_a_major_version(want, kind, options):
    layer = {"class_name": kind, "config": options}
    known = {"LSTM", "Embedding", "Activation", "MaxPooling2D", "InputLayer", "Bidirectional"}
    assert majors_of({"class_name": "Sequential", "config": [layer]}, known) == want
    wrapped = {"class_name": "Bidirectional", "config": {"layer": layer}}
    model = {"class_name": "Sequential", "config": {"layers": [wrapped]}}
    assert majors_of({"class_name": "Sequential", "config": {"layers": [model]}}, known) == want


# weights of another era


def keras_json(tmp_path, *layers, shape=(5, 3)):
    """What to_json of this Keras writes: it names no version."""
    import keras

    path = tmp_path / "new.json"
    path.write_text(keras.Sequential([keras.Input(shape), *layers]).to_json())
    assert "keras_version" not in path.read_text()
    return path


def of_keras(path, version, layers):
    """Bare weights as a Keras of that version writes them: layer name -> leaf -> shape."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version.encode(), b"tensorflow"
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in arrays]
            for leaf, size in arrays.items():
                group[f"{name}/{leaf}:0"] = rng.normal(size=size).astype("float32")
    return path


OF_LSTM = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
OF_GRU = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}


@pytest.mark.parametrize("version", ["2.0.4", "2.1.6-tf", "2.2.5"])
def test_a_default_of_another_era_is_named(version, tmp_path, capsys):
    """In the notes, in what inspect prints, in what port prints, and in its report."""
    import keras

    path = keras_json(tmp_path, keras.layers.LSTM(4, name="lstm_1"))
    weights = of_keras(tmp_path / "old.h5", version, {"lstm_1": OF_LSTM})
    source = xlstm.load(weights, architecture=path).source
    assert any(f"weights by Keras {version}" in note for note in source.notes)
    line = (
        "lstm_1: recurrent_activation=sigmoid is the default of Keras 3; "
        f"that of Keras {version} is hard_sigmoid"
    )
    assert line in source.warnings
    text = inspect(weights, ReadOptions(path))
    assert line in " ".join(text.split())
    folder = tmp_path / "out"
    told = ["--architecture", str(path), "--no-verify"]
    assert main(["port", str(weights), "--to", "torch", "-o", str(folder), *told]) == 0
    assert line in " ".join(capsys.readouterr().out.split())
    assert line in json.loads((folder / "report.json").read_text())["warnings"]


@pytest.mark.parametrize(
    ("version", "options", "words"),
    [
        ("2.2.4-tf", {}, ""),  # the number of TensorFlow 1 and 2, whose defaults differ
        ("2.3.0", {}, ""),
        ("2.12.0", {}, ""),
        ("2.0.4", {"recurrent_activation": "tanh"}, ""),
        (
            "2.12.0",
            {"recurrent_activation": "hard_sigmoid"},
            r"hard_sigmoid: clip\(x/6 \+ 0.5, 0, 1\) in Keras 3; clip\(0.2 x \+ 0.5, 0, 1\) in",
        ),
    ],
)
def test_options_that_mean_the_same_are_not_warned_of(version, options, words, tmp_path):
    import keras

    path = keras_json(tmp_path, keras.layers.LSTM(4, name="lstm_1", **options))
    weights = of_keras(tmp_path / "old.h5", version, {"lstm_1": OF_LSTM})
    source = xlstm.load(weights, architecture=path).source
    assert any(f"weights by Keras {version}" in note for note in source.notes)
    assert bool(source.warnings) == bool(words)
    if words:
        assert source.warnings[0].startswith(f"weights by Keras {version}, architecture by Keras 3")
        assert re.search(words, source.warnings[1])


def test_reset_after_is_warned_of_where_no_bias_proves_it(tmp_path):
    import keras

    held = {"gru_1": {name: OF_GRU[name] for name in ("kernel", "recurrent_kernel")}}
    path = keras_json(tmp_path, keras.layers.GRU(4, use_bias=False, name="gru_1"))
    weights = of_keras(tmp_path / "old.h5", "2.3.1", held)
    (_, line) = xlstm.load(weights, architecture=path).source.warnings
    assert line.startswith("gru_1: reset_after=True is the default of Keras 3")
    path = keras_json(tmp_path, keras.layers.GRU(4, name="gru_1"))
    weights = of_keras(tmp_path / "old.h5", "2.3.1", {"gru_1": OF_GRU})
    assert xlstm.load(weights, architecture=path).source.warnings == ()


def test_weights_of_cudnn_prove_sigmoid(tmp_path):
    """They fit a layer with the old default as well, and compute something else there."""
    import keras

    held = {"lstm_1": {**OF_LSTM, "bias": (32,)}}
    weights = of_keras(tmp_path / "old.h5", "2.1.5", held)
    path = keras_json(tmp_path, keras.layers.LSTM(4, name="lstm_1"))
    assert xlstm.load(weights, architecture=path).source.warnings == ()
    hard = keras.layers.LSTM(4, recurrent_activation="hard_sigmoid", name="lstm_1")
    warnings = xlstm.load(weights, architecture=keras_json(tmp_path, hard)).source.warnings
    assert any("cuDNN trained with sigmoid, in a layer with hard_sigmoid" in w for w in warnings)


def test_halves_and_masks_of_another_era(tmp_path):
    import keras

    half = keras.layers.LSTM(4, return_sequences=True, name="lstm_1")
    both = keras.layers.Bidirectional(half, name="bidirectional_1")
    path = keras_json(tmp_path, keras.layers.Masking(name="masking_1"), both)
    held = {
        f"{way}_lstm_1/{leaf}": size
        for way in ("forward", "backward")
        for leaf, size in OF_LSTM.items()
    }
    weights = of_keras(tmp_path / "old.h5", "2.0.4", {"masking_1": {}, "bidirectional_1": held})
    lines = xlstm.load(weights, architecture=path).source.warnings
    assert any("bidirectional_1: recurrent_activation=sigmoid is the default" in w for w in lines)
    (line,) = [w for w in lines if "both ways" in w]
    assert line.endswith("zeros in Keras 3; the last output again in Keras 2.0.4")


def test_a_tree_of_keras_2_12_in_a_newer_architecture(tmp_path):
    """Such weights name no version; the name of their root proves it."""
    import io
    import zipfile

    import keras

    weights = tmp_path / "a.weights.h5"
    with zipfile.ZipFile(DATA / "k212v3" / "m.keras") as archive:
        old = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    with h5py.File(weights, "w") as new:
        for name in old:
            old.copy(name, new)
    half = keras.layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True)
    gru = keras.layers.GRU(4, name="gru")
    dense = keras.layers.Dense(2, name="dense")
    path = keras_json(tmp_path, keras.layers.Bidirectional(half, name="b"), gru, dense)
    source = xlstm.load(weights, architecture=path).source
    assert any("weights by Keras 2.12 or 2.13" in note for note in source.notes)
    assert any(line.startswith("b: hard_sigmoid") for line in source.warnings)


def test_everything_that_an_era_decides_has_its_words():
    """A property that is added to Era is added to the warnings."""
    helpers = {"major", "numbers", "follows_tensorflow", "since", "is_newer", "repeats_both_ways"}
    own = {name for name in vars(eras) if not name.startswith("_")} - {"version"} - helpers
    assert own == {name for row in joined for name in row.properties}


@pytest.mark.parametrize("version", ["1.2.2", "2.2.4", "2.2.4-tf", "2.12.0", "3.0.5", "3.15.1"])
def test_every_row_has_a_value_in_every_era(version):
    found = [row.value(eras(version)) for row in joined]
    assert all(found)


def test_versions_that_end_early_are_asked_for_where_it_matters():
    assert eras("3").since(2, 10)
    assert not eras("2").joins_masks_by_or
    for version, name in (("3", "joins_masks_by_or"), ("2.2", "stacks_states_backwards")):
        with pytest.raises(UsageError, match="keras_version"):
            getattr(eras(version), name)


def test_a_minor_version_is_asked_for_where_it_matters(tmp_path):
    """to_json of Keras 3 names none; 3.6 divides by other lengths than 3.5 where they are small."""
    import keras

    model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)])
    (tmp_path / "a.json").write_text(model.to_json())
    model.save_weights(tmp_path / "a.weights.h5")
    found = xlstm.load(tmp_path / "a.weights.h5", architecture=tmp_path / "a.json")
    assert found.source.version == "3"
    model.add(keras.layers.UnitNormalization())
    (tmp_path / "a.json").write_text(model.to_json())
    with pytest.raises(XlstmError, match=r"one side of Keras 3\.6.*keras_version="):
        xlstm.load(tmp_path / "a.weights.h5", architecture=tmp_path / "a.json")
    told = {"architecture": tmp_path / "a.json", "keras_version": "3.15"}
    assert xlstm.load(tmp_path / "a.weights.h5", **told).layers[-1].spec.floor == 1e-12


# names


def test_weights_go_by_the_order_of_layers_where_names_differ(tmp_path):
    """As load_weights of every Keras: a model that is built again counts its layers on."""
    config = config_of(LSTM)
    layers = config["config"]["layers"] if isinstance(config["config"], dict) else config["config"]
    for layer in layers:
        layer["config"]["name"] = f"again_{layer['config']['name']}"
    path = written(tmp_path / "a.json", config, keras_version="2.2.4")
    found, whole = xlstm.load(BARE, architecture=path), xlstm.load(LSTM)
    np.testing.assert_equal(list(found.weights.values()), list(whole.weights.values()))
    assert any("by the order of the layers" in note for note in found.source.notes)
    outputs(found, "k224/lstm.npz")


@needs_corpus
def test_a_config_of_keras_1_reads_alike_in_today_s_words():
    for path in sorted((CORPUS.parent / "eras" / "k122").glob("*.json")):
        config = json.loads(path.read_text())
        config.pop("keras_version")
        assert majors_of(config, {"LSTM", "GRU", "Dense", "Embedding", "Merge"}) == {1}


def test_weights_of_renamed_layers_are_outlined_with_them(tmp_path):
    config = config_of(LSTM)
    layers = config["config"]["layers"] if isinstance(config["config"], dict) else config["config"]
    for layer in layers:
        layer["config"]["name"] = f"again_{layer['config']['name']}"
    path = written(tmp_path / "a.json", config, keras_version="2.2.4")
    text = inspect(BARE, ReadOptions(path))
    assert "can be ported" in text
    assert "again_lstm_1" in text
    for layer in layers:  # a class that is not known: the file is outlined all the same
        layer["class_name"] = "Strange"
    text = inspect(BARE, ReadOptions(written(tmp_path / "b.json", config, keras_version="2.2.4")))
    assert "cannot be ported yet" in text
    assert "Strange" in text
    nested = {"class_name": "Own", "config": {"name": "own", "layers": layers}}
    path = written(tmp_path / "c.json", nested, keras_version="2.2.4")
    assert "Own" in inspect(BARE, ReadOptions(path))
