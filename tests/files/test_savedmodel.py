"""SavedModels of Keras 2: the same as the .h5 of the same model."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import CORPUS, needs_corpus
from refusing import refused
from savedmodel_parts import (
    ERAS,
    GENUINE,
    HERE,
    KERNEL,
    entry,
    opened,
    parts,
    same,
)

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.detect import describe
from xlstm.files.tensorflow.checkpoint import DTYPES, crc32c, masked
from xlstm.files.tensorflow.saved_model import describe_savedmodel, is_savedmodel


def without(data: Any, names: set[str]) -> Any:
    if isinstance(data, list):
        return [without(item, names) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: without(item, names) for key, item in data.items() if key not in names}


@pytest.mark.parametrize("folder", GENUINE, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_equals_the_h5_of_the_same_model(folder):
    twin = describe(folder.with_name(folder.name.removesuffix("_sm") + ".h5"))
    with ExitStack() as stack:
        found = describe_savedmodel(folder, stack, Budget())
        wanted = {key: arrays for key, arrays in twin.weights.items() if arrays}
        assert list(found.weights) == list(wanted)
        for key, arrays in wanted.items():
            names = [stored.name.removesuffix(":0") for stored in arrays]
            assert [stored.name for stored in found.weights[key]] == names
            for mine, theirs in zip(found.weights[key], arrays, strict=True):
                assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
                assert mine.load().tobytes() == theirs.load().tobytes()
    assert (found.framework, found.container, found.by_name) == ("keras", "SavedModel", True)
    assert (found.version, found.backend, found.file) == (twin.version, "tensorflow", folder.name)
    assert json.loads(json.dumps(found.config)) == found.config
    # tf_keras 2.18 writes these, for other objects than layers too, into .h5 alone
    only = {"shared_object_id", "module", "registered_name", "build_config"}
    assert without(found.config, only) == without(twin.config, only)
    twin.close()


@needs_corpus
def test_there_are_genuine_ones():
    assert len(list(ERAS.glob("*/*_sm"))) >= 12


def test_what_is_not_read_is_listed():
    stateful = opened(HERE / "stateful_sm").ignored
    states = [f"layer_with_weights-0/keras_api/states/{n}" for n in (0, 1)]
    assert list(stateful) == states
    assert list(opened(HERE / "seq_sm").ignored) == ["metrics", "optimizer"]


def test_digest_is_that_of_the_files(tmp_path):
    before = opened(HERE / "misc_sm").sha256
    copy = shutil.copytree(HERE / "misc_sm", tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(b"not read")
    assert opened(copy).sha256 == before
    assert opened(copy).ignored == ("saved_model.pb",)


CORPUS_MODELS = {
    "k2.2tf-dgaintel/dga_model": ("2.2.4-tf", "embedding_4 conv1d_4 lstm_4 dense_4"),
    "savedmodel-unicode-thai/Thai_codepoints_exclusive_model5_heavy": (
        "2.4.0",
        "embedding bidirectional time_distributed",
    ),
}


@needs_corpus
@pytest.mark.parametrize("name", CORPUS_MODELS)
def test_old_folders_of_the_corpus(name):
    version, layers = CORPUS_MODELS[name]
    found = opened(CORPUS / name)
    assert found.version == version
    assert list(found.weights) == layers.split()
    assert "__tuple__" not in json.dumps(found.config)
    names = [layer["config"]["name"] for layer in found.config["config"]["layers"]]
    assert set(found.weights) <= set(names)


@needs_corpus
def test_old_folder_equals_its_h5():
    twin = describe(CORPUS / "k2.2tf-dgaintel" / "domain_classifier_model.h5")
    with ExitStack() as stack:
        found = describe_savedmodel(CORPUS / "k2.2tf-dgaintel" / "dga_model", stack, Budget())
        for key, arrays in found.weights.items():
            for mine, theirs in zip(arrays, twin.weights[key], strict=True):
                assert f"{mine.name}:0" == theirs.name
                assert mine.shape == theirs.shape
    twin.close()


def test_the_pieces_fit(tmp_path):
    assert same(opened(parts().write(tmp_path / "new")), opened(HERE / "stateful_sm"))


def test_metadata_in_the_graph_file(tmp_path):
    pieces = parts()
    pieces.files = {"keras_metadata.pb": None, "saved_model.pb": pieces.old()}
    assert same(opened(pieces.write(tmp_path / "old")), opened(HERE / "stateful_sm"))


def with_kernel(folder: Path, number: int, data: bytes, shape: tuple[int, ...]) -> Path:
    pieces = parts()
    pieces.pairs[KERNEL] = entry(number, shape, len(pieces.data), len(data), masked(data))
    pieces.data += data
    return pieces.write(folder)


@pytest.mark.parametrize("number", DTYPES, ids=DTYPES.get)
def test_every_dtype_is_exact(number, tmp_path):
    name = DTYPES[number]
    want = np.array([[0, 1], [1, 0], [1, 1]]).astype("float32" if name == "bfloat16" else name)
    if want.dtype.kind == "f":
        want.flat[:3] = [-0.0, np.inf, -1.5]
    raw = want.tobytes()
    if name == "bfloat16":
        raw = (want.view(np.uint32) >> 16).astype("<u2").tobytes()
    with ExitStack() as stack:
        found = describe_savedmodel(
            with_kernel(tmp_path / "model", number, raw, (3, 2)), stack, Budget()
        )
        stored = found.weights["dense_6"][0]
        assert (stored.name, stored.shape, stored.dtype) == ("dense_6/kernel", (3, 2), name)
        assert stored.load().dtype == want.dtype
        assert stored.load().tobytes() == want.tobytes()


def test_only_wanted_bytes_are_read(tmp_path):
    pieces = parts()
    pieces.data = b"\xff" * len(pieces.data)  # every checksum is wrong
    with ExitStack() as stack:
        found = describe_savedmodel(pieces.write(tmp_path / "model"), stack, Budget())
        refused(FileError, found.weights["dense_6"][0].load, "dense_6/kernel", "checksum")


@pytest.mark.parametrize("size", [0, 1, 3, 63, 64, 65, 1000, 70_001])
def test_checksum(size):
    data = random.Random(size).randbytes(size)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("name", ["keras_metadata.pb", "saved_model.pb"])
def test_told_by_its_files(name, tmp_path):
    assert not is_savedmodel(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert is_savedmodel(tmp_path)
