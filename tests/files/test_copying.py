"""The copy that Keras opens: the same model, and no byte of a hostile file in it."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from make_files import KINDS, make, options
from paths import DATA
from refusing import refused

import xlstm
from xlstm.errors import FileError
from xlstm.files.copies import LEFT_OUT, clean_copy

DEMO = xlstm.demo.path()


WHOLE = [path for path in sorted(DATA.rglob("*")) if path.suffix in (".h5", ".keras")]
WHOLE = [path for path in WHOLE if path.name not in ("npz.keras", "lstm_w.h5")]


def content(path, folder):
    """Name -> texts, or dtype and bytes, of all that an HDF5 file holds, by h5py."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            path = archive.extract("model.weights.h5", folder)
    found = {}

    def look(name, item):
        if name.split("/")[0] in LEFT_OUT:
            return
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype, item.shape, item[()].tobytes())
        for key, value in item.attrs.items():
            texts = [t.decode() if isinstance(t, bytes) else t for t in np.ravel(value).tolist()]
            found[f"{name} @{key}"] = (texts, np.shape(value))

    with h5py.File(path) as file:
        look("", file)
        file.visititems(look)
    return found


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_copy_holds_the_same(path, tmp_path):
    (tmp_path / "copy").mkdir()
    copy = clean_copy(path, tmp_path / "copy")
    assert sorted((tmp_path / "copy").iterdir()) == [copy]
    assert copy.suffix == (".keras" if zipfile.is_zipfile(path) else ".h5")
    assert content(copy, tmp_path / "copy") == content(path, tmp_path)


@pytest.fixture(scope="module")
def mixed():
    """A model with what files store in their own ways: bfloat16, a frozen layer, an optimizer."""
    inputs = keras.Input((5, 3))
    x = keras.layers.LSTM(4, return_sequences=True, dtype="mixed_bfloat16")(inputs)
    x = keras.layers.Bidirectional(keras.layers.GRU(2), name="both")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="bfloat16")(x))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


SAVED = {
    "keras": lambda model, folder: model.save(folder / "m.keras") or folder / "m.keras",
    "folder": lambda model, folder: model.save(folder / "m", zipped=False) or folder / "m",
}


@pytest.mark.parametrize("form", SAVED)
def test_keras_opens_a_copy_as_it_opens_the_file(form, mixed, tmp_path):
    path = SAVED[form](mixed, tmp_path)
    (tmp_path / "copy").mkdir()
    copy = clean_copy(path, tmp_path / "copy")
    first, second = (keras.models.load_model(p, compile=False) for p in (path, copy))
    want, found = ([np.asarray(w, "f4") for w in m.get_weights()] for m in (mixed, second))
    assert all(np.array_equal(a, b) for a, b in zip(want, found, strict=True))
    assert second.to_json() == first.to_json()


def in_a_circle(data):
    """HDF5 whose free names point at themselves: its library follows them without end."""
    data, count = bytearray(data), 0
    start = data.find(b"HEAP\0\0\0\0")
    while start >= 0:
        places = (data[start + n : start + n + 8] for n in (16, 24))
        free, segment = (int.from_bytes(place, "little") for place in places)
        if free != 1:
            data[segment + free : segment + free + 8] = free.to_bytes(8, "little")
            count += 1
        start = data.find(b"HEAP\0\0\0\0", start + 8)
    assert count
    return bytes(data)


def test_a_file_that_its_own_library_never_opens_is_verified(tmp_path):
    with zipfile.ZipFile(DEMO) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = in_a_circle(members["model.weights.h5"])
    path = tmp_path / "circle.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    report = xlstm.reconcile(path, "keras")
    report.check()
    assert report.frameworks["keras"].what == "the original, on tensorflow"


def test_what_keras_is_handed_is_never_the_file(monkeypatch):
    from xlstm.converters.keras.live import model as keras_live

    handed, real = [], keras_live.open_native
    monkeypatch.setattr(
        keras_live, "open_native", lambda p, d: handed.append(Path(p)) or real(p, d)
    )
    xlstm.reconcile(DEMO, "keras").check()
    assert handed
    assert not any(path.samefile(DEMO) for path in handed if path.exists())
    assert not any(path.exists() for path in handed), "a copy is gone once it was read"


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_are_left_out_unread(kind, tmp_path):
    def hook(file):
        for name in LEFT_OUT:
            file[f"{name}/evil"] = h5py.ExternalLink("other.h5", "/")

    (tmp_path / "copy").mkdir()
    copy = clean_copy(make(kind, tmp_path, weights=hook), tmp_path / "copy")
    assert not {name.split("/")[0] for name in content(copy, tmp_path / "copy")} & {*LEFT_OUT}


def linked(file, group):
    file[f"{group}/evil"] = h5py.ExternalLink("other.h5", "/")


def chunked(file, group):
    file.create_dataset(f"{group}/evil", data=np.zeros(9, "f4"), chunks=(3,), compression="gzip")


def deep(file, group):
    file.create_group(group + "/a" * 60)


def cyclic(file, group):
    file[f"{group}/evil"] = file[group]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", [linked, chunked, deep, cyclic])
def test_what_may_harm_keras_is_refused_wherever_it_lies(harm, kind, tmp_path):
    group = {"keras": "layers/dense", "h5": "model_weights/dense"}[kind]
    path = make(kind, tmp_path, weights=lambda file: harm(file, group))
    (tmp_path / "copy").mkdir()
    refused(FileError, lambda: clean_copy(path, tmp_path / "copy"), "small.")


def test_a_config_that_is_none_is_refused(tmp_path):
    path = make("keras", tmp_path, config=options(1, note=float("nan")))
    (tmp_path / "copy").mkdir()
    refused(FileError, lambda: clean_copy(path, tmp_path / "copy"), "config.json", "NaN")
    text = json.dumps({"class_name": "Sequential"})[:-1]
    path = make("h5", tmp_path, weights=lambda f: f.attrs.update(model_config=text))
    refused(FileError, lambda: clean_copy(path, tmp_path / "copy"), "model_config")
