"""HDF5 of Keras: whole models of `model.save("x.h5")`, Keras 1 to 3, and weights alone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, BinaryIO

import h5py

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description, Stored
from xlstm.files.guards import as_object, as_text, parse_json
from xlstm.files.hdf5 import attribute, child, names, open_hdf5, stored, texts, walk
from xlstm.files.keras_tree import ROOTS, is_below, is_tree, read_tree
from xlstm.files.optimizer import in_tree, in_whole


def describe_hdf5(
    stream: BinaryIO, file: str, sha256: str, opened: ExitStack, budget: Budget
) -> Description:
    """Describes HDF5 of Keras: a whole model, or weights alone in the old or the new form.

    Raises:
        FileError: damaged, hostile, or not of Keras.
    """
    root = open_hdf5(stream, file, opened)
    found = _whole(root, file) or _old_weights(root, file) or _new_weights(root, file)
    if found is None:
        raise FileError(
            file,
            "HDF5 of Keras (model_config and model_weights, layer_names, or layers)",
            "HDF5 without them",
            "save the whole model with model.save(...)",
        )
    return Description(
        framework="keras", file=file, sha256=sha256, opened=opened, budget=budget, **found
    )


def _whole(root: h5py.File, file: str) -> dict[str, Any] | None:
    """What a whole model says; None for other files."""
    group = child(root, "model_weights", file)
    if not isinstance(group, h5py.Group) or attribute(root, "model_config", file) is None:
        return None
    return {
        "version": _version(root, group, file),
        "container": "HDF5 whole model",
        "config": _config(root, file),
        "weights": _weights(group, file),
        "by_name": True,
        "backend": _text(group, "backend", file),
        "optimizer": in_whole(root, file),
        "ignored": tuple(name for name in names(root, file) if name != "model_weights"),
    }


def _old_weights(root: h5py.File, file: str) -> dict[str, Any] | None:
    """What weights alone in the old form say; None for other files."""
    if not _has_names(root, "layer_names", file):
        return None
    return {
        "version": _text(root, "keras_version", file),
        "container": "HDF5 weights alone (old form)",
        "config": {},
        "weights": _weights(root, file),
        "by_name": True,
        "backend": _text(root, "backend", file),
    }


def _new_weights(root: h5py.File, file: str) -> dict[str, Any] | None:
    """What weights alone in the new form say; None for other files."""
    if not is_tree(root, file):
        return None
    tree, step = read_tree(root, file)
    return {
        "version": "",
        "container": "HDF5 weights alone (new form)",
        "config": {},
        "weights": tree,
        "by_name": False,
        "step": step,
        "optimizer": in_tree(root, {}, file),
        "ignored": tuple(name for name in names(root, file) if not is_below(name, *ROOTS)),
    }


def _config(root: h5py.File, file: str) -> dict[str, Any]:
    where = f"{file}, model_config"
    return as_object(parse_json(as_text(attribute(root, "model_config", file), file), where), where)


def _text(item: h5py.Group, name: str, file: str) -> str:
    value = attribute(item, name, file)
    return "" if value is None else as_text(value, f"{file}, {name}")


def _has_names(item: h5py.Group, name: str, file: str) -> bool:
    return any(attribute(item, key, file) is not None for key in (name, f"{name}0"))


def _version(root: h5py.File, group: h5py.Group, file: str) -> str:
    # Keras 1 writes none on model_weights, and one at the root since 1.1; the words of its options
    # prove it where there is none at all
    return _text(group, "keras_version", file) or _text(root, "keras_version", file)


def _weights(group: h5py.Group, file: str) -> dict[str, tuple[Stored, ...]]:
    found = {}
    layers = texts(group, "layer_names", file)
    if len(set(layers)) != len(layers):
        got = ", ".join(layers)
        raise FileError(file, "layers of names that differ", got, "save the model anew")
    for layer in layers:
        below = walk(group, layer, file)
        if not isinstance(below, h5py.Group):
            raise FileError(file, f"weights of layer {layer}", "none", "save the model anew")
        found[layer] = tuple(
            _array(below, name, f"{file}, layer {layer}")
            for name in texts(below, "weight_names", file)
        )
    return found


def _array(group: h5py.Group, name: str, where: str) -> Stored:
    dataset = walk(group, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise FileError(where, f"weights {name}", "none", "save the model anew")
    return stored(dataset, name, where)
