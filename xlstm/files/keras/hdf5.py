"""Reads HDF5 of Keras 1 to 3: whole models of `model.save("x.h5")`, and weights alone.

In: a stream. Out: a `Description`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, BinaryIO

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description, Digest, Stored
from xlstm.files.guards import as_object, parse_json
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group, open_hdf5
from xlstm.files.keras.variables import ROOTS, in_tree, in_whole, is_below, is_tree, read_tree


def describe_hdf5(
    stream: BinaryIO, file: str, digest: Digest, opened: ExitStack, budget: Budget
) -> Description:
    """Describes HDF5 of Keras: a whole model, or weights alone in the old or the new form.

    Raises:
        FileError: a damaged or hostile file, or one that is not of Keras.
    """
    root = open_hdf5(stream, file, budget)
    found = _whole(root, file, budget) or _old_weights(root, file) or _new_weights(root, file)
    if found is None:
        raise FileError(
            file,
            "HDF5 of Keras (model_config and model_weights, layer_names, or layers)",
            "HDF5 without them",
            "save the whole model with model.save(...)",
        )
    return Description(
        framework="keras", file=file, digest=digest, opened=opened, budget=budget, **found
    )


def _whole(root: Hdf5Group, file: str, budget: Budget) -> dict[str, Any] | None:
    """Fields of the description of a whole model; None for other files."""
    group = root.child("model_weights", file)
    if not isinstance(group, Hdf5Group) or not root.has("model_config"):
        return None
    return {
        "version": _version(root, group, file),
        "container": "HDF5 whole model",
        "config": _config(root, file, budget),
        "weights": _weights(group, file),
        "by_name": True,
        "backend": _text(group, "backend", file),
        "optimizer": in_whole(root, file, budget),
        "ignored": tuple(name for name in root.names(file) if name != "model_weights"),
    }


def _old_weights(root: Hdf5Group, file: str) -> dict[str, Any] | None:
    """Fields of the description of weights alone in the old form; None for other files."""
    if not _has_names(root, "layer_names"):
        return None
    return {
        "version": _text(root, "keras_version", file),
        "container": "HDF5 weights alone (old form)",
        "config": {},
        "weights": _weights(root, file),
        "by_name": True,
        "backend": _text(root, "backend", file),
    }


def _new_weights(root: Hdf5Group, file: str) -> dict[str, Any] | None:
    """Fields of the description of weights alone in the new form; None for other files."""
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
        "ignored": tuple(name for name in root.names(file) if not is_below(name, *ROOTS)),
    }


def _config(root: Hdf5Group, file: str, budget: Budget) -> dict[str, Any]:
    where = f"{file}, model_config"
    return as_object(parse_json(root.text("model_config", file) or "", where, budget), where)


def _text(item: Hdf5Group, name: str, file: str) -> str:
    return item.text(name, file) or ""


def _has_names(item: Hdf5Group, name: str) -> bool:
    return item.has(name) or item.has(f"{name}0")


def _version(root: Hdf5Group, group: Hdf5Group, file: str) -> str:
    # Keras 1 writes none on model_weights, and one at the root since 1.1; without any, the names of
    # the options prove the version
    return _text(group, "keras_version", file) or _text(root, "keras_version", file)


def _weights(group: Hdf5Group, file: str) -> dict[str, tuple[Stored, ...]]:
    found = {}
    layers = group.texts("layer_names", file)
    if len(set(layers)) != len(layers):
        got = ", ".join(layers)
        raise FileError(file, "layers of names that differ", got, "save the model again")
    for layer in layers:
        below = group.walk(layer, file)
        if not isinstance(below, Hdf5Group):
            raise FileError(file, f"weights of layer {layer}", "none", "save the model again")
        found[layer] = tuple(
            _array(below, name, f"{file}, layer {layer}")
            for name in below.texts("weight_names", file)
        )
    return found


def _array(group: Hdf5Group, name: str, where: str) -> Stored:
    dataset = group.walk(name, where)
    if not isinstance(dataset, Dataset):
        raise FileError(where, f"weights {name}", "none", "save the model again")
    return dataset.stored(name, where)
