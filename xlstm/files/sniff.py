"""Tells a file's type by its first bytes, never by its extension, and calls its reader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from xlstm.errors import FileError
from xlstm.files.description import Description
from xlstm.files.guards import is_folder, open_regular
from xlstm.files.keras_hdf5 import describe_hdf5
from xlstm.files.keras_zip import describe_zip

READERS: dict[bytes, Callable[[BinaryIO, str, str, ExitStack], Description]] = {
    b"PK\x03\x04": describe_zip,
    b"\x89HDF\r\n\x1a\n": describe_hdf5,
}
"""First bytes -> reader."""


def describe(path: Path) -> Description:
    """Describes a model file by the reader that its first bytes call for.

    Raises:
        FileError: missing, of no known type, damaged or hostile.
    """
    if is_folder(path):
        want = "a model file, or a folder written by xlstm save"
        raise FileError(path, want, "a folder without a model", "give the path of the file in it")
    opened = ExitStack()
    try:
        return _describe(path, opened)
    except BaseException:
        opened.close()
        raise


def _describe(path: Path, opened: ExitStack) -> Description:
    file = opened.enter_context(open_regular(path))
    start = file.read(16)
    for magic, reader in READERS.items():
        if start.startswith(magic):
            file.seek(0)
            digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            file.seek(0)
            return reader(file, path.name, digest, opened)
    want = "a Keras model (.keras archive or HDF5)"
    got = "an empty file" if not start else f"a file that starts with {start[:8]!r}"
    raise FileError(path, want, got, "give a whole model saved by Keras")
