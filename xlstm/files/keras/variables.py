"""Reads the tree of variables in new Keras weights: model.weights.h5, *.weights.h5 (from 2.12).

In: the root group of a file. Out: path of a layer -> its arrays, in order.

Beside them, an optimizer's kind and the shapes of its variables, from headers alone: no value is
loaded. An optimizer that cannot be read is left out, and the model is read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Stored
from xlstm.files.guards import parse_json
from xlstm.files.hdf5.blocks import MAX_LINKS
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group
from xlstm.files.tensorflow.checkpoint import Bundle
from xlstm.ir.source import Optimizer, optimizer_of
from xlstm.ir.types import Shape

ROOTS = {"layers": 1, "_layer_checkpoint_dependencies": 2}
"""Root group -> increment of the number in a group's name for a layer with weights. Keras 2.12 (the
second) visits such a layer twice."""

MAX_GROUPS = 20_000
"""Most groups below the root, counted once for every path to them."""

DEEPEST = 33
"""Most slashes in a path from the root."""

Tree = Mapping[str, tuple[Stored, ...]]


def is_tree(root: Hdf5Group, where: str) -> bool:
    """True if a file holds new Keras weights."""
    return any(is_below(name, *ROOTS) for name in root.names(where))


def is_below(name: str, *groups: str) -> bool:
    r"""True if a member of the root is one of these groups, or lies below one.

    Keras 2.12 and 2.13 joined paths with the separator of the system. On Windows, the root has
    members such as `layers\lstm\cell`, each with its own `vars`.

    >>> is_below("layers", "layers"), is_below(r"layers\lstm\cell", "layers")
    (True, True)
    """
    return name.replace("\\", "/").split("/")[0] in groups


def read_tree(root: Hdf5Group, where: str) -> tuple[Tree, int]:
    """Path below the root group -> the arrays of its `vars`, in order; and the step of the numbers.

    Raises:
        FileError: a hostile or damaged tree.
    """
    trees = {name: tree_below(root, name, where) for name in ROOTS}
    found = {name: tree for name, tree in trees.items() if tree}
    if len(found) > 1:
        got = " and ".join(found)
        raise FileError(where, "weights in one root group", got, "save the model again")
    return next(((tree, ROOTS[name]) for name, tree in found.items()), ({}, 1))


def tree_below(root: Hdf5Group, start: str, where: str) -> Tree:
    """Path below a group of the root -> the arrays of its `vars`, in order; {} for no group.

    Raises:
        FileError: a hostile or damaged tree, or two groups for one path.
    """
    found: dict[str, tuple[Stored, ...]] = {}
    todo, seen = [("", root)], 0
    while todo:
        path, group = todo.pop()
        seen += 1
        if path.count("/") > DEEPEST or seen > MAX_GROUPS:
            got = "groups nested too deeply"
            raise FileError(where, "weights of a model", got, "check the file")
        for name in group.names(where):
            below = f"{path}/{name}".replace("\\", "/").strip("/")
            group.blocks.budget.spend("characters", len(below), where)
            item = group.child(name, where) if is_below(below, start) else None
            if isinstance(item, Hdf5Group) and below.split("/")[-1] == "vars":
                owner = below.removeprefix(start).rpartition("/")[0].strip("/")
                add(found, variables(item, owner, where), where)
            elif isinstance(item, Hdf5Group):
                todo.append((below, item))
    return found


def add(found: dict[str, tuple[Stored, ...]], more: Tree, where: str) -> None:
    """Adds the arrays of one path.

    Raises:
        FileError: a path that has arrays already, from two names that differ in slashes.
    """
    if twice := sorted(found.keys() & more.keys()):
        got = f"two groups for {twice[0]}"
        raise FileError(where, "one group for each path", got, "save the model again")
    found.update(more)


def variables(group: Hdf5Group, path: str, where: str) -> dict[str, tuple[Stored, ...]]:
    """The numbered arrays of one `vars` group under its layer's path; empty for none."""
    ordered = numbered(group, f"{where}, {path}")
    if list(ordered) != list(range(len(ordered))):
        got = ", ".join(map(str, ordered))
        raise FileError(f"{where}, {path}", "arrays numbered 0, 1, ...", got, "save it again")
    return {path: tuple(ordered.values())} if ordered else {}


def numbered(group: Hdf5Group, where: str) -> dict[int, Stored]:
    """The arrays of a `vars` group by number, in numeric order ("10" after "2")."""
    arrays = {name: item for name, item in group.members(where) if isinstance(item, Dataset)}
    if not all(name.isdecimal() and name.isascii() for name in arrays):
        raise FileError(where, "numbered arrays", sorted(arrays), "save the model again")
    return {int(name): arrays[name].stored(name, where) for name in sorted(arrays, key=int)}


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
        members = [(name, group.walk(name, where)) for name in listed]
        return [x.stored(name, where).shape for name, x in members if isinstance(x, Dataset)]

    return _optimizer(_trained(root, where, budget), shapes)


def _trained(root: Hdf5Group, where: str, budget: Budget) -> object:
    try:
        config = parse_json(root.text("training_config", where) or "", where, budget)
    except FileError:
        return None
    return kind_in(config)


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


def _kind(value: object) -> object:
    name = value.get("class_name") if isinstance(value, Mapping) else value
    return name.rpartition(">")[2] if isinstance(name, str) else None  # "Custom>Adam"


def _optimizer(kind: object, shapes: Callable[[], list[Shape]]) -> Optimizer | None:
    try:
        return optimizer_of(kind, shapes())
    except FileError:
        return None
