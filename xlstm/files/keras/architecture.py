"""Reads architectures from other files than the weights: JSON, YAML, or a whole model.

In: a path. Out: an `Architecture`, which `join` adds to the description of the weights.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError, UsageError
from xlstm.files.description import Architecture, Description
from xlstm.files.detect import READERS, describe
from xlstm.files.guards import MAX_TEXT, is_folder, open_regular
from xlstm.files.keras.architecture_text import WANT, parse_architecture


def read_architecture(path: Path, budget: Budget) -> Architecture:
    """The architecture in a JSON or YAML file, or in a file or folder of a whole model.

    The file may contain a text of JSON or YAML inside JSON or YAML, as of
    `json.dump(model.to_json(), file)` and `yaml.dump(model.to_yaml(), file)`.

    Raises:
        FileError: an unreadable file, or one without an architecture.
    """
    if is_folder(path):
        return _of_model(path, budget)
    with open_regular(path) as file:
        if file.read(16).startswith(tuple(READERS)):
            return _of_model(path, budget)
        file.seek(0)
        return parse_architecture(file.read(MAX_TEXT + 1), path.name, budget)


START = re.compile(rb"\s*(\{|\"|[a-z_]+:)")
"""First bytes of an architecture, after a mark of UTF-8: JSON, or YAML of Keras's words."""


def describe_alone(path: Path, budget: Budget | None = None) -> Description | None:
    """The description of an architecture without weights, None for other files.

    Args:
        path: a file or a folder.
        budget: limit of the cost of reading it; a new one if None.

    Raises:
        FileError: an unreadable file.
    """
    if is_folder(path):
        return None
    with open_regular(path) as file:
        if not START.match(file.read(64).removeprefix(codecs.BOM_UTF8)):
            return None
    budget = budget or Budget()
    try:
        found = read_architecture(path, budget)
    except FileError:
        return None  # the reader of models raises the error
    what, where = f"architecture alone ({found.container})", path.name
    bare = Description("keras", found.version, what, where, str, found.config, {}, by_name=True)
    return replace(bare, backend=found.backend, alone=True, budget=budget)


def _of_model(path: Path, budget: Budget) -> Architecture:
    """The architecture of a whole model, without reading its weights."""
    with contextlib.closing(describe(path, budget)) as whole:
        if not whole.config:
            raise FileError(path.name, WANT, whole.container, "give the file that has it")
        return Architecture(whole.config, whole.file, whole.container, whole.version, whole.backend)


KERNEL_LAYOUTS = ("tensorflow", "theano")
"""Order of convolution kernels: TensorFlow correlates, Theano convolves (flipped)."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of the user for facts that a file does not contain.

    Attributes:
        architecture: for weights alone: JSON or YAML of the architecture, or a whole model.
        keras_version: version of the Keras that wrote the file.
        kernel_layout: "tensorflow" or "theano", for convolutions of Keras 1.
        until: the layer that is the output of the part that is read, for models of Keras.
    """

    architecture: str | os.PathLike[str] | None = None
    keras_version: str | None = None
    kernel_layout: str | None = None
    until: str | None = None

    def names(self) -> list[str]:
        """Names of the options that the user has set."""
        return [name for name, value in vars(self).items() if value is not None]


def join(description: Description, options: ReadOptions) -> Description:
    """A description with the options of the user, which must not contradict the file.

    Raises:
        UsageError: an option that the file does not need or that contradicts it.
        FileError: an architecture that cannot be read.
    """
    if options.architecture is not None:
        description = _join_architecture(
            description, Path(options.architecture), options.keras_version
        )
    description = _say(description, "version", options.keras_version, "keras_version")
    if options.kernel_layout not in (None, *KERNEL_LAYOUTS):
        want = " or ".join(KERNEL_LAYOUTS)
        raise UsageError("kernel_layout", want, repr(options.kernel_layout), "use one of these")
    return _say(description, "backend", options.kernel_layout, "kernel_layout")


def _join_architecture(description: Description, path: Path, version: str | None) -> Description:
    if description.config:
        want, do = "weights without an architecture", "call it without architecture="
        raise UsageError(description.file, want, description.container, do)
    found = read_architecture(path, description.budget)
    return replace(
        description,
        config=found.config,
        # the weights may be of another version of Keras than the architecture
        version=found.version or version or description.version,
        architecture=found,
        weights_version=description.version,
    )


def _say(description: Description, field: str, value: str | None, option: str) -> Description:
    """Fills a field that is missing in the file; the major version must agree."""
    present = getattr(description, field)
    if value is None or not isinstance(value, str):
        return description
    if present and present.split(".")[0] != value.split(".")[0]:
        want, got = f"{present}, as the file says", f"{option}={value!r}"
        raise UsageError(description.file, want, got, f"call it without {option}=")
    change: dict[str, Any] = {field: value}
    return description if present else replace(description, **change)
