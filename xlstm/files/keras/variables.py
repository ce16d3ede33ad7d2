"""Reads the tree of variables in new Keras weights: model.weights.h5, *.weights.h5 (from 2.12).

In: the root group of a file. Out: path of a layer -> its arrays, in order.
"""

from __future__ import annotations

from collections.abc import Mapping

from xlstm.errors import FileError
from xlstm.files.description import Stored
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group

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
        raise FileError(where, "weights in one root group", got, "save the model anew")
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
        raise FileError(where, "one group for each path", got, "save the model anew")
    found.update(more)


def variables(group: Hdf5Group, path: str, where: str) -> dict[str, tuple[Stored, ...]]:
    """The numbered arrays of one `vars` group under its layer's path; empty for none."""
    ordered = numbered(group, f"{where}, {path}")
    if list(ordered) != list(range(len(ordered))):
        got = ", ".join(map(str, ordered))
        raise FileError(f"{where}, {path}", "arrays numbered 0, 1, ...", got, "save the model anew")
    return {path: tuple(ordered.values())} if ordered else {}


def numbered(group: Hdf5Group, where: str) -> dict[int, Stored]:
    """The arrays of a `vars` group by number, in numeric order ("10" after "2")."""
    arrays = {name: item for name, item in group.members(where) if isinstance(item, Dataset)}
    if not all(name.isdecimal() and name.isascii() for name in arrays):
        raise FileError(where, "numbered arrays", sorted(arrays), "save the model anew")
    return {int(name): arrays[name].stored(name, where) for name in sorted(arrays, key=int)}
