"""Where the architecture of bare weights lies: JSON, YAML, texts of those, or a whole model."""

import json
import shutil

import h5py
import numpy as np
import pytest
import yaml
from paths import DATA
from test_weights_alone import BARE, LSTM, bare, config_of

import xlstm
from xlstm.budget import Budget
from xlstm.cli.inspect import inspect
from xlstm.errors import FileError, XlstmError
from xlstm.files.keras.architecture import ReadOptions, read_architecture


def tupled(data):
    """Data as Keras 2 has it: some lists are tuples, and one tuple is there twice."""
    if isinstance(data, list) and data and not isinstance(data[0], (dict, list)):
        return SHARED if data == [None, 5, 3] else tuple(data)
    if isinstance(data, list):
        return [tupled(item) for item in data]
    return {k: tupled(v) for k, v in data.items()} if isinstance(data, dict) else data


SHARED = (None, 5, 3)

FORMS = {
    "json": json.dumps,
    "json of json": lambda data: json.dumps(json.dumps(data)),
    "json, with a mark before it": lambda data: "\ufeff" + json.dumps(data, indent=2),
    "yaml": yaml.safe_dump,
    "yaml of to_yaml": lambda data: yaml.dump(tupled(data)),
    "yaml in one line": lambda data: yaml.dump(tupled(data), default_flow_style=True),
    "yaml of json": lambda data: yaml.dump(json.dumps(data)),
    "yaml of json in quotes": lambda data: yaml.dump(json.dumps(data), default_style='"'),
    "yaml of yaml": lambda data: yaml.dump(yaml.dump(tupled(data))),
    "yaml of yaml, flow": lambda data: yaml.dump(yaml.dump(data), default_flow_style=True),
    "yaml of yaml, literal": lambda data: yaml.dump(yaml.dump(data), default_style="|"),
    "json of yaml": lambda data: json.dumps(yaml.dump(tupled(data))),
    "yaml of yaml of json": lambda data: yaml.dump(yaml.dump(json.dumps(data))),
    "yaml of Python 2": lambda data: yaml.safe_dump(data).replace(
        ": hard_sigmoid", ": !!python/unicode 'hard_sigmoid'"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_of_architectures(form, tmp_path):
    path = tmp_path / "architecture.txt"
    data = {**config_of(LSTM), "keras_version": "2.2.4", "backend": "tensorflow"}
    data["note"] = [[None, 5, 3], [None, 5, 3]]  # an alias in YAML
    path.write_text(FORMS[form](data), "utf-8")
    whole, found = xlstm.load(LSTM), xlstm.load(BARE, architecture=path)
    assert found.nodes == whole.nodes
    np.testing.assert_equal(found.weights, whole.weights)
    assert found.source.version == "2.2.4"


def test_aliases_are_written_as_yaml_has_them():
    assert "*id" in FORMS["yaml of to_yaml"]({"note": [[None, 5, 3], [None, 5, 3]]})


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS + "class_name: Sequential", "aliases written out"),
        (json.dumps(LAUGHS), "aliases written out"),
        ("a: &a {b: *a}", "an alias inside the value"),
        (json.dumps(json.dumps(json.dumps(json.dumps(json.dumps(json.dumps({})))))), "got text"),
        ("[1, 2]", "a list"),
        (yaml.dump("'"), "ScannerError"),
        ('"\\', "ScannerError"),
        ("!!python/unicode [a]", "ConstructorError"),
    ],
)
def test_texts_that_are_no_architecture(text, words, tmp_path):
    path = tmp_path / "architecture.txt"
    path.write_text(text)
    with pytest.raises(FileError, match=words):
        read_architecture(path, Budget())


# whole models


@pytest.mark.parametrize("form", ["h5", "keras", "folder", "savedmodel"])
def test_whole_models_as_architectures(form, tmp_path):
    """Only their config is taken, with its version; the note says so."""
    import keras

    if form == "savedmodel":
        whole, source = DATA / "savedmodel" / "seq_sm", DATA / "savedmodel" / "seq.h5"
        weights = bare(source, tmp_path / "w.h5", keras_version="2.12.0", backend="tensorflow")
    elif form == "h5":
        whole, weights, source = tmp_path / "whole.h5", BARE, LSTM
        shutil.copy(LSTM, whole)
        with h5py.File(whole, "r+") as file:
            file["model_weights/lstm_1/lstm_1/bias:0"][:] = 77  # never looked at
    else:
        model = keras.models.load_model(xlstm.demo.path())
        whole, weights, source = tmp_path / "m.keras", tmp_path / "a.weights.h5", xlstm.demo.path()
        model.save_weights(weights)
        for layer in model.layers:
            layer.set_weights([7 + x for x in layer.get_weights()])
        model.save(whole if form == "keras" else tmp_path / "m", zipped=form == "keras")
        whole = whole if form == "keras" else tmp_path / "m"
    found, want = xlstm.load(weights, architecture=whole), xlstm.load(source)
    np.testing.assert_equal(found.weights, want.weights)
    assert found.nodes == want.nodes
    assert found.source.version == want.source.version
    (note,) = [line for line in found.source.notes if "architecture by" in line]
    assert f"architecture by Keras {want.source.version}" in note
    assert whole.name in note
    assert note.endswith("its own weights are not read)")
    assert "its own weights are not read" in " ".join(inspect(weights, ReadOptions(whole)).split())


def test_what_is_no_architecture_is_refused_by_name(tmp_path):
    with pytest.raises(FileError, match="HDF5 weights alone"):
        xlstm.load(BARE, architecture=BARE)
    with pytest.raises(FileError, match="a folder without a model"):
        xlstm.load(BARE, architecture=tmp_path)
    with pytest.raises(FileError, match="no such file"):
        xlstm.load(BARE, architecture=tmp_path / "none.json")


ODD = [None, True, 0, -1, 0.5, "x", [], [1], {}, {"class_name": "LSTM"}]


def places(data, path=()):
    """The way to every value in JSON."""
    yield path
    if isinstance(data, (dict, list)):
        for key, inner in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(inner, (*path, key))


def put(data, path, value):
    """A copy of JSON with another value at one place."""
    if not path:
        return value
    copied = data.copy()
    copied[path[0]] = put(data[path[0]], path[1:], value)
    return copied


def test_odd_values_anywhere_are_read_or_refused(tmp_path):
    """Two branches in a Merge of Keras 1: a model where a number should be was a traceback."""
    data = json.loads((DATA / "k122" / "merge_seq.json").read_text())
    weights, path = DATA / "k122" / "merge_seq_w.h5", tmp_path / "odd.json"
    said = []
    for place in places(data):
        for value in ODD:
            path.write_text(json.dumps(put(data, place, value)))
            try:
                xlstm.load(weights, architecture=path, keras_version="1.2.2")
            except XlstmError as error:
                said.append(str(error))
    assert len(said) > 300
    assert all(text.isprintable() for text in said)
