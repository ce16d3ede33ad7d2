"""Reads `.keras` archives of Keras 3: config.json, metadata.json, model.weights.h5 in a zip.

In: a stream. Out: a `Description`.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, BinaryIO

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description, Digest, Stored
from xlstm.files.guards import MAX_TEXT, as_object, as_stream, as_text, parse_json
from xlstm.files.hdf5.datasets import open_hdf5
from xlstm.files.keras.variables import Tree, in_tree, read_tree
from xlstm.files.zips import find, member, open_zip, pieces, window
from xlstm.ir.types import Array

WEIGHTS = "model.weights.h5"

MAX_MEMBER = 8 * 2**30
"""Largest member that is read, in bytes."""

TORCH = (
    "state = torch.load(FILE, weights_only=True), then xlstm.load(state, layers=...), or "
    'safetensors.torch.save_file(state, "b.safetensors") for `xlstm diagnose` and `xlstm same`'
)
"""Advice for files that only PyTorch may read."""


def describe_zip(
    stream: BinaryIO, file: str, digest: Digest, opened: ExitStack, budget: Budget
) -> Description:
    """Describes a `.keras` archive.

    Raises:
        FileError: a damaged or hostile file, or another archive.
    """
    archive = open_zip(stream, file, opened, budget)
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist()):
        raise FileError(file, "a .keras archive", "a PyTorch file, which contains a pickle", TORCH)
    if archive.namelist() and all(name.endswith(".npy") for name in archive.namelist()):
        do = "pass layers= for its arrays"
        raise FileError(file, "a .keras archive", "an .npz of arrays", do)
    config = _json(archive, "config.json", file, budget)
    metadata = _json(archive, "metadata.json", file, budget)
    weights, check = open_weights(archive, stream, file, budget)
    root = open_hdf5(weights, f"{file}, {WEIGHTS}", budget)
    tree, step = read_tree(root, file)
    read = {"config.json", "metadata.json", WEIGHTS}
    return Description(
        framework="keras",
        version=as_text(metadata.get("keras_version"), f"{file}, keras_version"),
        container=".keras archive",
        file=file,
        digest=digest,
        config=config,
        weights=_once_checked(tree, check),
        by_name=False,
        step=step,
        optimizer=in_tree(root, config, file),
        ignored=tuple(name for name in archive.namelist() if name not in read),
        opened=opened,
        budget=budget,
    )


def _json(archive: zipfile.ZipFile, name: str, file: str, budget: Budget) -> dict[str, Any]:
    where = f"{file}, {name}"
    text = member(archive, find(archive, name, MAX_TEXT, file), where)
    return as_object(parse_json(text, where, budget), where)


def open_weights(
    archive: zipfile.ZipFile, stream: BinaryIO, file: str, budget: Budget
) -> tuple[BinaryIO, Callable[[], None]]:
    """The weights' member as a file, and a call that checks its checksum.

    If it is not compressed, the file is a window on the archive, and no number is read here.
    """
    if WEIGHTS not in archive.namelist() and "model.weights.npz" in archive.namelist():
        got = "model.weights.npz, which contains pickles that even Keras refuses"
        raise FileError(f"{file}, {WEIGHTS}", "weights in HDF5", got, "save the model again")
    info, where = find(archive, WEIGHTS, MAX_MEMBER, file), f"{file}, {WEIGHTS}"
    if info.compress_type != zipfile.ZIP_STORED:
        budget.spend("bytes", info.file_size, where)
        return as_stream(member(archive, info, where)), lambda: None

    @functools.cache
    def check() -> None:
        for _ in pieces(archive, info, where):
            pass  # to its end, where the checksum is verified

    return window(stream, info, where), check


def _once_checked(tree: Tree, check: Callable[[], None]) -> Tree:
    """The same arrays; before the first of them is loaded, all bytes of the file are checked."""

    def after(array: Stored) -> Stored:
        def load() -> Array:
            check()
            return array.load()

        return replace(array, load=load)

    return {path: tuple(map(after, arrays)) for path, arrays in tree.items()}
