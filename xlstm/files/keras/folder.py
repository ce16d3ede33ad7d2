"""Reads Keras 3 models in folders, and weights in shards; only fixed file names are opened.

In: a folder, or the path of an index of shards. Out: a `Description`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from xlstm.budget import Budget
from xlstm.errors import FileError, kind_in_words
from xlstm.files.description import Description, Stored
from xlstm.files.guards import MAX_TEXT, as_object, as_text, open_regular, parse_json
from xlstm.files.hdf5.datasets import Hdf5Group, open_hdf5
from xlstm.files.keras.variables import Tree, add, in_tree, kind_of, numbered, read_tree
from xlstm.ir.source import Optimizer, optimizer_of
from xlstm.ir.types import Shape

CONFIG, METADATA = "config.json", "metadata.json"
WEIGHTS, INDEX = "model.weights.h5", "model.weights.json"
SHARD = re.compile(r"[A-Za-z0-9_.-]+\.h5")
"""The names that a shard may have: bare file names."""

MAX_SHARDS = 1_000


def is_keras_folder(folder: Path) -> bool:
    """True if a folder is one that Keras 3 saves with `zipped=False`."""
    return (folder / CONFIG).is_file() and (folder / METADATA).is_file()


def describe_folder(folder: Path, opened: ExitStack, budget: Budget) -> Description:
    """Describes an unzipped Keras 3 model, its weights whole or in shards.

    Raises:
        FileError: a damaged, hostile or incomplete folder.
    """
    config = _json(folder / CONFIG, budget)
    metadata = _json(folder / METADATA, budget)
    weights, step, optimizer, files = _weights(folder, config, opened, budget)
    return Description(
        framework="keras",
        version=as_text(metadata.get("keras_version"), f"{folder.name}, keras_version"),
        container="unzipped .keras folder",
        file=folder.name,
        digest=lambda: _digest([folder / CONFIG, folder / METADATA, *files]),
        config=config,
        weights=weights,
        by_name=False,
        step=step,
        optimizer=optimizer,
        opened=opened,
        budget=budget,
    )


def _weights(
    folder: Path, config: Mapping[str, Any], opened: ExitStack, budget: Budget
) -> tuple[Tree, int, Optimizer | None, tuple[Path, ...]]:
    """The weights, the step of their numbers, the optimizer's shapes, and the files of all."""
    if (folder / INDEX).is_file():
        spread = read_shards(folder / INDEX, opened, budget)
        return spread.weights, 1, optimizer_of(kind_of(config), spread.optimizer), spread.files
    stream = opened.enter_context(open_regular(folder / WEIGHTS))
    root, where = open_hdf5(stream, WEIGHTS, budget), f"{folder.name}, {WEIGHTS}"
    return *read_tree(root, where), in_tree(root, config, where), (folder / WEIGHTS,)


def _json(path: Path, budget: Budget) -> dict[str, Any]:
    with open_regular(path) as file:
        return as_object(parse_json(file.read(MAX_TEXT + 1), str(path), budget), str(path))


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            total.update(hashlib.file_digest(cast(Any, file), "sha256").digest())
    return total.hexdigest()


@dataclass(frozen=True)
class Spread:
    """Weights in several files that an index beside them lists.

    Attributes:
        weights: of the model's layers.
        optimizer: shapes of the optimizer's variables.
        files: the index, and all files that it names.
    """

    weights: Tree
    optimizer: tuple[Shape, ...]
    files: tuple[Path, ...]


def read_shards(index: Path, opened: ExitStack, budget: Budget) -> Spread:
    """The tree of weights in the shards that a `*.weights.json` index lists.

    One group of variables may be in several shards: number 0 in one, 1 and 2 in the next.

    Raises:
        FileError: an index that names other than bare files, or shards that do not fit it.
    """
    where = index.name
    spread = as_object(_json(index, budget).get("weight_map"), where)
    roots: dict[str, Hdf5Group] = {}
    found: dict[str, tuple[Stored, ...]] = {}
    for path, names in spread.items():
        parts: dict[int, Stored] = {}
        for name in _shard_names(names, where):
            if name not in roots:
                stream = opened.enter_context(open_regular(index.with_name(name)))
                roots[name] = open_hdf5(stream, name, budget)
            group = roots[name].walk(path.strip("/"), name)
            parts |= numbered(group, f"{name}, {path}") if isinstance(group, Hdf5Group) else {}
        if sorted(parts) != list(range(len(parts))) or not parts:
            raise FileError(where, f"all of {path}", sorted(parts), "keep the shards together")
        owner = path.strip("/").removesuffix("/vars")
        add(found, {owner: tuple(parts[n] for n in sorted(parts))}, where)
    shapes = tuple(array.shape for array in found.get("optimizer", ()))
    weights = {
        path.removeprefix("layers/"): arrays
        for path, arrays in found.items()
        if path.split("/")[0] != "optimizer"
    }
    return Spread(weights, shapes, (index, *map(index.with_name, roots)))


def _shard_names(names: Any, where: str) -> list[str]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or len(listed) > MAX_SHARDS:
        raise FileError(where, "a list of shards", kind_in_words(names), "save the model again")
    for name in listed:
        if not isinstance(name, str) or not SHARD.fullmatch(name):
            raise FileError(where, "bare file names of shards", name, "save the model again")
    return listed


def describe_shards(index: Path, opened: ExitStack, budget: Budget) -> Description:
    """Describes weights in shards, without an architecture."""
    spread = read_shards(index, opened, budget)
    return Description(
        framework="keras",
        version="",
        container="Keras weights in shards",
        file=index.name,
        digest=lambda: _digest(spread.files),
        config={},
        weights=spread.weights,
        by_name=False,
        optimizer=optimizer_of(None, spread.optimizer),
        opened=opened,
        budget=budget,
    )
