"""New Keras weights as Windows wrote them: whole paths with backslashes for names of groups."""

import io
import zipfile

import h5py
import numpy as np
import pytest
from paths import DATA, needs_corpus
from test_readers import ERAS, REFUSED, models, outputs, told

import xlstm
from xlstm.errors import FileError, XlstmError


def of_windows(old, new, root, ending=""):
    """Copies the variables of new Keras weights, their paths joined with backslashes.

    `root` is "" where the whole path is a member of the root, as tf.io.gfile.join makes it in Keras
    2.12 and 2.13; or the group that the rest of the path is a member of.
    """
    owners = []
    old.visit(lambda path: owners.append(path[:-5]) if path.endswith("/vars") else None)
    for path in owners:
        start = new.require_group(root) if root and path.startswith(f"{root}/") else new
        name = path.removeprefix(f"{root}/").replace("/", "\\") + ending.replace("/", "\\")
        group = start if ending else start.require_group(name)
        old.copy(f"{path}/vars", group, name if ending else "vars")


def windows_copy(path, target, **form):
    """A genuine file as Windows writes it; its optimizer, metrics and empty groups too."""
    if path.suffix != ".keras":
        with h5py.File(path) as old, h5py.File(target, "w") as new:
            of_windows(old, new, **form)
        return target
    weights = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as made:
        old = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        with h5py.File(weights, "w") as new:
            of_windows(old, new, **form)
        for name in ("config.json", "metadata.json"):
            made.writestr(name, archive.read(name))
        made.writestr("model.weights.h5", weights.getvalue())
    return target


FORMS = {
    "whole paths": {"root": ""},
    "below layers": {"root": "layers"},
    "with vars": {"root": "", "ending": "/vars"},
    "below layers with vars": {"root": "layers", "ending": "/vars"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["k212v3/m.keras", "k3/seq2seq.keras", "k3/dtype.keras"])
def test_names_with_backslashes_of_windows(file, form, tmp_path):
    """Keras 2.12 and 2.13 joined paths as the system does: one group of the whole name."""
    found = xlstm.load(windows_copy(DATA / file, tmp_path / "w.keras", **FORMS[form]))
    want = xlstm.load(DATA / file)
    np.testing.assert_equal(found.weights, want.weights)
    assert found.nodes == want.nodes
    assert found.source.optimizer == want.source.optimizer


def test_what_a_model_of_windows_gives(tmp_path):
    """Bidirectional, GRU and Dense of Keras 2.12 with their optimizer: the writer's own outputs."""
    path = windows_copy(DATA / "k212v3" / "m.keras", tmp_path / "w.keras", root="")
    model, saved = xlstm.load(path), np.load(DATA / "k212v3" / "m.npz")
    np.testing.assert_allclose(outputs(model, saved), saved["y"], rtol=0, atol=5e-7)
    assert (model.source.optimizer.kind, len(model.source.optimizer.sizes)) == ("adam", 23)


@needs_corpus
def test_every_genuine_tree_reads_the_same_from_windows(tmp_path):
    """Nested models, stacked cells, sublayers of wrappers, both names of the root."""
    seen = []
    for path in models(ERAS):
        name = str(path.relative_to(ERAS))
        new = zipfile.is_zipfile(path) or path.name.endswith(".weights.h5")
        if name in REFUSED or not new or (path.suffix == ".h5" and "layers" not in roots(path)):
            continue
        said = told(path, tmp_path)
        try:
            want = xlstm.load(path, **said)
        except XlstmError:
            continue
        copy = windows_copy(path, tmp_path / path.name, root="")
        found = xlstm.load(copy, **said)
        np.testing.assert_equal(found.weights, want.weights)
        assert found.source.optimizer == want.source.optimizer
        seen.append(name)
    assert len(seen) > 40
    assert any("nested" in name for name in seen)
    assert any("stacked" in name for name in seen)


def roots(path):
    with h5py.File(path) as file:
        return {"layers" if name.startswith("_layer_ch") else name for name in file}


def test_one_path_in_two_groups_is_refused(tmp_path):
    path = windows_copy(DATA / "k212v3" / "m.keras", tmp_path / "w.keras", root="")
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(texts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        file.copy(r"_layer_checkpoint_dependencies\dense", "_layer_checkpoint_dependencies/dense")
    with zipfile.ZipFile(path, "w") as made:
        for name, text in {**texts, "model.weights.h5": weights.getvalue()}.items():
            made.writestr(name, text)
    with pytest.raises(FileError, match="two groups for dense"):
        xlstm.load(path)
