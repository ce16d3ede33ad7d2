"""Keras 3 models as folders, and weights split into shards; only fixed file names are opened."""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import h5py

from xlstm.errors import FileError
from xlstm.files.description import Description, Stored
from xlstm.files.guards import MAX_TEXT, as_object, as_text, open_regular, parse_json
from xlstm.files.hdf5 import open_hdf5, walk
from xlstm.files.keras_tree import Tree, numbered, read_tree

CONFIG, METADATA = "config.json", "metadata.json"
WEIGHTS, INDEX = "model.weights.h5", "model.weights.json"
SHARD = re.compile(r"[A-Za-z0-9_.-]+\.h5")
"""What a shard may be called: a bare file name."""

MAX_SHARDS = 1_000


def is_keras_folder(folder: Path) -> bool:
    """Whether a folder is what Keras 3 saves with `zipped=False`."""
    return (folder / CONFIG).is_file() and (folder / METADATA).is_file()


def describe_folder(folder: Path, opened: ExitStack) -> Description:
    """Describes an unzipped Keras 3 model, its weights whole or in shards.

    Raises:
        FileError: damaged, hostile, or incomplete.
    """
    config = _json(folder / CONFIG)
    metadata = _json(folder / METADATA)
    if (folder / INDEX).is_file():
        weights, step = read_shards(folder / INDEX, opened), 1
    else:
        stream = opened.enter_context(open_regular(folder / WEIGHTS))
        weights, step = read_tree(open_hdf5(stream, WEIGHTS, opened), f"{folder.name}, {WEIGHTS}")
    return Description(
        framework="keras",
        version=as_text(metadata.get("keras_version"), f"{folder.name}, keras_version"),
        container="unzipped .keras folder",
        file=folder.name,
        sha256=_digest([folder / CONFIG, folder / METADATA]),
        config=config,
        weights=weights,
        by_name=False,
        step=step,
        opened=opened,
    )


def _json(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        return as_object(parse_json(file.read(MAX_TEXT + 1), str(path)), str(path))


def _digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            total.update(hashlib.file_digest(cast(Any, file), "sha256").digest())
    return total.hexdigest()


def read_shards(index: Path, opened: ExitStack) -> Tree:
    """The tree of weights that a `*.weights.json` index spreads over files beside it.

    One group of variables may lie in several shards: number 0 in one, 1 and 2 in the next.

    Raises:
        FileError: an index that names other than bare files, or shards that do not fit it.
    """
    where = index.name
    spread = as_object(_json(index).get("weight_map"), where)
    roots: dict[str, h5py.File] = {}
    found: dict[str, tuple[Stored, ...]] = {}
    for path, names in spread.items():
        parts: dict[int, Stored] = {}
        for name in _shard_names(names, where):
            if name not in roots:
                stream = opened.enter_context(open_regular(index.with_name(name)))
                roots[name] = open_hdf5(stream, name, opened)
            group = walk(roots[name], path.strip("/"), name)
            parts |= numbered(group, f"{name}, {path}") if isinstance(group, h5py.Group) else {}
        if sorted(parts) != list(range(len(parts))) or not parts:
            raise FileError(where, f"all of {path}", sorted(parts), "keep the shards together")
        key = path.strip("/").removeprefix("layers/").removesuffix("/vars")
        found[key] = tuple(parts[number] for number in sorted(parts))
    return found


def _shard_names(names: Any, where: str) -> list[str]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or len(listed) > MAX_SHARDS:
        raise FileError(where, "a list of shards", type(names).__name__, "save the model anew")
    for name in listed:
        if not isinstance(name, str) or not SHARD.fullmatch(name):
            raise FileError(where, "bare file names of shards", name, "save the model anew")
    return listed


def describe_shards(index: Path, opened: ExitStack) -> Description:
    """Describes weights in shards, without an architecture."""
    return Description(
        framework="keras",
        version="",
        container="Keras weights in shards",
        file=index.name,
        sha256=_digest([index]),
        config={},
        weights=read_shards(index, opened),
        by_name=False,
        opened=opened,
    )
