"""Parses architectures: JSON and YAML, the results of Keras's `to_json` and `to_yaml`.

parse_architecture('{"class_name": "Sequential", "config": []}', "a.json", Budget()).container
"JSON"
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from xlstm.budget import Budget
from xlstm.errors import FileError, kind_in_words
from xlstm.files.description import Architecture
from xlstm.files.guards import as_text, parse_json

MAX_WRAPS = 4
"""Most texts around an architecture, such as YAML in YAML."""

WANT = "an architecture, as to_json() and to_yaml() give it, or a whole model of Keras"


def parse_architecture(raw: bytes, name: str, budget: Budget) -> Architecture:
    """Parses an architecture; `json.dump(model.to_json(), file)` wraps its text in a text.

    Args:
        raw: the bytes of the file, UTF-8.
        name: of the file, for messages.
        budget: limit of the cost.

    Raises:
        FileError: a text that is no JSON or YAML, or no architecture.
    """
    container, data = _parsed(as_text(raw, name), name, budget)
    for _ in range(MAX_WRAPS):
        if isinstance(data, str):
            _, data = _parsed(data, name, budget)
    if not isinstance(data, dict) or "class_name" not in data:
        raise FileError(name, WANT, _other(data), "save it with model.to_json()")
    texts = (as_text(data.get(key) or "", name) for key in ("keras_version", "backend"))
    return Architecture(data, name, container, *texts)


def _other(data: Any) -> str:
    """A description of data that is no architecture."""
    if not isinstance(data, dict):
        return kind_in_words(data)
    return f"one without class_name: {', '.join(sorted(map(str, data))[:9])}"


IS_JSON = re.compile(r'\{\s*["}]')
"""Start of an object in JSON; YAML in one line has no quotes around its keys."""


def _parsed(text: str, where: str, budget: Budget) -> tuple[str, Any]:
    """The format of a text, and its data."""
    text = text.lstrip("\ufeff").lstrip()
    if IS_JSON.match(text):
        return "JSON", parse_json(text, where, budget)
    if text[:1] == '"':
        # both have texts in such quotes; those of JSON may contain pairs of surrogates
        with contextlib.suppress(FileError):
            return "JSON", parse_json(text, where, budget)
    from xlstm.files.yaml_text import parse_yaml  # its library is slow to import

    return "YAML", parse_yaml(text, where, budget)
