"""Reads the list of a fleet's models: CSV with headers, or JSON Lines.

    path,name,architecture
    zoo/a.h5,customers/0001,
    zoo/b.weights.h5,customers/0002,zoo/b.json

In: a path. Out: the models by line. Paths are relative to the folder of the list.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlstm.errors import UsageError, kind_in_words
from xlstm.fleets.storage.remote import is_url

OPTIONS = ("architecture", "keras_version", "kernel_layout", "until")
"""Options of `xlstm.load` that a list may have for each model."""

KEYS = ("path", "name", *OPTIONS)
"""Columns of CSV, and keys of JSON Lines; those have "options" too, an object of `OPTIONS`."""

SUFFIXES = (".csv", ".jsonl")

LONGEST_LINE = 2**20


@dataclass(frozen=True)
class Listed:
    """One model of a list.

    Attributes:
        where: file and line, for errors.
        path: local path or URL, the folder of the list before it.
        short: path as the list has it.
        name: of the model, "" for one from its path.
        options: of `xlstm.load`.
    """

    where: str
    path: str
    short: str
    name: str
    options: Mapping[str, str]


def read_manifest(file: Path) -> list[Listed]:
    """The models of a list.

    Raises:
        UsageError: a line that cannot be read, or has no path, an unknown column, or a name or
            model of an earlier line. The error names the line.
    """
    read = _csv if file.suffix.lower() == ".csv" else _json_lines
    found: list[Listed] = []
    seen: dict[tuple[str, ...], str] = {}
    for number, data in read(file):
        where = f"{file}, line {number}"
        item = _listed(where, data, file.parent)
        options = (text for pair in sorted(item.options.items()) for text in pair)
        for key, what in [
            (("name", item.name), f"name {item.name!r}" if item.name else ""),
            (("model", item.path, *options), f"model {item.short!r}"),
        ]:
            if what and key in seen:
                got, do = f"the one of line {seen[key]} again", "remove one of the lines"
                raise UsageError(where, f"another {what}", got, do)
            seen[key] = str(number)
        found.append(item)
    return found


def _listed(where: str, data: Mapping[str, Any], folder: Path) -> Listed:
    """One checked line."""
    values = {key: value for key, value in data.items() if value not in (None, "")}
    inner = values.pop("options", {})
    if not isinstance(inner, dict):
        do = 'write {"until": "layer"}, or leave it out'
        raise UsageError(where, "options as an object", kind_in_words(inner), do)
    for key, value in [*values.items(), *inner.items()]:
        if key not in (OPTIONS if key in inner else KEYS):
            raise UsageError(where, f"columns {', '.join(KEYS)}", repr(key), "remove it")
        if not isinstance(value, str) or "\0" in value:
            got = "a zero byte in it" if isinstance(value, str) else kind_in_words(value)
            raise UsageError(where, f"a text for {key}", got, "correct it")
    if "path" not in values:
        raise UsageError(where, "a path", "none", "add it, or remove the line")
    options = {k: v for k, v in {**values, **inner}.items() if k in OPTIONS}
    if "architecture" in options:
        options["architecture"] = _below(folder, options["architecture"])
    short = values["path"]
    return Listed(where, _below(folder, short), short, values.get("name", ""), options)


def _below(folder: Path, path: str) -> str:
    """An absolute path or URL: workers may have another working directory."""
    return path if is_url(path) else os.path.abspath(folder / path)


def _csv(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and cells of each row of CSV."""
    with _text(file) as stream:
        reader = csv.reader(_short_lines(file, stream), strict=True)
        try:
            heads = [head.strip() for head in next(reader, [])]
            _check_heads(file, heads)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(heads):
                    where, got = f"{file}, line {reader.line_num}", f"{len(cells)}"
                    raise UsageError(where, f"{len(heads)} cells", got, "quote cells with commas")
                yield reader.line_num, dict(zip(heads, cells, strict=True))
        except csv.Error as error:
            where = f"{file}, line {reader.line_num}"
            raise UsageError(where, "a row of CSV", str(error), "correct the line") from None


def _check_heads(file: Path, heads: list[str]) -> None:
    where = f"{file}, line 1"
    unknown = [head for head in heads if head not in KEYS]
    twice = [head for head in heads if heads.count(head) > 1]
    if unknown or twice or "path" not in heads:
        got = "no path" if not (unknown or twice) else repr((unknown or twice)[0])
        want = f"the headers path and, if needed, {', '.join(KEYS[1:])}"
        raise UsageError(where, want, got, "correct the headers")


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line that is not blank."""
    with _text(file) as stream:
        for number, line in enumerate(_short_lines(file, stream), 1):
            if not line.strip():
                continue
            where, do = f"{file}, line {number}", "correct the line"
            try:
                data = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(where, "a JSON object", str(error), do) from None
            if not isinstance(data, dict):
                raise UsageError(where, "a JSON object", kind_in_words(data), do)
            yield number, data


def _text(file: Path) -> Any:
    """The list as text.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return open(file, encoding="utf-8-sig", newline="")
    except OSError as error:
        got = error.strerror or str(error)
        raise UsageError(file, "a list of models", got, "check the path") from None


def _short_lines(file: Path, stream: Any) -> Iterator[str]:
    """The lines of the file.

    Raises:
        UsageError: a very long line, or bytes that are not UTF-8.
    """
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise ValueError(f"more than {LONGEST_LINE:,} characters")
            yield line
    except ValueError as error:
        got = "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        where = f"{file}, line {number}" if number else str(file)
        raise UsageError(where, "a line of UTF-8", got, "save the list as UTF-8") from None
