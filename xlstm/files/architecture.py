"""Architectures kept apart from weights: JSON or YAML of `model.to_json()` and `to_yaml()`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

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


def read_architecture(path: Path) -> dict[str, Any]:
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


def join(description: Description, path: Path | None, version: str | None) -> Description:
    """A weights-only file with its architecture, and with its version where that is asked for.

    Raises:
        UsageError: an option that the file does not need or that contradicts it.
        FileError: an architecture that cannot be read.
    """
    where = description.file
    if path is not None:
        if description.config:
            raise UsageError(
                where,
                "weights without an architecture",
                description.container,
                "leave out architecture=",
            )
        config = read_architecture(path)
        said = config.get("keras_version")
        description = replace(
            description,
            config=config,
            version=as_text(said, path.name) if said else description.version,
            backend=as_text(config.get("backend") or description.backend, path.name),
        )
    if version is None:
        return description
    if description.version and description.version.split(".")[0] != version.split(".")[0]:
        got = f"keras_version={version!r}"
        raise UsageError(
            where, f"Keras {description.version}, as the file says", got, "leave it out"
        )
    return description if description.version else replace(description, version=version)
