"""Detects a file's type by its first bytes, never by its extension, and calls its reader.

In: a path. Out: a `Description`, or a FileError that names the type and gives advice.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description, Digest
from xlstm.files.guards import MAX_TEXT, is_folder, open_regular
from xlstm.files.hashes import of_open_files
from xlstm.files.keras.architecture_text import parse_architecture
from xlstm.files.keras.archive import TORCH, describe_zip
from xlstm.files.keras.folder import describe_folder, describe_shards, is_keras_folder
from xlstm.files.keras.hdf5 import describe_hdf5
from xlstm.files.port_folder import half_port
from xlstm.files.tensorflow.saved_model import describe_savedmodel, is_savedmodel

READERS: dict[bytes, Callable[[BinaryIO, str, Digest, ExitStack, Budget], Description]] = {
    b"PK\x03\x04": describe_zip,
    b"\x89HDF\r\n\x1a\n": describe_hdf5,
}
"""First bytes -> reader."""

FOLDER_READERS: dict[Callable[[Path], bool], Callable[[Path, ExitStack, Budget], Description]] = {
    is_keras_folder: describe_folder,
    is_savedmodel: describe_savedmodel,
}
"""Test of a folder's type -> its reader."""

REFUSED: dict[bytes, tuple[str, str]] = {
    b"\x80\x02": ("a pickle, which could run any code", TORCH),
    b"\x80\x03": ("a pickle, which could run any code", TORCH),
    b"\x80\x04": ("a pickle, which could run any code", TORCH),
    b"\x80\x05": ("a pickle, which could run any code", TORCH),
    b"\x93NUMPY": ("one bare array", "put the arrays into an .npz and pass layers="),
}
"""First bytes of types that are not read -> (type in words, advice)."""

SUFFIXES: dict[str, tuple[str, str]] = {
    ".py": (
        "Python source",
        "no code of a file is run; in Python, import it and pass the model to xlstm.port, count or "
        "diagnose",
    ),
    ".onnx": ("ONNX, which is not read", "port the model that it was exported from"),
}
"""Endings of files without first bytes of their own -> (type in words, advice)."""

JSON = (b"{", b"[", b'"')
"""First bytes of JSON of more than one word, after a mark of UTF-8 and white space."""

WHOLE = "give a whole model saved by Keras"

ORBAX = "restore it with orbax, then xlstm.load((module, variables))"

FOLDERS: dict[str, tuple[str, str]] = {
    "_CHECKPOINT_METADATA": ("an Orbax checkpoint", ORBAX),
    "_METADATA": ("an Orbax checkpoint", ORBAX),
    "manifest.ocdbt": ("an Orbax checkpoint", ORBAX),
    "checkpoint": ("a TensorFlow checkpoint", "save the whole model as .keras or .h5"),
}
"""Files in folders that are not read -> (type of the folder in words, advice)."""


def describe(path: Path, budget: Budget | None = None) -> Description:
    """Describes a model file or folder with the reader for its content.

    Args:
        path: a file or a folder.
        budget: limit of the cost of reading it; a new one if None.

    Raises:
        FileError: a file that is missing, of no known type, damaged or hostile.
    """
    opened, budget = ExitStack(), budget or Budget()
    try:
        reader = _folder if is_folder(path) else _file
        return reader(path, opened, budget)
    except BaseException:
        opened.close()
        raise


def _folder(path: Path, opened: ExitStack, budget: Budget) -> Description:
    for known, reader in FOLDER_READERS.items():
        if known(path):
            return reader(path, opened, budget)
    for name, (what, do) in FOLDERS.items():
        if (path / name).exists():
            raise FileError(path, "a model's folder", what, do)
    if missing := half_port(path):
        got = f"one without {', '.join(missing)}"
        raise FileError(path, "a folder as xlstm save writes it", got, "port the model again")
    want = "a model file, a SavedModel, or a folder written by Keras or by xlstm save"
    raise FileError(path, want, "a folder without a model", "give the path of the file in it")


def _file(path: Path, opened: ExitStack, budget: Budget) -> Description:
    file = opened.enter_context(open_regular(path))
    start = file.read(16)
    file.seek(0)
    if path.name.endswith(".weights.json") and start.lstrip()[:1] == b"{":
        return describe_shards(path, opened, budget)
    for magic, reader in READERS.items():
        if start.startswith(magic):
            return reader(file, path.name, lambda: of_open_files([file]), opened, budget)
    want = "a Keras model (.keras archive, HDF5 or SavedModel)"
    if path.suffix in SUFFIXES:
        raise FileError(path, want, *SUFFIXES[path.suffix])
    for magic, (what, do) in REFUSED.items():
        if start.startswith(magic):
            raise FileError(path, want, what, do)
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(JSON):
        raise FileError(path, want, *_json(path, budget))
    got = "an empty file" if not start else f"a file that starts with {start[:8]!r}"
    raise FileError(path, want, got, WHOLE)


def _json(path: Path, budget: Budget) -> tuple[str, str]:
    """The type of a JSON file in words, and advice."""
    try:
        with open_regular(path) as file:
            parse_architecture(file.read(MAX_TEXT + 1), path.name, budget)
    except FileError as error:
        return f"JSON that is no architecture ({error.got})", WHOLE
    return "an architecture without weights", "load the weights with architecture=THIS_FILE"
