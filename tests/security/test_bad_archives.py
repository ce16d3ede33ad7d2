"""Zip archives that are damaged, hostile, or no `.keras` files: one clear line each."""

import tracemalloc
import warnings
import zipfile
from pathlib import Path

import make_files
import pytest
from make_files import make
from refusing import deadline, refused

import xlstm
from xlstm.errors import FileError


def only(*names):
    return lambda members: [(name, data) for name, data in members if name in names]


def instead(name, data):
    """A member hook that writes other bytes under a name."""
    return lambda members: [(n, data if n == name else found) for n, found in members]


def twice(name):
    return lambda members: [*members, *only(name)(members)]


def archive(folder: Path, hook) -> Path:
    """A `.keras` file with altered members; zipfile warns where two have one name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make("keras", folder, members=hook)


MEMBERS = {
    "no-config": (only("metadata.json", "model.weights.h5"), "config.json"),
    "no-metadata": (only("config.json", "model.weights.h5"), "metadata.json"),
    "no-weights": (only("config.json", "metadata.json"), "model.weights.h5"),
    "two-configs": (twice("config.json"), "2 members"),
    "two-weights": (twice("model.weights.h5"), "2 members"),
    "nothing": (lambda _members: [("notes.txt", b"hello")], "config.json"),
    "config-empty": (instead("config.json", b""), "JSON"),
    "config-text": (instead("config.json", b"import os\nos.system('x')"), "JSON"),
    "config-not-utf8": (instead("config.json", b'{"a": "\xff\xfe"}'), "JSON"),
    "config-too-deep": (instead("config.json", b"[" * 100_000 + b"]" * 100_000), "JSON"),
    "config-300-deep": (instead("config.json", b"[" * 300 + b"]" * 300), "200 levels"),
    "config-twice-a-key": (instead("config.json", b'{"a": 1, "a": 2}'), "a key occurs twice"),
    "config-nan": (instead("config.json", b'{"a": NaN}'), "NaN"),
    "config-infinity": (instead("config.json", b'{"a": -Infinity}'), "-Infinity"),
    "config-huge-number": (instead("config.json", b'{"a": ' + b"9" * 5000 + b"}"), "JSON"),
    "config-list": (instead("config.json", b"[]"), "config"),
    "config-number": (instead("config.json", b"3"), "config"),
    "config-null": (instead("config.json", b"null"), "config"),
    "metadata-list": (instead("metadata.json", b"[]"), "metadata.json"),
    "metadata-version-number": (instead("metadata.json", b'{"keras_version": 3}'), "text"),
    "metadata-no-version": (instead("metadata.json", b"{}"), "keras_version"),
    "weights-text": (instead("model.weights.h5", b"PK, honestly"), "model.weights.h5"),
    "weights-empty": (instead("model.weights.h5", b""), "model.weights.h5"),
    "weights-cut": (
        lambda members: [(n, d[:2000] if n.endswith("h5") else d) for n, d in members],
        "model.weights.h5",
    ),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_archives_with_wrong_members(case, tmp_path):
    hook, words = MEMBERS[case]
    path = archive(tmp_path, hook)
    with deadline(20):
        refused(FileError, lambda: xlstm.load(path), "small.keras", words)


def pieces(folder: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(make("keras", folder)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_deflated_archives_are_read(tmp_path):
    members = pieces(tmp_path)
    path = make_files.zip_file(tmp_path / "x.keras", members, zipfile.ZIP_DEFLATED)
    assert xlstm.count(path).total("torch") == 154


@pytest.mark.parametrize("method", ["ZIP_BZIP2", "ZIP_LZMA"])
def test_archives_with_odd_compression(method, tmp_path):
    members = pieces(tmp_path)
    path = make_files.zip_file(tmp_path / "x.keras", members, getattr(zipfile, method))
    refused(FileError, lambda: xlstm.load(path), "config.json", "stored or deflated")


def patched(path: Path, name: str, offset: int, value: bytes) -> Path:
    """The archive with other bytes in one member's entry of the central directory."""
    data = bytearray(path.read_bytes())
    start = data.rindex(name.encode()) - 46 + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_encrypted_archives(name, tmp_path):
    path = patched(make("keras", tmp_path), name, 8, b"\x01")
    refused(FileError, lambda: xlstm.load(path), name, "stored or deflated")


def test_members_that_are_longer_than_they_say_are_not_inflated(tmp_path):
    spaces = b" " * 2**24
    members = [(n, spaces if n == "config.json" else d) for n, d in pieces(tmp_path)]
    path = make_files.zip_file(tmp_path / "x.keras", members, zipfile.ZIP_DEFLATED)
    del spaces, members
    patched(path, "config.json", 24, (10).to_bytes(4, "little"))
    tracemalloc.start()
    refused(FileError, lambda: xlstm.load(path), "config.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_config_of_a_gibibyte_is_not_read(tmp_path):
    path = make("keras", tmp_path)
    patched(path, "config.json", 24, (2**30).to_bytes(4, "little"))
    refused(FileError, lambda: xlstm.load(path), "config.json", "1073741824 bytes")


def test_members_nobody_asked_for_are_ignored_and_named(tmp_path):
    members = [("../../evil.py", b"import os"), ("assets/x", b"")]
    path = make("keras", tmp_path, members=lambda found: [*found, *members])
    model = xlstm.load(path)
    assert any("../../evil.py" in note for note in model.source.notes)
    assert [item.name for item in tmp_path.iterdir()] == ["small.keras"]
