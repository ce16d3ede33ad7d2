"""The table of a fleet as files: fleet.jsonl, and fleet.parquet where pyarrow is installed.

    write_table(target.each_row, place)    # ["fleet.jsonl", "fleet.parquet"]

In: a function that reads the rows. Out: two files, written in batches of rows, so that the memory
stays small. Objects of a row become columns: `counts_torch`, `verdicts_float32_ratio`, `error_do`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

from xlstm.fleets.entry import FleetRow

LINES, COLUMNS = "fleet.jsonl", "fleet.parquet"
"""Names of the files."""

GROUP = 10_000
"""Rows of a group in the parquet file."""

PART = 500
"""Rows that are in memory as objects of Python, which need forty times as much as columns."""

KINDS: dict[type, str] = {str: "text", list: "list", bool: "bool", int: "int", float: "float"}
"""Type of a value -> kind of its column."""

ERROR = ("where", "expected", "got", "do")

Place = Callable[[str], AbstractContextManager[Path]]
"""A name of a file of the target -> where to write it."""


def write_table(each_row: Callable[[], Iterator[FleetRow]], place: Place) -> list[str]:
    """Writes the rows; returns the names of the files.

    Args:
        each_row: returns the rows, sorted by name; it is called twice.
        place: of a name, the local path to write to.
    """
    kinds: dict[str, str] = {}
    has_columns = _library() is not None
    with place(LINES) as path, open(path, "wb") as stream:
        for row in each_row():
            stream.write(json.dumps(row.to_json(), separators=(",", ":")).encode() + b"\n")
            if has_columns:
                _add_kinds(kinds, row)
    if not has_columns:
        return [LINES]
    with place(COLUMNS) as path:
        columns = {name: kind or "text" for name, kind in kinds.items()}
        _write_columns(columns, each_row(), path)
    return [LINES, COLUMNS]


def flat(row: FleetRow) -> dict[str, Any]:
    """A row with one value for each column; deeper objects are JSON text.

    >>> found = flat(FleetRow("a", "a.h5", "1", "", "equal", counts={"torch": 12}))
    >>> found["counts_torch"], found["error_do"]
    (12, None)
    """
    found: dict[str, Any] = {}
    for key, value in vars(row).items():
        if key == "error":
            error = value or {}
            found.update({f"error_{part}": error.get(part) for part in ERROR})
        elif isinstance(value, dict):
            found.update(_flat_object(key, value))
        else:
            found[key] = list(value) if isinstance(value, tuple) else value
    return {key: _storable(value) for key, value in found.items()}


def _flat_object(name: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of an object of objects, their keys joined."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat_object(f"{name}_{key}", inner)
        else:
            yield f"{name}_{key}", json.dumps(inner) if isinstance(inner, (list, tuple)) else inner


def _storable(value: Any) -> Any:
    """A value whose texts are UTF-8: names of files may have bytes that are not."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    return [_storable(item) for item in value] if isinstance(value, list) else value


def _library() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        return None


def _write_columns(columns: Mapping[str, str], rows: Iterator[FleetRow], path: Path) -> None:
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "list": pa.list_(pa.string()),
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])

    def parts(rows: Iterator[FleetRow]) -> Iterator[Any]:
        while part := [flat(row) for row in islice(rows, PART)]:
            data = {n: [_as(kind, row.get(n)) for row in part] for n, kind in columns.items()}
            yield pa.table(data, schema=schema)

    with _library().ParquetWriter(path, schema, compression="zstd") as writer:
        while group := [*parts(islice(rows, GROUP))]:
            writer.write_table(pa.concat_tables(group))


def _add_kinds(kinds: dict[str, str], row: FleetRow) -> None:
    """Adds a row's columns; text where kinds differ, but floats for integers beside floats."""
    for name, value in flat(row).items():
        kind, old = _kind(value), kinds.get(name)
        if kind == old:
            continue
        old = old or ""
        both = {kind, old} - {""}
        mixed = "float" if both == {"int", "float"} else "text"
        kinds[name] = kind or old if len(both) <= 1 else mixed


def _kind(value: Any) -> str:
    kind = type(value)
    return "float" if kind is int and abs(value) >= 2**63 else KINDS.get(kind, "")


def _as(kind: str, value: Any) -> Any:
    """A value as one of a column's kind."""
    if value is None:
        return None
    if kind == "text" and not isinstance(value, str):
        return json.dumps(value)
    return float(str(value)) if kind == "float" else value  # of text: no integer is too large
