"""Architectures kept apart from weights: JSON or YAML of `model.to_json()` and `to_yaml()`."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from xlstm.budget import Budget
from xlstm.errors import FileError, UsageError
from xlstm.files.description import Description
from xlstm.files.guards import MAX_TEXT, as_object, as_text, check_data, open_regular, parse_json

MAX_YAML = 2**20
"""Largest YAML text: its parser is slow, and architectures are small."""

MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """Plain data only: no tags, no aliases (they can make a small file huge), no repeated keys."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.check_event(yaml.AliasEvent) or self.nodes > MAX_NODES:
            raise yaml.YAMLError("aliases, or too many values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        found = super().construct_mapping(node, deep=True)
        if len(found) != len(node.value):
            raise yaml.YAMLError("a key occurs twice")
        return found


def _tuple(loader: yaml.SafeLoader, node: Any) -> Any:
    return loader.construct_sequence(node, deep=True)


# Keras's own writer marks tuples this way; they are data like lists
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def parse_yaml(text: str, where: str) -> Any:
    """YAML as plain data.

    Raises:
        FileError: too large, not YAML, or anything but plain data.
    """
    if len(text) > MAX_YAML:
        raise FileError(where, f"at most {MAX_YAML} characters", len(text), "check the file")
    try:
        data = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader that takes even less
    except Exception as error:
        got = f"{type(error).__name__} ({error})"
        raise FileError(where, "JSON or YAML", got, "save the architecture anew") from None
    check_data(data, where)
    return data


def read_architecture(path: Path, budget: Budget) -> dict[str, Any]:
    """The config in a JSON or YAML file; JSON may be encoded twice, as some programs write it.

    Raises:
        FileError: unreadable, or no architecture.
    """
    with open_regular(path) as file:
        text = as_text(file.read(MAX_TEXT + 1), path.name).lstrip("\ufeff")
    if text.lstrip()[:1] in ("{", '"'):
        data = parse_json(text, path.name)
        data = parse_json(data, path.name) if isinstance(data, str) else data
    else:
        data = parse_yaml(text, path.name)
    config = as_object(data, path.name)
    if "class_name" not in config:
        want = "an architecture with class_name and config"
        raise FileError(path.name, want, ", ".join(map(str, config)), "save it with to_json()")
    return config


KERNEL_LAYOUTS = ("tensorflow", "theano")
"""Who laid out the kernels of convolutions: TensorFlow correlates, Theano convolves (flipped)."""


@dataclass(frozen=True)
class Told:
    """What the user says about a file that does not say it itself.

    Attributes:
        architecture: JSON or YAML of the architecture, for weights alone.
        keras_version: the Keras that wrote the file.
        kernel_layout: "tensorflow" or "theano", for convolutions of Keras 1.
        until: the layer that is the output of the part that is read, for models of Keras.
    """

    architecture: str | os.PathLike[str] | None = None
    keras_version: str | None = None
    kernel_layout: str | None = None
    until: str | None = None

    def given(self) -> list[str]:
        """Names of the options that were given."""
        return [name for name, value in vars(self).items() if value is not None]


def join(description: Description, told: Told) -> Description:
    """A description with what the user says of it; nothing may contradict the file.

    Raises:
        UsageError: an option that the file does not need or that contradicts it.
        FileError: an architecture that cannot be read.
    """
    if told.architecture is not None:
        description = _join_architecture(description, Path(told.architecture))
    description = _say(description, "version", told.keras_version, "keras_version")
    if told.kernel_layout not in (None, *KERNEL_LAYOUTS):
        want = " or ".join(KERNEL_LAYOUTS)
        raise UsageError("kernel_layout", want, repr(told.kernel_layout), "use one of these")
    return _say(description, "backend", told.kernel_layout, "kernel_layout")


def _join_architecture(description: Description, path: Path) -> Description:
    if description.config:
        want, do = "weights without an architecture", "leave out architecture="
        raise UsageError(description.file, want, description.container, do)
    config = read_architecture(path, description.budget)
    version = as_text(config.get("keras_version") or "", path.name)
    backend = as_text(config.get("backend") or "", path.name)
    return replace(
        description,
        config=config,
        version=version or description.version,
        backend=backend or description.backend,
    )


def _say(description: Description, field: str, told: str | None, option: str) -> Description:
    """Fills a field that the file leaves open; of versions the major one has to agree."""
    said = getattr(description, field)
    if told is None or not isinstance(told, str):
        return description
    if said and said.split(".")[0] != told.split(".")[0]:
        want, got = f"{said}, as the file says", f"{option}={told!r}"
        raise UsageError(description.file, want, got, f"leave out {option}=")
    change: dict[str, Any] = {field: told}
    return description if said else replace(description, **change)
