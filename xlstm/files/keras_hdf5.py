"""Whole Keras models in one HDF5 file: `model.save("x.h5")` of Keras 1 to 3."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, BinaryIO

import h5py
import numpy as np

from xlstm.errors import FileError
from xlstm.files.description import Description, Stored
from xlstm.files.guards import as_object, as_text, parse_json
from xlstm.files.hdf5 import attribute, child, open_hdf5, stored, walk

SPLIT = 1_000
"""Most numbered pieces of an attribute that Keras split because of its length."""


def describe_hdf5(stream: BinaryIO, file: str, sha256: str, opened: ExitStack) -> Description:
    """Describes a whole-model HDF5 file.

    Raises:
        FileError: damaged, hostile, or not a whole Keras model.
    """
    root = open_hdf5(stream, file, opened)
    text = attribute(root, "model_config", file)
    group = child(root, "model_weights", file)
    if text is None or not isinstance(group, h5py.Group):
        raise FileError(
            file,
            "a whole Keras model (attribute model_config and group model_weights)",
            "HDF5 without them",
            "save the whole model with model.save(...)",
        )
    where = f"{file}, model_config"
    config = as_object(parse_json(as_text(text, file), where), where)
    return Description(
        framework="keras",
        version=_version(group, file),
        container="HDF5 whole model",
        file=file,
        sha256=sha256,
        config=config,
        weights=_weights(group, file),
        by_name=True,
        ignored=tuple(name for name in root if name != "model_weights"),
        opened=opened,
    )


def _version(group: h5py.Group, file: str) -> str:
    # Keras 1 writes no version on model_weights, and a root attribute that says 1.x;
    # Keras 2 and 3 read a missing one as "1".
    version = attribute(group, "keras_version", file)
    return "1" if version is None else as_text(version, file)


def _weights(group: h5py.Group, file: str) -> dict[str, tuple[Stored, ...]]:
    found = {}
    for layer in _names(group, "layer_names", file):
        below = walk(group, layer, file)
        if not isinstance(below, h5py.Group):
            raise FileError(file, f"weights of layer {layer}", "none", "save the model anew")
        found[layer] = tuple(
            _array(below, name, f"{file}, layer {layer}")
            for name in _names(below, "weight_names", file)
        )
    return found


def _array(group: h5py.Group, name: str, where: str) -> Stored:
    dataset = walk(group, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise FileError(where, f"weights {name}", "none", "save the model anew")
    return stored(dataset, name, where)


def _names(item: h5py.Group, name: str, where: str) -> list[str]:
    """A list of names, joined again where Keras split it into name0, name1, ..."""
    whole = attribute(item, name, where)
    if whole is not None:
        return _strings(whole, where)
    found: list[str] = []
    for number in range(SPLIT):
        part = attribute(item, f"{name}{number}", where)
        if part is None:
            break
        found += _strings(part, where)
    return found


def _strings(value: Any, where: str) -> list[str]:
    # Keras writes an empty list as an empty float array.
    found = [as_text(item, where) for item in np.ravel(value).tolist()]
    if len(set(found)) != len(found):
        raise FileError(where, "names that differ", ", ".join(found), "save the model anew")
    return found
