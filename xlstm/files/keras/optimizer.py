"""Reads an optimizer's kind and the shapes of its variables, from headers of files alone.

No value is loaded. An optimizer that cannot be read is left out, and the model is read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.guards import parse_json
from xlstm.files.hdf5.blocks import MAX_LINKS
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group
from xlstm.files.keras.variables import tree_below
from xlstm.files.tensorflow.checkpoint import Bundle
from xlstm.ir.source import Optimizer, optimizer_of
from xlstm.ir.types import Shape

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""The end of the key of a variable in a checkpoint."""


def in_tree(root: Hdf5Group, config: Mapping[str, Any], where: str) -> Optimizer | None:
    """The optimizer beside new Keras weights; its kind is in the config of the whole model."""

    def shapes() -> list[Shape]:
        below = tree_below(root, "optimizer", where)
        # an optimizer that wraps another one lists that one's variables as well
        return [array.shape for array in below.get("", ())]

    return _optimizer(kind_of(config), shapes)


def kind_of(config: Mapping[str, Any]) -> object:
    """The optimizer's class in the config of a model of Keras 3."""
    compiled = config.get("compile_config")
    return _kind(compiled.get("optimizer")) if isinstance(compiled, Mapping) else None


def in_whole(root: Hdf5Group, where: str, budget: Budget) -> Optimizer | None:
    """The optimizer in a whole model of old HDF5."""

    def shapes() -> list[Shape]:
        group = root.child("optimizer_weights", where)
        if not isinstance(group, Hdf5Group):
            return []
        listed = group.texts("weight_names", where)
        if len(listed) > MAX_LINKS:
            got = f"{len(listed)}"
            raise FileError(where, f"at most {MAX_LINKS} variables", got, "check the file")
        held = [(name, group.walk(name, where)) for name in listed]
        return [x.stored(name, where).shape for name, x in held if isinstance(x, Dataset)]

    return _optimizer(_trained(root, where, budget), shapes)


def _trained(root: Hdf5Group, where: str, budget: Budget) -> object:
    try:
        said = parse_json(root.text("training_config", where) or "", where, budget)
    except FileError:
        return None
    return kind_in(said)


def kind_in(training_config: object) -> object:
    """The optimizer's class in a training config of Keras 1 or 2."""
    if not isinstance(training_config, Mapping):
        return None
    return _kind(training_config.get("optimizer_config"))


def in_checkpoint(training_config: object, bundle: Bundle) -> Optimizer | None:
    """The optimizer in a checkpoint of TensorFlow; the metadata beside it has its config."""
    # rates such as optimizer/beta_1 are variables there; Keras does not count them
    keys = [key for key in bundle.entries if is_optimizers(key) and not _is_rate(key)]
    kind = kind_in(training_config)
    return _optimizer(kind, lambda: [bundle.stored(key, key).shape for key in keys])


def is_optimizers(key: str) -> bool:
    """True if a variable of a checkpoint belongs to the optimizer."""
    return key.startswith("optimizer/") or "/.OPTIMIZER_SLOT/" in key


def _is_rate(key: str) -> bool:
    owner, _, name = key.removesuffix(VALUE).rpartition("/")
    return owner == "optimizer" and name not in ("iter", "_iterations")


def _kind(said: object) -> object:
    name = said.get("class_name") if isinstance(said, Mapping) else said
    return name.rpartition(">")[2] if isinstance(name, str) else None  # "Custom>Adam"


def _optimizer(kind: object, shapes: Callable[[], list[Shape]]) -> Optimizer | None:
    try:
        return optimizer_of(kind, shapes())
    except FileError:
        return None
