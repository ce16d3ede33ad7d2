"""Reads SavedModel folders of Keras 2 without TensorFlow: metadata and checkpoint, not the graph.

In: a folder. Out: a `Description`. The metadata (`keras_metadata.pb`, before TensorFlow 2.5 a part
of `saved_model.pb`) has the config of every Keras object by its number. The checkpoint has a graph
of the same objects, whose lists of variables are in the order of Keras's HDF5 files.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description, Stored
from xlstm.files.guards import as_object, as_text, parse_json
from xlstm.files.hashes import of_open_files
from xlstm.files.keras.variables import VALUE, in_checkpoint
from xlstm.files.tensorflow.checkpoint import Bundle, open_bundle, open_file, read_whole
from xlstm.files.tensorflow.protobuf import ANEW, Message

METADATA, GRAPH = "keras_metadata.pb", "saved_model.pb"
"""The files of a SavedModel; the second is read only if the first is missing."""

MAX_GRAPH = 256 * 2**20
"""Largest `saved_model.pb` that is read."""

MAX_METADATA = 32 * 2**20
"""Largest `keras_metadata.pb`, or part of `saved_model.pb` that describes the same objects."""

MAX_LISTED = 1_000
"""Most members of the folder that are listed as not read."""

OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The tensor that is the graph of objects."""

IGNORED = {"/.OPTIMIZER_SLOT/": "optimizer", "optimizer/": "optimizer", "/metrics/": "metrics"}
"""Part of a key of training state -> its name in the list of ignored tensors."""


def is_savedmodel(folder: Path) -> bool:
    """True if a folder is a SavedModel, by the names in it."""
    return any(os.path.lexists(folder / name) for name in (METADATA, GRAPH))


def describe_savedmodel(folder: Path, opened: ExitStack, budget: Budget) -> Description:
    """Describes a SavedModel that Keras 2 wrote; its data files stay open until `opened` is closed.

    Raises:
        FileError: a folder that is missing, damaged, hostile, or without the metadata of Keras.
    """
    where = os.path.basename(os.path.abspath(folder)) or str(folder)
    metadata = _metadata(folder, where, opened, budget)
    root = metadata.json(0)
    bundle = open_bundle(folder / "variables", f"{where}, variables", opened, budget)
    graph = Message(bundle.string(OBJECTS), f"{where}, {OBJECTS}", budget)
    objects = _Objects(graph, metadata)
    read, weights = _weights(objects, bundle)
    return Description(
        framework="keras",
        version=as_text(root.get("keras_version"), f"{where}, keras_version"),
        container="SavedModel",
        file=where,
        digest=lambda: _digest([metadata.file, *bundle.files], where),
        config=_config(root, where),
        weights=weights,
        by_name=True,
        backend=as_text(root.get("backend", ""), f"{where}, backend"),
        optimizer=in_checkpoint(root.get("training_config"), bundle),
        ignored=tuple(_ignored(folder, metadata.name, bundle, read)),
        opened=opened,
        budget=budget,
    )


@dataclass(frozen=True)
class _Metadata:
    """The Keras objects of a SavedModel's metadata.

    Attributes:
        file: that it was read from.
        name: of that file.
        where: for messages.
        texts: number of an object -> JSON.
        paths: path of an object, `root.NAME` for one directly below the model -> its number.
        budget: limit of the cost of the folder.
    """

    file: BinaryIO
    name: str
    where: str
    texts: Mapping[int, memoryview]
    paths: Mapping[str, int]
    budget: Budget

    def json(self, number: int) -> dict[str, Any]:
        where = f"{self.where}, object {number}"
        if number not in self.texts:
            raise FileError(where, "the metadata of a Keras object", "none", ANEW)
        return as_object(parse_json(bytes(self.texts[number]), where, self.budget), where)


def _metadata(folder: Path, where: str, opened: ExitStack, budget: Budget) -> _Metadata:
    """The metadata, from the file that has it."""
    new = os.path.lexists(folder / METADATA)
    name = METADATA if new else GRAPH
    inside = f"{where}, {name}"
    file = open_file(folder / name, opened)
    data = read_whole(file, MAX_METADATA if new else MAX_GRAPH, inside)
    budget.spend("bytes", len(data), inside)
    message = Message(memoryview(data), inside, budget)
    texts, paths = _new_nodes(message) if new else _old_nodes(message)
    if 0 not in texts:
        raise FileError(
            where,
            "a SavedModel with the metadata of Keras 2",
            "a graph-only export (model.export() of Keras 3, or TensorFlow 2.16 and later)",
            "save the model itself with model.save(...) as .keras or .h5",
        )
    return _Metadata(file, name, inside, texts, paths, budget)


def _new_nodes(message: Message) -> tuple[dict[int, memoryview], dict[str, int]]:
    """Texts and paths of SavedMetadata."""
    texts: dict[int, memoryview] = {}
    paths: dict[str, int] = {}
    for node in message.messages(1):
        number, path = node.integer(2), node.text(3)
        if number in texts or path in paths:
            raise FileError(message.where, "every object once", f"{path} twice", ANEW)
        texts[number], paths[path] = node.data(5), number
    return texts, paths


def _old_nodes(message: Message) -> tuple[dict[int, memoryview], dict[str, int]]:
    """Texts of the Keras objects of SavedModel, and paths of those directly below the model."""
    texts: dict[int, memoryview] = {}
    paths: dict[str, int] = {}
    data = next(message.messages(2), message).data(7)
    if len(data) > MAX_METADATA:
        got = f"{len(data)} bytes"
        raise FileError(message.where, f"objects in at most {MAX_METADATA}", got, "check the file")
    graph = Message(data, message.where, message.budget)
    for number, node in enumerate(graph.messages(1)):
        user = node.message(4)
        if user.text(1).startswith("_tf_keras_") and user.has(3):
            texts[number] = user.data(3)
        if number == 0:
            paths = {f"root.{name}": child for name, child in _references(node)}
    return texts, paths


def _references(node: Message) -> Iterator[tuple[str, int]]:
    for child in node.messages(1):
        yield child.text(2), child.integer(1)


class _Objects:
    """The objects of a checkpoint, decoded on demand."""

    def __init__(self, graph: Message, metadata: _Metadata) -> None:
        self.where = graph.where
        self.metadata = metadata
        self._nodes = list(graph.each(1))
        self._children: dict[int, dict[str, int]] = {}
        self._variables: dict[int, tuple[str, str]] = {}
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Raises FileError unless checkpoint and metadata number their objects in the same way."""
        for name, number in self.children(0).items():
            known = self.metadata.paths.get(f"root.{name}", number)
            if known != number:
                got = f"{number} and {known}"
                raise FileError(f"{self.where}, {name}", "one number", got, ANEW)

    def node(self, number: int) -> Message:
        """An object by its number."""
        if number >= len(self._nodes):
            got = f"number {number}"
            raise FileError(self.where, f"one of {len(self._nodes)} objects", got, ANEW)
        return Message(self._nodes[number], self.where, self.metadata.budget)

    def children(self, number: int) -> dict[str, int]:
        """The objects that an object refers to, by name; cached, as lists are shared."""
        if number not in self._children:
            pairs = list(_references(self.node(number)))
            self._children[number] = dict(pairs)
            if len(self._children[number]) != len(pairs):
                raise FileError(self.where, "names that differ", f"object {number}", ANEW)
        self.metadata.budget.spend("nodes", len(self._children[number]) + 1, self.where)
        return self._children[number]

    def items(self, number: int) -> list[int]:
        """The items of an object that is a list."""
        found = self.children(number)
        numbered = {name for name in found if name.isascii() and name.isdecimal()}
        names = [str(place) for place in range(len(numbered))]
        if numbered != set(names):
            raise FileError(self.where, "items numbered 0, 1, ...", f"object {number}", ANEW)
        return [found[name] for name in names]

    def layers(self) -> list[int]:
        """The layers of the model."""
        api = self.children(0).get("keras_api")
        layers = None if api is None else self.children(api).get("layers")
        if layers is None:
            raise FileError(self.where, "a model with layers", "an object without", ANEW)
        return self.items(layers)

    def variables(self, number: int) -> list[int]:
        """The variables of a layer or model in the order of Keras's HDF5: trainable ones first."""
        found = self.children(number)
        if "trainable_variables" not in found:  # input layers and operations
            return []
        hidden = self.children(found["keras_api"]) if "keras_api" in found else {}
        if "non_trainable_variables" not in hidden:
            raise FileError(self.where, "lists of all variables", f"object {number}", ANEW)
        lists = found["trainable_variables"], hidden["non_trainable_variables"]
        return [variable for listed in lists for variable in self.items(listed)]

    def variable(self, number: int) -> tuple[str, str]:
        """Key in the index and full name of a variable."""
        if number not in self._variables:
            self._variables[number] = self._variable(number)
        return self._variables[number]

    def _variable(self, number: int) -> tuple[str, str]:
        attributes = list(self.node(number).messages(2))
        if len(attributes) != 1 or attributes[0].text(1) != "VARIABLE_VALUE":
            raise FileError(self.where, "a variable", f"object {number}", ANEW)
        name, key = attributes[0].text(2), attributes[0].text(3)
        if not name or not key:
            raise FileError(self.where, "a variable with a name", f"object {number}", ANEW)
        return key, name


def _weights(objects: _Objects, bundle: Bundle) -> tuple[set[str], dict[str, tuple[Stored, ...]]]:
    """Keys that are read, and the arrays of each layer that has some."""
    found: dict[str, tuple[Stored, ...]] = {}
    used: set[int] = set()
    keys: set[str] = set()
    for layer in objects.layers():
        if not (variables := objects.variables(layer)):
            continue
        used.update(variables)
        name = as_text(objects.metadata.json(layer).get("name"), f"{objects.where}, name")
        pairs = [objects.variable(number) for number in variables]
        if name in found or len({full for _, full in pairs}) != len(pairs):
            raise FileError(f"{objects.where}, layer {name}", "names that differ", name, ANEW)
        keys |= {key for key, _ in pairs}
        found[name] = tuple(bundle.stored(key, full) for key, full in pairs)
    for number in objects.variables(0):
        if number not in used:
            got = f"{objects.variable(number)[1]}, of the model itself"
            do = "save a Sequential or functional model; see docs/files.md"
            raise FileError(objects.where, "variables of layers", got, do)
    return keys, found


def _config(root: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Class and config of the model in the form of an HDF5 file."""
    found = {key: _plain(root.get(key)) for key in ("class_name", "config")}
    if not isinstance(found["class_name"], str) or not isinstance(found["config"], dict | list):
        got = f"{found['class_name']} without a config"
        do = "save a Sequential or functional model: a subclassed one has no config"
        raise FileError(where, "a model with a config", got, do)
    return found


def _plain(data: Any) -> Any:
    """JSON without the marks of SavedModels: tuples become lists, numbers of shared objects go."""
    if isinstance(data, list):
        return [_plain(item) for item in data]
    if not isinstance(data, dict):
        return data
    if data.get("class_name") == "__tuple__" and isinstance(data.get("items"), list):
        return [_plain(item) for item in data["items"]]
    return {key: _plain(item) for key, item in data.items() if key != "shared_object_id"}


def _digest(files: list[BinaryIO], where: str) -> str:
    """SHA-256 of the files one after the other."""
    try:
        return of_open_files(files)
    except OSError as error:
        raise FileError(where, "readable files", str(error), ANEW) from None


def _ignored(folder: Path, metadata: str, bundle: Bundle, read: set[str]) -> list[str]:
    """Names of all that was not read: files, and tensors of the checkpoint by kind or by key."""
    try:
        with os.scandir(folder) as entries:
            files = sorted(entry.name for entry in itertools.islice(entries, MAX_LISTED))
    except OSError as error:
        raise FileError(bundle.where, "a readable folder", str(error), ANEW) from None
    found = [name for name in files if name not in (metadata, "variables")]
    for key in bundle.entries:
        if key not in read and key != OBJECTS:
            kinds = (kind for part, kind in IGNORED.items() if part in key)
            found.append(next(kinds, key.removesuffix(VALUE)))
    return list(dict.fromkeys(found))
