"""The tree of variables in new Keras weights: model.weights.h5, *.weights.h5 (Keras 2.12 on)."""

from __future__ import annotations

from collections.abc import Mapping

import h5py

from xlstm.errors import FileError
from xlstm.files.description import Stored
from xlstm.files.hdf5 import child, members, stored

ROOTS = {"layers": 1, "_layer_checkpoint_dependencies": 2}
"""Root group -> how far the number in a layer's group advances for a layer with weights. Keras 2.12
(the second) visits such a layer twice."""

MAX_GROUPS = 20_000
"""Most groups below the root, counted once for every path that leads to them."""

DEEPEST = 32
"""Deepest path below the root."""

Tree = Mapping[str, tuple[Stored, ...]]


def is_tree(root: h5py.File, where: str) -> bool:
    """Whether a file holds new Keras weights."""
    return any(child(root, name, where) is not None for name in ROOTS)


def read_tree(root: h5py.File, where: str) -> tuple[Tree, int]:
    """Path below the root group -> the arrays of its `vars`, in order; and the step of the numbers.

    Files written on Windows may have whole paths with backslashes for names.

    Raises:
        FileError: a hostile or damaged tree.
    """
    for name, step in ROOTS.items():
        group = child(root, name, where)
        if isinstance(group, h5py.Group):
            return tree_below(group, where), step
    return {}, 1


def tree_below(start: h5py.Group, where: str) -> Tree:
    """Path below a group -> the arrays of its `vars`, in order.

    Raises:
        FileError: a hostile or damaged tree.
    """
    found: dict[str, tuple[Stored, ...]] = {}
    todo, seen = [("", start)], 0
    while todo:
        path, group = todo.pop()
        seen += 1
        if path.count("/") > DEEPEST or seen > MAX_GROUPS:
            got = "groups nested too deeply"
            raise FileError(where, "weights of a model", got, "check the file")
        for name, item in members(group, where):
            below = f"{path}/{name}".replace("\\", "/").strip("/")
            if isinstance(item, h5py.Group) and below.split("/")[-1] == "vars":
                found |= variables(item, below.rpartition("/")[0], where)
            elif isinstance(item, h5py.Group):
                todo.append((below, item))
    return found


def variables(group: h5py.Group, path: str, where: str) -> dict[str, tuple[Stored, ...]]:
    """The numbered arrays of one `vars` group under its layer's path; empty for none."""
    ordered = numbered(group, f"{where}, {path}")
    if list(ordered) != list(range(len(ordered))):
        got = ", ".join(map(str, ordered))
        raise FileError(f"{where}, {path}", "arrays numbered 0, 1, ...", got, "save the model anew")
    return {path: tuple(ordered.values())} if ordered else {}


def numbered(group: h5py.Group, where: str) -> dict[int, Stored]:
    """The arrays of a `vars` group by number, in numeric order ("10" after "2")."""
    arrays = {name: item for name, item in members(group, where) if isinstance(item, h5py.Dataset)}
    if not all(name.isdecimal() and name.isascii() for name in arrays):
        raise FileError(where, "numbered arrays", sorted(arrays), "save the model anew")
    return {int(name): stored(arrays[name], name, where) for name in sorted(arrays, key=int)}
