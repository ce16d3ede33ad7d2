"""Where ports are written: all of it or nothing, and never over what xlstm did not write."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from make_files import make, options
from refusing import contents, refused

import xlstm
from xlstm.errors import FileError, UnsupportedError, UsageError

DEMO = xlstm.demo.path()


def a_file(folder: Path) -> Path:
    (folder / "there").write_text("mine")
    return folder / "there"


def an_empty_folder(folder: Path) -> Path:
    (folder / "there").mkdir()
    return folder / "there"


def a_full_folder(folder: Path) -> Path:
    an_empty_folder(folder)
    (folder / "there" / "thesis.txt").write_text("mine")
    return folder / "there"


def a_folder_of_others(folder: Path) -> Path:
    """Another project's files, by chance of the names that ours have."""
    an_empty_folder(folder)
    for name in ("model.py", "model.safetensors", "report.json"):
        (folder / "there" / name).write_text("mine")
    return folder / "there"


def a_link_to_a_port(folder: Path) -> Path:
    (folder / "there").symlink_to(xlstm.save(DEMO, folder / "port", "nnx"))
    return folder / "there"


def a_dangling_link(folder: Path) -> Path:
    (folder / "there").symlink_to(folder / "nowhere")
    return folder / "there"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "port"


def a_name_too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


def a_name_with_nul(folder: Path) -> Path:
    return folder / "a\0b"


TARGETS = [
    a_file,
    an_empty_folder,
    a_full_folder,
    a_folder_of_others,
    a_link_to_a_port,
    a_dangling_link,
    below_a_file,
    a_name_too_long,
    a_name_with_nul,
]


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
def test_folders_that_are_not_written(target, overwrite, tmp_path):
    folder = target(tmp_path)
    before = contents(tmp_path)
    refused(UsageError, lambda: xlstm.save(DEMO, folder, "torch", overwrite=overwrite))
    assert contents(tmp_path) == before


def test_files_of_others_in_a_port_are_kept(tmp_path):
    folder = xlstm.save(DEMO, tmp_path / "port", "torch")
    (folder / "mine.ckpt").write_text("mine")
    refused(
        UsageError, lambda: xlstm.save(DEMO, folder, "torch", overwrite=True), "files of others"
    )
    assert (folder / "mine.ckpt").read_text() == "mine"


def test_a_port_is_not_replaced_unasked(tmp_path):
    folder = xlstm.save(DEMO, tmp_path / "port", "torch")
    before = contents(tmp_path)
    refused(UsageError, lambda: xlstm.save(DEMO, folder, "nnx"), "exists", "overwrite")
    assert contents(tmp_path) == before


def test_a_port_is_replaced_when_asked(tmp_path):
    folder = xlstm.save(DEMO, tmp_path / "port", "torch")
    xlstm.save(make("h5", tmp_path), folder, "nnx", overwrite=True)
    assert [node.name for node in xlstm.load(folder).layers] == ["lstm", "dense"]
    assert json.loads((folder / "report.json").read_text())["to"] == "nnx"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["port", "small.h5"]


def test_a_port_may_replace_its_own_source(tmp_path):
    folder = xlstm.save(DEMO, tmp_path / "port", "torch")
    original = xlstm.load(folder).weights["lstm"]["kernel"]
    xlstm.save(folder, folder, "linen", overwrite=True)
    np.testing.assert_array_equal(xlstm.load(folder).weights["lstm"]["kernel"], original)
    assert [item.name for item in tmp_path.iterdir()] == ["port"]


def test_a_name_of_250_characters(tmp_path):
    folder = xlstm.save(DEMO, tmp_path / ("x" * 250), "torch")
    assert [item.name for item in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("to", ["caffe", "numpy", ""])
def test_targets_that_have_no_files(to, tmp_path):
    error = refused(UsageError, lambda: xlstm.save(DEMO, tmp_path / "port", to), "torch", "linen")
    assert "keras" in error.expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_a_source_that_cannot_be_read_leaves_nothing(overwrite, tmp_path):
    if overwrite:
        xlstm.save(DEMO, tmp_path / "port", "torch")
    bad = make("keras", tmp_path, config=options(1, time_major=True))
    before = contents(tmp_path)
    for source, kind in ((bad, UnsupportedError), (tmp_path / "missing", FileError)):
        call = lambda s=source: xlstm.save(s, tmp_path / "port", "torch", overwrite=overwrite)  # noqa: E731
        refused(kind, call)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_an_error_halfway_leaves_nothing(overwrite, tmp_path):
    if overwrite:
        xlstm.save(DEMO, tmp_path / "port", "torch")
    before = contents(tmp_path)
    # the source text is written first, then the weights, which are not there
    broken = dataclasses.replace(xlstm.load(DEMO), weights={})
    with pytest.raises((KeyError, xlstm.errors.XlstmError)):
        xlstm.save(broken, tmp_path / "port", "torch", overwrite=overwrite)
    assert contents(tmp_path) == before


def test_the_same_model_gives_the_same_files(tmp_path):
    first = xlstm.save(DEMO, tmp_path / "a", "nnx")
    second = xlstm.save(DEMO, tmp_path / "b", "nnx")
    assert contents(first) == contents(second)
