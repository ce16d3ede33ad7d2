"""Copies a Keras file for Keras, whose HDF5 library hangs and crashes on hostile bytes.

In: a file or folder of a whole model. Out: a file with the same configs, texts and arrays, each
read by the readers here and written by h5py. Parts that Keras does not need are left out: the
optimizer, metrics, other members of an archive.

    clean_copy(Path("a.net"), Path("folder"))     # folder/model.keras

h5py is imported in this module alone, for a copy: it is installed with Keras, and the core does not
need it. Our readers never call libhdf5, so any h5py from 3.11 on will do (TensorFlow 2.21 allows
none from 3.15 on). Damaged files of newer superblocks and damaged links crash h5py 3.14; 3.16, with
HDF5 2.0, refuses them. Both loop forever on heaps of texts whose free space has no size, and on
free names in a circle. The copy has none of these, and no external or virtual storage, filter or
soft link either. It does not protect files that a user opens with Keras, nor the config: for that
Keras has to be 3.13.2 or later.
"""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xlstm.budget import Budget
from xlstm.errors import FileError, MissingFrameworkError
from xlstm.files.guards import MAX_TEXT, is_folder, open_regular, parse_json
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group, open_hdf5
from xlstm.files.keras.archive import open_weights
from xlstm.files.keras.folder import CONFIG, INDEX, METADATA, WEIGHTS, read_shards
from xlstm.files.keras.variables import DEEPEST
from xlstm.files.zips import find, member, open_zip
from xlstm.ir.types import Array

if TYPE_CHECKING:
    import h5py

LEFT_OUT = ("optimizer", "optimizer_weights", "metrics")
"""Groups of the root that Keras reads for training alone."""

MAX_INLINE = 64_000
"""Most bytes of a list of texts in an object's header; Keras splits longer ones."""


def clean_copy(path: Path, folder: Path) -> Path:
    """Writes the copy into an existing empty folder, with the file ending that Keras expects.

    Raises:
        FileError: a damaged or hostile file, or one that is not of Keras.
        MissingFrameworkError: h5py is not installed.
    """
    _h5py()
    budget = Budget()
    with ExitStack() as opened:
        if is_folder(path):
            return _folder(path, folder / "model", opened, budget)
        stream = opened.enter_context(open_regular(path))
        start = stream.read(4)
        if start == b"PK\x03\x04":
            return _archive(stream, path.name, folder / "model.keras", opened, budget)
        _hdf5(stream, path.name, folder / "model.h5", budget)
        return folder / "model.h5"


def _h5py() -> Any:
    """The library that writes HDF5, which the extra for Keras installs."""
    try:
        import h5py
    except ImportError as error:
        do = "pip install 'xlstm-converter[keras]'"
        raise MissingFrameworkError("a copy for Keras", "h5py", str(error), do) from None
    return h5py


def _folder(path: Path, target: Path, opened: ExitStack, budget: Budget) -> Path:
    target.mkdir()
    texts, weights = [path / CONFIG, path / METADATA], [path / WEIGHTS]
    if (path / INDEX).is_file():
        index, *weights = read_shards(path / INDEX, opened, budget).files
        texts.append(index)
    for file in texts:
        with open_regular(file) as stream:
            _json(stream.read(MAX_TEXT + 1), target / file.name, budget)
    for file in weights:
        stream = opened.enter_context(open_regular(file))
        _hdf5(stream, f"{path.name}, {file.name}", target / file.name, budget)
    return target


def _json(text: bytes, target: Path, budget: Budget) -> None:
    parse_json(text, target.name, budget)
    target.write_bytes(text)


def _archive(stream: BinaryIO, file: str, target: Path, opened: ExitStack, budget: Budget) -> Path:
    archive = open_zip(stream, file, opened, budget)
    weights, check = open_weights(archive, stream, file, budget)
    check()
    own = target.with_name(WEIGHTS)
    _hdf5(weights, f"{file}, {WEIGHTS}", own, budget)
    with zipfile.ZipFile(target, "w") as copy:
        for name in (METADATA, CONFIG):
            text = member(archive, find(archive, name, MAX_TEXT, file), f"{file}, {name}")
            parse_json(text, f"{file}, {name}", budget)
            copy.writestr(name, text)
        copy.write(own, WEIGHTS)
    own.unlink()
    return target


def _hdf5(stream: BinaryIO, where: str, target: Path, budget: Budget) -> None:
    """Copies the groups of a file that belong to its model."""
    root = open_hdf5(stream, where, budget)
    with _h5py().File(target, "w") as copy:
        _attributes(root, copy, where)
        todo = [(root, copy, name, 0) for name in root.names(where) if name not in LEFT_OUT]
        while todo:
            group, into, name, depth = todo.pop()
            if depth > DEEPEST:
                got = "groups nested too deeply"
                raise FileError(where, "weights of a model", got, "check the file")
            item = group.child(name, where)
            if isinstance(item, Dataset):
                _dataset(item, into, name, where)
            elif isinstance(item, Hdf5Group):
                below = into.create_group(name)
                _attributes(item, below, where)
                todo += [(item, below, inner, depth + 1) for inner in item.names(where)]


def _dataset(item: Dataset, into: h5py.Group, name: str, where: str) -> None:
    found = item.stored(name, where)
    array = found.load()
    made = into.create_dataset(name, data=_halves(array) if "bfloat16" in found.dtype else array)
    _attributes(item, made, where)


def _halves(array: Array) -> Array:
    """bfloat16 in Keras's form, two opaque bytes each, from float32 arrays of bfloat16 numbers."""
    bits = np.ascontiguousarray(array).view(np.uint32) >> 16
    return bits.astype(np.uint16).view("V2").reshape(array.shape)


def _attributes(item: Hdf5Group | Dataset, into: h5py.Group | h5py.Dataset, where: str) -> None:
    """Copies the attributes that are texts or lists of them; Keras writes no others."""
    for name, value in item.attributes(where):
        if name in ("training_config", "model_config"):
            parse_json(str(value), f"{where}, {name}", item.blocks.budget)
        if not isinstance(value, list):
            into.attrs[name] = value
        elif not value:
            into.attrs[name] = np.zeros(0)  # Keras's form of an empty list
        else:
            fixed = np.array([text.encode() for text in value])
            into.attrs[name] = fixed if fixed.nbytes <= MAX_INLINE else value
